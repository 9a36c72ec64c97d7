"""Server-sent events: bytes as they arrived → the data of each event. No sockets, no clock."""

from __future__ import annotations


class EventParser:
    """Feed it whatever arrived; it returns the events that are complete by then."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The `data:` payloads completed by `data`, in order (WHATWG HTML, section 9.2)."""
        if (
            not self._rest
            and data.startswith(b"data: ")
            and data.find(b"\n") == len(data) - 2
            and data.endswith(b"\n\n")
        ):
            return [data[6:-2]]  # what nearly every piece is: one whole event of one line
        self._rest += data
        if b"\r" in self._rest:
            # A lone \r at the end may be the first half of \r\n: keep it for the next call.
            held = b"\r" if self._rest.endswith(b"\r") else b""
            body = self._rest[: len(self._rest) - len(held)]
            self._rest = body.replace(b"\r\n", b"\n") + held
        *events, self._rest = self._rest.split(b"\n\n")
        return [payload for event in events if (payload := _payload(event)) is not None]


def _payload(event: bytes) -> bytes | None:
    parts = [
        line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")
    ]
    return b"\n".join(parts) if parts else None
