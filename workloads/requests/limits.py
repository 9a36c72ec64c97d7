"""How long each part of a request may take, and what is said where one took longer."""

from __future__ import annotations

from dataclasses import dataclass


class LateError(Exception):
    """A limit has passed; the message says which."""


class CancelledError(Exception):
    """The client has hung up, as planned."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds. `connect_s`: until a connection is there, TLS included. `first_text_s`: from sending
    until the first generated text. `between_texts_s`: from one text to the next, whatever else a
    server sends to keep a connection open. `total_s`: for all of it."""

    connect_s: float
    first_text_s: float
    between_texts_s: float
    total_s: float

    @staticmethod
    def of(
        timeout_s: float,
        connect_s: float | None = None,
        first_text_s: float | None = None,
        between_texts_s: float | None = None,
        total_s: float | None = None,
    ) -> Limits:
        """Limits that are not given: `timeout_s`, and in total ten times as much."""
        return Limits(
            connect_s or min(timeout_s, 30.0),
            first_text_s or timeout_s,
            between_texts_s or timeout_s,
            total_s or 10 * timeout_s,
        )

    def unconnected(self) -> LateError:
        return LateError(f"timed out: no connection within {self.connect_s:g} s")

    def unwritten(self) -> LateError:
        return LateError(f"timed out: the request was not taken within {self.first_text_s:g} s")

    def silent(self, texts: int) -> LateError:
        """After so many texts."""
        if not texts:
            return LateError(f"timed out: no text within {self.first_text_s:g} s")
        return LateError(f"timed out: no text for {self.between_texts_s:g} s, after {texts}")

    def endless(self) -> LateError:
        return LateError(f"timed out: not complete within {self.total_s:g} s")
