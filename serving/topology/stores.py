"""KV stores beside an engine: their command, and how an engine finds them.

Measured traps: an engine that is started before its store hangs for minutes, so the store comes
first. Without --eviction-policy LMCache ends at once; a CPU engine moves its blocks itself, so the
transfer mode must be `auto`. Its HTTP side runs scripts for whoever asks, so it stays on loopback.
"""

from __future__ import annotations

import json
import re
import socket
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from blake3 import blake3

from aot.configs.kernel.errors import UsageError
from aot.configs.schema.beside import StoreConfig
from aot.serving.engines.launch_plan import LaunchPlan

LOOPBACK = "127.0.0.1"
PORT, HTTP_PORT = 5555, 8081
"""Of a store in a container of its own."""
REACHED_S = 3.0
QUIET = {"LMCACHE_TRACK_USAGE": "false"}
APART = {"LMCACHE_MP_TRANSFER_MODE": "engine_driven", **QUIET}
"""Variables of an engine whose store is in another container: it sends its blocks there itself. By
default the store would open the engine's GPU memory, for which it needs the card and the host's
IPC (lmcache/v1/multiprocess/transfer_context)."""


@dataclass(frozen=True, slots=True)
class Place:
    """The ports of a store: for engines, on `host`, and for questions and its counters, which are
    answered on loopback only."""

    port: int
    http_port: int
    host: str = LOOPBACK

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self.port}"


class LMCache:
    """LMCache's server process (0.5.6)."""

    name = "lmcache"
    health_timeout_s = 5.0
    lost_write = re.compile(rb"FSL2Adapter failed to store")
    """A log line for each chunk that the disk did not take."""
    failure_line = re.compile(r"(ERROR|Error|error:|Traceback|No space left)")

    def plan(
        self, config: StoreConfig, python: Path, packages: Path, place: Place, disk: Path | None
    ) -> LaunchPlan:
        """The command: by the engine's Python, with what it lacks from `packages`."""
        return LaunchPlan(
            argv=(str(python), *self.arguments(config, place, disk)),
            env=environment(packages),
            secrets={},
            not_inherited=(),
            host=LOOPBACK,
            port=place.http_port,
            health_path="/healthcheck",
            served_name=self.name,
        )

    def arguments(self, config: StoreConfig, place: Place, disk: PurePath | None) -> list[str]:
        """Of a Python that has it."""
        argv = ["-m", "lmcache.cli.main", "server"]
        argv += ["--host", place.host, "--port", str(place.port)]
        argv += ["--http-host", LOOPBACK, "--http-port", str(place.http_port)]
        argv += ["--supported-transfer-mode", "auto", "--chunk-size", str(config.chunk_tokens)]
        argv += ["--l1-size-gb", f"{config.memory_gib:g}", "--eviction-policy", "LRU"]
        if disk:
            kept = {"type": "fs", "base_path": str(disk)}
            argv += ["--l2-adapter", json.dumps(kept)]
        return argv

    def lost_writes(self, log: Path, start: int = 0) -> tuple[int, int]:
        """Chunks that its disk did not take, by its log from byte `start` on; and where the last
        whole line of that ends."""
        with log.open("rb") as file:
            file.seek(start)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        return len(self.lost_write.findall(whole)), start + len(whole)

    def chunk_names(self, ids: Sequence[int], chunk_tokens: int) -> tuple[str, ...]:
        """What it calls the full chunks of a prompt: each name is a hash over the one before it and
        its tokens (lmcache/v1/multiprocess/token_hasher.py; blake3 is its default)."""
        names, before = [], blake3(bytes(8) + bytes(4)).digest()
        for end in range(chunk_tokens, len(ids) + 1, chunk_tokens):
            tokens = ids[end - chunk_tokens : end]
            before = blake3(before + struct.pack(f">{chunk_tokens}I", *tokens)).digest()
            names.append(before.hex())
        return tuple(names)


def environment(packages: Path) -> dict[str, str]:
    """Variables of a process, store or engine, that uses LMCache."""
    return {"PYTHONPATH": str(packages), **QUIET}


def packages_of(folder: Path) -> Path:
    """Where an environment made by our own Python has its packages."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return folder / "lib" / version / "site-packages"


def check_reachable(address: str) -> None:
    """UsageError where nothing listens: an engine would wait for it for minutes."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), REACHED_S):
            pass
    except OSError as error:
        raise UsageError(
            f"store.address: nothing answers at {address} ({error.strerror or error}); start the "
            "store first: an engine that finds none hangs for minutes"
        ) from None


def check_chunk(config: StoreConfig, block_tokens: int) -> None:
    """UsageError for chunks that are no whole number of blocks."""
    if config.chunk_tokens % block_tokens:
        near = max(1, round(config.chunk_tokens / block_tokens)) * block_tokens
        raise UsageError(
            f"store.chunk_tokens: {config.chunk_tokens} is no multiple of the engine's block of "
            f"{block_tokens} tokens; take {near}"
        )


STORES = {"lmcache": LMCache()}
