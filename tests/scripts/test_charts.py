"""The charts of others, rendered with our values by a real Helm; and checkov on what we render.

AOT_TEST_CHARTS names a folder with production-stack's `vllm-stack` and llm-d's
`llm-d-router-standalone`; Helm is PyPI's helm-python-sdk. Neither the charts nor the programs are
the project's own, and a test without its own is left out.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from support.command import Aot

CHARTS = os.environ.get("AOT_TEST_CHARTS")
CHECKOV = shutil.which("checkov")
GPU = "engine: vllm\nmodel: Qwen/Qwen3-8B\ncontext_tokens: 8192\n"
FLEET = "replicas: 2\nrouter: {name: vllm-router, policy: cache_aware}\n"
SERVERS = {
    "plain": GPU,
    "fleet": GPU + FLEET,
    "args": GPU + "served_name: shop\nargs: [--max-num-seqs, '64', --seed, '7']\n",
    "stored": GPU + FLEET + "store: {address: 'kv.shared:6555', chunk_tokens: 64}\n",
    "scaled": GPU + "container: {max_replicas: 4}\n",
    "events": GPU + "kv_events: tcp://127.0.0.1:5557\n",
    "image": GPU + "container: {image: 'registry.local:5000/vllm/vllm-openai:v0.33.0'}\n",
}
KUBERNETES = "1.33"


def values(aot: Aot, folder: Path, text: str, *more: str) -> Any:
    (folder / "shop.yaml").write_text(text)
    done = aot("render", folder / "shop.yaml", "--target", "helm-values", *more)
    assert done.returncode == 0, done.stderr
    return yaml.safe_load(done.stdout)


def rendered(chart: str, given: Any) -> list[Any]:
    helm = pytest.importorskip("helm_python")
    with helm.Chart.load(str(Path(str(CHARTS)) / chart)) as loaded:
        texts = loaded.render(given, name="shop", namespace="shops")
    return [
        d for name, text in texts.items() if name.endswith(".yaml")
        for d in yaml.safe_load_all(text) if d
    ]  # fmt: skip


@pytest.mark.skipif(not CHARTS, reason="needs AOT_TEST_CHARTS")
@pytest.mark.parametrize("name", SERVERS)
def test_production_stack_starts_what_the_file_says(name: str, aot: Aot, tmp_path: Path) -> None:
    given = values(aot, tmp_path, SERVERS[name])
    made = rendered("vllm-stack", given)
    for document in made:
        if document["apiVersion"] in ("v1", "apps/v1"):
            kubernetes_validate.validate(document, KUBERNETES, strict=True)
    (container,) = (
        c for d in made if d["kind"] == "Deployment"
        for c in d["spec"]["template"]["spec"]["containers"]
        if "--max-model-len" in c.get("args", []) + c.get("command", [])
    )  # fmt: skip
    words = [*container.get("command", []), *map(str, container.get("args", []))]
    spec = given["servingEngineSpec"]["modelSpec"][0]
    for word in (spec["modelURL"], *spec["vllmConfig"]["extraArgs"]):
        assert word in words, (word, words)
    assert words[words.index("--max-model-len") + 1] == "8192"
    if name == "image":
        assert container["image"] == "registry.local:5000/vllm/vllm-openai:v0.33.0"


@pytest.mark.skipif(not CHARTS, reason="needs AOT_TEST_CHARTS")
@pytest.mark.parametrize("name", ["plain", "events"])
def test_llm_d_chooses_among_the_rendered_pods(name: str, aot: Aot, tmp_path: Path) -> None:
    made = rendered("llm-d-router-standalone",
                    values(aot, tmp_path, SERVERS[name], "--chart", "llm-d"))  # fmt: skip
    text = yaml.safe_dump_all(made)
    assert "app.kubernetes.io/component" in text
    assert ("precise" in text) == (name == "events")


@pytest.mark.skipif(not CHECKOV, reason="needs checkov")
@pytest.mark.parametrize(
    "more",
    ["", "max_replicas: 4", "store", "engine: sglang"],
    ids=["plain", "scaled", "store", "sglang"],
)
def test_checkov_finds_nothing_that_is_not_explained(more: str, aot: Aot, tmp_path: Path) -> None:
    text = GPU + FLEET
    if more == "store":
        text += "store: {disk: kv, chunk_tokens: 64}\n"
    elif more.startswith("max"):
        text += f"container: {{{more}}}\n"
    elif more:
        text = GPU.replace("vllm", "sglang")
    (tmp_path / "shop.yaml").write_text(text)
    options = ("--target", "k8s", "--namespace", "shops", "--monitoring", "-o", "out.yaml")
    assert aot("render", tmp_path / "shop.yaml", *options).returncode == 0
    command = [str(CHECKOV), "-f", "out.yaml", "--framework", "kubernetes", "--compact", "--quiet"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "Failed checks: 0" in done.stdout
