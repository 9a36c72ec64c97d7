"""The floor: the same suffixes with their static prefix and without, none of them seen before."""

from __future__ import annotations

from dataclasses import replace

from support.made_run import schedule

from aot.workloads.plan import floor
from aot.workloads.requests.request import Prefix, Request, Schedule


def of(count: int, prefixes: int = 1) -> Schedule:
    made = schedule(count)
    named = {f"p{n}": replace(made.prefixes["p"], id=f"p{n}") for n in range(prefixes)}
    requests = tuple(
        replace(r, prefix=f"p{n % prefixes}", messages=({"role": "user", "content": f"ask {n}"},))
        for n, r in enumerate(made.requests)
    )
    return replace(made, prefixes=named, requests=requests)


def test_every_suffix_is_sent_with_its_prefix_and_alone() -> None:
    found = floor.schedule(of(3))
    assert found is not None
    assert (found.mode, found.users, found.max_tokens) == ("closed", 1, 1)
    assert [r.id for r in found.requests] == [
        "first/p0", "with/0", "alone/0", "with/1", "alone/1", "with/2", "alone/2",
    ]  # fmt: skip
    assert all(found.output_tokens(r) == 1 for r in found.requests)
    for n in range(3):
        (one, other) = (found.by_id[f"{kind}/{n}"] for kind in (floor.WITH, floor.WITHOUT))
        assert one.messages == other.messages != of(3).requests[n].messages
        assert found.chat_of(one).messages == [{"role": "system", "content": "s"}, *one.messages]
        assert found.chat_of(other).messages == list(one.messages)


def test_a_few_prefixes_and_pairs_are_enough() -> None:
    found = floor.schedule(of(500, prefixes=40))
    assert found is not None
    assert len(found.requests) == floor.PREFIXES + 2 * floor.PAIRS
    assert len({r.messages for r in map(_text, found.requests)}) == floor.PREFIXES + floor.PAIRS - (
        floor.PREFIXES - 1  # the words that put a prefix back are the same for all of them
    )


def _text(request: Request) -> Request:
    return replace(request, messages=tuple(m["content"] for m in request.messages))  # type: ignore[misc]


def test_what_has_no_static_part_has_no_floor() -> None:
    made = schedule(3)
    bare = Prefix("p", (), made.prefixes["p"].probes)
    assert floor.schedule(replace(made, prefixes={"p": bare})) is None
