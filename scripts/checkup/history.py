"""A log as the past of one of its requests: what was sent before it, block by block."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aot.configs.kernel.chains import common
from aot.configs.kernel.errors import UsageError
from aot.workloads.lint import as_blocks, seen
from aot.workloads.lint.seen import Seen
from aot.workloads.logs import bodies
from aot.workloads.logs.bodies import Logged
from aot.workloads.logs.file import Rows

IDS = ("id", "request_id", "custom_id", "requestId", "trace_id", "call_id")
REPLICAS = (
    "replica", "upstream", "backend", "instance", "pod", "worker", "server", "node", "host",
    "api_base", "upstream_addr", "x-served-by",
)  # fmt: skip
"""Fields in which gateways write which server took a request."""


@dataclass(frozen=True, slots=True)
class Sent:
    """One request of the log."""

    seen: Seen
    logged: Logged
    replica: str | None
    ttft_s: float | None


@dataclass(slots=True)
class History:
    """`before`: what was sent before the request, in order of time; `names`: the blocks of each,
    and of the request itself at the end."""

    request: Sent
    before: list[Sent]
    names: list[list[Hashable]]
    block_tokens: int
    tokens_per_character: float
    _last: dict[Hashable, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for number, names in enumerate(self.names[:-1]):
            for name in names:
                self._last[name] = number

    @property
    def own(self) -> list[Hashable]:
        return self.names[-1]

    @property
    def shared_blocks(self) -> int:
        """Leading blocks of the request that were sent before, in its own cache."""
        return next((n for n, b in enumerate(self.own) if b not in self._last), len(self.own))

    def had(self, tokens: int) -> list[int]:
        """Which of `before` had the beginning of the request that ends with the block behind so
        many tokens, or as much of it as anybody had."""
        if not self.shared_blocks:
            return []
        block = self.own[min(tokens // self.block_tokens, self.shared_blocks - 1)]
        return [n for n, names in enumerate(self.names[:-1]) if block in names]

    def holder(self) -> int | None:
        """The latest of `before` with all that is shared; where that fills no block, the latest
        under the same key."""
        if self.shared_blocks:
            return self._last[self.own[self.shared_blocks - 1]]
        keys = [sent.seen.key for sent in self.before]
        mine = self.request.seen.key
        return next((n for n in reversed(range(len(keys))) if keys[n] == mine), None)

    def displaced(self, since: int, capacity_blocks: int) -> int | None:
        """Which of `before` filled the cache, from number `since` on; None where none did. Answers
        are in it as well."""
        touched: set[Hashable] = set(self.names[since])
        answers = 0
        for number in range(since + 1, len(self.before)):
            served = self.before[number].seen.served
            answers += ((served.output_tokens if served else None) or 0) // self.block_tokens
            touched.update(self.names[number])
            if len(touched) + answers > capacity_blocks:
                return number
        return None


def read(
    path: Path, wanted: str, block_tokens: int, scale_of: Callable[[Sequence[Seen]], float]
) -> History:
    """The past of the request that is `wanted`: the number of its line, or an id in it. `scale_of`:
    the tokens per character of a log. UsageError where there is none, or several."""
    every = list(_each(path))
    found = [n for n, (sent, ids) in enumerate(every) if wanted in (str(sent.seen.line), *ids)]
    by_line = [n for n in found if str(every[n][0].seen.line) == wanted]
    if len(found) != 1 and len(by_line) != 1:
        many = f"{len(found)} requests have it" if found else "no request has it"
        raise UsageError(
            f"{path}: '{wanted}': {many}; give the number of a line, or the id that the log has "
            f"for it ({', '.join(IDS)})"
        )
    request = every[(by_line or found)[0]][0]
    others = [sent for sent, _ in every]
    if all(sent.seen.at_s is not None for sent in others):
        others.sort(key=lambda sent: sent.seen.at_s or 0.0)
    before = others[: next(n for n, sent in enumerate(others) if sent is request)]
    sizes = (block_tokens, scale_of([sent.seen for sent in others]))
    names = [as_blocks.names(sent.seen, *sizes) for sent in (*before, request)]
    return History(request, before, names, *sizes)


def _each(path: Path) -> Iterator[tuple[Sent, list[str]]]:
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    rows = Rows(path, skip_bad=True)
    some = False
    for line, row, logged in bodies.each(rows):
        some = True
        one = seen.of(logged, line, row)
        yield Sent(one, logged, _replica(row), _ttft_s(row)), _ids(row)
    if not some:
        first = f": {rows.first_skipped}" if rows.first_skipped else ""
        raise UsageError(f"{path}: no request in it{first}")


def _around(row: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The row, and what stands beside the request in it."""
    yield row
    for key in ("response", "metadata", "headers", "attributes"):
        if isinstance(inner := row.get(key), Mapping):
            yield inner
            if isinstance(body := inner.get("body"), Mapping):
                yield body


def _ids(row: Mapping[str, Any]) -> list[str]:
    return [str(one[k]) for one in _around(row) for k in IDS if isinstance(one.get(k), str | int)]


def _replica(row: Mapping[str, Any]) -> str | None:
    named = (one[k] for one in _around(row) for k in REPLICAS if isinstance(one.get(k), str | int))
    return next((str(name) for name in named), None)


def _ttft_s(row: Mapping[str, Any]) -> float | None:
    values = (one.get("ttft_s") for one in _around(row))
    return next((float(v) for v in values if isinstance(v, int | float)), None)


def common_characters(one: Sequence[tuple[str, str]], other: Sequence[tuple[str, str]]) -> int:
    """Of two requests' parts, from the beginning."""
    count = 0
    for (_, a), (_, b) in zip(one, other, strict=False):
        if a != b:
            return count + common(a, b)
        count += len(a)
    return count
