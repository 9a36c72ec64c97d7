"""KV events of vLLM: which blocks enter and leave its cache, as they do.

ZMQ multipart [topic, sequence (8 bytes, big-endian), msgpack]; the payload is [time, events, rank],
each event a map with its type (vLLM since June 2026) or a list that begins with it (before). The
socket has no authentication: keep it on one host (ipc:///path) or behind a firewall.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgpack
import zmq

from aot.configs.kernel.errors import EndpointError, UsageError

END = (-1).to_bytes(8, "big", signed=True)
REPLAY_WAIT_MS = 3000


@dataclass(frozen=True, slots=True)
class Stored:
    """Blocks that are in the cache from now on, by the low 64 bits of their hash. `parent`: the one
    before the first of them. `tokens`: the ids in them; empty where the server does not tell."""

    blocks: tuple[int, ...]
    block_tokens: int | None
    parent: int | None = None
    tokens: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Removed:
    """Blocks that are not any more."""

    blocks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Cleared:
    """The cache is empty."""


Event = Stored | Removed | Cleared


@dataclass(frozen=True, slots=True)
class Batch:
    """What one message says. A gap in `sequence` means that messages were lost."""

    sequence: int
    events: tuple[Event, ...]


def decode(sequence: bytes, payload: bytes) -> Batch:
    """One message. Raises EndpointError when it is not a batch of KV events."""
    try:
        rows = msgpack.unpackb(payload, raw=False, strict_map_key=False)[1]
        events = tuple(e for row in rows if (e := _event(row)) is not None)
        return Batch(int.from_bytes(sequence, "big", signed=True), events)
    except (ValueError, TypeError, KeyError, IndexError, msgpack.UnpackException) as error:
        raise EndpointError(f"not a batch of KV events: {error!r}") from None


def _event(row: Any) -> Event | None:
    if isinstance(row, dict):
        kind, hashes, size = row["type"], row.get("block_hashes", ()), row.get("block_size")
        medium = row.get("medium")
        if row.get("group_idx"):  # further groups of layers tell of the same tokens again
            return None
        parent, tokens = row.get("parent_block_hash"), row.get("token_ids") or ()
    else:
        kind, *rest = row
        hashes = rest[0] if rest else ()
        size = rest[3] if kind == "BlockStored" and len(rest) > 3 else None
        medium = None
        stored = kind == "BlockStored" and len(rest) > 2
        parent, tokens = (rest[1], rest[2] or ()) if stored else (None, ())
    if medium not in (None, "GPU"):  # a lower tier: not what a prompt finds without loading
        return None
    match kind:
        case "BlockStored":
            before = None if parent is None else _number(parent)
            return Stored(tuple(map(_number, hashes)), size, before, tuple(tokens))
        case "BlockRemoved":
            return Removed(tuple(map(_number, hashes)))
        case "AllBlocksCleared":
            return Cleared()
    return None


def _number(block_hash: int | bytes) -> int:
    """Hashes come as numbers, or in full where the server is set to that."""
    if isinstance(block_hash, bytes):
        return int.from_bytes(block_hash, "big") & ((1 << 64) - 1)
    return block_hash & ((1 << 64) - 1)


class Subscription:
    """Follows one endpoint. `poll` waits for the next messages."""

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self._socket = socket
        self._monitor = socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)

    def close(self) -> None:
        self._socket.disable_monitor()
        self._monitor.close(linger=0)

    def was_lost(self) -> bool:
        """Whether the connection broke since this was last asked: the server may be another one by
        now, and what it said meanwhile was not heard."""
        lost = False
        while self._monitor.poll(0):
            self._monitor.recv_multipart()
            lost = True
        return lost

    def poll(self, timeout_s: float) -> list[Batch]:
        """What has arrived, after at most `timeout_s` without anything."""
        batches = []
        wait_ms = int(timeout_s * 1000)
        while self._socket.poll(wait_ms):
            _topic, sequence, payload = self._socket.recv_multipart()
            batches.append(decode(sequence, payload))
            wait_ms = 0
        return batches


@contextmanager
def subscribed(endpoint: str) -> Iterator[Subscription]:
    """A subscription to `endpoint`, e.g. ipc:///tmp/kv.sock or tcp://gpu:5557."""
    context = zmq.Context()
    socket = context.socket(zmq.SUB)
    try:
        socket.setsockopt(zmq.SUBSCRIBE, b"")
        try:
            socket.connect(endpoint)
        except zmq.ZMQError as error:
            raise UsageError(
                f"--events {endpoint}: {error}; expected e.g. tcp://HOST:5557 or ipc:///PATH"
            ) from None
        subscription = Subscription(socket)
        try:
            yield subscription
        finally:
            subscription.close()
    finally:
        socket.close(linger=0)
        context.term()


def replay(endpoint: str) -> list[Batch]:
    """Everything that the server still remembers, from its replay endpoint."""
    context = zmq.Context()
    socket = context.socket(zmq.DEALER)
    try:
        socket.connect(endpoint)
        socket.send_multipart([b"", (0).to_bytes(8, "big")])
        batches: list[Batch] = []
        while True:
            if not socket.poll(REPLAY_WAIT_MS):
                raise EndpointError(f"no answer from the replay endpoint {endpoint}")
            _, _topic, sequence, payload = socket.recv_multipart()
            if sequence == END:
                return batches
            batches.append(decode(sequence, payload))
    except zmq.ZMQError as error:
        raise UsageError(f"replay endpoint {endpoint}: {error}") from None
    finally:
        socket.close(linger=0)
        context.term()
