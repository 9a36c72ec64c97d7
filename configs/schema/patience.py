"""How long clients wait: what they call good, what is an error, and when they hang up."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from aot.configs.schema.draws import Distribution
from aot.configs.schema.strict import StrictModel


class Slo(StrictModel):
    """What an answer must keep to be good: goodput counts those that keep all limits given."""

    ttft_s: float | None = Field(None, gt=0)
    tpot_s: float | None = Field(None, gt=0)
    e2e_s: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.ttft_s is self.tpot_s is self.e2e_s is None:
            raise ValueError("give at least one limit: ttft_s, tpot_s or e2e_s")
        return self


class Limits(StrictModel):
    """How long parts of a request may take; request_timeout_s where one is not given."""

    connect_s: float | None = Field(None, gt=0, description="until there is a connection")
    first_text_s: float | None = Field(None, gt=0, description="from sending to the first text")
    between_texts_s: float | None = Field(
        None, gt=0, description="from one text to the next, whatever else comes meanwhile"
    )
    total_s: float | None = Field(
        None, gt=0, description="for all of it; default: ten times request_timeout_s"
    )


class Cancels(StrictModel):
    """Clients that hang up before their answer is complete."""

    share: float = Field(gt=0, le=1, description="of all requests")
    after_s: Distribution = Field(description="from sending until the client hangs up")
    retried: float = Field(
        0, ge=0, le=1, description="share of them that send the same once more, and wait for that"
    )
