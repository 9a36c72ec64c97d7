"""Several workloads at once: clients of different habits on one server.

The traffic of a server is the sum of clients whose rates, burstiness and lengths differ (ServeGen,
Xiang et al. 2025): each part keeps its own, and the parts lie one above the other in time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from aot.configs.kernel.errors import UsageError
from aot.configs.loading.load import load_workload
from aot.configs.loading.presets import file_of
from aot.configs.schema.workload import Mixture, WorkloadConfig
from aot.workloads.plan import clients
from aot.workloads.plan.draws import stream
from aot.workloads.requests.request import Prefix, Request, Schedule

Build = Callable[[WorkloadConfig, str, Path], Schedule]
SEEDS_APART = 1_000
"""Between parts, and copies of one: else files with the same seed would draw the same."""


def parts_of(config: Mixture, name: str, folder: Path, build: Build) -> list[Schedule]:
    """The schedule of every copy of every part, drawn apart, under names of their own.

    Raises UsageError for a part that does not go with the others.
    """
    made: list[Schedule] = []
    names: Counter[str] = Counter()
    for part in config.parts:
        path = file_of("workload", part.workload, folder)
        own = load_workload(path)
        _check(config, own, f"{folder / name}.yaml: parts: {part.workload}")
        for copy in clients.of_part(part, own, own.seed + config.seed - 1, f"{folder / name}.yaml"):
            seed = own.seed + SEEDS_APART * len(made) + config.seed - 1
            drawn = copy.model_copy(update={"seed": seed})
            names[path.stem] += 1
            tag = f"{path.stem}-{names[path.stem]}"
            made.append(_begun(_renamed(build(drawn, path.stem, path.parent), tag), seed))
    return made


def merged(
    config: Mixture, name: str, parts: Sequence[Schedule]
) -> tuple[dict[str, Prefix], list[Request]]:
    """The first `config.requests` of all parts by when they are due at the earliest, answers taking
    no time; and the prefixes they have.

    Raises UsageError where a part has no new session any more before the last of them.
    """
    due_s = {id_: s for part in parts for id_, s in _due(part).items()}
    rows = sorted((r for part in parts for r in part.requests), key=lambda r: (due_s[r.id], r.id))
    rows = rows[: config.requests]
    end_s = due_s[rows[-1].id]
    for part in parts:
        last_s = max(r.at_s for r in part.requests if r.after is None)
        if len(rows) < config.requests or last_s < end_s:
            raise UsageError(
                f"{name}: its part {part.name} has its last session after {last_s:.0f} s, and "
                f"{config.requests} requests of all parts take {max(end_s, last_s):.0f} s: give "
                "that part more requests, or the mixture fewer"
            )
    begin_s = min(r.at_s for r in rows)
    rows = sorted((replace(r, at_s=round(r.at_s - begin_s, 6)) for r in rows), key=_place)
    used = {r.prefix for r in rows}
    prefixes = {p.id: p for part in parts for p in part.prefixes.values() if p.id in used}
    return prefixes, rows


def _place(request: Request) -> tuple[float, str]:
    return request.at_s, request.id


def _due(part: Schedule) -> dict[str, float]:
    """When each request is due at the earliest: behind all it waits for, after its think time."""
    due_s: dict[str, float] = {}
    for r in part.requests:
        before = [due_s[name] for name in (r.after, *r.joins) if name is not None]
        due_s[r.id] = max([r.at_s, *(s + r.think_s for s in before)])
    return due_s


def _begun(part: Schedule, seed: int) -> Schedule:
    """The same, begun somewhere in a mean gap: every schedule alone begins at 0."""
    roots = [r.at_s for r in part.requests if r.after is None]
    gap_s = roots[-1] / max(1, len(roots) - 1)
    later_s = stream(seed, "mixture").random() * gap_s
    moved = tuple(replace(r, at_s=round(r.at_s + later_s, 6)) for r in part.requests)
    return replace(part, requests=moved)


def _check(config: Mixture, part: WorkloadConfig, where: str) -> None:
    if isinstance(part, Mixture):
        raise UsageError(f"{where}: is a mixture itself; name its parts here")
    if part.load.mode != "open":
        raise UsageError(f"{where}: a closed loop has no arrivals to be mixed: load.mode: open")
    for key in ("endpoint", "request_timeout_s", "limits", "slo"):
        if getattr(part, key) != getattr(config, key):
            raise UsageError(
                f"{where}: {key} is {getattr(part, key)}, and {getattr(config, key)} in the "
                "mixture, which has one for all"
            )
    if part.output.ignore_eos != config.output.ignore_eos:
        raise UsageError(f"{where}: output.ignore_eos differs from the mixture's")


def _renamed(part: Schedule, tag: str) -> Schedule:
    """The same under names that no other part has, and with the output of each request."""

    def named(name: str) -> str:
        return f"{tag}.{name}"

    requests = tuple(
        replace(
            r, id=named(r.id), tenant=named(r.tenant), prefix=named(r.prefix),
            after=named(r.after) if r.after else None, joins=tuple(map(named, r.joins)),
            max_tokens=r.max_tokens or part.max_tokens,
        )
        for r in part.requests
    )  # fmt: skip
    prefixes = {named(p.id): replace(p, id=named(p.id)) for p in part.prefixes.values()}
    return replace(part, name=tag, prefixes=prefixes, requests=requests)
