"""Server-sent events: bytes as they arrived → the data of each event. No sockets, no clock."""

from __future__ import annotations


class EventParser:
    """Feed it whatever arrived; it returns the events that are complete by then."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The `data:` payloads completed by `data`, in order (WHATWG HTML, section 9.2)."""
        self._rest += data
        if b"\r" in self._rest:
            # A lone \r at the end may be the first half of \r\n: keep it for the next call.
            held = b"\r" if self._rest.endswith(b"\r") else b""
            body = self._rest[: len(self._rest) - len(held)]
            self._rest = body.replace(b"\r\n", b"\n") + held
        *events, self._rest = self._rest.split(b"\n\n")
        return [payload for event in events if (payload := _payload(event)) is not None]


def events(body: bytes) -> list[bytes]:
    """The payloads of a whole body."""
    if body.startswith(b"data: ") and body.endswith(b"\n\n") and b"\r" not in body:
        # One line of data in each event, as engines write them: told by counting, split at once.
        payloads = body[6:-2].split(b"\n\ndata: ")
        if body.count(b"\n") == 2 * len(payloads):
            return payloads
    return EventParser().feed(body)


def _payload(event: bytes) -> bytes | None:
    if event.startswith(b"data: ") and b"\n" not in event:
        return event[6:]  # what nearly every event is
    parts = [
        line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")
    ]
    return b"\n".join(parts) if parts else None
