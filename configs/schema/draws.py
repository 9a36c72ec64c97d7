"""The shape of what is drawn at random in a workload file: lengths, times, arrivals."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from aot.configs.schema.strict import StrictModel


class LogNormal(StrictModel):
    """Median and 90th percentile of a lognormal distribution, cut off at `max`."""

    median: float = Field(gt=0)
    p90: float = Field(gt=0)
    max: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if self.p90 < self.median or (self.max is not None and self.max < self.median):
            raise ValueError("median, p90 and max must ascend")
        return self


class Uniform(StrictModel):
    """Every value from low to high, both included, equally often."""

    low: float = Field(ge=0)
    high: float = Field(ge=0)

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if self.high < self.low:
            raise ValueError("high is below low")
        return self


TAGS = ("number", "lognormal", "uniform")
"""What pydantic calls the shapes of a distribution; no file has these words."""


def _kind(value: Any) -> str:
    if isinstance(value, LogNormal) or (isinstance(value, dict) and "median" in value):
        return "lognormal"
    return "uniform" if isinstance(value, Uniform | dict) else "number"


Distribution = Annotated[
    Annotated[float, Field(ge=0), Tag("number")]
    | Annotated[LogNormal, Tag("lognormal")]
    | Annotated[Uniform, Tag("uniform")],
    Discriminator(_kind),
]
"""A number, or how it is distributed."""


class PoissonArrivals(StrictModel):
    """Exponential gaps with mean 1 / rate_per_s."""

    kind: Literal["poisson"]
    rate_per_s: float = Field(gt=0)


class ConstantArrivals(StrictModel):
    """Equal gaps of 1 / rate_per_s."""

    kind: Literal["constant"]
    rate_per_s: float = Field(gt=0)


class GammaArrivals(StrictModel):
    """Gamma gaps with mean 1 / rate_per_s and a coefficient of variation: 1 is Poisson, more comes
    in bursts."""

    kind: Literal["gamma"]
    rate_per_s: float = Field(gt=0)
    cv: float = Field(gt=0, le=20)


class BurstArrivals(StrictModel):
    """Poisson at rate_per_s for on_s, then at off_rate_per_s for off_s, and again."""

    kind: Literal["bursts"]
    rate_per_s: float = Field(gt=0)
    on_s: float = Field(gt=0)
    off_s: float = Field(gt=0)
    off_rate_per_s: float = Field(0, ge=0)


class RampArrivals(StrictModel):
    """Poisson with a rate that goes from one value to another within ramp_s, and stays there."""

    kind: Literal["ramp"]
    from_per_s: float = Field(gt=0)
    to_per_s: float = Field(gt=0)
    ramp_s: float = Field(gt=0)


class DiurnalArrivals(StrictModel):
    """Poisson with a rate that swings between low and high once in period_s, low at the start."""

    kind: Literal["diurnal"]
    low_per_s: float = Field(gt=0)
    high_per_s: float = Field(gt=0)
    period_s: float = Field(86_400, gt=0)


Arrivals = Annotated[
    PoissonArrivals
    | ConstantArrivals
    | GammaArrivals
    | BurstArrivals
    | RampArrivals
    | DiurnalArrivals,
    Field(discriminator="kind"),
]
