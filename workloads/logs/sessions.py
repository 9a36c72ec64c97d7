"""Which requests of a log go on from which: those whose prompt begins with a whole earlier one."""

from __future__ import annotations

import json
from collections.abc import Sequence

from aot.configs.kernel.chains import chain
from aot.workloads.requests.request import Message


class Sessions:
    """Takes the requests of a log in order, and tells the one that each goes on from."""

    def __init__(self) -> None:
        self._last: dict[int, str] = {}

    def follows(self, id_: str, key: str, messages: Sequence[Message]) -> str | None:
        """The id of the latest request whose messages these begin with, but for the same ones;
        `key`: what keeps requests apart besides."""
        names = list(chain(_named(key, message) for message in messages))
        before = next(
            (self._last[name] for name in reversed(names[:-1]) if name in self._last), None
        )
        if names:
            self._last[names[-1]] = id_
        return before


def _named(key: str, message: Message) -> str:
    return key + json.dumps(message, sort_keys=True, ensure_ascii=False)
