from __future__ import annotations

from pathlib import Path

import pytest

from aot.configs.caches.rule import dense
from aot.configs.kernel.errors import UsageError
from aot.configs.schema.server import ServerConfig
from aot.serving.engines.engine import Page
from aot.serving.engines.launch_plan import Site
from aot.serving.engines.sglang import SGLang
from aot.serving.metrics.counters import CacheCounters, parse

HERE = Path(__file__).parent
ON = parse((HERE / "sglang_0_5_23_metrics.txt").read_text())
OFF = parse((HERE / "sglang_0_5_23_metrics_off.txt").read_text())


def site(device: str = "cpu", flags: tuple[str, ...] = ()) -> Site:
    return Site(Path("/e/bin"), "/m", 8123, device, frozenset(flags), ("--sleep-on-idle",))


def plan(arm: str = "aot", where: Site | None = None, **keys: object):  # type: ignore[no-untyped-def]
    server = ServerConfig(engine="sglang", model="m", served_name="tiny", **keys)
    return SGLang().plan(server, arm, where or site())


def text(arm: str = "aot", where: Site | None = None, **keys: object) -> str:
    return " ".join(plan(arm, where, **keys).argv)


def test_only_jit_disables_the_radix_cache_and_nothing_else_differs() -> None:
    jit, auto, aot = (plan(a).argv for a in ("jit", "auto", "aot"))
    assert [a for a in jit if a not in aot] == ["--disable-radix-cache"]
    assert auto == aot


def test_reports_and_counters_are_always_on() -> None:
    for arm in ("jit", "auto", "aot"):
        assert {"--enable-cache-report", "--enable-metrics"} <= set(plan(arm).argv)


def test_settings_become_flags() -> None:
    words = text(
        context_tokens=4096, block_tokens=16, cache_tokens=9000, schedule_policy="lpm",
        args=["--log-level", "debug"],
    )  # fmt: skip
    assert "sglang_server.py --model-path /m --host 127.0.0.1 --port 8123" in words
    assert "--context-length 4096 --page-size 16 --max-total-tokens 9000" in words
    assert "--schedule-policy lpm" in words
    assert words.endswith("--sleep-on-idle --log-level debug")


def test_hicache_is_a_tier_of_the_cache_so_jit_is_without_it() -> None:
    tiers = {"ratio": 2.0, "write_policy": "write_back", "storage": "file", "prefetch": "timeout"}
    on = text("aot", site("cuda"), hicache=tiers)
    assert "--enable-hierarchical-cache --hicache-ratio 2.0" in on
    assert "--hicache-write-policy write_back --hicache-storage-backend file" in on
    assert "--hicache-storage-prefetch-policy timeout" in on
    assert "hicache" not in text("jit", site("cuda"), hicache=tiers)
    with pytest.raises(UsageError, match="hicache: SGLang registers its host pool with CUDA"):
        text(hicache=tiers)


def test_the_tier_in_host_memory_has_the_same_key_on_both_engines() -> None:
    cuda = site("cuda")
    assert "--enable-hierarchical-cache --hicache-size 9" in text("aot", cuda, host_cache_gib=8)
    assert "--hicache-size 4 " in text("aot", cuda, host_cache_gib=8, gpus=2) + " "
    both = text("aot", cuda, host_cache_gib=8, hicache={"write_policy": "write_back"})
    assert "--hicache-size 9 --hicache-write-policy write_back" in both
    assert "hicache" not in text("jit", cuda, host_cache_gib=8)
    with pytest.raises(UsageError, match="host_cache_gib: SGLang registers its host pool"):
        text(host_cache_gib=8)
    with pytest.raises(UsageError, match="hicache has a size of the same tier"):
        text("aot", cuda, host_cache_gib=8, hicache={"ratio": 2.0})


def test_the_prefix_attention_hook_is_off_by_default_and_for_cpus_only() -> None:
    assert "AOT_SGLANG_PREFIX_ATTENTION" not in plan().env
    assert plan(prefix_attention=True).env["AOT_SGLANG_PREFIX_ATTENTION"] == "1"
    with pytest.raises(UsageError, match="prefix_attention: it mends torch_native on a CPU"):
        plan(where=site("cuda"), prefix_attention=True)


def test_the_device_reaches_the_launcher() -> None:
    assert plan().env["AOT_SGLANG_DEVICE"] == "cpu"
    assert plan(where=site("cuda")).env["AOT_SGLANG_DEVICE"] == "cuda"


def test_the_key_is_in_no_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "s3cret")
    made = plan(api_key_env="MY_KEY")
    assert "s3cret" not in repr(made) + made.as_shell()
    assert "--api-key" not in made.argv
    assert made.secrets == {"AOT_SGLANG_API_KEY": "MY_KEY"}


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"cache_gib": 1.0}, "cache_gib: SGLang's cache is sized in tokens"),
        ({"dev_mode": True}, "dev_mode: SGLang's /flush_cache is always open"),
        ({"args": ["--disable-radix-cache"]}, "the arm sets it"),
        ({"args": ["--disable-radix"]}, "the arm sets it"),  # argparse takes a clear beginning
        ({"args": ["--page-size=16"]}, "use the key 'block_tokens'"),
        ({"args": ["--api-key", "k"]}, "use the key 'api_key_env'"),
        ({"env": {"AOT_SGLANG_PREFIX_ATTENTION": "1"}}, "use the key 'prefix_attention'"),
    ],
)
def test_what_the_toolkit_sets_is_refused(keys: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        plan(**keys)


def test_facts_come_from_the_page_and_from_the_resolved_arguments() -> None:
    facts = SGLang().cache_facts(Page(ON, {"disable_radix_cache": False}))
    assert (facts.enabled, facts.block_tokens, facts.capacity_tokens) == (True, 1, 23296)
    off = SGLang().cache_facts(Page(OFF, {"disable_radix_cache": True}))
    assert off.enabled is False
    unknown = SGLang().cache_facts(Page({}, {}))
    assert (unknown.enabled, unknown.block_tokens, unknown.capacity_tokens) == (None, None, None)


def test_counters_are_summed_over_every_series_and_cross_checked() -> None:
    counters = SGLang().counters(ON)
    assert counters.prompt_tokens == 8830 + 16785
    assert counters.hit_tokens == counters.second_hit_tokens == 20885
    # Health probes are prefilled (1 token here) but are no requests.
    assert counters.second_prompt_tokens == 8830 + 16785 + 1
    assert counters.preemptions == 0


def test_every_cache_source_counts() -> None:
    sources = {"device": 5, "host": 3, "storage": 2, "total": 1}
    lines = [f'sglang:cached_tokens_total{{cache_source="{k}"}} {v}' for k, v in sources.items()]
    assert SGLang().counters(parse("\n".join(lines) + "\n")).hit_tokens == 11


def test_with_the_cache_off_hits_are_zero_and_on_a_foreign_page_unknown() -> None:
    assert SGLang().counters(OFF).hit_tokens == 0
    assert SGLang().counters(OFF).hit_ratio == 0
    assert SGLang().counters(parse("up 1\n")) == CacheCounters(None, None, None, None, None)


def test_the_gauge_of_the_last_prefill_is_not_used() -> None:
    counted = 'sglang:realtime_tokens_total{mode="prefill_compute"} 100\n'
    page = parse(f"sglang:cache_hit_rate 0.98\nsglang:prompt_tokens_total 100\n{counted}")
    assert SGLang().counters(page).hit_ratio == 0


def test_a_counter_that_an_old_version_has_not_got_is_unknown() -> None:
    """0.4.6: no counter of cached tokens on the page, whatever was found."""
    page = parse("sglang:cache_hit_rate 0.8\nsglang:prompt_tokens_total 2000\n")
    counters = SGLang().counters(page)
    assert (counters.hit_tokens, counters.preemptions, counters.hit_ratio) == (None, None, None)
    assert counters.prompt_tokens == 2000
    fresh = SGLang().counters(parse("sglang:num_running_reqs 0\n"))
    assert (fresh.hit_tokens, fresh.prompt_tokens) == (0, 0)


@pytest.mark.parametrize(
    ("version", "words"),
    [("0.5.4", "SGLang 0.5.4 has no cache salts (they work from 0.5.11 on)"), ("0.5.23", None)],
)
def test_salts_are_a_matter_of_the_version(version: str, words: str | None) -> None:
    assert SGLang().lacks_salts(version) == words
    assert SGLang().lacks_salts(None) is None
    assert SGLang().lacks_salts("nightly") is None


@pytest.mark.parametrize(
    ("shared", "prompt", "page", "cached"),
    [(196, 196, 1, 195), (2030, 2071, 1, 2030), (1900, 1907, 32, 1888), (0, 50, 1, 0)],
)
def test_expected_hits_are_per_token_at_page_one(
    shared: int, prompt: int, page: int, cached: int
) -> None:
    assert dense(page).expected_tokens(shared, prompt) == cached


def test_a_flush_is_believed_only_when_it_says_so() -> None:
    assert SGLang().reset_refusal(200, "Cache flushed.\nPlease check backend logs") is None
    assert "requests were still running" in (SGLang().reset_refusal(400, "failed") or "")
    assert SGLang().reset_refusal(200, "<html>") is not None
    assert SGLang().reset_refusal(401, "") is not None


def test_noise_of_a_healthy_start_is_no_failure_line() -> None:
    line = SGLang().failure_line
    assert not line.search("Ignore import error when loading sglang.srt.models.grok: no module")
    assert line.search("RuntimeError: Not enough memory. Please try to increase")
