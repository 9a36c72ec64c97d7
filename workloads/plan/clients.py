"""Clients alike in kind and unlike in habits: how often each asks, how unevenly, and how long.

A server's clients differ far more than a Poisson process says (ServeGen, Xiang et al. 2025): of 162
published ones the busiest sends 16 % of all requests and the ten busiest 63 %, and their gaps have
a coefficient of variation of 1.0 to 1.4 in the median and of 4 to 5.5 at the 90th percentile.
"""

from __future__ import annotations

from math import ceil, sqrt
from typing import Any

from aot.configs.kernel.errors import UsageError
from aot.configs.schema.draws import (
    Arrivals,
    ConstantArrivals,
    Distribution,
    GammaArrivals,
    LogNormal,
    PoissonArrivals,
    Uniform,
)
from aot.configs.schema.workload import Part, WorkloadConfig
from aot.workloads.plan.draws import stream, value

LEAST_CV = 0.05
"""Gamma gaps as good as constant."""
SPARE_DEVIATIONS = 6
"""More requests of a client than are expected, so that none runs out before the others."""


def of_part(part: Part, own: WorkloadConfig, seed: int, where: str) -> list[WorkloadConfig]:
    """The workload of every copy of a part: the file's own, with the habits of that client.

    Raises UsageError where arrivals of that kind have no coefficient of variation.
    """
    if part.has_no_habits:
        return [own] * part.copies
    weights = [(k + 1) ** -part.zipf for k in range(part.copies)]
    rng, factors = stream(seed, "clients"), [w * part.copies / sum(weights) for w in weights]
    return [_copy(part, own, factor, rng, where) for factor in factors]


def _copy(part: Part, own: WorkloadConfig, factor: float, rng: Any, where: str) -> WorkloadConfig:
    cv = None if part.cv is None else max(LEAST_CV, round(value(part.cv, rng), 3))
    longer = value(part.length_factor, rng)
    expected = own.requests * factor
    spare = SPARE_DEVIATIONS * max(cv or 1.0, 1.0) * sqrt(expected) + SPARE_DEVIATIONS
    changed: dict[str, Any] = {
        "arrivals": _arrivals(own.arrivals, factor, cv, where),
        "requests": ceil(expected + spare),
        "output": own.output.model_copy(
            update={"max_tokens": _scaled(own.output.max_tokens, longer)}
        ),
    }
    dynamic = getattr(own, "dynamic_tokens", None)
    if dynamic is not None:
        changed["dynamic_tokens"] = _scaled(dynamic, longer)
    return own.model_copy(update=changed)


def _arrivals(arrivals: Arrivals, factor: float, cv: float | None, where: str) -> Arrivals:
    if cv is None:
        rates = {k: v * factor for k, v in arrivals.model_dump().items() if k.endswith("_per_s")}
        return arrivals.model_copy(update=rates)
    if isinstance(arrivals, PoissonArrivals | ConstantArrivals | GammaArrivals):
        return GammaArrivals(kind="gamma", rate_per_s=arrivals.rate_per_s * factor, cv=cv)
    raise UsageError(f"{where}: arrivals of kind {arrivals.kind} have no cv; leave out cv")


def _scaled(lengths: Distribution, factor: float) -> Distribution:
    """Longer by a factor, and cut off where it was before."""
    match lengths:
        case LogNormal(median=median, p90=p90, max=most):
            least = median * factor if most is None else min(median * factor, most)
            highest = p90 * factor if most is None else min(p90 * factor, most)
            return LogNormal(median=least, p90=highest, max=most)
        case Uniform(low=low, high=high):
            return Uniform(low=round(low * factor), high=round(high * factor))
        case _:
            return max(1.0, round(lengths * factor))
