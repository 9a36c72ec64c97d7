"""One judgement on a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["void", "warning", "ok"]
LEVELS: tuple[Level, ...] = ("void", "warning", "ok")


@dataclass(frozen=True, slots=True)
class Finding:
    """One judgement. A "void" finding means that the numbers must not be used."""

    level: Level
    check: str
    detail: str
