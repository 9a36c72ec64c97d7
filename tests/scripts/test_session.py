"""A reset that is refused ends the run and says what to do."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from support.stub import MODEL, serving

from aot.configs.kernel.errors import CacheStateError
from aot.scripts.run.session import Session
from aot.scripts.run.target import Up
from aot.serving.client.endpoint import Endpoint
from aot.serving.engines.table import engine

PATH = "/flush_cache?timeout=10"


def reset(status: int, body: str, name: str = "sglang", path: str = PATH) -> str:
    with serving(posts={path: (status, body)}) as stub:
        up = Up(Endpoint(stub.base_url, MODEL), None, lambda: True)
        target = SimpleNamespace(name="mine", engine=engine(name))
        session = Session("endpoint")
        return session._reset(up, target)  # type: ignore[arg-type]


def test_a_flush_that_succeeded_is_recorded_with_its_words() -> None:
    assert reset(200, "Cache flushed.\nPlease check").endswith("Cache flushed. Please check")


def test_a_flush_refused_while_requests_run_says_what_to_do() -> None:
    with pytest.raises(CacheStateError, match="did not empty the cache of mine: HTTP 400") as e:
        reset(400, "Flush cache failed.\n")
    assert "requests were still running or waiting after 10 s" in str(e.value)
    assert "end what else sends requests to this server" in str(e.value)


def test_vllm_that_holds_blocks_says_so() -> None:
    with pytest.raises(CacheStateError, match="blocks are held while requests run"):
        reset(200, '{"success": false}', "vllm", "/reset_prefix_cache")


def test_the_order_of_arms_turns_so_that_no_arm_keeps_its_place() -> None:
    from types import SimpleNamespace
    from typing import Any

    from aot.scripts.run.experiment import order

    config = SimpleNamespace(arms=["jit", "auto", "aot"], repeats=6)
    experiment: Any = SimpleNamespace(config=config, targets=["here"])
    repeats: dict[int, list[str]] = {}
    for repeat, _, arm in order(experiment):
        repeats.setdefault(repeat, []).append(arm)
    assert repeats[1] == ["jit", "auto", "aot"]
    assert repeats[2] == ["aot", "auto", "jit"]
    # Over six repeats every arm was twice in every place.
    for place in range(3):
        assert sorted(r[place] for r in repeats.values()) == sorted(config.arms * 2)
