from __future__ import annotations

from pathlib import Path

import pytest

from aot.configs.caches.rule import CacheRule, Layers, dense
from aot.configs.kernel.errors import UsageError
from aot.configs.schema.server import ServerConfig
from aot.serving.engines.engine import Page
from aot.serving.engines.launch_plan import Site
from aot.serving.engines.vllm import VLLM
from aot.serving.metrics.counters import CacheCounters, parse

PAGE = (Path(__file__).parent / "vllm_0_32_metrics.txt").read_text()


def site(device: str = "cpu", flags: tuple[str, ...] = ()) -> Site:
    return Site(Path("/e/bin"), "/m", 8123, device, frozenset(flags), ("--enforce-eager",))


def argv(arm: str = "aot", where: Site | None = None, **keys: object) -> list[str]:
    server = ServerConfig(model="m", served_name="tiny", **keys)
    return list(VLLM().plan(server, arm, where or site()).argv)


@pytest.mark.parametrize(
    ("arm", "flag"),
    [
        ("jit", "--no-enable-prefix-caching"),
        ("auto", "--enable-prefix-caching"),
        ("aot", "--enable-prefix-caching"),
    ],
)
def test_the_arm_sets_the_caching_flag(arm: str, flag: str) -> None:
    both = {"--no-enable-prefix-caching", "--enable-prefix-caching"}
    assert both & set(argv(arm)) == {flag}


def test_the_arms_differ_in_nothing_else() -> None:
    jit, aot = argv("jit"), argv("aot")
    assert [a for a in jit if a not in aot] == ["--no-enable-prefix-caching"]
    assert [a for a in aot if a not in jit] == ["--enable-prefix-caching"]


WINDOWS = (Layers("full"), Layers("window", 128))
TIERS = ["--kv-transfer-config", '{"kv_connector": "ExampleConnector"}', "--kv-offloading-size=1"]


def test_jit_is_without_tiers() -> None:
    others = ["--max-num-seqs", "4"]
    assert argv("jit", args=[*TIERS, *others])[-2:] == others
    assert not {"--kv-transfer-config", "--kv-offloading-size=1"} & set(argv("jit", args=TIERS))
    assert argv("auto", args=[*TIERS, *others])[-5:] == [*TIERS, *others]
    others = ["--kv_transfer_config", "{}", "--kv_offloading_size", "4"]
    assert argv("jit", args=others) == argv("jit")
    assert VLLM().outlives(ServerConfig(model="m", args=others))
    short = ["--kv-transfer", "{}", "--kv_offloading_s=4"]  # argparse takes clear beginnings
    assert argv("jit", args=short) == argv("jit")
    assert VLLM().outlives(ServerConfig(model="m", args=short))
    dotted = ["--kv-transfer-config.kv_connector", "ExampleConnector"]
    assert argv("jit", args=dotted) == argv("jit")


@pytest.mark.parametrize(
    ("args", "outlives"), [(TIERS[:2], True), (["--kv-offloading-size", "1"], False), ([], False)]
)
def test_a_connector_may_hold_what_an_earlier_process_left(args: list[str], outlives: bool) -> None:
    assert VLLM().outlives(ServerConfig(model="m", args=args)) is outlives


def test_the_tier_in_host_memory_is_refused_where_there_is_none_to_add() -> None:
    with pytest.raises(UsageError, match="host_cache_gib: on a CPU the cache is in host memory"):
        argv("aot", host_cache_gib=8)
    on = argv("aot", site("cuda"), host_cache_gib=8)
    assert on[on.index("--kv-offloading-size") + 1] == "8"
    assert "--kv-offloading-size" not in argv("jit", site("cuda"), host_cache_gib=8)
    for more in ({"args": TIERS[:2]}, {"args": TIERS[2:]}, {"store": {}}):
        with pytest.raises(UsageError, match="have a tier beyond the device already"):
            argv("aot", site("cuda"), host_cache_gib=8, **more)


PAGE_WITH_A_STORE = """\
vllm:prefix_cache_queries_total 3505
vllm:prefix_cache_hits_total 100
vllm:external_prefix_cache_hits_total 3356
vllm:prompt_tokens_total 3505
vllm:prompt_tokens_cached_total 3456
vllm:prompt_tokens_cached_by_source_total{source="device"} 100
vllm:prompt_tokens_cached_by_source_total{source="host"} 0
vllm:prompt_tokens_cached_by_source_total{source="disk"} 0
vllm:prompt_tokens_cached_by_source_total{source="p2p"} 6
vllm:prompt_tokens_cached_by_source_total{source="external_unspecified"} 3350
"""


def test_tokens_of_a_store_are_found_tokens() -> None:
    counted = VLLM().counters(parse(PAGE_WITH_A_STORE))
    assert counted.hit_tokens == counted.second_hit_tokens == 3456
    tiers = (counted.device_tokens, counted.host_tokens, counted.disk_tokens, counted.store_tokens)
    assert tiers == (100, 0, 0, 3356)
    old = VLLM().counters(parse("vllm:prefix_cache_hits_total 100\n"))
    assert (old.hit_tokens, old.store_tokens, old.device_tokens) == (100, None, None)


MODEL = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 128}


@pytest.mark.parametrize(
    ("kept", "args", "rule"),
    [
        ('prefix_cache_retention_interval="0",', (), CacheRule(32, WINDOWS, 0)),
        ('prefix_cache_retention_interval="None",', (), CacheRule(32, WINDOWS, None)),
        ('prefix_cache_retention_interval="512",', (), CacheRule(32, WINDOWS, 512)),
        ("", (), CacheRule(32, WINDOWS, None)),  # a version that kept them all
        ("", ("--disable-hybrid-kv-cache-manager",), CacheRule(32, (Layers("full"),), None)),
        ("", ("--speculative-config", '{"method": "mtp"}'), CacheRule(32, WINDOWS, None, True)),
        ("", ("--speculative-config", '{"method": "ngram"}'), CacheRule(32, WINDOWS, None)),
        ("", ("--speculative_config.method", "eagle"), CacheRule(32, WINDOWS, None, True)),
        ("", ("--kv-transfer-config={}",), None),  # which layers it knows is the connector's own
    ],
)
def test_the_rule_of_its_cache(kept: str, args: tuple[str, ...], rule: CacheRule | None) -> None:
    page = parse(f'vllm:cache_config_info{{{kept}block_size="32"}} 1\n')
    assert VLLM().cache_facts(Page(page, {}, MODEL, args)).rule == rule
    assert VLLM().cache_facts(Page(page, {})).rule is None
    assert VLLM().cache_facts(Page(page, {})).reuse == dense(32)


def test_settings_become_flags() -> None:
    words = argv(context_tokens=4096, block_tokens=64, cache_gib=0.5, args=["--max-num-seqs", "4"])
    text = " ".join(words)
    assert text.startswith("/e/bin/vllm serve /m --host 127.0.0.1 --port 8123")
    assert "--max-model-len 4096 --block-size 64 --kv-cache-memory-bytes 536870912" in text
    assert text.endswith("--enforce-eager --max-num-seqs 4")


@pytest.mark.parametrize(
    ("flags", "device", "dtype"),
    [
        (("avx2",), "cpu", "float32"),
        (("avx512f",), "cpu", "float32"),
        (("avx512f", "avx512_bf16"), "cpu", "bfloat16"),
        ((), "cuda", "auto"),
    ],
)
def test_dtype_auto_is_what_the_device_computes_fast(
    flags: tuple[str, ...], device: str, dtype: str
) -> None:
    words = argv(where=site(device, flags))
    assert words[words.index("--dtype") + 1] == dtype


def test_an_explicit_dtype_is_kept() -> None:
    words = argv(dtype="bfloat16")
    assert words[words.index("--dtype") + 1] == "bfloat16"


@pytest.mark.parametrize(
    ("arg", "words"),
    [
        ("--no-enable-prefix-caching", "the arm sets it"),
        ("--block-size=16", "use the key 'block_tokens'"),
        ("--api-key", "use the key 'api_key_env'"),
    ],
)
def test_flags_of_the_toolkit_are_refused_in_args(arg: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        argv(args=[arg])


def test_a_block_size_that_kills_the_cpu_engine_is_refused() -> None:
    with pytest.raises(UsageError, match="block_tokens: 16 does not work on a CPU"):
        argv(block_tokens=16)
    assert "16" in argv(block_tokens=16, where=site("cuda"))


def test_the_key_is_named_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "s3cret")
    plan = VLLM().plan(ServerConfig(model="m", api_key_env="MY_KEY"), "aot", site())
    assert 'VLLM_API_KEY="$MY_KEY"' in plan.as_shell()
    assert "s3cret" not in repr(plan) + plan.as_shell()


def test_dev_mode_is_an_environment_variable_and_off_by_default() -> None:
    on = VLLM().plan(ServerConfig(model="m", dev_mode=True), "aot", site())
    off = VLLM().plan(ServerConfig(model="m"), "aot", site())
    assert on.env["VLLM_SERVER_DEV_MODE"] == "1"
    assert "VLLM_SERVER_DEV_MODE" not in off.env


def test_facts_and_counters_are_read_from_a_real_metrics_page() -> None:
    metrics = parse(PAGE)
    facts = VLLM().cache_facts(Page(metrics, {}))
    assert (facts.enabled, facts.block_tokens) == (True, 32)
    assert facts.capacity_tokens == 23296
    counters = VLLM().counters(metrics)
    assert counters.queried_tokens == counters.prompt_tokens
    assert 0 < (counters.hit_tokens or 0) < (counters.queried_tokens or 0)
    assert counters.preemptions == 0
    assert counters.second_hit_tokens == counters.hit_tokens
    assert counters.second_prompt_tokens == counters.prompt_tokens


def test_counters_that_are_not_exported_are_unknown() -> None:
    counters = VLLM().counters(parse("up 1\n"))
    assert counters == CacheCounters(None, None, None, None, None)
    assert counters.hit_ratio is None
    assert VLLM().cache_facts(Page({}, {})).enabled is None


def test_series_of_several_engines_are_summed() -> None:
    page = (
        'vllm:prefix_cache_hits_total{engine="0"} 3\nvllm:prefix_cache_hits_total{engine="1"} 4\n'
    )
    assert VLLM().counters(parse(page)).hit_tokens == 7


def test_hit_ratio_with_the_cache_off_is_zero_not_unknown() -> None:
    assert CacheCounters(0, 0, 500, 10, 0).hit_ratio == 0


@pytest.mark.parametrize(
    ("shared", "prompt", "block", "cached"),
    [
        (256, 256, 128, 128),  # the last token is always recomputed
        (257, 257, 128, 256),
        (2030, 2071, 32, 2016),
        (31, 500, 32, 0),
        (0, 500, 32, 0),
        (500, 10, 32, 0),
    ],
)
def test_expected_hits_are_whole_blocks(shared: int, prompt: int, block: int, cached: int) -> None:
    assert dense(block).expected_tokens(shared, prompt) == cached


@pytest.mark.parametrize(
    ("status", "body", "empty"),
    [
        (200, '{"success":true}', True),
        (200, '{"success":false}', False),
        (200, "", False),
        (404, '{"success":true}', False),
        (200, "[true]", False),
    ],
)
def test_only_a_body_that_says_success_is_a_reset(status: int, body: str, empty: bool) -> None:
    assert (VLLM().reset_refusal(status, body) is None) is empty


def test_counters_by_the_names_of_0_8() -> None:
    page = parse(
        'vllm:gpu_prefix_cache_queries_total{model_name="m"} 2000\n'
        'vllm:gpu_prefix_cache_hits_total{model_name="m"} 1600\n'
        'vllm:prompt_tokens_total{model_name="m"} 2000\n'
        'vllm:cache_config_info{block_size="16",enable_prefix_caching="True",'
        'num_gpu_blocks="9000"} 1\n'
    )
    counters = VLLM().counters(page)
    assert (counters.queried_tokens, counters.hit_tokens, counters.hit_ratio) == (2000, 1600, 0.8)
    assert counters.preemptions is None
    facts = VLLM().cache_facts(Page(page, {}))
    assert (facts.enabled, facts.block_tokens, facts.capacity_tokens) == (True, 16, 144_000)
    assert VLLM().lacks_salts("0.8.5") == (
        "vLLM 0.8.5 has no cache salts (they work from 0.9.0 on)"
    )
