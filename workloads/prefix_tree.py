"""How much of each request an unbounded cache would find, over text instead of tokens."""

from __future__ import annotations

from collections.abc import Sequence

from workloads.request_log import Logged

CHUNK = 48
"""Characters compared at a time: about the tokens of one small block."""


def shared_characters(requests: Sequence[Logged]) -> list[int]:
    """Leading characters of each request, in whole chunks, that an earlier one began with."""
    nodes: dict[tuple[int, str], int] = {}
    roots: dict[str, int] = {}
    found = []
    for request in requests:
        node = roots.setdefault(request.key, -len(roots) - 1)
        shared, matching = 0, True
        for _, text in request.fields():
            for start in range(0, max(len(text), 1), CHUNK):
                chunk = text[start : start + CHUNK]
                child = nodes.get((node, chunk))
                if child is None:
                    matching = False
                    child = nodes[(node, chunk)] = len(nodes)
                elif matching:
                    shared += len(chunk)
                node = child
        found.append(shared)
    return found


def characters(request: Logged) -> int:
    """All characters of a request."""
    return sum(len(text) for _, text in request.fields())
