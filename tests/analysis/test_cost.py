"""What traffic costs, worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.command import Aot, check
from support.made_run import make

from aot.analysis.cost import misses


@pytest.mark.parametrize(
    ("times", "renewed", "count"),
    [
        ([0, 200, 400, 600], True, 1),
        ([0, 200, 400, 600], False, 2),  # written at 0 and, since 300 s are over, at 400
        ([0, 301, 602], True, 3),
        ([], True, 0),
    ],
)
def test_a_prefix_lives_from_its_last_use_or_from_its_writing(
    times: list[float], renewed: bool, count: int
) -> None:
    assert misses(times, 300, renewed) == count


def test_machine_time_follows_the_rate_of_the_run(aot: Aot, tmp_path: Path) -> None:
    make(tmp_path / "run")
    found = json.loads(aot("cost", "run", "--gpu-hour", "3.6", "--json").stdout)["own"]
    jit = next(row for row in found if row["arm"] == "jit")
    # 6 requests of 15 prompt tokens in 4.2 s; 0.001 USD a second
    assert jit["per_million_requests"] == pytest.approx(0.001 * 4.2 / 6 * 1e6)
    assert jit["per_million_prompt_tokens"] == pytest.approx(0.001 * 4.2 / 90 * 1e6)
    done = aot("cost", "run", "--gpu-hour", "3.6")
    check(done, 0)
    assert "700.00 USD" in done.stdout
    assert "the load was an open loop" in done.stdout


def test_hosted_prices_write_a_prefix_once_and_read_it_then(aot: Aot, tmp_path: Path) -> None:
    make(tmp_path / "run")
    # Static parts of 10 tokens are below every provider's minimum: caching changes nothing.
    done = aot("cost", "run", "--provider", "anthropic", "--json")
    check(done, 0)
    [found] = json.loads(done.stdout)["hosted"]
    assert found["writes"] == 0
    # 15 prompt tokens at 2 and 3 output tokens at 10 USD a million
    assert found["jit_per_million_requests"] == pytest.approx(15 * 2 + 3 * 10)
    assert found["aot_per_million_requests"] == found["jit_per_million_requests"]


def test_hosted_prices_with_a_prefix_that_is_kept(tmp_path: Path) -> None:
    from datetime import date

    from aot.analysis import report
    from aot.analysis.cost import hosted
    from aot.configs.loading.pricing import ModelPrice, PriceTable

    made = report.evaluate(make(tmp_path / "run"))
    price = ModelPrice(input=2, write=2.5, read=0.2, output=10)
    table = PriceTable(
        provider="p", date=date(2026, 1, 1), source="s", caching="explicit", minimum_tokens=8,
        ttl_s=300, step_tokens=4, default_model="m", models={"m": price},
    )  # fmt: skip
    rows = made.frame[made.frame["arm"] == "aot"]
    found = hosted(made.parts[0].server, rows, table, price)
    assert found is not None
    # 8 of 10 static tokens in steps of 4; one request writes, five read; 7 tokens at full price
    prompt = (8 * 2.5 + 5 * 8 * 0.2) / 6 + 7 * 2
    assert found.aot_per_million_requests == pytest.approx(prompt + 30)
    assert found.aot_per_million_prompt_tokens == pytest.approx(prompt / 15)
    assert (found.writes, found.requests) == (1, 6)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give --gpu-hour USD, or --provider NAME"),
        (["--gpu-hour", "0"], "a price above 0"),
        (["--provider", "nobody"], "'nobody' is not one of"),
        (["--provider", "openai", "--model", "x"], "'x' is not in configs/pricing/openai.yaml"),
    ],
)
def test_wrong_prices_are_named(aot: Aot, tmp_path: Path, arguments: list[str], words: str) -> None:
    make(tmp_path / "run")
    check(aot("cost", "run", *arguments), 2, words)


def test_what_cannot_be_priced_is_said(aot: Aot, tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    (run / "tokens-server.parquet").unlink()
    check(aot("cost", "run", "--provider", "openai"), 2, "static prefixes are not known")
    (run / "phases" / "r1-aot" / "warm.json").unlink()
    check(aot("cost", "run", "--gpu-hour", "2"), 2, "the run is void")


def closed(run: Path) -> Path:
    """The run made by hand, as a closed loop of one user: nothing is planned."""
    make(run, mode="closed")
    for path in run.glob("phases/*/records/requests-0.jsonl"):
        header, *lines = path.read_text().splitlines()
        rows = [json.loads(line) | {"planned_s": None} for line in lines]
        path.write_text("\n".join([header, *map(json.dumps, rows)]) + "\n")
    return run


def test_what_a_start_costs_once_is_told_apart(aot: Aot, tmp_path: Path) -> None:
    closed(tmp_path / "run")
    found = json.loads(aot("cost", "run", "--gpu-hour", "3.6", "--json").stdout)["own"]
    jit, auto, aot_ = (next(r for r in found if r["arm"] == a) for a in ("jit", "auto", "aot"))
    # One cold request took 0.8 s longer than the others; warming took 1 s. 0.001 USD a second.
    assert auto["once"] == pytest.approx(0.0008)
    assert aot_["once"] == pytest.approx(0.001)
    assert jit["once"] == 0
    # auto: 6 requests in 2.9 s, of which 0.8 s are the cold start's.
    assert auto["per_million_requests"] == pytest.approx(0.001 * (2.9 - 0.8) / 6 * 1e6)
    assert auto["of_default"] == 1
    assert aot_["of_default"] == pytest.approx(
        aot_["per_million_requests"] / auto["per_million_requests"]
    )
    assert jit["of_default"] > 1
