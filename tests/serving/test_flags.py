"""A flag of the other engine is named, with what it is called on this one."""

from __future__ import annotations

import pytest

from aot.configs.kernel.errors import UsageError
from aot.configs.schema.server import ServerConfig
from aot.serving.engines import flags, table
from aot.serving.engines.flags import known, refuse


def check(engine: str, *args: str) -> None:
    refuse(ServerConfig(engine=engine, model="m", args=list(args)), table.engine(engine).file_rules)


def refused(engine: str, *args: str) -> str:
    with pytest.raises(UsageError) as caught:
        check(engine, *args)
    assert str(caught.value).startswith(f"args: {args[0].split('=')[0].replace('_', '-')} ")
    return str(caught.value)


@pytest.mark.parametrize(
    ("engine", "flag", "words"),
    [
        ("sglang", "--max-num-seqs", "engine is sglang, which calls it --max-running-requests"),
        ("sglang", "--gpu-memory-utilization=0.9", "which calls it --mem-fraction-static"),
        ("sglang", "--gpu_memory_utilization=0.9", "which calls it --mem-fraction-static"),
        ("sglang", "--enable-prefix-caching", "the arm sets it"),
        ("sglang", "--no-enable-prefix-caching", "the arm sets it"),
        ("sglang", "--max-model-len", "use the key 'context_tokens'"),
        ("sglang", "--block-size", "use the key 'block_tokens'"),
        ("sglang", "--kv-transfer-config", "is a flag of vllm"),
        ("vllm", "--disable-radix-cache", "and this server's engine is vllm; the arm sets it"),
        ("vllm", "--mem-fraction-static", "which calls it --gpu-memory-utilization"),
        ("vllm", "--page-size", "use the key 'block_tokens'"),
        ("vllm", "--hicache-ratio", "has no flag of that name; remove it, or set 'engine: sglang'"),
    ],
)  # fmt: skip
def test_a_flag_of_the_other_engine(engine: str, flag: str, words: str) -> None:
    assert words in refused(engine, flag, "1")


@pytest.mark.parametrize(
    ("engine", "args"),
    [
        ("sglang", ("--max-running-requests", "2", "--chunked-prefill-size", "-1")),
        ("vllm", ("--max-num-seqs", "4", "-O", "2")),
        ("vllm", ("--max-num-s", "4")),  # argparse takes a clear beginning
        ("vllm", ("--no-such-flag-of-anyone",)),  # the engine itself says what it thinks of it
        ("sglang", ("--kv-cache-dtype", "fp8_e4m3")),  # both have it
    ],
)
def test_flags_of_the_engine_itself_pass(engine: str, args: tuple[str, ...]) -> None:
    check(engine, *args)


def test_the_twins_are_real_flags() -> None:
    assert len(flags._twins()) > 15
    for row in flags._twins():
        for engine, flag in row.items():
            assert flag in known(engine), flag


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_the_flags_that_the_toolkit_sets_exist(engine: str) -> None:
    assert set(table.engine(engine).file_rules.own_flags) <= known(engine)
