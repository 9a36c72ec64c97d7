"""Planned traffic, made by hand."""

from __future__ import annotations

from aot.workloads.requests.request import Message, Prefix, Request, Schedule


def user(text: str) -> tuple[Message, ...]:
    return ({"role": "user", "content": text},)


def sessions(count: int, gap_s: float) -> Schedule:
    """Sessions of two turns, one after the other."""
    prefix = Prefix("p", ({"role": "system", "content": "S"},), (user("a"), user("b")))
    requests = []
    for n in range(count):
        at_s = round(n * gap_s, 6)
        requests.append(Request(f"a{n:04d}", at_s, "t", "p", user(f"first {n}"), 4))
        after = f"a{n:04d}"
        requests.append(
            Request(f"b{n:04d}", at_s, "t", "p", user(f"second {n}"), 4, after, 0.0, True)
        )
    return Schedule("s", 1, "open", 1, 4, True, 20.0, {"p": prefix}, tuple(requests))
