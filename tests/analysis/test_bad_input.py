"""Runs with something wrong in them: a report that says so, never a wrong number or a traceback."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.made_run import make, phase, record

from aot.analysis import report

Spoil = Callable[[Path], object]


def lines(change: Callable[[list[str]], list[str]]) -> Spoil:
    """Change the record lines (header first) of the aot arm."""

    def spoil(run: Path) -> None:
        path = run / "phases" / "r1-aot" / "records" / "requests-0.jsonl"
        path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")

    return spoil


def replaced(old: str, new: str) -> Spoil:
    return lines(lambda found: [found[0], *(x.replace(old, new) for x in found[1:])])


def file(name: str, text: str) -> Spoil:
    return lambda run: (run / "phases" / "r1-aot" / name).write_text(text)


def tokens(columns: dict[str, list[object]]) -> Spoil:
    return lambda run: pq.write_table(pa.table(columns), run / "tokens-server.parquet")


def all_fail(run: Path) -> None:
    for arm in ("jit", "auto", "aot"):
        shutil.rmtree(run / "phases" / f"r1-{arm}")
        failed = {"error": "HTTP 500", "first_token_s": None, "last_token_s": None, "chunk_s": []}
        phase(run, [record(arm, n, 1.0, None, **failed) for n in range(6)], hits=0)


def one_request(run: Path) -> None:
    for arm in ("jit", "auto", "aot"):
        shutil.rmtree(run / "phases" / f"r1-{arm}")
        phase(run, [record(arm, 0, 1.0, 0)], hits=0)
    (run / "schedule.jsonl").write_text("")


def backwards(run: Path) -> None:
    shutil.rmtree(run / "phases" / "r1-aot")
    phase(run, [record("aot", n, -0.5, 8) for n in range(6)], hits=48)


UNREADABLE = "run complete: arm aot, repeat 1: 6 unreadable record(s)"
CASES: dict[str, tuple[Spoil, str]] = {
    "no request succeeded": (all_fail, "6 failed in jit, 6 of them: HTTP 500"),
    "one request only": (one_request, "enough requests for tails: 1 answered requests"),
    "clock backwards": (backwards, "clock runs forwards: 6 answers have a time before"),
    "a record twice": (lines(lambda x: [*x, x[-1]]), "one record for each request: 1 records"),
    "another format": (
        lines(lambda x: [x[0].replace("aot-records/1", "aot-records/9"), *x[1:]]),
        "requests-0.jsonl has format 'aot-records/9', this version reads 'aot-records/1'",
    ),
    "records of another arm": (replaced('"arm":"aot"', '"arm":"jit"'), UNREADABLE),
    "text for a number": (replaced('"prompt_tokens":15', '"prompt_tokens":"15"'), UNREADABLE),
    "no chunk times": (replaced('"chunk_s":[', '"chunk_s":null,"x":['), UNREADABLE),
    "text for a time": (replaced('"sent_s":', '"sent_s":"a","x":'), UNREADABLE),
    "a number for a tenant": (replaced('"tenant":"p"', '"tenant":5'), UNREADABLE),
    "foreign facts": (file("facts.json", '{"enabled": true, "x": 1}'), "enough requests"),
    "foreign warm.json": (file("warm.json", '{"a": 1}'), "not verified as cached in r1-aot"),
    "foreign proof": (file("proof.json", "[1]"), "no proof for r1-aot"),
    "foreign load facts": (file("records/load-0.json", "[]"), "enough requests for tails"),
    "foreign Parquet": (tokens({"x": [1]}), "token ids of the planned prompts (no tokenizer)"),
    "Parquet of other types": (
        tokens({"id": [1], "token_ids": ["a"]}),
        "0 counts agree; of the others none was planned",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_run_with_something_wrong_is_reported_and_says_so(tmp_path: Path, name: str) -> None:
    spoil, words = CASES[name]
    run = make(tmp_path / "run")
    spoil(run)
    made = report.write(run)
    found = "\n".join(f"{f.check}: {f.detail}" for f in made.findings if f.level != "ok")
    assert words in found
    assert (run / "report.html").read_text().rstrip().endswith("</html>")
    assert not list(run.glob(".*partial"))


@pytest.mark.parametrize("name", ["clock backwards", "a record twice", "another format"])
def test_no_headline_from_what_cannot_be_used(tmp_path: Path, name: str) -> None:
    run = make(tmp_path / "run")
    CASES[name][0](run)
    assert report.evaluate(run).headline.startswith("This run is void")


def test_too_few_requests_make_no_claim(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    one_request(run)
    assert report.evaluate(run).headline.startswith("Too few answered requests to tell: over 1")
