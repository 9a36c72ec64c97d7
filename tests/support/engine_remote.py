"""A running engine as experiments and loads see it from outside."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from aot.analysis import report
from support.live import aot, only_run


def far(
    files: Path, name: str, url: str, key: str, arms: str, traffic: str = "traffic.yaml"
) -> Path:
    """An experiment over the running server; the folder of its run."""
    (files / f"far-{name}.yaml").write_text(f"engine: {name}\nruntime: remote\nurl: {url}\n" + key)
    path = files / f"experiment-{name}.yaml"
    path.write_text(
        dedent(f"""\
        name: far-{name}
        server: far-{name}.yaml
        workload: {traffic}
        arms: {arms}
        repeats: 1
        """)
    )
    runs = f"far-{name}-{Path(traffic).stem}"
    done = aot("run", path, "--runs", runs, cwd=files)
    assert done.returncode == 0, done.stderr + done.stdout
    return only_run(files / runs)


def check_far(run: Path) -> None:
    made = report.evaluate(run)
    assert [f for f in made.findings if f.level == "void"] == []
    arms = made.summary["arms"]
    assert arms["jit"]["cache"]["cached_tokens"] == 0
    for numbers in arms.values():
        cache = numbers["cache"]
        ratios = {cache[f"{k}_hit_ratio"] for k in ("client", "server", "expected")}
        assert len(ratios) == 1, cache
    assert arms["aot"]["cache"]["client_hit_ratio"] > 0.9
    assert made.summary["comparison"]["ttft_p50_speedup"] > 1
    assert "jit is emulated" in (run / "report.md").read_text()


def at(files: Path, name: str, url: str, *options: str) -> dict[str, Any]:
    """The numbers of a load in the aot arm; texts are as long as the model's tokenizer says."""
    done = aot(
        "load", "short.yaml", "--url", url, "--tokenizer", "smollm2-135m", "-o", f"at-{name}",
        "--arm", "aot", *options, cwd=files,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    arm: dict[str, Any] = report.evaluate(files / f"at-{name}").summary["arms"]["aot"]
    assert arm["requests"] == {"planned": 5, "ok": 5, "failed": 0}
    return arm


def at_every_endpoint(
    files: Path, url: str, endpoints: tuple[str, ...], *options: str
) -> dict[str, float]:
    """The same prompts by each kind of endpoint: the same hits."""
    text = (files / "traffic.yaml").read_text()
    (files / "short.yaml").write_text(f"{text}static_tokens: 416\ndynamic_tokens: 24\n")
    engine_name = "sglang" if "generate" in endpoints else "vllm"
    arms = {e: at(files, f"{engine_name}-{e}", url, "--endpoint", e, *options) for e in endpoints}
    ratios = {e: arm["cache"]["client_hit_ratio"] for e, arm in arms.items()}
    assert ratios == {e: pytest.approx(ratios["chat"]) for e in endpoints}
    assert ratios["chat"] > 0.8
    for arm in arms.values():
        cache = arm["cache"]
        assert cache["client_hit_ratio"] == cache["server_hit_ratio"] == cache["expected_hit_ratio"]
    return ratios
