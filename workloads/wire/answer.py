"""An answer as it arrives: HTTP taken apart by a parser (llhttp), and when each piece came."""

from __future__ import annotations

import re
import zlib
from typing import Any

from geventhttpclient._parser import HTTPParseError as HTTPParseError
from geventhttpclient._parser import HTTPResponseParser

from aot.workloads.wire.sse import events

OVERLAP_BYTES = 40
GZIP_OR_ZLIB = 47
"""zlib's word for: either, told by the header of the data."""


class Answer(HTTPResponseParser):
    """One response. Give `take` what arrived, in order; then it knows as much as that says."""

    def __init__(self, end: re.Pattern[bytes], end_within: int) -> None:
        """`end`: what stands in the last event of a streamed answer, within its last bytes."""
        super().__init__()
        self.may_be_over = False
        """Whether the last event may have come, though the message goes on."""
        self._has_ended, self._end_within = end.search, end_within
        self.headers: dict[str, str] = {}
        """By names in small letters."""
        self.status: int | None = None
        """None while no head has arrived."""
        self.complete = False
        self.arrived = False
        """Whether there was anything at all."""
        self._tail = b""
        self._field = ""
        self._value = ""
        self._more = False
        self._pieces: list[bytes] = []
        self._times: list[float] = []
        self._now = 0.0
        self._inflate: Any = None

    def take(self, now: float, data: bytes) -> None:
        """Something arrived at `now`. Raises HTTPParseError for what is not HTTP/1."""
        self.arrived = True
        self._now = now
        try:
            self.feed(data)
        except HTTPParseError:
            if not self.complete:
                raise
            self._more = True  # what is behind the answer is not ours to read

    def ended(self) -> None:
        """The connection has ended, which is the end of an answer without a length."""
        if self.status is not None and not self.complete and not self._has_end():
            self.complete = True

    @property
    def body(self) -> bytes:
        """All of it that has arrived, unpacked."""
        return b"".join(self._pieces)

    @property
    def reusable(self) -> bool:
        """Whether its connection can carry the next request."""
        return (
            self.complete and self._has_end() and not self._more and bool(self.should_keep_alive())
        )

    def events(self) -> tuple[list[float], list[bytes]]:
        """When the last byte of the data of each event came, and the data."""
        ends, payloads = events(self.body, self.complete)
        times = []
        number, arrived = 0, len(self._pieces[0]) if self._pieces else 0
        for end in ends:
            while end > arrived:
                number += 1
                arrived += len(self._pieces[number])
            times.append(self._times[number])
        return times, payloads

    def last_event(self) -> list[bytes]:
        """The data of the last event that is whole; empty where there is none."""
        body = self.body
        end = _last_empty_line(body, len(body))
        begin = max(_last_empty_line(body, end), 0)
        return events(body[begin : end + 4].lstrip(b"\r\n"), complete=False)[1][-1:]

    def _has_end(self) -> bool:
        """Whether the answer itself says where it ends."""
        coding = self.headers.get("transfer-encoding", "").lower()
        return "content-length" in self.headers or "chunked" in coding

    # What the parser calls.

    def _on_message_begin(self) -> None:
        if self.complete:
            self._more = True  # something behind the answer that nobody asked for

    def _on_status(self, text: str) -> None:
        del text

    def _on_header_field(self, text: str) -> None:
        if self._value:
            self._keep_header()
        self._field += text

    def _on_header_value(self, text: str) -> None:
        self._value += text

    def _keep_header(self) -> None:
        name = self._field.lower()
        known = self.headers.get(name)
        self.headers[name] = f"{known}, {self._value}" if known else self._value
        self._field = self._value = ""

    def _on_headers_complete(self) -> bool:
        if self._field:
            self._keep_header()
        if self._more:
            return False
        self.status = self.get_code()
        if self.headers.get("content-encoding", "") in ("gzip", "deflate", "x-gzip"):
            self._inflate = zlib.decompressobj(GZIP_OR_ZLIB)
        return False

    def _on_body(self, data: bytes | bytearray) -> None:
        if self._more:
            return
        piece = bytes(data)
        if self._inflate is not None:
            try:
                piece = self._inflate.decompress(piece)
            except zlib.error as error:
                raise HTTPParseError(f"the answer is not gzip, as it says: {error}") from None
        self._pieces.append(piece)
        self._times.append(self._now)
        within = self._end_within
        # What may have been cut in two is looked for where it was put together.
        seen = piece[-within:] if len(piece) >= within else self._tail + piece
        self._tail = seen[-OVERLAP_BYTES:]
        if self._has_ended(seen):
            self.may_be_over = True

    def _on_message_complete(self) -> None:
        if self.status is not None and 100 <= self.status < 200 and not self.complete:
            # Not the answer yet, whatever it says (RFC 9110, 15.2): the next head is.
            self.status = None
            self.headers.clear()
            return
        self.complete = True


def _last_empty_line(body: bytes, before: int) -> int:
    """Where the line before it ends; -1 where there is none."""
    return max(body.rfind(ending, 0, before) for ending in (b"\n\n", b"\r\n\r\n", b"\r\r"))
