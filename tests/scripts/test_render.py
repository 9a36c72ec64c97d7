"""What is rendered is what others publish a schema for, and has no secret in it."""

from __future__ import annotations

import json
import shutil
import subprocess
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from support.command import Aot, check

SCHEMAS = Path(__file__).parents[1] / "serving" / "schemas"
SECRET = "sk-n3ver-shown"
KUBERNETES = "1.33"
GPU = "engine: vllm\nmodel: Qwen/Qwen3-8B\ncontext_tokens: 8192\n"
PUBLIC = "host: 0.0.0.0\nexpose_unauthenticated: true\ncontainer: {hub_token_env: MY_HUB}\n"
SERVERS = {
    "plain": GPU,
    "sglang": GPU.replace("vllm", "sglang"),
    "keyed": GPU + PUBLIC,
    "fleet": GPU + "replicas: 2\ngpus: 2\napi_key_env: MY_KEY\ncontainer: {max_replicas: 6}\n",
    "sglang_keyed": GPU.replace("vllm", "sglang") + "replicas: 3\napi_key_env: MY_KEY\n",
    "smg": GPU + "replicas: 2\nrouter: {name: smg, policy: consistent_hash}\n",
}


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return written(request.param, tmp_path)


def written(name: str, folder: Path) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(SERVERS[name])
    return path


@pytest.fixture
def render(aot: Aot) -> Any:
    def run(server: Path, target: str, *more: str) -> Any:
        keys = {"MY_KEY": SECRET, "AOT_API_KEY": SECRET, "MY_HUB": SECRET}
        done = aot("render", server, "--target", target, *more, **keys)
        assert done.returncode == 0, done.stderr
        assert SECRET not in done.stdout
        found = list(yaml.safe_load_all(done.stdout))
        return found if target == "k8s" else found[0]

    return run


def engine(documents: list[Any]) -> Any:
    """The container of the engines in manifests."""
    deployment = next(d for d in documents if d["kind"] == "Deployment")
    container, *_ = deployment["spec"]["template"]["spec"]["containers"]
    assert container["name"] == "engine"
    return container


def compose_schema() -> Any:
    text = files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    return json.loads(text.read_text(encoding="utf-8"))


def test_compose_files_are_compose_files(server: Path, render: Any) -> None:
    made = render(server, "compose")
    validator = jsonschema.Draft202012Validator(compose_schema())
    assert [e.message for e in validator.iter_errors(made)] == []
    with_a_typo = {**made, "services": {"x": {"imag": "y"}}}
    assert list(validator.iter_errors(with_a_typo))  # the schema would say so


def test_manifests_are_what_kubernetes_takes(server: Path, render: Any) -> None:
    kinds = []
    for document in render(server, "k8s"):
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
        kinds.append(document["kind"])
    assert {"Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"} <= set(kinds)


def test_an_autoscaler_where_one_is_asked_for(tmp_path: Path, render: Any) -> None:
    documents = render(written("fleet", tmp_path), "k8s")
    scaler = next(d for d in documents if d["kind"] == "HorizontalPodAutoscaler")["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (2, 6)
    container = engine(documents)
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "2"
    assert ("--tensor-parallel-size", "2") in list(pairwise(container["args"]))
    assert "--enable-scale-out" in container["args"]  # or the router would have no affinity


def test_keys_are_references(tmp_path: Path, render: Any) -> None:
    path = written("fleet", tmp_path)
    (key,) = [e for e in engine(render(path, "k8s"))["env"] if e["name"] == "VLLM_API_KEY"]
    assert key["valueFrom"] == {"secretKeyRef": {"name": "fleet-keys", "key": "my-key"}}
    service = render(path, "compose")["services"]["engine-0"]
    assert service["environment"]["VLLM_API_KEY"].startswith("${MY_KEY:?")


def test_in_a_cluster_a_key_is_on_by_default(tmp_path: Path, render: Any) -> None:
    path = written("plain", tmp_path)
    assert "VLLM_API_KEY" in [e["name"] for e in engine(render(path, "k8s"))["env"]]
    assert "VLLM_API_KEY" not in render(path, "compose")["services"]["engine"]["environment"]


def test_sglang_gets_its_key_without_an_argument(tmp_path: Path, render: Any) -> None:
    documents = render(written("sglang_keyed", tmp_path), "k8s")
    container = engine(documents)
    assert (container["command"], container["args"][0]) == (["python3"], "/aot/sglang_server.py")
    assert "--api-key" not in container["args"]
    (config,) = [d for d in documents if d["kind"] == "ConfigMap"]
    assert "AOT_SGLANG_API_KEY" in config["data"]["sglang_server.py"]


@pytest.mark.parametrize("name", ["plain", "keyed", "fleet", "smg"])
def test_values_are_what_production_stack_takes(name: str, tmp_path: Path, render: Any) -> None:
    path = written(name, tmp_path)
    values = render(path, "helm-values")
    jsonschema.validate(values, json.loads((SCHEMAS / "production-stack-values.json").read_text()))
    (spec,) = values["servingEngineSpec"]["modelSpec"]
    assert spec["vllmConfig"]["enablePrefixCaching"] is True
    assert "--max-model-len" not in spec["vllmConfig"]["extraArgs"]
    expected = "session" if name == "smg" else "prefixaware"
    assert values["routerSpec"]["routingLogic"] == expected
    off = render(path, "helm-values", "--arm", "jit")["servingEngineSpec"]["modelSpec"][0]
    assert off["vllmConfig"]["enablePrefixCaching"] is False


def test_values_for_llm_d_find_the_rendered_pods(server: Path, render: Any) -> None:
    values = render(server, "helm-values", "--chart", "llm-d")["router"]
    plugins = yaml.safe_load(values["epp"]["pluginsCustomConfig"]["aot-plugins.yaml"])
    kinds = [p["type"] for p in plugins["plugins"]]
    assert {p["pluginRef"] for p in plugins["schedulingProfiles"][0]["plugins"]} <= set(kinds)
    deployment = next(d for d in render(server, "k8s") if d["kind"] == "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert values["modelServers"]["matchLabels"].items() <= labels.items()


@pytest.mark.parametrize("name", ["plain", "sglang"])
def test_dashboards_are_what_grafana_takes(name: str, tmp_path: Path, render: Any) -> None:
    schema = json.loads((SCHEMAS / "grafana-dashboard.json").read_text())
    made = render(written(name, tmp_path), "grafana")
    assert [e.message for e in jsonschema.Draft7Validator(schema).iter_errors(made)] == []


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool (apt: prometheus)")
@pytest.mark.parametrize("slo", ["1", "10"])
def test_rules_are_what_prometheus_takes(server: Path, tmp_path: Path, aot: Aot, slo: str) -> None:
    path = tmp_path / "rules.yml"
    done = aot("render", server, "--target", "prometheus-rules", "--ttft-slo", slo, "-o", path)
    assert done.returncode == 0, done.stderr
    checked = subprocess.run(
        ["promtool", "check", "rules", path], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_scraping_is_configured_as_prometheus_reads_it(server: Path, render: Any) -> None:
    # Debian's promtool is built without Kubernetes; the published schema knows both.
    schema = json.loads((SCHEMAS / "prometheus-config.json").read_text())
    made = render(server, "prometheus")
    jsonschema.validate(made, schema)
    (job,) = made["scrape_configs"]
    assert job["static_configs"]
    made = render(server, "prometheus", "--in-cluster")
    jsonschema.validate(made, schema)
    wanted = {
        ":".join(j["relabel_configs"][0]["regex"].split(";")[1:]) for j in made["scrape_configs"]
    }
    pods = render(server, "k8s")
    declared = {
        f"{labels['app.kubernetes.io/component']}:{port['name']}"
        for d in pods
        if d["kind"] == "Deployment"
        for labels in [d["spec"]["template"]["metadata"]["labels"]]
        for container in d["spec"]["template"]["spec"]["containers"]
        for port in container["ports"]
    }
    assert wanted <= declared
    assert len(wanted) == 2 + ("replicas" in server.read_text())


def test_a_router_that_cannot_see_prompts_is_alerted_to(tmp_path: Path, render: Any) -> None:
    def alerts(name: str) -> set[str]:
        groups = render(written(name, tmp_path), "prometheus-rules")["groups"]
        return {rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule}

    assert "RouterHasNoAffinity" in alerts("fleet")
    assert "RouterHasNoAffinity" not in alerts("plain") | alerts("smg")


BAD = {
    "an unknown target": (("--target", "nomad"), "plain", "'nomad' is not one of 'compose', 'k8s'"),
    "an unknown chart": (("--target", "helm-values", "--chart", "x"), "plain", "'x' is not one of"),
    "sglang on production-stack": (("--target", "helm-values"), "sglang", "does not serve sglang"),
    "a limit without a bucket": (
        ("--target", "prometheus-rules", "--ttft-slo", "0.3"), "plain", "the nearest is 0.25",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_rendered_is_named(case: str, tmp_path: Path, aot: Aot) -> None:
    options, name, words = BAD[case]
    target = tmp_path / "out.yaml"
    check(aot("render", written(name, tmp_path), *options, "-o", target), 2, words)
    assert not target.exists()


def test_a_policy_that_a_chart_has_not_got(tmp_path: Path, aot: Aot) -> None:
    path = tmp_path / "server.yaml"
    path.write_text(GPU + "replicas: 2\nrouter: {policy: power_of_two}\n")
    check(aot("render", path, "--target", "helm-values"), 2, "production-stack has no power_of_two")


def test_a_folder_of_this_machine_is_none_of_a_cluster(fake_engine: Path, aot: Aot) -> None:
    check(aot("render", fake_engine, "--target", "k8s"), 2, "a folder of this machine", "hub id")
    check(aot("render", fake_engine.with_name("x.yaml"), "--target", "k8s"), 2, "no such file")


def test_sglang_on_a_cpu_has_no_official_image(tmp_path: Path, aot: Aot) -> None:
    path = tmp_path / "server.yaml"
    path.write_text("engine: sglang\nenvironment: sglang-cpu\nmodel: org/m\n")
    check(aot("render", path, "--target", "compose"), 2, "container.image", "image for a CPU")
