"""The same thing with several items at once, in threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def together(
    function: Callable[[Item], Result], items: Iterable[Item], at_once: int
) -> list[Result]:
    """What `function` gives for each item, in order; up to `at_once` of them run at a time. When
    one fails, or the wait is interrupted, those that run are not waited for, and no other begins.
    """
    pool = ThreadPoolExecutor(at_once)
    try:
        return list(pool.map(function, items))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
