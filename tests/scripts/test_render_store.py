"""A server file with a KV store, rendered: one store beside all engines, filled once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from support.command import Aot, check

GPU = "engine: vllm\nmodel: Qwen/Qwen3-8B\ncontext_tokens: 8192\n"
STORE = "store: {disk: kv, chunk_tokens: 64, memory_gib: 20.5}\n"
PAIR = "replicas: 2\nrouter: {name: vllm-router, policy: cache_aware}\n"
KUBERNETES = "1.33"


@pytest.fixture
def render(tmp_path: Path, aot: Aot) -> Any:
    def run(text: str, target: str, *more: object) -> list[Any]:
        server = tmp_path / "shop.yaml"
        server.write_text(text)
        done = aot("render", server, "--target", target, *more)
        assert done.returncode == 0, done.stderr
        return [*yaml.safe_load_all(done.stdout), done.stdout]

    return run


def of_store(documents: list[Any]) -> dict[str, Any]:
    """By kind."""
    component = "app.kubernetes.io/component"
    return {d["kind"]: d for d in documents if d["metadata"]["labels"].get(component) == "store"}


def connected(arguments: list[str]) -> Any:
    config = json.loads(arguments[arguments.index("--kv-transfer-config") + 1])
    return config["kv_connector_extra_config"]


def test_engines_of_a_cluster_share_a_store(render: Any) -> None:
    *documents, text = render(GPU + STORE + PAIR, "k8s")
    for document in documents:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
    found = of_store(documents)
    assert found.keys() == {"PersistentVolumeClaim", "Deployment", "Service", "NetworkPolicy"}
    (store,) = found["Deployment"]["spec"]["template"]["spec"]["containers"]
    (engines,) = (d for d in documents if d["metadata"]["name"] == "shop"
                  and d["kind"] == "Deployment")  # fmt: skip
    pod = engines["spec"]["template"]["spec"]
    engine, gate = pod["containers"]
    assert gate["args"][0] == "warm"
    # Each engine finds it by its name, sends its blocks itself, and starts after it.
    name = found["Service"]["metadata"]["name"]
    address = connected(engine["args"])
    assert (address["lmcache.mp.host"], address["lmcache.mp.port"]) == (f"tcp://{name}", 5555)
    assert {"name": "LMCACHE_MP_TRANSFER_MODE", "value": "engine_driven"} in engine["env"]
    (first,) = pod["initContainers"]
    assert f"'{name}', 5555" in first["command"][-1]
    compile(first["command"][-1], "wait", "exec")
    # It is the local one's command, on its volume.
    command = store["command"]
    assert command[:4] == ["python3", "-m", "lmcache.cli.main", "server"]
    assert command[command.index("--host") + 1] == "0.0.0.0"
    assert command[command.index("--http-host") + 1] == "127.0.0.1"  # it takes no key
    disk = json.loads(command[command.index("--l2-adapter") + 1])["base_path"]
    assert disk.startswith("/kv/")
    assert {"name": "disk", "mountPath": "/kv"} in store["volumeMounts"]
    assert store["image"] == engine["image"]
    assert store["resources"]["limits"]["memory"] == "25Gi"
    # Nobody else reaches it.
    (ingress,) = found["NetworkPolicy"]["spec"]["ingress"]
    (who,) = ingress["from"]
    assert who["podSelector"]["matchLabels"] == engines["spec"]["selector"]["matchLabels"]
    assert f"aot.store!={found['Service']['metadata']['labels']['aot.store']}" in text


@pytest.mark.parametrize(
    "other", ["dtype: float16\n", "args: [--kv-cache-dtype, fp8]\n", "args: [-q, fp8]\n"]
)
def test_other_values_are_in_another_store(render: Any, other: str) -> None:
    """Its keys have the model's name and tokens: it would hand out the values of before."""

    def name(text: str) -> str:
        return str(of_store(render(text, "k8s")[:-1])["Service"]["metadata"]["name"])

    plain = name(GPU + STORE)
    assert name(GPU + STORE + other) != plain
    assert name(GPU.replace("8192", "4096") + STORE + "replicas: 2\n" + PAIR[12:]) == plain


def test_other_weights_in_a_folder_are_in_another_store(render: Any, tmp_path: Path) -> None:
    weights = tmp_path / "model" / "model.safetensors"
    weights.parent.mkdir()
    (weights.parent / "config.json").write_text("{}")
    text = GPU.replace("Qwen/Qwen3-8B", "./model") + STORE

    def values(content: bytes) -> str:
        weights.write_bytes(content)
        made, _ = render(text, "compose")
        return str(made["services"]["store"]["labels"]["aot.store"])

    assert values(b"one") != values(b"two")
    assert values(b"one") == values(b"one")


def test_a_store_without_a_disk_has_no_volume(render: Any) -> None:
    found = of_store(render(GPU + "store: {chunk_tokens: 64}\n", "k8s")[:-1])
    assert "PersistentVolumeClaim" not in found
    (store,) = found["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert "--l2-adapter" not in store["command"]


def test_a_store_that_runs_already_is_used(render: Any) -> None:
    text = GPU + "store: {address: 'kv.shared:6555', chunk_tokens: 64}\n"
    *documents, _ = render(text, "k8s")
    assert of_store(documents) == {}
    (engines,) = (d for d in documents if d["kind"] == "Deployment")
    address = connected(engines["spec"]["template"]["spec"]["containers"][0]["args"])
    assert (address["lmcache.mp.host"], address["lmcache.mp.port"]) == ("tcp://kv.shared", 6555)
    assert "LMCACHE_MP_TRANSFER_MODE" not in render(text, "k8s")[-1]  # it is as somebody set it
    (first,) = engines["spec"]["template"]["spec"]["initContainers"]
    assert "'kv.shared', 6555" in first["command"][-1]  # and is waited for
    values = render(text, "helm-values")[0]["servingEngineSpec"]["modelSpec"][0]
    assert connected(values["vllmConfig"]["extraArgs"]) == address


@pytest.mark.parametrize("arm", ["jit", "auto", "aot"])
def test_other_arms_go_without(render: Any, arm: str) -> None:
    *documents, text = render(GPU + STORE, "k8s", "--arm", arm)
    assert of_store(documents) == {}
    assert "kv-transfer" not in text


def test_services_of_compose_share_a_store(render: Any, tmp_path: Path) -> None:
    made, text = render(GPU + STORE + PAIR, "compose")
    services = made["services"]
    (mounted,) = services["store"]["volumes"]
    assert mounted == f"{tmp_path}/kv:/kv"  # where the file says, as on a start of one's own
    values = services["store"]["labels"]["aot.store"]
    assert f"aot store list {tmp_path}/kv/{values}" in text
    for name in ("engine-0", "engine-1"):
        assert connected(services[name]["command"])["lmcache.mp.host"] == "tcp://store"
        assert services[name]["depends_on"] == {"store": {"condition": "service_healthy"}}
    assert "ports" not in services["store"]
    other, _ = render(GPU + STORE + "dtype: float16\n", "compose")
    assert other["services"]["store"]["labels"] != services["store"]["labels"]


def test_other_chunks_make_engines_of_compose_anew(render: Any) -> None:
    """An engine asks its store for their size when it starts, and its own command has none."""
    one, _ = render(GPU + STORE, "compose")
    other, _ = render(GPU + STORE.replace("64", "128"), "compose")
    engines = [made["services"]["engine"] for made in (one, other)]
    assert engines[0]["labels"] != engines[1]["labels"]
    assert engines[0]["labels"] == one["services"]["store"]["labels"]
    again, _ = render(GPU + STORE.replace("20.5", "30"), "compose")
    assert again["services"]["engine"] == engines[0]  # its memory is the store's own business


@pytest.mark.parametrize("target", ["k8s", "compose"])
def test_a_file_for_docker_is_rendered_with_its_store(render: Any, target: str) -> None:
    assert "kv_connector" in render(GPU + STORE + "runtime: docker\n", target)[-1]


def test_what_cannot_be_is_named(tmp_path: Path, aot: Aot) -> None:
    server, out = tmp_path / "shop.yaml", tmp_path / "out.yaml"
    options = ("render", server, "-o", out, "--target")
    server.write_text(GPU)
    check(aot(*options, "k8s", "--arm", "store"), 2, "the file has no 'store', e.g. store:")
    server.write_text(GPU + STORE)
    check(aot(*options, "helm-values"), 2, "store: the chart has no place for one")
    server.write_text(GPU + STORE.replace("64", "100"))
    check(aot(*options, "k8s"), 2, "store.chunk_tokens: 100 is no multiple of the engine's block")
    cpu = "environment: vllm-cpu\n"
    for store in (
        STORE.replace("64", "128"),
        "store: {address: 'kv.shared:6555', chunk_tokens: 128}\n",
    ):
        server.write_text(GPU + cpu + store)
        check(aot(*options, "k8s"), 2, "vllm/vllm-openai-cpu", "no program of a KV store in it")
    for address in ("127.0.0.1:5555", "localhost:6555", "127.0.0.2:5555", "0.0.0.0:5555"):
        server.write_text(GPU + f"store: {{address: '{address}', chunk_tokens: 64}}\n")
        for target in ("k8s", "compose", "helm-values"):
            check(aot(*options, target), 2, f"{address} would be the container itself")
    assert not out.exists()
