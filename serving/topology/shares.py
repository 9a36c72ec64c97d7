"""What each of several replicas gets of a machine's cards and cores: of those that the user has set
(CUDA_VISIBLE_DEVICES, the engine's own variable for cores, taskset), where something is set (pure).
"""

from __future__ import annotations

from collections.abc import Sequence

from aot.configs.kernel.errors import UsageError

CARDS_VARIABLE = "CUDA_VISIBLE_DEVICES"


def cards_of(visible: str | None, replica: int, each: int) -> list[str]:
    """The cards of one replica that has `each` of them: numbers or UUIDs, as `visible` has them;
    where that is None, numbers from 0 on.

    Raises UsageError where `visible` has too few.
    """
    first = replica * each
    if visible is None:
        return [str(n) for n in range(first, first + each)]
    known = [card.strip() for card in visible.split(",") if card.strip()]
    if len(known) < first + each:
        raise UsageError(
            f"{CARDS_VARIABLE}={visible} shows {len(known)} card(s), and replica {replica} needs "
            f"the {first + each}th; show more, or take fewer replicas or gpus"
        )
    return known[first : first + each]


def cores_of(usable: Sequence[int], given: str | None, replica: int, replicas: int) -> str | None:
    """The cores of one replica, as its engine's variable has them (0-3,8): its share of `given`, or
    of the `usable` ones. None where there are fewer than replicas, or `given` names no numbers
    (nobind, auto), or is for several processes of one replica (0-3|4-7): then it stays as it is.
    """
    if given is not None:
        numbers = _numbers(given)
        if numbers is None:
            return None
        usable = numbers
    share = len(usable) // replicas
    return _ranges(usable[replica * share : (replica + 1) * share]) if share else None


def _numbers(text: str) -> list[int] | None:
    """0-3,8 as numbers; None for what is none."""
    numbers: list[int] = []
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        if not first.isdigit() or not (last or first).isdigit():
            return None
        numbers += range(int(first), int(last or first) + 1)
    return numbers


def _ranges(numbers: Sequence[int]) -> str:
    """Numbers as 0-3,8."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(f"{run[0]}-{run[-1]}" for run in runs)
