"""Another engine is one module, one row and its data files: everything that engines differ in goes
through the seam."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from support import third_engine
from support.command import CHECKOUT, Aot, check
from support.stub import MODEL, serving

from aot.configs.kernel.places import engines_dir
from aot.scripts.render import targets
from aot.scripts.study import tune
from aot.serving.client.detect import detect
from aot.serving.client.endpoint import connect
from aot.serving.engines import flags
from aot.serving.local import environments


@pytest.fixture
def third(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    yield third_engine.add(tmp_path, monkeypatch)
    monkeypatch.undo()
    for cached in (flags.known, flags._others, flags._twins):
        cached.cache_clear()


def pretend_installed() -> None:
    folder = engines_dir() / "third"
    (folder / "bin").mkdir(parents=True)
    marker = {
        "recipe_sha256": environments.recipe_digest("third"),
        "versions": {"third": "1.2.3"},
    }
    (folder / environments.MARKER).write_text(json.dumps(marker))


@pytest.mark.parametrize("target", [t for t in targets.TARGETS if t != "helm-values"])
def test_it_is_rendered_for_every_target(aot: Aot, third: Path, target: str) -> None:
    done = aot("render", third, "--target", target)
    check(done, 0)
    assert "third" in done.stdout
    assert "vllm" not in done.stdout.lower()
    assert "sglang" not in done.stdout.lower()


def test_helm_values_are_of_the_charts_that_serve_it(aot: Aot, third: Path) -> None:
    done = aot("render", third, "--target", "helm-values", "--chart", "llm-d")
    check(done, 0)
    assert yaml.safe_load(done.stdout)["router"]["modelServers"]["type"] == "third"
    check(aot("render", third, "--target", "helm-values"), 2, "does not serve third")


def test_replicas_get_its_router_its_image_and_its_metric(aot: Aot, third: Path) -> None:
    third.write_text(third.read_text() + "replicas: 2\ncontainer: {max_replicas: 4}\n")
    text = aot("render", third, "--target", "k8s", "--arm", "jit").stdout
    documents = list(yaml.safe_load_all(text))
    engine = next(d for d in documents if d["kind"] == "Deployment")
    (container,) = engine["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "third/third:1.2.3"
    assert container["command"] == ["third-serve"]
    assert "--cache-off" in container["args"]
    scaler = next(d for d in documents if d["kind"] == "HorizontalPodAutoscaler")
    assert scaler["spec"]["metrics"][0]["pods"]["metric"]["name"] == "third_waiting"
    assert "/opt/routers/smg/bin/smg\n        - launch" in text
    third.write_text(third.read_text() + "router: {name: vllm-router, policy: cache_aware}\n")
    done = aot("render", third, "--target", "k8s")
    check(done, 2, "asks its workers to render prompts, which third does not")


def test_it_is_started_by_its_own_command(aot: Aot, third: Path) -> None:
    pretend_installed()
    done = aot("serve", third, "--dry-run", "--arm", "jit")
    check(done, 0)
    assert re.search(r"/third/bin/third --model Qwen/Qwen3-8B --cache-off --host", done.stdout)


def test_the_doctor_knows_its_memory(aot: Aot, third: Path) -> None:
    done = aot("doctor", "--server", third, "--json")
    check(done, 0)
    facts = json.loads(done.stdout)
    assert facts["memory"]["budget"]["usable_why"] == "a rule of its own"
    assert facts["memory"]["cache_tokens"] % 8 == 0  # its own default block


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ("--max-num-batched-tokens, 9", "a flag of vllm, and this server's engine is third, which "
         "calls it --batch-tokens"),
        ("--mem-fraction-static, 0.5", "is a flag of sglang"),
        ("--model, x", "use 'model'"),
    ],
)  # fmt: skip
def test_flags_of_the_others_are_named(aot: Aot, third: Path, args: str, words: str) -> None:
    third.write_text(third.read_text() + f"args: [{args}]\n")
    check(aot("render", third, "--target", "compose"), 2, words)


def test_its_flags_are_named_on_the_others(aot: Aot, third: Path) -> None:
    third.write_text("engine: vllm\nmodel: x\nargs: [--batch-tokens, 4]\n")
    done = aot("render", third, "--target", "compose")
    check(done, 2, "is a flag of third", "which calls it --max-num-batched-tokens")


def test_keys_that_it_has_no_setting_for_are_refused(aot: Aot, third: Path) -> None:
    third.write_text(third.read_text() + "schedule_policy: lpm\n")
    check(aot("render", third, "--target", "compose"), 2, "schedule_policy: it is SGLang's")
    third.write_text(third_engine.SERVER + "dev_mode: true\n")
    done = aot("render", third, "--target", "compose")
    check(done, 2, "dev_mode: third has no setting for it; remove it")


def test_it_can_be_tuned(third: Path) -> None:
    del third
    assert tune._rules("third").flags == {"batched_tokens": "--batch-tokens"}


def test_it_is_recognised_by_its_pages(third: Path) -> None:
    del third
    with serving() as stub:
        assert detect(connect(stub.base_url, MODEL, None)).name == "openai"
        stub.behaviour.pages["/metrics"] = "third:hits_total 3\n"
        assert detect(connect(stub.base_url, MODEL, None)).name == "third"


def test_engines_are_named_in_their_own_modules_only() -> None:
    """No decision outside an engine's module asks which engine it is."""
    question = re.compile(
        r"""(==|!=|\bin\b|\bnot in\b|\bcase\b)\s*[\[({]?\s*["'](vllm|sglang)["']"""
    )
    answers = re.compile(r"""^\s*["'](vllm|sglang)["']\s*:""", re.MULTILINE)
    own = {"vllm", "sglang", "vllm_memory", "vllm_operations", "sglang_memory", "sglang_operations"}
    for room in ("analysis", "configs", "scripts", "serving", "workloads"):
        for module in (CHECKOUT / room).rglob("*.py"):
            of_an_engine = module.stem in own and module.parent.name == "engines"
            if of_an_engine or "in_engine" in module.parts or "bench" in module.parts:
                continue
            text = module.read_text()
            assert not question.search(text), module
            assert not answers.search(text) or module.name == "imported.py", module
