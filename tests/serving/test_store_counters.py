"""What LMCache's own page says, as it was after six requests that it answered from its disk."""

from __future__ import annotations

from pathlib import Path

from support.made_run import PROMPT, make

from aot.analysis import report
from aot.serving.metrics import store_counters
from aot.serving.metrics.counters import parse
from aot.serving.metrics.store_counters import StoreCounters

PAGE = Path(__file__).with_name("lmcache_0_5_6_metrics.txt").read_text()
NOTHING = StoreCounters(0, 0, 0, 0, 0, 0)
TIER = """\
vllm:prompt_tokens_cached_by_source_total{{source="external_unspecified"}} {}
vllm:prompt_tokens_cached_by_source_total{{source="p2p"}} 0
"""


def test_a_page_of_the_store() -> None:
    found = store_counters.read(parse(PAGE))
    assert found == StoreCounters(12288, 0, 12288, 0, 192, 0)


def test_a_counter_without_an_event_is_0_and_another_page_is_none() -> None:
    ticks = "lmcache_mp_l1_eviction_loop_ticks_total 52\n"
    assert store_counters.read(parse(ticks)) == NOTHING
    assert store_counters.read(parse("vllm:prompt_tokens_total 5\n")) is None
    assert store_counters.read({}) is None


def stored(run: Path, used: int, after: str = PAGE) -> Path:
    """The aot arm of `run` through a store, of which the engine used `used` tokens."""
    folder = run / "phases" / "r1-aot"
    (folder / "metrics-before-store.txt").write_text("lmcache_mp_ticks_total 1\n")
    (folder / "metrics-after-store.txt").write_text(after)
    for when, tokens in (("before", 0), ("after", used)):
        page = folder / f"metrics-{when}.txt"
        page.write_text(page.read_text() + TIER.format(tokens))
    return run


def test_what_a_store_counted_is_in_the_report(tmp_path: Path) -> None:
    made = report.evaluate(stored(make(tmp_path / "run"), used=16))
    assert made.summary["arms"]["aot"]["store"] == {
        "asked_tokens": 12288, "memory_tokens": 0, "disk_tokens": 12288, "written_chunks": 0,
        "evicted_chunks": 192, "failed_chunks": 0, "used_tokens": 16,
    }  # fmt: skip
    assert made.summary["arms"]["jit"]["store"] is None
    assert not [f for f in made.findings if f.check.startswith("store")]


def test_a_store_that_gave_less_than_was_used_is_named(tmp_path: Path) -> None:
    empty = "lmcache_mp_ticks_total 2\n"
    made = report.evaluate(stored(make(tmp_path / "run"), used=PROMPT, after=empty))
    [found] = [f for f in made.findings if f.check == "store and engine agree"]
    assert (found.level, found.detail) == (
        "warning",
        "r1-aot: the engine had 15 tokens from it, of 0 that it says it found",
    )


def test_chunks_that_a_store_could_not_give_are_named(tmp_path: Path) -> None:
    name = "lmcache_mp_l2_prefetch_failure_chunks_total"
    # What came into its memory meanwhile is not missing.
    failed = f'{PAGE}{name}{{reason="l1_oom"}} 3\n{name}{{reason="l1_contended"}} 50\n'
    made = report.evaluate(stored(make(tmp_path / "run"), used=16, after=failed))
    [found] = [f for f in made.findings if f.check == "the store gave all"]
    assert (found.level, "3 in r1-aot" in found.detail) == ("warning", True)
