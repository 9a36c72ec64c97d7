"""From a hand-made run directory to numbers, verdicts and pages."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support.made_run import COUNT, PROMPT, make, phase, record

from aot.analysis import report
from aot.configs.kernel.errors import UsageError


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make(tmp_path / "run")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with its report, for tests that only read it."""
    folder = make(tmp_path_factory.mktemp("written") / "run")
    report.write(folder)
    return folder


def findings(folder: Path, level: str) -> str:
    found = report.evaluate(folder).findings
    return "\n".join(f"{f.check}: {f.detail}" for f in found if f.level == level)


def rewrite(folder: Path, arm: str, hits: int = 0, preempted: int = 0, **changes: Any) -> None:
    """Replace the records of one arm; `changes` go into the last one."""
    shutil.rmtree(folder / "phases" / f"r1-{arm}")
    cached = 8 if arm == "aot" else 0
    records = [record(arm, n, 1.0 if arm == "jit" else 0.1, cached) for n in range(COUNT)]
    records[-1] = record(arm, COUNT - 1, 0.1, cached, **changes) if changes else records[-1]
    phase(folder, records, hits, preempted)


def test_the_numbers_are_those_worked_out_by_hand(run: Path) -> None:
    summary = report.evaluate(run).summary
    jit, auto, aot = (summary["arms"][a] for a in ("jit", "auto", "aot"))
    assert jit["requests"] == {"planned": 6, "ok": 6, "failed": 0}
    # 1.0 … 1.5 by 0.1: median 1.25; p90 at rank 4.5: 1.45
    assert jit["ttft_s"]["p50"] == pytest.approx(1.25)
    assert jit["ttft_s"]["p90"] == pytest.approx(1.45)
    assert jit["ttft_s"]["mean"] == pytest.approx(1.25)
    assert aot["ttft_s"]["p50"] == pytest.approx(0.125)
    # E2E = TTFT + 0.2; TPOT = 0.2 / 2 later tokens; every gap is 0.1
    assert jit["e2e_s"]["p50"] == pytest.approx(1.45)
    assert jit["tpot_s"]["p99"] == pytest.approx(0.1)
    assert jit["itl_s"]["p50"] == pytest.approx(0.1)
    # first sent at 0.001, last token at 2.501 + 1.5 + 0.2: 4.2 s
    assert jit["throughput"]["requests_per_s"] == pytest.approx(6 / 4.2)
    assert jit["throughput"]["output_tokens_per_s"] == pytest.approx(18 / 4.2)
    assert jit["throughput"]["prompt_tokens_per_s"] == pytest.approx(90 / 4.2)
    for way in ("client", "server", "expected"):
        assert jit["cache"][f"{way}_hit_ratio"] == 0
        assert auto["cache"][f"{way}_hit_ratio"] == pytest.approx(40 / 90)
        assert aot["cache"][f"{way}_hit_ratio"] == pytest.approx(48 / 90)
    assert (aot["cache"]["cached_tokens"], aot["cache"]["prompt_tokens"]) == (48, 90)
    # Compiled: 10 static tokens are 2 full blocks of 4, of prompts of 15.
    assert aot["cache"]["predicted_hit_ratio"] == pytest.approx(8 / 15)
    assert jit["cache"]["predicted_hit_ratio"] is None
    assert summary["comparison"]["ttft_p50_speedup"] == pytest.approx(10.0)
    low, high = summary["comparison"]["ttft_p50_speedup_ci95"]
    assert low <= 10 <= high
    assert summary["comparison"]["pairs"] == 6


def test_summary_keys_are_the_documented_ones(run: Path) -> None:
    summary = report.evaluate(run).summary
    for arm in ("jit", "auto", "aot"):
        for metric in ("ttft_s", "tpot_s", "e2e_s"):
            assert set(summary["arms"][arm][metric]) == {"p50", "p90", "p99", "mean"}


def test_a_sound_run_has_no_void_finding_and_says_so(run: Path) -> None:
    made = report.evaluate(run)
    assert not made.void
    assert "10.0 times lower (95 % interval" in made.headline
    assert {f.check for f in made.findings if f.level == "warning"} == {"enough requests for tails"}


@pytest.mark.parametrize(
    ("arm", "change", "words"),
    [
        ("jit", {"cached_tokens": 4.0}, "no cache hit in jit: jit hit 4 tokens (client)"),
        (
            "aot",
            {"error": "x", "first_token_s": None},
            "1 failed in aot, 1 of them: x",
        ),
        ("aot", {"prompt_tokens": None}, "1 answers without a usage block"),
        ("aot", {"prompt_tokens": PROMPT + 1}, "1 of 18 prompts have another token count"),
        ("aot", {"output_tokens": 2}, "1 requests have different output lengths"),
        ("aot", {"sent_s": 3.0}, "requests sent on time: p99 lateness"),
        ("aot", {"preempted": 2}, "preempted requests"),
    ],
)
def test_what_voids_a_run(run: Path, arm: str, change: dict[str, Any], words: str) -> None:
    rewrite(run, arm, hits=48 if arm == "aot" else 0, **change)
    assert words in findings(run, "void")
    assert report.evaluate(run).headline.startswith("This run is void")


def test_a_void_run_says_so_in_red_on_the_first_screen(run: Path) -> None:
    rewrite(run, "jit", cached_tokens=4.0)
    report.write(run)
    html = (run / "report.html").read_text()
    first_screen = html[: html.index("<h2>Per arm")]
    assert '<div class="void">VOID — jit hit 4 tokens (client)' in first_screen
    assert "This run is void" in first_screen


def test_a_planned_request_without_a_record_voids(run: Path) -> None:
    path = run / "phases" / "r1-aot" / "records" / "requests-0.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-2]))
    assert "every request answered: 2 planned requests have no record in r1-aot" in findings(
        run, "void"
    )


def test_records_of_another_schedule_void(run: Path) -> None:
    path = run / "phases" / "r1-aot" / "records" / "requests-0.jsonl"
    path.write_text(path.read_text().replace('"schedule_sha256":"', '"schedule_sha256":"0'))
    assert "records name another schedule" in findings(run, "void")


def test_one_late_phase_does_not_hide_among_punctual_ones(run: Path) -> None:
    rewrite(run, "jit", sent_s=(COUNT - 1) * 0.5 + 0.1)
    assert "requests sent on time: p99 lateness 95" in findings(run, "void")


def test_answers_shorter_than_planned_are_pointed_out(run: Path) -> None:
    for arm in ("jit", "auto", "aot"):
        path = run / "phases" / f"r1-{arm}" / "records" / "requests-0.jsonl"
        path.write_text(path.read_text().replace('"output_tokens":3', '"output_tokens":2'))
    assert "18 answers are shorter than planned" in findings(run, "warning")
    assert not report.evaluate(run).void


def test_error_texts_are_in_the_report(run: Path) -> None:
    rewrite(run, "aot", error="HTTP 429: slow | down", first_token_s=None)
    made = report.write(run)
    assert made.summary["arms"]["aot"]["errors"] == {"HTTP 429: slow | down": 1}
    assert "HTTP 429: slow | down" in (run / "report.html").read_text()
    assert "| aot | 1 | HTTP 429: slow \\| down |" in (run / "report.md").read_text()


def silence(run: Path) -> None:
    """A server that never reports cached tokens."""
    for path in run.glob("phases/*/records/requests-0.jsonl"):
        path.write_text(re.sub(r'"cached_tokens":\d+', '"cached_tokens":null', path.read_text()))
    path = run / "phases" / "r1-aot" / "warm.json"
    path.write_text(path.read_text().replace('"cached_tokens": 8', '"cached_tokens": null'))


def test_a_server_that_leaves_out_a_zero_has_found_nothing_there(run: Path) -> None:
    """vLLM before one fix, and SGLang, have no such field where nothing was cached."""
    for arm in ("jit", "auto"):
        path = run / "phases" / f"r1-{arm}" / "records" / "requests-0.jsonl"
        path.write_text(path.read_text().replace('"cached_tokens":0', '"cached_tokens":null'))
    made = report.evaluate(run)
    assert made.summary["arms"]["jit"]["cache"]["client_hit_ratio"] == 0
    assert made.summary["arms"]["aot"]["cache"]["client_hit_ratio"] == pytest.approx(8 / 15)
    assert "answers without cached tokens count as 0" in findings(run, "ok")


def test_prompt_tokens_are_known_though_cached_ones_are_not(run: Path) -> None:
    silence(run)
    cache = report.evaluate(run).summary["arms"]["aot"]["cache"]
    assert (cache["cached_tokens"], cache["prompt_tokens"]) == (None, 90)


def test_the_headline_agrees_with_itself_when_requests_are_missing(run: Path) -> None:
    aot = run / "phases" / "r1-aot"
    (aot / "done.json").unlink()
    path = aot / "records" / "requests-0.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:6]))
    # five pairs: medians 1.2 s and 0.12 s, though jit answered six
    assert "Too few answered requests to tell: over 5 of them" in report.evaluate(run).headline
    assert "jit ÷ aot is 10.0, 1.20 s in jit, 120 ms in aot" in report.evaluate(run).headline


@pytest.mark.parametrize("lost", ["manifest.json", "schedule.jsonl", "tokens-server.parquet"])
def test_what_is_lost_is_named_and_the_rest_reported(run: Path, lost: str) -> None:
    (run / lost).write_bytes(b"cut off")
    words = {
        "manifest.json": "manifest.json: which machine, versions and engine",
        "schedule.jsonl": "the schedule",
        "tokens-server.parquet": "token ids of the planned prompts",
    }[lost]
    assert words in findings(run, "warning")
    made = report.write(run)
    assert made.summary["comparison"]["ttft_p50_speedup"] == pytest.approx(10.0)
    assert "10.0 times lower" in (run / "report.md").read_text()


def test_a_busy_generator_voids(run: Path) -> None:
    path = run / "phases" / "r1-aot" / "records" / "load-0.json"
    path.write_text('{"cpu_s": 9.0, "wall_s": 10.0}')
    assert "at most 90% of one core, limit 80%" in findings(run, "void")


def test_a_proof_with_problems_voids_and_a_missing_one_warns(run: Path) -> None:
    path = run / "phases" / "r1-auto" / "proof.json"
    path.write_text(json.dumps({"problems": ["the engine reports prefix caching off"]}))
    assert "r1-auto: the engine reports prefix caching off" in findings(run, "void")
    path.unlink()
    assert "no proof for r1-auto" in findings(run, "warning")


def test_unverified_prefixes_void_aot(run: Path) -> None:
    (run / "phases" / "r1-aot" / "warm.json").unlink()
    assert "static prefixes not verified as cached in r1-aot" in findings(run, "void")


def test_hit_ratios_that_disagree_are_shown_side_by_side(run: Path) -> None:
    rewrite(run, "aot", hits=30)
    assert "aot: client 0.5333, server 0.3333, expected 0.5333" in findings(run, "warning")


def test_unreported_is_never_zero(run: Path) -> None:
    silence(run)
    (run / "phases" / "r1-aot" / "metrics-after.txt").unlink()
    made = report.write(run)
    assert made.summary["arms"]["aot"]["cache"]["client_hit_ratio"] is None
    assert made.summary["arms"]["aot"]["cache"]["server_hit_ratio"] is None
    assert made.summary["arms"]["aot"]["cache"]["cached_tokens"] is None
    assert "not reported" in (run / "report.md").read_text()


def test_an_interrupted_run_reports_what_is_there_and_what_is_not(run: Path) -> None:
    shutil.rmtree(run / "phases" / "r1-auto")
    aot = run / "phases" / "r1-aot"
    (aot / "done.json").unlink()
    path = aot / "records" / "requests-0.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:4]) + '{"id":"r3","ar')
    words = findings(run, "warning")
    assert "arm auto, repeat 1: not measured" in words
    assert "arm aot, repeat 1: interrupted, 3 of 6 requests were recorded" in words
    assert "1 unreadable record(s)" in words
    summary = report.evaluate(run).summary
    assert summary["arms"]["aot"]["requests"]["ok"] == 3
    assert summary["comparison"]["ttft_p50_speedup"] == pytest.approx(1.1 / 0.11)
    assert summary["comparison"]["ttft_p50_speedup_ci95"] is None
    assert "auto" not in summary["arms"]


def test_a_run_without_any_record_is_a_page_that_says_so(run: Path) -> None:
    shutil.rmtree(run / "phases")
    made = report.write(run)
    assert "No comparison: it needs answered requests in jit and aot" in made.headline
    assert "No figure" in (run / "report.html").read_text()


def test_the_page_is_self_contained_and_complete(written: Path) -> None:
    html = (written / "report.html").read_text()
    assert not re.search(r'(src|href)="(?!data:)', html)
    assert html.count('src="data:image/svg+xml;base64,') == 3
    # Every prompt is as long as the others: against their length there is nothing to see.
    figures = ("cold_to_warm", "ttft_by_uncached_tokens", "ttft_cdf")
    drawn = sorted(p.name for p in (written / "figures").iterdir())
    assert drawn == [f"{name}.svg" for name in figures]
    assert report.evaluate(written).summary["schedule_sha256"] in html


def test_figures_are_exported_on_request(run: Path) -> None:
    report.write(run, ["png", "pdf"])
    starts = {".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml"}
    found = list((run / "figures").iterdir())
    assert len(found) == 9
    assert all(path.read_bytes().startswith(starts[path.suffix]) for path in found)


def test_the_parquet_copy_holds_every_record(written: Path) -> None:
    frame = pd.read_parquet(written / "records.parquet")
    assert len(frame) == 18
    jit = frame[frame.arm == "jit"]
    assert (jit.first_token_s - jit.sent_s).median() == pytest.approx(1.25)
    assert list(frame.chunk_s.iloc[0]) == pytest.approx([1.001, 1.101, 1.201])


def test_rebuilding_gives_the_same_numbers_and_pages(written: Path) -> None:
    names = ("summary.json", "report.html", "requests.csv", "figures/ttft_cdf.svg")
    first = [(written / name).read_bytes() for name in names]
    report.write(written)
    assert [(written / name).read_bytes() for name in names] == first


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no run directory"):
        report.write(tmp_path)
    assert list(tmp_path.iterdir()) == []
