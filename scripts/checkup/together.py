"""What a log and a server say together that neither says alone."""

from __future__ import annotations

from collections.abc import Iterator

from aot.scripts.checkup.of_log import LogAnswer
from aot.serving.health.facts import ServerFacts
from aot.serving.health.faults import Fault

MUCH = 0.05
"""Of the prompt tokens."""
ALSO_OF_PROMPTS = "traffic-finds-nothing"


def faults(
    log: LogAnswer | None,
    server: ServerFacts | None,
    of_server: list[Fault],
    capacity_tokens: int | None,
    found: float | None,
) -> list[Fault]:
    """Those of the server, without what the log explains, and those of both; `found`: the hit ratio
    now."""
    if log is None:
        return of_server
    explained = {ALSO_OF_PROMPTS} if any(f.level == "error" for f in log.flaws) else set()
    known = {f.name for f in of_server}
    mine = [*_models(log, server), *_bypassing(log), *_room(log, server, capacity_tokens)]
    if not of_server:
        mine += _less(log, server, capacity_tokens, found)
    return [f for f in of_server if f.name not in explained] + [
        f for f in mine if f.name not in known
    ]


def _models(log: LogAnswer, server: ServerFacts | None) -> Iterator[Fault]:
    if server and log.models and server.model not in log.models:
        yield Fault(
            "another-model",
            f"the log is of {', '.join(log.models)}, and this server has {server.model}",
            "compare only if that is the same model by another name",
        )


def _bypassing(log: LogAnswer) -> Iterator[Fault]:
    if log.not_looked_up >= MUCH * log.requests:
        yield Fault(
            "not-looked-up",
            f"{log.not_looked_up:,} of {log.requests:,} requests ask for the probabilities of "
            "their prompt's tokens (prompt_logprobs, or echo with logprobs), for which an engine "
            "computes the whole prompt",
            "leave that out of what serves users",
        )


def _room(log: LogAnswer, server: ServerFacts | None, capacity: int | None) -> Iterator[Fault]:
    if capacity is None:
        return
    at = log.at(capacity)
    if log.reachable_hit_ratio - at > MUCH and log.needed:
        most = log.needed[-1]
        larger = server.settings.get("small-cache") if server else None
        yield Fault(
            "small-cache",
            f"the cache holds {capacity:,} tokens, which finds {at:.1%} of this log; "
            f"{most.capacity_tokens:,} would find {most.share * log.reachable_hit_ratio:.1%}",
            larger or "give the cache more memory, fewer bytes a token, or a host tier",
        )


def _less(
    log: LogAnswer, server: ServerFacts | None, capacity: int | None, found: float | None
) -> Iterator[Fault]:
    """Less is found than a cache of that size would: it is not the size, and not the prompts."""
    if server is None or capacity is None or found is None or found >= log.at(capacity) - MUCH:
        return
    yield Fault(
        "found-less",
        f"{found:.1%} of the prompt tokens are found, and a cache of this size would find "
        f"{log.at(capacity):.1%} of this log",
        "other traffic on this server, replicas without affinity, restarts, a lifetime, or salts "
        "that are added on the way: 'aot explain REQUEST --log LOG' tells of one request",
    )
