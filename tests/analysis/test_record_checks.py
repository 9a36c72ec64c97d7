"""Wrong records: every kind of them voids the run, or is named, and none gets a clean report."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.made_run import make

from aot.analysis import report

Row = dict[str, Any]


def phase(run: Path, arm: str = "aot") -> Path:
    return run / "phases" / f"r1-{arm}"


def rows(change: Callable[[Row], object], arms: tuple[str, ...] = ("aot",), only: int | None = 2
         ) -> Callable[[Path], None]:  # fmt: skip
    """Change one record of each of `arms` (`only`: its place; None: all of them)."""

    def spoil(run: Path) -> None:
        for arm in arms:
            path = phase(run, arm) / "records" / "requests-0.jsonl"
            header, *lines = path.read_text().splitlines()
            made = [json.loads(line) for line in lines]
            for n, row in enumerate(made):
                if only in (None, n):
                    change(row)
            path.write_text("\n".join([header, *map(json.dumps, made)]) + "\n")

    return spoil


def put(**values: Any) -> Callable[[Row], object]:
    return lambda row: row.update(values)


def later(*keys: str) -> Callable[[Row], object]:
    return lambda row: row.update({k: row[k] + 0.03 for k in keys})


def buffered(row: Row) -> None:
    row.update(first_token_s=row["last_token_s"], chunk_s=[row["last_token_s"]])


def let_go(row: Row) -> None:
    last = row["last_token_s"]
    row.update(first_token_s=last - 2e-5, chunk_s=[last - 2e-5, last - 1e-5, last])


def pairs(row: Row) -> None:
    """The second and the third chunk in one read."""
    first, _, last = row["chunk_s"]
    row["chunk_s"] = [first, last, last]


def backwards(row: Row) -> None:
    row["chunk_s"] = [row["chunk_s"][0], row["chunk_s"][2], row["chunk_s"][1], row["chunk_s"][2]]
    row["output_tokens"] = 4


def write(name: str, value: Any, arm: str = "aot") -> Callable[[Path], None]:
    return lambda run: (phase(run, arm) / name).write_text(json.dumps(value)) and None


def no_header(run: Path) -> None:
    path = phase(run) / "records" / "requests-0.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))


def twice(run: Path) -> None:
    path = phase(run) / "records" / "requests-0.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines, lines[-1]]))


def lost(run: Path) -> None:
    path = phase(run) / "records" / "requests-0.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def closed(run: Path) -> None:
    """The same run in a closed loop, whose event loop stood still for two seconds."""
    import shutil

    shutil.rmtree(run)
    make(run, mode="closed")
    rows(put(planned_s=None), ("jit", "auto", "aot"), only=None)(run)
    load = {"cpu_s": 1.0, "wall_s": 10.0, "lags_s": [0.0] * 30 + [2.0]}
    (phase(run) / "records" / "load-0.json").write_text(json.dumps(load))


CASES: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "a gateway that buffers": (
        rows(buffered, ("jit", "auto", "aot"), only=None), "warning", "came in one piece"),
    "a gateway that buffers bytes": (
        rows(let_go, ("jit", "auto", "aot"), only=None), "warning", "came in one piece"),
    "first token not of the first chunk": (
        rows(later("first_token_s")), "void", "another time than their first chunk"),
    "last token not of the last chunk": (
        rows(later("last_token_s")), "void", "another time than their last chunk"),
    "chunks backwards": (rows(backwards), "void", "run backwards"),
    "no chunks": (rows(put(chunk_s=[])), "void", "have no times of chunks"),
    "negative cached tokens": (rows(put(cached_tokens=-4)), "void", "fewer than 0 cached tokens"),
    "cached above the prompt": (
        rows(put(cached_tokens=99)), "void", "more cached tokens than the prompt has"),
    "another count of hits than the engine's": (
        rows(lambda r: r.update(cached_tokens=r["cached_tokens"] - 4)), "warning",
        "aot: client 0."),
    "an empty prompt": (rows(put(prompt_tokens=0)), "void", "a prompt of no tokens"),
    "another prompt": (rows(put(prompt_tokens=16)), "void", "have another token count"),
    "no prompt tokens": (rows(put(prompt_tokens=None)), "void", "without a usage block"),
    "planned at another time": (
        rows(lambda r: r.update(planned_s=r["planned_s"] - 0.1), ("jit",)), "void",
        "another planned time than the schedule's"),
    "not planned at all": (rows(put(planned_s=None)), "void", "say not when they were due"),
    "sent before it was due": (
        rows(lambda r: r.update(sent_s=r["planned_s"] - 0.1)), "void", "before they were due"),
    "sent before the replay": (rows(put(sent_s=-1.0)), "void", "before the replay began"),
    "sent late": (
        rows(lambda r: r.update(sent_s=r["sent_s"] + 0.05)), "void", "p99 lateness"),
    "no header": (no_header, "void", "no header"),
    "no output tokens": (rows(put(output_tokens=None)), "void", "not report their output tokens"),
    "0 output tokens": (rows(put(output_tokens=0)), "void", "report no output tokens"),
    "an error status with text": (rows(put(status=500)), "void", "under a status of failure"),
    "no time at all": (
        rows(lambda r: r.update(sent_s=r["first_token_s"]), ("auto",)), "void",
        "took no time at all"),
    "merged tokens": (
        rows(put(output_tokens=12), ("jit", "auto", "aot"), only=None), "warning",
        "4.00 tokens a chunk"),
    "chunks in one read": (
        rows(pairs, ("jit", "auto", "aot"), only=None), "warning",
        "1.50 chunks came in one read on average"),
    "more tokens than asked": (
        rows(put(output_tokens=4), ("jit", "auto", "aot")), "warning",
        "more tokens than were asked"),
    "hidden reasoning": (
        rows(put(output_tokens=9, hidden_tokens=6), ("jit", "auto", "aot"), only=None), "warning",
        "108 generated tokens (67%) were not sent"),
    "more hidden than generated": (
        rows(put(hidden_tokens=6)), "void", "more hidden tokens than were generated"),
    "two alternatives": (rows(put(choices=2)), "warning", "several alternatives"),
    "sent twice": (rows(put(resent=True), only=None), "warning", "6 requests went twice"),
    "more chunks than tokens": (
        rows(put(output_tokens=2), ("jit", "auto", "aot")), "warning", "more chunks with text"),
    "a request of no schedule": (rows(put(id="r99")), "void", "of no request of the schedule"),
    "another tenant": (rows(put(tenant="q")), "void", "another tenant or prefix"),
    "another prefix": (rows(put(prefix="q")), "void", "another tenant or prefix"),
    "facts against the arm": (
        write("facts.json", {"enabled": False, "block_tokens": 4, "capacity_tokens": 1000}),
        "void", "prefix caching off"),
    "facts against jit": (
        write("facts.json", {"enabled": True, "block_tokens": 4, "capacity_tokens": 1000}, "jit"),
        "void", "prefix caching on"),
    "a proof of another arm": (
        write("proof.json", {"arm": "jit", "problems": []}), "void", "its proof is of arm jit"),
    "an empty proof": (write("proof.json", {}), "warning", "no proof for r1-aot"),
    "a loop that stood still": (closed, "void", "it stood still for"),
    "a record twice": (twice, "void", "has one already"),
    "a record too few": (lost, "void", "have no record in r1-aot"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_wrong_record_gets_no_clean_report(tmp_path: Path, name: str) -> None:
    spoil, level, words = CASES[name]
    run = make(tmp_path / "run")
    spoil(run)
    found = [f"{f.check}: {f.detail}" for f in report.evaluate(run).findings if f.level == level]
    assert words in "\n".join(found)


def test_right_records_are_said_to_agree(tmp_path: Path) -> None:
    made = report.evaluate(make(tmp_path / "run"))
    [found] = [f for f in made.findings if f.check == "records agree with themselves"]
    assert found.level == "ok"


def test_one_answer_in_one_piece_is_no_gateway_that_buffers(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    rows(buffered)(run)
    assert not report.evaluate(run).void


def test_buffered_answers_have_no_time_per_token(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    rows(buffered, ("aot",), only=None)(run)
    arms = report.evaluate(run).summary["arms"]
    for metric in ("tpot_s", "itl_s", "itl_per_token_s"):
        assert arms["aot"][metric]["p50"] is None
        assert arms["jit"][metric]["p50"] == pytest.approx(0.1)
    assert arms["aot"]["ttft_s"]["p50"] is not None
    assert arms["aot"]["stream"]["in_one_read"] == 1


def test_the_time_of_a_chunk_is_shared_by_its_tokens(tmp_path: Path) -> None:
    """Three chunks, 0.1 s apart, of five tokens: two gaps for four later tokens."""
    run = make(tmp_path / "run")
    rows(put(output_tokens=5), ("aot",), only=None)(run)
    arm = report.evaluate(run).summary["arms"]["aot"]
    assert arm["itl_s"]["p50"] == pytest.approx(0.1)
    assert arm["itl_per_token_s"]["p50"] == pytest.approx(0.05)
    assert arm["tpot_s"]["p50"] == pytest.approx(0.05)


def test_hidden_tokens_are_in_no_time_per_token(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    rows(put(output_tokens=9, hidden_tokens=6), ("aot",), only=None)(run)
    arm = report.evaluate(run).summary["arms"]["aot"]
    assert arm["tpot_s"]["p50"] == pytest.approx(0.1)
    assert arm["stream"]["hidden_tokens"] == 36


def test_an_engine_of_others_may_have_its_cache_on_in_jit(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    CASES["facts against jit"][0](run)
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["servers"]["server"]["remote"] = True
    (run / "manifest.json").write_text(json.dumps(manifest))
    assert not report.evaluate(run).void


def test_clients_that_hang_up_as_planned_are_no_failures(tmp_path: Path) -> None:
    """One got no answer, one sent it again; what the engine computed for both is not known."""
    run = make(tmp_path / "run")
    path = run / "schedule.jsonl"
    text = path.read_text()
    for n, more in ((2, '"cancel_s":0.3'), (3, '"cancel_s":0.3,"retried":true')):
        text = text.replace(f'"id":"r{n}"', f'"id":"r{n}",{more}')
    was, now = (hashlib.sha256(t.encode()).hexdigest() for t in (path.read_text(), text))
    path.write_text(text)
    gone = {
        "cancelled_s": 1.3, "error": "cancelled by its client after 0.3 s, as planned",
        "first_token_s": None, "last_token_s": None, "chunk_s": [], "prompt_tokens": None,
        "cached_tokens": None, "output_tokens": None,
    }  # fmt: skip
    arms = ("jit", "auto", "aot")
    rows(put(**gone), arms, only=2)(run)
    rows(put(cancelled_s=1.6), arms, only=3)(run)
    for records in run.glob("phases/*/records/requests-0.jsonl"):
        records.write_text(records.read_text().replace(was, now))
    made = report.evaluate(run)
    assert [f for f in made.findings if f.level == "void"] == []
    aot = made.summary["arms"]["aot"]
    assert aot["requests"] == {"planned": 6, "ok": 5, "failed": 0}
    assert aot["cancels"] == {"cancelled": 1, "retried": 1}
    assert aot["errors"] == {}
    assert aot["cache"]["expected_hit_ratio"] is None  # nobody knows what was left half-way
    [said] = [f for f in made.findings if "hang up" in f.check and f.detail.startswith("aot")]
    assert "1 requests got no answer" in said.detail


def test_a_hang_up_that_was_not_planned_voids(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    rows(put(cancelled_s=1.3), only=2)(run)
    [found] = [f for f in report.evaluate(run).findings if f.level == "void"]
    assert "r2: records of a hang-up that was not planned" in found.detail
