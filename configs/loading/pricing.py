"""The shape of configs/pricing/*.yaml: dated price tables of hosted APIs, US dollars per million
tokens.
"""

from __future__ import annotations

from datetime import date
from typing import Literal

from pydantic import Field

from aot.configs.kernel.errors import UsageError
from aot.configs.kernel.places import CONFIGS
from aot.configs.loading.load import load
from aot.configs.loading.presets import recipe_names
from aot.configs.schema.strict import StrictModel


class ModelPrice(StrictModel):
    """`write` and `read`: of prompt tokens that enter the cache, and that are found in it."""

    input: float = Field(gt=0)
    write: float = Field(gt=0)
    read: float = Field(ge=0)
    output: float = Field(gt=0)
    storage_per_hour: float = Field(0, ge=0, description="per million cached tokens")
    minimum_tokens: int | None = Field(None, gt=0, description="default: the table's")
    ttl_s: float | None = Field(None, gt=0, description="default: the table's")
    step_tokens: int | None = Field(None, gt=0, description="default: the table's")


class PriceTable(StrictModel):
    """One provider. Every price has the date and the source of the table."""

    provider: str
    date: date
    source: str
    caching: Literal["automatic", "explicit"]
    minimum_tokens: int = Field(gt=0, description="smallest prefix that is cached at all")
    ttl_s: float = Field(gt=0, description="how long an unused prefix is kept")
    renewed_by_use: bool = Field(True, description="whether a read starts the lifetime anew")
    step_tokens: int = Field(1, gt=0, description="cached tokens are counted in steps of this")
    default_model: str
    models: dict[str, ModelPrice]


def price_of(provider: str, model: str | None) -> tuple[PriceTable, str, ModelPrice]:
    """A shipped table, the model's name in it, and its prices. UsageError for unknown names."""
    known = recipe_names("pricing")
    if provider not in known:
        raise UsageError(f"--provider: no table '{provider}'; known: {', '.join(known)}")
    table = load(CONFIGS / "pricing" / f"{provider}.yaml", PriceTable)
    name = model or table.default_model
    if name not in table.models:
        raise UsageError(
            f"--model: '{name}' is not in configs/pricing/{provider}.yaml: "
            f"{', '.join(table.models)}"
        )
    return table, name, table.models[name]
