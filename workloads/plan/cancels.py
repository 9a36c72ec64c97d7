"""Clients that hang up before their answer is complete, and those of them that send it again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from aot.configs.schema.patience import Cancels
from aot.workloads.plan.draws import stream, value
from aot.workloads.requests.request import Request

LEAST_S = 0.001
"""A client that hangs up has sent its request."""


def drawn(cancels: Cancels, requests: Sequence[Request], seed: int) -> Iterator[Request]:
    """The requests, and after how long the client of some hangs up."""
    who, when = stream(seed, "cancels"), stream(seed, "cancels/after")
    again = stream(seed, "cancels/retried")
    for request in requests:
        if who.random() >= cancels.share:
            yield request
            continue
        after_s = max(LEAST_S, round(value(cancels.after_s, when), 6))
        yield replace(request, cancel_s=after_s, retried=again.random() < cancels.retried)
