"""What each router is started with, and what it is refused."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from aot.configs.kernel.errors import UsageError
from aot.configs.kernel.routing import routing_key
from aot.configs.schema.beside import RouterConfig
from aot.configs.schema.server import ServerConfig
from aot.serving.engines.table import accepted, engine
from aot.serving.topology.routers import ROUTERS, Place, by_urls, worker_args

PLACE = Place("0.0.0.0", 8000, 29001, "m", "/ready")
WORKERS = ["http://127.0.0.1:1", "http://127.0.0.1:2"]


def argv(**config: object) -> list[str]:
    router = RouterConfig.model_validate(config)
    return list(ROUTERS[router.name].plan(router, Path("/env/bin"), by_urls(WORKERS), PLACE).argv)


@pytest.mark.parametrize(
    ("name", "begins"),
    [
        ("vllm-router", ["/env/bin/vllm-router", "--worker-urls"]),
        ("sglang-router", ["/env/bin/sglang-router", "launch", "--worker-urls"]),
        ("smg", ["/env/bin/smg", "launch", "--worker-urls"]),
    ],
)
def test_each_router_is_told_its_workers_and_its_place(name: str, begins: list[str]) -> None:
    words = argv(name=name)
    assert words[: len(begins)] == begins
    start = words.index("--worker-urls") + 1
    assert words[start : start + 2] == WORKERS
    pairs = dict(pairwise(words))
    assert (pairs["--host"], pairs["--port"], pairs["--policy"]) == (
        "0.0.0.0",
        "8000",
        "cache_aware",
    )
    assert pairs["--prometheus-host"] == "127.0.0.1"  # its counters are nobody else's business


def test_policies_are_called_as_each_router_calls_them() -> None:
    assert "consistent_hash" in argv(name="vllm-router", policy="consistent_hash")
    assert "consistent_hashing" in argv(name="smg", policy="consistent_hash")


def test_a_policy_that_a_router_has_not_got_is_named_with_those_that_have_it() -> None:
    with pytest.raises(
        UsageError, match=r"sglang-router has no consistent_hash .* vllm-router and smg"
    ):
        argv(name="sglang-router", policy="consistent_hash")


def test_flags_of_the_toolkit_are_refused() -> None:
    with pytest.raises(UsageError, match="--worker-urls does not belong there: use the key 'repl"):
        argv(args=["--worker-urls", "http://elsewhere"])
    with pytest.raises(UsageError, match="process list"):
        argv(args=["--api-key=secret"])


def test_cache_aware_of_vllm_router_needs_workers_that_render() -> None:
    aware = RouterConfig(name="vllm-router", policy="cache_aware")
    assert worker_args(aware, engine("vllm")) == ("--enable-scale-out",)
    assert worker_args(RouterConfig(policy="round_robin"), engine("vllm")) == ()
    assert worker_args(RouterConfig(name="smg"), engine("sglang")) == ()
    assert worker_args(None, engine("vllm")) == ()
    with pytest.raises(UsageError, match="use sglang-router or smg in front of it"):
        worker_args(aware, engine("sglang"))


def test_replicas_have_the_router_of_their_engine_unless_told() -> None:
    assert accepted(ServerConfig(model="m")).front is None
    two = accepted(ServerConfig(model="m", replicas=2)).front
    assert two is not None
    assert (two.name, two.policy, two.keeps_owners) == ("vllm-router", "cache_aware", True)
    sglang = accepted(ServerConfig(engine="sglang", model="m", replicas=2)).front
    assert sglang is not None
    assert sglang.name == "sglang-router"
    with pytest.raises(ValueError, match="every replica would need its own"):
        ServerConfig(model="m", replicas=2, kv_events="ipc:///run/events")


def test_keys_of_prefixes_are_safe_in_a_header() -> None:
    keys = {routing_key(p) for p in ("a", "b", "tenant 1\r\nX: y", "Ärger")}
    assert len(keys) == 4
    assert all(k.isalnum() and len(k) == 16 for k in keys)
