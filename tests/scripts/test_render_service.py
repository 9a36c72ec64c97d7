"""What is rendered is a service: warm before it is ready, drained, with every flag of a start."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from support.command import Aot, check
from support.compiled import compiled_file

from aot.configs.kernel.places import CONFIGS
from aot.configs.loading.load import load_server
from aot.serving.render import helm
from aot.serving.render.kit import cluster_name

GPU = "engine: vllm\nmodel: Qwen/Qwen3-8B\ncontext_tokens: 8192\n"
PRESETS = sorted(
    path.stem for path in (CONFIGS / "servers").glob("*.yaml") if "smollm2" not in path.read_text()
)
KUBERNETES = "1.33"


@pytest.fixture
def render(tmp_path: Path, aot: Aot) -> Any:
    """The documents of a server file with this text, or of a preset."""

    def run(text: str, target: str, *more: object, called: str = "shop") -> Any:
        server: Path | str = text
        if "\n" in text:
            server = tmp_path / f"{called}.yaml"
            server.write_text(text)
        done = aot("render", server, "--target", target, *more)
        assert done.returncode == 0, done.stderr
        assert "&id" not in done.stdout
        assert "*id" not in done.stdout
        found = list(yaml.safe_load_all(done.stdout))
        return found if target == "k8s" else found[0]

    return run


def one(documents: list[Any], kind: str, ending: str = "") -> Any:
    (found,) = [
        d for d in documents if d["kind"] == kind and d["metadata"]["name"].endswith(ending or "")
        and (ending or not d["metadata"]["name"].endswith("-router"))
    ]  # fmt: skip
    return found


def pods(documents: list[Any]) -> list[Any]:
    return [d["spec"]["template"]["spec"] for d in documents if d["kind"] == "Deployment"]


def test_a_pod_is_ready_when_what_is_compiled_is_in_its_cache(render: Any, tmp_path: Path) -> None:
    path = compiled_file(tmp_path / "rules.json")
    warm = render(GPU, "k8s", "--arm", "aot", "--warm", path)
    engine, gate = pods(warm)[0]["containers"]
    assert gate["args"][:4] == ["warm", "/compiled", "--url", "http://127.0.0.1:8000"]
    assert gate["readinessProbe"]["httpGet"] == {"path": "/ready", "port": 8100}
    assert one(warm, "ConfigMap")["data"] == {"rules.json": path.read_text()}
    compiled_file(tmp_path / "menu.json")
    both = render(GPU, "k8s", "--warm", tmp_path)  # a folder, as one made of a log
    assert one(both, "ConfigMap")["data"].keys() == {"menu.json", "rules.json"}
    apart = render(GPU, "k8s", "--arm", "aot")
    assert [d["kind"] for d in apart].count("ConfigMap") == 0
    assert {"name": "compiled", "configMap": {"name": "shop-compiled"}} in pods(apart)[0]["volumes"]
    cold = render(GPU, "k8s", "--arm", "auto")
    assert [c["name"] for c in pods(cold)[0]["containers"]] == ["engine"]
    assert engine["args"] == pods(cold)[0]["containers"][0]["args"]
    for documents in (warm, apart, cold):
        for document in documents:
            kubernetes_validate.validate(document, KUBERNETES, strict=True)


def test_files_get_keys_that_a_config_map_takes(render: Any, tmp_path: Path) -> None:
    """And that the gate finds: it looks for *.json in its folder."""
    names = ("my rules.json", "menu.compiled", "x/a.json", "z/3-a.json", "y/a.json", "UP.JSON")
    options: list[object] = []
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        options += ["--warm", compiled_file(path)]
    keys = one(render(GPU, "k8s", *options), "ConfigMap")["data"].keys()
    assert len(keys) == len(names)
    assert all(re.fullmatch(r"[-._a-zA-Z0-9]+\.json", key) for key in keys)


def test_what_is_none_cannot_be_compiled_in(tmp_path: Path, aot: Aot) -> None:
    server, wrong, out = (tmp_path / n for n in ("shop.yaml", "wrong.json", "out.yaml"))
    server.write_text(GPU)
    wrong.write_text("{}")
    options = ("render", server, "--target", "k8s", "-o", out)
    check(aot(*options, "--warm", wrong), 2, "wrong.json")
    check(aot(*options, "--warm", tmp_path / "none.json"), 2, "none.json")
    right = compiled_file(tmp_path / "right.json")
    check(aot(*options, "--warm", right, "--arm", "auto"), 2, "--warm goes with --arm aot")
    (tmp_path / "found").mkdir()
    check(
        aot(*options, "--warm", tmp_path / "found"), 2, "found: a folder without compiled prompts"
    )
    old = tmp_path / "found" / "old.json"
    old.write_text(right.read_text().replace("aot-compiled/1", "aot-compiled/0"))
    check(aot(*options, "--warm", old.parent), 2, "old.json: format is 'aot-compiled/0'")
    old.write_text("{}")
    compiled_file(old.with_name("right.json"))
    check(aot(*options, "--warm", old.parent), 0, f"left out: {old} is no compiled prompt")
    out.unlink()
    log = tmp_path / "log.jsonl"
    log.write_text("{}\n{}\n")
    check(aot(*options, "--warm", log), 2, "what is static in a log is found by: aot compile LOG")
    large = compiled_file(tmp_path / "large.json", words=400_000)
    check(aot(*options, "--warm", large), 2, "do not fit into a ConfigMap")
    assert not out.exists()


@pytest.mark.parametrize("text", [GPU, GPU + "replicas: 2\n", GPU.replace("vllm", "sglang")])
def test_no_request_is_cut_off_when_a_pod_ends(render: Any, text: str) -> None:
    for pod in pods(render(text, "k8s")):
        engine = pod["containers"][0]
        leaving_s = int(engine["lifecycle"]["preStop"]["exec"]["command"][1])
        assert pod["terminationGracePeriodSeconds"] >= leaving_s + 120
        if "--shutdown-timeout" in (args := engine.get("args", [])):
            assert args[args.index("--shutdown-timeout") + 1] == "120"
        assert pod["enableServiceLinks"] is False
    own = GPU + "args: [--shutdown-timeout, '7']\n"
    args = pods(render(own, "k8s"))[0]["containers"][0]["args"]
    assert args.count("--shutdown-timeout") == 1
    assert "7" in args


@pytest.mark.parametrize("replicas", [1, 3])
def test_a_rollout_that_fails_leaves_what_served(render: Any, replicas: int) -> None:
    found = one(render(f"{GPU}replicas: {replicas}\n", "k8s"), "Deployment")["spec"]
    rolling = found["strategy"]["rollingUpdate"]
    assert rolling["maxUnavailable"] < replicas
    assert (rolling["maxSurge"], rolling["maxUnavailable"]) != (0, 0)
    assert found["progressDeadlineSeconds"] > 600
    once = f"{GPU}container: {{volume_access: ReadWriteOnce}}\n"
    assert one(render(once, "k8s"), "Deployment")["spec"]["strategy"] == {"type": "Recreate"}


def test_a_volume_for_one_node_is_none_for_replicas(tmp_path: Path, aot: Aot) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text(f"{GPU}replicas: 2\ncontainer: {{volume_access: ReadWriteOnce}}\n")
    for target in ("k8s", "helm-values"):
        check(aot("render", path, "--target", target), 2, "take ReadWriteMany")


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("shop", "shop"),
        ("vllm", "aot-vllm"),
        ("sglang", "aot-sglang"),
        ("70b-prod", "aot-70b-prod"),
        ("Qwen3.5 on H100", "qwen3-5-on-h100"),
        ("---", "aot"),
        ("x" * 51, "x" * 51),
    ],
)
def test_names_are_those_that_services_may_have(stem: str, name: str) -> None:
    assert cluster_name(stem) == name


def test_letters_that_no_name_has_make_no_two_names_one() -> None:
    assert len({cluster_name(n) for n in ("größe", "gräße", "grüße", "日本", "-", "gr-e")}) == 6
    assert cluster_name("kubernetes") == "aot-kubernetes"  # there is a Service of that name


def test_long_names_that_begin_alike_stay_two() -> None:
    one, other = (cluster_name("x" * 80 + end) for end in ("a", "b"))
    assert one != other
    assert len(one) <= 51


def test_a_router_waits_for_its_engines_and_installs_nothing(render: Any) -> None:
    text = GPU + "replicas: 2\nstartup_timeout_s: 1800\ncontainer: {toolkit_image: reg/aot:1}\n"
    documents = render(text, "k8s")
    (router,) = pods(documents)[1]["containers"]
    assert router["image"] == "reg/aot:1"
    assert "pip" not in " ".join(router["command"])
    assert router["livenessProbe"]["httpGet"]["path"] == "/liveness"
    assert router["startupProbe"]["httpGet"]["path"] == "/liveness"
    assert router["readinessProbe"]["httpGet"]["path"] == "/readiness"
    seen = render(text, "compose")["services"]["router"]
    assert seen["depends_on"] == {
        "engine-0-gate": {"condition": "service_healthy"},
        "engine-1-gate": {"condition": "service_healthy"},
    }
    assert "pip" not in " ".join(seen["command"])


def test_sglang_is_not_asked_to_generate_behind_its_queue(render: Any) -> None:
    engine = pods(render(GPU.replace("vllm", "sglang"), "k8s"))[0]["containers"][0]
    paths = {
        k: engine[f"{k}Probe"]["httpGet"]["path"] for k in ("startup", "readiness", "liveness")
    }
    assert paths == {"startup": "/health", "readiness": "/ready", "liveness": "/ready"}


def test_gated_weights_get_a_token_where_there_is_one(render: Any) -> None:
    env = pods(render(GPU, "k8s"))[0]["containers"][0]["env"]
    (token,) = [e for e in env if e["name"] == "HF_TOKEN"]
    assert token["valueFrom"]["secretKeyRef"]["optional"] is True
    named = pods(render(GPU + "container: {hub_token_env: MY_HUB}\n", "k8s"))[0]["containers"][0]
    (token,) = [e for e in named["env"] if e["name"] == "HF_TOKEN"]
    assert token["valueFrom"]["secretKeyRef"] == {"name": "shop-keys", "key": "my-hub"}
    service = render(GPU, "compose")["services"]["engine"]
    assert service["environment"]["HF_TOKEN"] == "${HF_TOKEN:-}"


@pytest.mark.parametrize(
    ("more", "gib"),
    [
        ("", 48),
        ("host_cache_gib: 100\n", 148),
        ("args: [--kv-offloading-size, '64']\n", 112),
        ("container: {memory_gib: 10, shm_gib: 2}\n", 12),
    ],
)
def test_memory_has_room_for_a_host_tier(render: Any, more: str, gib: int) -> None:
    resources = pods(render(GPU + more, "k8s"))[0]["containers"][0]["resources"]
    assert resources["limits"]["memory"] == resources["requests"]["memory"] == f"{gib}Gi"
    spec = render(GPU + more, "helm-values")["servingEngineSpec"]["modelSpec"][0]
    assert spec["limitMemory"] == f"{gib}Gi"


def test_hicache_has_its_own_memory_or_is_refused(render: Any, tmp_path: Path, aot: Aot) -> None:
    sglang = GPU.replace("vllm", "sglang") + "gpus: 2\n"
    engine = pods(render(sglang + "hicache: {size_gb: 32}\n", "k8s"))[0]["containers"][0]
    assert engine["resources"]["limits"]["memory"] == "108Gi"  # 32 + 16, and 64 GB
    path = tmp_path / "ratio.yaml"
    path.write_text(sglang + "hicache: {ratio: 2}\n")
    check(aot("render", path, "--target", "k8s"), 2, "give hicache.size_gb")


def test_an_autoscaler_is_alone_in_saying_how_many(render: Any) -> None:
    scaled = GPU + "replicas: 2\ncontainer: {max_replicas: 6%s}\n"
    documents = render(scaled % "", "k8s")
    assert "replicas" not in one(documents, "Deployment")["spec"]
    assert one(documents, "HorizontalPodAutoscaler")["spec"]["minReplicas"] == 2
    documents = render(scaled % ", prometheus_url: 'http://prom:9090'", "k8s", "--name", "till")
    found = one(documents, "ScaledObject")["spec"]
    assert (found["minReplicaCount"], found["maxReplicaCount"]) == (2, 6)
    query = found["triggers"][0]["metadata"]["query"]
    assert query.startswith('sum(vllm:num_requests_waiting{namespace="default",pod=~"')
    its_own = re.compile(query.split('pod=~"')[1].split('"')[0])
    assert its_own.fullmatch("till-7c9d8f6b5d-x2x4z")
    assert not its_own.fullmatch("till-70b-7c9d8f6b5d-x2x4z")  # a neighbour of ours
    keda = render(scaled % "", "helm-values")["servingEngineSpec"]["modelSpec"][0]["keda"]
    assert (keda["minReplicaCount"], keda["maxReplicaCount"]) == (2, 6)


PLACED = """container:
  node_selector: {pool: cards}
  tolerations: [{key: cards, operator: Exists}]
  storage_class: shared
  pull_secrets: [registry]
  namespace: llm
"""


def test_where_pods_go_and_what_they_are_pulled_with(render: Any) -> None:
    documents = render(GPU + PLACED, "k8s")
    pod = pods(documents)[0]
    assert pod["nodeSelector"] == {"pool": "cards"}
    assert pod["tolerations"] == [{"key": "cards", "operator": "Exists"}]
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    assert one(documents, "PersistentVolumeClaim")["spec"]["storageClassName"] == "shared"
    assert {d["metadata"]["namespace"] for d in documents} == {"llm"}
    moved = render(GPU + PLACED, "k8s", "--namespace", "other", "--name", "till")
    assert {d["metadata"]["namespace"] for d in moved} == {"other"}
    assert all(d["metadata"]["name"].startswith("till") for d in moved)
    spec = render(GPU + PLACED, "helm-values")["servingEngineSpec"]["modelSpec"][0]
    assert (spec["storageClass"], spec["imagePullSecret"]) == ("shared", "registry")
    assert spec["nodeSelectorTerms"][0]["matchExpressions"][0]["values"] == ["cards"]


def test_pods_are_restricted_where_the_image_allows_it(render: Any) -> None:
    def rights(text: str) -> Any:
        pod = pods(render(text, "k8s"))[0]
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        return pod["securityContext"]

    assert rights(GPU)["runAsUser"] == 2000
    assert "runAsUser" not in rights(GPU.replace("vllm", "sglang"))
    assert "runAsUser" not in rights(GPU + "container: {image: mine/vllm}\n")
    own = rights(GPU + "container: {image: mine/vllm, run_as_user: 1000}\n")
    assert (own["runAsNonRoot"], own["runAsUser"]) == (True, 1000)


def test_who_may_reach_the_engines(render: Any) -> None:
    rules = one(render(GPU, "k8s"), "NetworkPolicy")["spec"]["ingress"]
    asking = [source["podSelector"] for source in rules[0]["from"] if "podSelector" in source]
    assert {"matchLabels": {"aot.client": "true"}} in asking
    keys = [e["key"] for s in asking for e in s.get("matchExpressions", [])]
    assert keys == ["llm-d-router-standalone", "llm-d-router-gateway"]
    events = GPU + "block_tokens: 64\nkv_events: 'tcp://127.0.0.1:5557'\n"
    documents = render(events, "k8s")
    ports = one(documents, "NetworkPolicy")["spec"]["ingress"][0]["ports"]
    assert {"protocol": "TCP", "port": 5557} in ports
    assert any("tcp://*:5557" in a for a in pods(documents)[0]["containers"][0]["args"])
    values = render(events, "helm-values", "--chart", "llm-d")["router"]
    picked = yaml.safe_load(values["epp"]["pluginsCustomConfig"]["aot-plugins.yaml"])
    assert "precise-prefix-cache-producer" in [p["type"] for p in picked["plugins"]]
    assert values["tokenizer"] == {"enabled": True, "modelName": "Qwen/Qwen3-8B"}


def test_what_watches_it_is_rendered_with_it(render: Any) -> None:
    documents = render(GPU + "replicas: 2\n", "k8s", "--monitoring")
    kinds = [d["kind"] for d in documents]
    assert kinds.count("PodMonitor") == 2
    assert one(documents, "PrometheusRule")["spec"]["groups"][1]["rules"]
    board = one(documents, "ConfigMap", "-dashboard")
    assert board["metadata"]["labels"]["grafana_dashboard"] == "1"
    made = render(GPU + "replicas: 2\n", "compose", "--monitoring")
    scraping = yaml.safe_load(made["configs"]["prometheus"]["content"].replace("$$", "$"))
    assert scraping["scrape_configs"][0]["static_configs"] == [
        {"targets": ["engine-0:8000", "engine-1:8000"]}
    ]
    assert scraping["scrape_configs"][1]["static_configs"] == [
        {"targets": ["engine-0-gate:8100", "engine-1-gate:8100"]}
    ]
    assert "$namespace" in made["configs"]["grafana-dashboard"]["content"].replace("$$", "$")


def test_compose_fills_in_nothing_but_keys(render: Any) -> None:
    text = GPU + "served_name: '$mine'\nenv: {PRICE: '5$'}\ncontainer: {image: 'a/$b'}\n"
    made = render(text, "compose")["services"]["engine"]
    assert "$$mine" in made["command"]
    assert made["environment"]["PRICE"] == "5$$"
    assert made["image"] == "a/$$b"


@pytest.mark.parametrize(
    ("image", "parts"),
    [
        ("vllm/vllm-openai:v0.33.0", ("vllm/vllm-openai", "v0.33.0")),
        ("registry:5000/vllm:v1", ("registry:5000/vllm", "v1")),
        ("registry:5000/vllm", ("registry:5000/vllm", "latest")),
        ("vllm", ("vllm", "latest")),
        ("r/vllm@sha256:abc", ("r/vllm@sha256", "abc")),
        ("registry:5000/vllm@sha256:abc", ("registry:5000/vllm@sha256", "abc")),
    ],
)
def test_an_image_is_split_as_the_chart_joins_it(image: str, parts: tuple[str, str]) -> None:
    assert helm._image(image) == parts


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("arm", ["jit", "auto", "aot"])
def test_no_flag_is_lost_between_a_server_file_and_a_target(
    name: str, arm: str, render: Any
) -> None:
    expected = _started(name, arm)
    engine = pods(render(name, "k8s", "--arm", arm))[0]["containers"][0]
    assert _kept(expected, engine["args"])
    services = render(name, "compose", "--arm", arm)["services"]
    first = services.get("engine") or services["engine-0"]
    assert _kept(expected, [w.replace("$$", "$") for w in first["command"]])
    if load_server(CONFIGS / "servers" / f"{name}.yaml").engine != "vllm":
        return
    spec = render(name, "helm-values", "--arm", arm)["servingEngineSpec"]["modelSpec"][0]
    config = spec["vllmConfig"]
    words = ["--enable-prefix-caching" if config["enablePrefixCaching"] else
             "--no-enable-prefix-caching"]  # fmt: skip
    words += ["--max-model-len", str(config.get("maxModelLen")), "--dtype", config["dtype"]]
    words += ["--tensor-parallel-size", str(config["tensorParallelSize"]), *config["extraArgs"]]
    assert _kept(expected, words)


def _started(name: str, arm: str) -> list[str]:
    """The engine's own arguments of a local start, without where it listens and what it loads."""
    from aot.serving.engines import table
    from aot.serving.engines.launch_plan import Site
    from aot.serving.topology.routers import worker_args

    config = table.accepted(load_server(CONFIGS / "servers" / f"{name}.yaml"))
    engine = table.engine(config.engine)
    site = Site(Path("/usr/bin"), config.model, 8000, "cuda", env={},
                serve_args=worker_args(config.front, engine))  # fmt: skip
    argv = list(engine.plan(config, arm, site).argv)  # type: ignore[arg-type]
    begin = next(n for n, word in enumerate(argv) if word.startswith("--"))
    return [w for w in argv[begin:] if w not in ("--host", config.host, "--port", "8000")]


def _kept(expected: list[str], made: list[str]) -> bool:
    """Every word, in its own flag's group."""
    groups = {tuple(g) for g in _groups(made)}
    missing = [g for g in _groups(expected) if tuple(g) not in groups and g[0] != "--model-path"]
    assert not missing, shlex.join(w for g in missing for w in g)
    return True


def _groups(words: list[str]) -> list[list[str]]:
    made: list[list[str]] = []
    for word in words:
        if word.startswith("-") or not made:
            made.append([])
        made[-1].append(word)
    return made


def test_arguments_behind_those_of_the_chart_are_kept(render: Any) -> None:
    text = GPU + "args: [-q, fp8, --kv-cache-dtype=fp8, --max-num-seqs, '8']\nserved_name: bot\n"
    spec = render(text, "helm-values")["servingEngineSpec"]["modelSpec"][0]
    extra = spec["vllmConfig"]["extraArgs"]
    for words in (["-q", "fp8"], ["--max-num-seqs", "8"], ["--served-model-name", "bot"]):
        at = extra.index(words[0])
        assert extra[at : at + 2] == words
    assert "--kv-cache-dtype=fp8" in extra
    assert "8192" not in extra


def test_values_are_still_what_the_chart_takes(render: Any) -> None:
    import json

    schema = Path(__file__).parents[1] / "serving" / "schemas" / "production-stack-values.json"
    text = GPU + "replicas: 2\n" + PLACED + "  max_replicas: 4\n"
    values = render(text, "helm-values")
    jsonschema.validate(values, json.loads(schema.read_text()))
    probe = values["servingEngineSpec"]["startupProbe"]
    assert probe["failureThreshold"] * probe["periodSeconds"] == 600
