"""Capacities of a cache as the command line has them: blocks, memory, or without end."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aot.configs.kernel.errors import UsageError

GIB = re.compile(r"(\d{1,6}(?:\.\d{1,3})?) ?GiB", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Gib:
    """A capacity as memory; how many blocks that is depends on the model."""

    gib: float


def parsed(given: Sequence[str] | None) -> list[int | Gib | None]:
    """Blocks, memory, or None: infinite. UsageError for anything else."""
    found: list[int | Gib | None] = []
    for text in given or ():
        digits = text.replace(",", "")
        if text in ("inf", "infinite"):
            found.append(None)
        elif gib := GIB.fullmatch(text):
            found.append(Gib(float(gib[1])))
        elif digits.isascii() and digits.isdigit() and len(digits) <= 18 and int(digits) > 0:
            found.append(int(digits))
        else:
            raise UsageError(
                f"--capacity {text}: expected a number of blocks, 1 or more, or memory as in "
                "40GiB, or inf"
            )
    return list(dict.fromkeys(found))


def in_blocks(
    given: Sequence[int | Gib | None], blocks_of: Callable[[float], int]
) -> list[int | None]:
    """All of them in blocks; `blocks_of` says how many some GiB are."""
    return [blocks_of(c.gib) if isinstance(c, Gib) else c for c in given]
