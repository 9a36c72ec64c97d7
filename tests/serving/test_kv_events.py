"""KV events over a real socket of ours; against the engine they are tested in tests/engine."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq
from support import stub
from support.compiled import prompt

from aot.configs.kernel.errors import EndpointError, UsageError
from aot.scripts.prompts import warming, watching
from aot.serving.cache.residency import Residency
from aot.serving.client import kv_events
from aot.serving.client.endpoint import connect
from aot.serving.client.kv_events import Batch, Cleared, Removed, Stored
from aot.workloads.prompts.compiled import Compiled


def stored(*blocks: int, **more: Any) -> dict[str, Any]:
    return {"type": "BlockStored", "block_hashes": list(blocks), "block_size": 32, **more}


def payload(*events: Any) -> bytes:
    packed: bytes = msgpack.packb([1.0, list(events), 0])
    return packed


def take(residency: Residency, *batches: tuple[int, tuple[kv_events.Event, ...]]) -> Residency:
    for sequence, events in batches:
        residency.take(Batch(sequence, events))
    return residency


def test_both_forms_of_an_event_are_read() -> None:
    new = payload(stored(1, 2), {"type": "BlockRemoved", "block_hashes": [1]},
                  {"type": "AllBlocksCleared"})  # fmt: skip
    old = payload(
        ["BlockStored", [1, 2], None, [7], 32], ["BlockRemoved", [1]], ["AllBlocksCleared"]
    )
    for data, ids in ((new, ()), (old, (7,))):
        expected = (Stored((1, 2), 32, None, ids), Removed((1,)), Cleared())
        assert kv_events.decode((5).to_bytes(8, "big"), data) == Batch(5, expected)


def test_full_hashes_are_named_by_their_low_64_bits() -> None:
    data = payload(stored(bytes(range(32))))  # type: ignore[arg-type]
    (event,) = kv_events.decode(bytes(8), data).events
    assert event == Stored((int.from_bytes(bytes(range(24, 32)), "big"),), 32)


def test_lower_tiers_and_unknown_events_are_left_out() -> None:
    data = payload(stored(1, medium="CPU"), {"type": "SomethingNew"}, stored(2, medium="GPU"))
    assert kv_events.decode(bytes(8), data).events == (Stored((2,), 32),)


@pytest.mark.parametrize("data", [b"", b"\xc1", msgpack.packb(7), msgpack.packb([1, [{}]])])
def test_what_is_no_batch_is_an_error(data: bytes) -> None:
    with pytest.raises(EndpointError, match="not a batch of KV events"):
        kv_events.decode(bytes(8), data)


def test_a_prompt_finds_what_leads_without_a_gap() -> None:
    residency = take(Residency(), (0, (Stored((1, 2, 3, 4), 32),)), (1, (Removed((3,)),)))
    found = residency.of([1, 2, 3, 4])
    assert (found.blocks, found.present, found.leading, found.complete) == (4, 3, 2, False)
    assert residency.of([1, 2]).complete


def test_what_was_missed_makes_it_uncertain() -> None:
    assert take(Residency(), (0, ())).certain
    assert not take(Residency(), (7, ())).certain
    gap = take(Residency(), (0, (Stored((1,), 32),)), (2, ()))
    assert not gap.certain
    assert take(gap, (3, (Cleared(),))).certain
    assert gap.blocks == 0


def test_a_server_without_history_has_nothing_for_certain() -> None:
    fresh = Residency()
    fresh.remember([])
    assert (fresh.certain, fresh.blocks) == (True, 0)
    assert take(fresh, (0, (Stored((1,), 32),))).certain
    late = Residency()
    late.remember([Batch(5, (Stored((1,), 32),))])  # what came before is forgotten
    assert not late.certain


def test_messages_seen_already_do_not_count_again() -> None:
    residency = Residency()
    residency.remember([Batch(0, (Stored((1,), 32),)), Batch(1, (Removed((1,)),))])
    assert take(residency, (0, (Stored((1,), 32),)), (1, (Removed((1,)),))).blocks == 0
    assert take(residency, (2, (Stored((2,), 32),))).blocks == 1
    assert (residency.certain, residency.restarts) == (True, 0)


@pytest.mark.parametrize("live_before", [0, 3])
def test_a_server_that_was_restarted_has_an_empty_cache(live_before: int) -> None:
    residency = Residency()
    residency.remember([Batch(n, (Stored((n,), 16),)) for n in range(10)])
    take(residency, *((10 + n, (Stored((10 + n,), 16),)) for n in range(live_before)))
    take(residency, (0, (Stored((100,), 16),)), (1, (Stored((101,), 16),)))
    assert residency.of(range(10)).present == 0
    assert residency.of([100, 101]).complete
    assert (residency.certain, residency.restarts) == (True, 1)


def test_after_a_gap_only_what_is_seen_counts() -> None:
    residency = take(Residency(), (0, (Stored((1,), 32),)), (5, (Stored((2,), 32),)))
    assert (residency.of([1]).present, residency.of([2]).present) == (0, 1)
    assert not residency.certain
    residency.assume([1])
    assert residency.of([1]).complete


@contextmanager
def publisher(folder: Path, history: list[bytes]) -> Iterator[tuple[str, zmq.Socket[bytes]]]:
    """A server of events and of its history, as vLLM is one."""
    context = zmq.Context()
    events, router = context.socket(zmq.PUB), context.socket(zmq.ROUTER)
    endpoint = f"ipc://{folder}/kv.sock"
    events.bind(endpoint)
    router.bind(endpoint + ".replay")

    def answer() -> None:
        client, _, start = router.recv_multipart()
        for number, data in enumerate(history):
            if number >= int.from_bytes(start, "big"):
                router.send_multipart([client, b"", b"", number.to_bytes(8, "big"), data])
        router.send_multipart([client, b"", b"", kv_events.END, b""])

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    try:
        yield endpoint, events
    finally:
        context.destroy(linger=0)


def test_history_and_live_messages_arrive(tmp_path: Path) -> None:
    history = [payload(stored(1)), payload(stored(2))]
    with publisher(tmp_path, history) as (endpoint, events):
        batches = kv_events.replay(endpoint + ".replay")
        assert [b.sequence for b in batches] == [0, 1]
        with kv_events.subscribed(endpoint) as subscription:
            live: list[Batch] = []
            while not live:  # until the subscription has reached the publisher
                events.send_multipart([b"", (2).to_bytes(8, "big"), payload(stored(3))])
                live = subscription.poll(0.05)
    residency = Residency()
    for batch in [*batches, *live]:
        residency.take(batch)
    assert residency.of([1, 2, 3]).complete
    assert residency.certain


def test_a_server_that_was_away_is_not_known_any_more(tmp_path: Path) -> None:
    """It may have been restarted without a message since, or with messages that were missed."""
    residency = take(Residency(), (0, (Stored((1,), 32),)))
    endpoint = f"ipc://{tmp_path}/kv.sock"
    context = zmq.Context()
    with kv_events.subscribed(endpoint) as events:
        for again in (False, True):
            server = context.socket(zmq.PUB)
            server.bind(endpoint)
            while not (live := events.poll(0.05)):
                server.send_multipart([b"", (1).to_bytes(8, "big"), payload(stored(2))])
            assert live[0].sequence == 1
            if not again:
                assert not events.was_lost()
            server.close(linger=0)
            _until(events.was_lost)
            assert not events.was_lost()
    context.term()
    residency.forget()
    assert (residency.blocks, residency.certain) == (0, False)


def test_an_endpoint_that_is_none_is_named() -> None:
    with (
        pytest.raises(UsageError, match=r"--events nonsense: .*expected e.g. tcp"),
        kv_events.subscribed("nonsense"),
    ):
        pass


def _watched(
    server: stub.Stub, prompts: list[Compiled], endpoint: str, monkeypatch: pytest.MonkeyPatch,
    ended: threading.Event,
) -> threading.Thread:  # fmt: skip
    monkeypatch.setattr(watching, "RETRY_S", 0.1)
    monkeypatch.setattr(watching, "POLL_S", 0.05)
    follow = warming.follow

    def until_the_end(*arguments: Any) -> list[Compiled]:
        if ended.is_set():
            raise SystemExit
        return follow(*arguments)

    monkeypatch.setattr(warming, "follow", until_the_end)
    where = warming.place(connect(server.base_url, None, None))

    def run() -> None:
        with suppress(SystemExit):
            watching.by_events(prompts, where, endpoint)

    watch = threading.Thread(target=run, daemon=True)
    watch.start()
    return watch


def _until(for_what: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not for_what():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_watch_outlives_a_refusal_and_refills_after_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = prompt("p", list(range(9)))
    blocks = warming.chain(compiled)
    with (
        publisher(tmp_path, [payload(stored(99))]) as (endpoint, events),
        stub.serving(faults=("503", "503")) as server,
    ):
        ended = threading.Event()
        watch = _watched(server, [compiled], endpoint, monkeypatch, ended)
        _until(lambda: len(server.received) == 3)  # refused twice, then filled
        time.sleep(0.3)
        assert len(server.received) == 3  # and not again
        for number in range(1, 5):
            events.send_multipart([b"", number.to_bytes(8, "big"), payload(stored(*blocks))])
        time.sleep(0.3)
        assert len(server.received) == 3
        # A restart: the sequence begins anew, and other traffic is stored.
        server.behaviour.faults = ()
        for number in range(3):
            events.send_multipart([b"", number.to_bytes(8, "big"), payload(stored(1))])
        _until(lambda: len(server.received) == 4)
        ended.set()
        watch.join()
