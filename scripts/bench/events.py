"""CPU that `aot watch --events` takes to follow 1,000 stored blocks a second, as a share of a core.

    python scripts/bench/events.py [--json]

Prompts of 2,000 tokens in blocks of 16, of four applications: a clock first, an id first, tools in
varying order, and a clean one. Published by a process of its own for 20 seconds; what counts is the
CPU time of the process that follows, reading, tree and comparisons included.
"""

from __future__ import annotations

import json
import multiprocessing
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Annotated, Any

import msgpack
import typer
import zmq

from aot.scripts.terminal import out, status
from aot.serving.client import kv_events
from aot.serving.live.branches import Branches
from aot.serving.live.places import Places

BLOCKS_PER_S, SECONDS, BLOCK, STATIC, VOCABULARY = 1_000, 20.0, 16, 1_900, 40_000


def main(as_json: Annotated[bool, typer.Option("--json", help="one JSON object")] = False) -> None:
    """CPU share at 1,000 blocks a second."""
    with status(f"following {BLOCKS_PER_S:,} blocks a second for {SECONDS:g} s"):
        result = _measured()
    if as_json:
        sys.stdout.write(json.dumps(result, indent=1) + "\n")
        return
    out().print(
        f"{result['blocks_per_s']:,.0f} blocks a second: {result['cpu_share']:.1%} of a core; "
        f"places found at tokens {result['places']}"
    )


def _measured() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        endpoint = f"ipc://{folder}/kv.sock"
        publisher = multiprocessing.get_context("fork").Process(target=_publish, args=(endpoint,))
        branches = Branches(time.monotonic)
        places = Places(branches.above, branches.below, BLOCK)
        with kv_events.subscribed(endpoint) as events:
            publisher.start()
            began_s, cpu_s = time.monotonic(), time.process_time()
            while publisher.is_alive():
                for batch in events.poll(0.2):
                    branches.take(batch)
                for branch in branches.closed():
                    places.add(branch)
            taken_s = time.monotonic() - began_s
            used_s = time.process_time() - cpu_s
        publisher.join()
        return {
            "blocks_per_s": branches.stored_tokens / BLOCK / taken_s,
            "cpu_share": used_s / taken_s,
            "places": sorted(place.at for place in places.found()),
            "lost_messages": branches.lost_messages,
        }


def _publish(endpoint: str) -> None:
    socket = zmq.Context().socket(zmq.PUB)
    socket.bind(endpoint)
    time.sleep(0.5)
    began_s, sent = time.monotonic(), 0
    for number, (parent, names, tokens) in enumerate(_stored()):
        event = {"type": "BlockStored", "block_hashes": names, "parent_block_hash": parent,
                 "token_ids": tokens, "block_size": BLOCK, "medium": "GPU"}  # fmt: skip
        payload = msgpack.packb([time.time(), [event]])
        socket.send_multipart([b"", number.to_bytes(8, "big"), payload])
        sent += len(names)
        if time.monotonic() - began_s > SECONDS:
            return
        time.sleep(max(0.0, sent / BLOCKS_PER_S - (time.monotonic() - began_s)))


def _stored() -> Iterator[tuple[int | None, list[int], list[int]]]:
    """What an engine without an end to its cache tells of prompts: parent, blocks, tokens."""
    known: set[int] = set()
    for tokens in _prompts(random.Random(1)):
        name, names = 0, []
        for start in range(0, len(tokens) - BLOCK + 1, BLOCK):
            name = hash((name, tuple(tokens[start : start + BLOCK]))) & ((1 << 63) - 1)
            names.append(name)
        found = next((n for n, name in enumerate(names) if name not in known), len(names))
        known.update(names)
        if names[found:]:
            parent = names[found - 1] if found else None
            yield parent, names[found:], tokens[found * BLOCK : len(names) * BLOCK]


def _prompts(rng: random.Random) -> Iterator[list[int]]:
    def words(count: int) -> list[int]:
        return [rng.randrange(VOCABULARY) for _ in range(count)]

    begin, clocked, named, clean = words(37), words(STATIC), words(STATIC), words(STATIC)
    tools, head = [words(STATIC // 6) for _ in range(6)], words(20)
    while True:
        yield [*begin, *words(12), *clocked, *words(50)]
        yield [*named[:3], *words(8), *named[3:], *words(50)]
        yield [*head, *(t for tool in rng.sample(tools, len(tools)) for t in tool), *words(50)]
        yield [*clean, *words(50)]


if __name__ == "__main__":
    typer.run(main)
