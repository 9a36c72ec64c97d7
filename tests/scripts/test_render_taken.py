"""What is rendered arrives as it stands in the server file, whoever reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from support.command import Aot, check

GPU = "engine: vllm\nmodel: Qwen/Qwen3-8B\ncontext_tokens: 8192\n"


@pytest.fixture
def render(tmp_path: Path, aot: Aot) -> Any:
    """The text for a target of a server file with this text."""

    def run(text: str, target: str, *more: object, called: str = "shop") -> str:
        server = tmp_path / f"{called}.yaml"
        server.write_text(text)
        done = aot("render", server, "--target", target, *more)
        assert done.returncode == 0, done.stderr
        return str(done.stdout)

    return run


def containers(text: str) -> dict[str, Any]:
    pods = (d["spec"]["template"]["spec"] for d in yaml.safe_load_all(text)
            if d["kind"] == "Deployment")  # fmt: skip
    return {c["name"]: c for pod in pods for c in pod["containers"]}


def expanded(word: str, variables: dict[str, str]) -> str:
    """As Kubernetes fills in (k8s.io/kubernetes, third_party/forked/golang/expansion)."""
    made, at = "", 0
    while at < len(word):
        if word[at] == "$" and at + 1 < len(word):
            if word[at + 1] == "$":
                made, at = made + "$", at + 2
                continue
            if word[at + 1] == "(" and (end := word.find(")", at)) > 0:
                name = word[at + 2 : end]
                made, at = made + variables.get(name, f"$({name})"), end + 1
                continue
        made, at = made + word[at], at + 1
    return made


@pytest.mark.parametrize("word", ["a$b", "a$$b", "$(HF_HOME)", "$$(HF_HOME)", "$", "${X}"])
def test_nothing_is_filled_in(render: Any, word: str) -> None:
    router = f"router: {{name: vllm-router, policy: cache_aware, args: [--foo, '{word}']}}\n"
    text = f"args: [--chat-template, '{word}']\nenv: {{X: '{word}'}}\nreplicas: 2\n{router}"
    there = {"HF_HOME": "/cache"}
    made = containers(render(GPU + text, "k8s"))
    engine = [expanded(a, there) for a in made["engine"]["args"]]
    assert engine[engine.index("--chat-template") + 1] == word
    (value,) = (e["value"] for e in made["engine"]["env"] if e["name"] == "X")
    assert expanded(value, there) == word
    front = [expanded(a, there) for a in made["router"]["command"]]
    assert front[front.index("--foo") + 1] == word
    values = yaml.safe_load(render(GPU + text, "helm-values"))
    spec = values["servingEngineSpec"]["modelSpec"][0]
    words = [expanded(a, there) for a in spec["vllmConfig"]["extraArgs"]]
    assert words[words.index("--chat-template") + 1] == word
    (value,) = (e["value"] for e in spec["env"] if e["name"] == "X")
    assert expanded(value, there) == word


@pytest.mark.parametrize("word", ["y", "N", "1e5", "0o17", "66e4", "1:30", "+1", ".5", "0x1f"])
def test_text_is_no_number_for_other_readers(render: Any, word: str) -> None:
    """YAML 1.2 and 1.1 differ in what a plain word is; PyYAML knows one of them."""
    text = GPU + f"env: {{X: '{word}'}}\ncontainer: {{node_selector: {{gpu: '{word}'}}}}\n"
    made = render(text, "k8s")
    assert f"value: '{word}'" in made
    assert f"gpu: '{word}'" in made
    assert f"X: '{word}'" in render(text, "compose")


def test_the_name_of_a_store_is_no_number(render: Any) -> None:
    """Half of it are digits: 66e4 is one."""
    assert "aot.store: v" in render(GPU + "store: {disk: kv, chunk_tokens: 48}\n", "k8s")


@pytest.mark.parametrize(
    ("args", "engine", "cards"),
    [
        ("[--pipeline-parallel-size=2]", "vllm", 4),
        ("[-pp, 2, --data-parallel-size, 2]", "vllm", 8),
        ("[--pipeline-parallel, 2]", "vllm", 4),
        ("[-dp, 2]", "vllm", 4),
        ("[--pp-size, 2]", "sglang", 4),
        ("[--dp-size, 2]", "sglang", 4),
        ("[--dp, 2, --enable-dp-attention]", "sglang", 2),
    ],
)
def test_every_card_is_asked_for(render: Any, args: str, engine: str, cards: int) -> None:
    text = GPU.replace("vllm", engine) + f"gpus: 2\nargs: {args}\n"
    limits = containers(render(text, "k8s"))["engine"]["resources"]["limits"]
    assert limits["nvidia.com/gpu"] == str(cards)
    service = yaml.safe_load(render(text, "compose"))["services"]["engine"]
    (device,) = service["deploy"]["resources"]["reservations"]["devices"]
    assert len(device["device_ids"]) == cards
    if engine == "vllm":
        spec = yaml.safe_load(render(text, "helm-values"))["servingEngineSpec"]["modelSpec"][0]
        assert (spec["requestGPU"], spec["vllmConfig"]["tensorParallelSize"]) == (cards, 2)


def test_what_is_kept_on_the_host_is_asked_for(render: Any) -> None:
    def gib(args: str) -> int:
        made = containers(render(GPU + f"args: {args}\n", "k8s"))["engine"]
        return int(made["resources"]["limits"]["memory"].removesuffix("Gi"))

    plain = gib("[]")
    tier = '{"kv_connector":"OffloadingConnector","kv_role":"kv_both",'
    tier += '"kv_connector_extra_config":{"cpu_bytes_to_use":68719476736}}'
    assert gib(f"[--kv-transfer-config, '{tier}']") == plain + 64
    assert gib("[--cpu-offload-gb, 64]") == plain + 64


def test_a_gate_has_the_time_that_its_engine_has(render: Any) -> None:
    made = yaml.safe_load(render(GPU + "startup_timeout_s: 1800\n", "compose"))["services"]
    assert made["engine-gate"]["healthcheck"]["start_period"] == "2400s"


def test_series_have_the_labels_that_are_asked_for(render: Any) -> None:
    made = yaml.safe_load(render(GPU, "prometheus", "--in-cluster"))
    for job in made["scrape_configs"]:
        assert {r.get("target_label") for r in job["relabel_configs"]} >= {"namespace", "pod"}
    there = yaml.safe_load(render(GPU + "host: '::1'\nport: 8001\n", "prometheus"))
    assert there["scrape_configs"][0]["static_configs"] == [{"targets": ["[::1]:8001"]}]


def test_what_watches_one_deployment_is_its_own(render: Any) -> None:
    boards, selected = {}, set()
    for name in ("shop-a", "shop-b"):
        made = list(yaml.safe_load_all(render(GPU, "k8s", "--monitoring", "--name", name)))
        (rules,) = (d for d in made if d["kind"] == "PrometheusRule")
        for rule in (r for g in rules["spec"]["groups"] for r in g["rules"]):
            assert f'namespace="default",job="default/{name}"' in rule["expr"]
        (board,) = (d["data"][f"{name}.json"] for d in made
                    if d["metadata"]["name"] == f"{name}-dashboard")  # fmt: skip
        boards[name] = yaml.safe_load(board)
        selected.add(boards[name]["templating"]["list"][2]["current"]["value"][0])
    assert boards["shop-a"]["uid"] != boards["shop-b"]["uid"]
    assert boards["shop-a"]["title"] != boards["shop-b"]["title"]
    assert selected == {"default/shop-a", "default/shop-b"}


def test_every_rank_has_its_host_memory(render: Any) -> None:
    def gib(engine: str, keys: str) -> int:
        made = containers(render(GPU.replace("vllm", engine) + keys, "k8s"))["engine"]
        return int(made["resources"]["limits"]["memory"].removesuffix("Gi"))

    plain = gib("vllm", "")
    copies = "host_cache_gib: 64\nargs: [--data-parallel-size=4, --cpu-offload-gb=10]\n"
    assert gib("vllm", copies) == plain + 4 * 64 + 4 * 10
    tier = "hicache: {size_gb: 64}\n"
    assert gib("sglang", tier + "args: [--pp-size, 4]\n") == plain + 239  # GB a rank
    assert gib("sglang", "args: [--cpu-offload-gb=30]\n") == plain + 30


def test_events_leave_their_container(render: Any, tmp_path: Path, aot: Aot) -> None:
    events = GPU + "kv_events: 'tcp://127.0.0.1:5557'\n"
    service = yaml.safe_load(render(events, "compose"))["services"]["engine"]
    assert '"endpoint": "tcp://*:5557"' in " ".join(service["command"])
    assert {"127.0.0.1:5557:5557", "127.0.0.1:5558:5558"} <= set(service["ports"])
    server = tmp_path / "ipc.yaml"
    server.write_text(GPU + "kv_events: ipc:///tmp/kv.sock\n")
    check(aot("render", server, "--target", "k8s"), 2, "is inside the container")
    done = aot("render", server, "--target", "helm-values", "--chart", "llm-d")
    assert "precise" not in done.stdout
    server.write_text(events + "args: [-dp, 2]\n")
    check(aot("render", server, "--target", "k8s"), 2, "each of 2 copies (--data-parallel-size)")


def test_a_routers_metrics_keep_their_names(render: Any) -> None:
    text = GPU + "replicas: 2\nrouter: {name: vllm-router, policy: cache_aware}\n"
    jobs = yaml.safe_load(render(text, "prometheus", "--in-cluster"))["scrape_configs"]
    relabeled = {j["job_name"]: "metric_relabel_configs" in j for j in jobs}
    assert relabeled == {"shop-engine": True, "shop-gate": True, "shop-router": False}


def test_values_have_what_the_file_says_of_pods(render: Any) -> None:
    text = render(GPU + "container: {run_as_user: 1234}\n", "helm-values", called="x" * 60)
    engine = yaml.safe_load(text)["servingEngineSpec"]
    assert engine["securityContext"]["runAsUser"] == 1234
    (spec,) = engine["modelSpec"]
    assert spec["tolerations"][0]["key"] == "nvidia.com/gpu"
    assert len(f"release-{spec['name']}-engine-service") <= 63
    assert f"secret generic {spec['name']}-keys" in text
    there = render(GPU, "helm-values", "--namespace", "llm-prod")
    assert "helm install -n llm-prod NAME" in there


def test_a_config_map_is_applied_as_large_as_it_may_be(render: Any) -> None:
    assert "kubectl apply --server-side -f" in render(GPU, "k8s")


@pytest.mark.parametrize(
    ("more", "options", "words"),
    [
        ("container: {model_cache: cache}", (), "an absolute path, or one from ~"),
        ("store: {disk: 'k:v', chunk_tokens: 64}", (), "a folder with a colon in its name"),
        ("container: {namespace: LLM_Prod}", (), "container.namespace"),
        ("container: {pull_secrets: ['My Secret']}", (), "container.pull_secrets"),
        ("container: {storage_class: 'Fast SC'}", (), "container.storage_class"),
        ("env: {X: {from_env: 'my token'}}", (), "from_env"),
        ("", ("--namespace", "Bad_NS"), "--namespace: 'Bad_NS' is no name of a namespace"),
    ],
)
def test_names_that_nobody_takes_are_refused(
    tmp_path: Path, aot: Aot, more: str, options: tuple[str, ...], words: str
) -> None:
    server, out = tmp_path / "shop.yaml", tmp_path / "out.yaml"
    server.write_text(f"{GPU}{more}\n")
    check(aot("render", server, "--target", "k8s", "-o", out, *options), 2, words)
    assert not out.exists()
