"""`aot watch` against a stub's pages and a publisher of ours; on real engines in tests/engine."""

from __future__ import annotations

import json
import random
import signal
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq
from support import stub
from support.command import Aot, Done, check, started
from support.compiled import prompt
from support.word_level import word_level

from aot.configs.kernel.ports import free_port
from aot.serving.client.kv_events import END

BLOCK = 16
PAGE = """\
vllm:prefix_cache_queries_total {tokens}
vllm:prefix_cache_hits_total 10.0
vllm:prompt_tokens_total {tokens}
vllm:generation_tokens_total 5.0
vllm:num_preemptions_total 0.0
vllm:num_requests_running 1.0
vllm:num_requests_waiting 0.0
"""


def stored(tokens: list[int]) -> bytes:
    """A prompt of which nothing was there."""
    name, names = 0, []
    for start in range(0, len(tokens) - BLOCK + 1, BLOCK):
        name = hash((name, tuple(tokens[start : start + BLOCK]))) & ((1 << 63) - 1)
        names.append(name)
    event = {"type": "BlockStored", "block_hashes": names, "parent_block_hash": None,
             "token_ids": tokens, "block_size": BLOCK, "medium": "GPU"}  # fmt: skip
    packed: bytes = msgpack.packb([1.0, [event]])
    return packed


def messages(count: int = 6, vocabulary: int = 9) -> list[bytes]:
    """Prompts with a time at token 5 and 640 tokens behind it that are always the same."""
    rng = random.Random(3)
    static = [rng.randrange(vocabulary) for _ in range(640)]
    return [stored([1, 2, 3, 4, 5, *(n % 9, 8, 8 - n % 9), *static]) for n in range(count)]


@contextmanager
def publishing(folder: Path, history: list[bytes], live: list[bytes]) -> Iterator[str]:
    """An endpoint with a history, that says what is `live` again and again."""
    context = zmq.Context()
    events, router = context.socket(zmq.PUB), context.socket(zmq.ROUTER)
    endpoint = f"ipc://{folder}/kv.sock"
    events.bind(endpoint)
    router.bind(endpoint + ".replay")
    ended = threading.Event()

    def answer() -> None:
        while not ended.is_set():
            if router.poll(50):
                client, _, _ = router.recv_multipart()
                for number, data in enumerate(history):
                    router.send_multipart([client, b"", b"", number.to_bytes(8, "big"), data])
                router.send_multipart([client, b"", b"", END, b""])
            for number, data in enumerate(live, len(history)):
                events.send_multipart([b"", number.to_bytes(8, "big"), data])

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield endpoint
    finally:
        ended.set()
        thread.join()
        context.destroy(linger=0)


def pages(tokens: float = 1000.0) -> dict[str, str]:
    return {"/metrics": PAGE.format(tokens=tokens)}


def shown(done: Done) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    made: dict[str, Any] = json.loads(done.stdout)
    return made


def test_counters_alone_are_watched(aot: Aot) -> None:
    with stub.serving(pages=pages()) as server:
        done = aot("watch", server.base_url, "--seconds", 1, "--every", 0.5)
        check(done, 0)
        assert "no prompt was computed meanwhile (since its start: 1.0% found)" in done.stdout
        seen = shown(aot("watch", server.base_url, "--seconds", 0.5, "--json"))
        assert seen["events"] is None is seen["reachable_hit_ratio"]
        assert server.received == []  # no request was sent


def test_a_place_is_found_with_its_text(aot: Aot, tmp_path: Path) -> None:
    model = word_level(tmp_path)
    with (
        stub.serving(pages=pages()) as server,
        publishing(tmp_path, messages(), []) as endpoint,
    ):
        where = (server.base_url, "--events", endpoint)
        done = aot("watch", *where, "--once", "--json", "--tokenizer", model)
    events = shown(done)["events"]
    # What was there before the watch is known, and not counted.
    assert events["partings"] == []
    assert events["resident_tokens"] == 6 * 640


def test_what_comes_in_is_counted_and_its_text_can_be_left_out(aot: Aot, tmp_path: Path) -> None:
    model = word_level(tmp_path)
    made = messages(8)
    with stub.serving(pages=pages()) as server:
        for options in (("--tokenizer", model), ("--private",)):
            with publishing(tmp_path, made[:2], made[2:]) as endpoint:
                where = (server.base_url, "--events", endpoint, "--seconds", 3)
                events = shown(aot("watch", *where, "--json", *options))["events"]
            [place] = events["partings"]
            assert (place["at"], place["kind"]) == (5, "another text")
            assert place["tokens_each"] == pytest.approx(640, abs=2 * BLOCK)
            assert place["times"] >= 5
            assert (place["now"] is None) == (options == ("--private",))


def test_metrics_are_served_and_ctrl_c_ends(tmp_path: Path) -> None:
    port = free_port("127.0.0.1")
    with stub.serving(pages=pages()) as server:
        process = started(
            "watch", server.base_url, "--listen", f"127.0.0.1:{port}", "--every", 0.5, cwd=tmp_path
        )
        text = ""
        until = time.monotonic() + 30
        while "aot_watch_hit_ratio" not in text and time.monotonic() < until:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
                    text = answer.read().decode()
            except OSError:
                time.sleep(0.1)
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "aot_watch_lost_messages" in text
    assert out.splitlines()[-3].startswith(f"{server.base_url}: vLLM")


def test_compiled_prompts_are_looked_for(aot: Aot, tmp_path: Path) -> None:
    from aot.workloads.prompts import compiled

    path = tmp_path / "c.json"
    compiled.write(prompt("a", list(range(8))), path)
    with (
        stub.serving(pages=pages()) as server,
        publishing(tmp_path, [], []) as endpoint,
    ):
        where = (server.base_url, "--events", endpoint, "--private")
        done = aot("watch", *where, "--compiled", path, "--once")
        check(done, 0)
        assert "not there" in done.stdout
        check(aot("watch", *where, "--compiled", tmp_path / "kv.sock"), 2, "not a compiled prompt")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--compiled", "c.json"), 2, "need --events"),
        (("--once",), 2, "need --events"),
        (("--events", "nonsense", "--private"), 2, "--events nonsense"),
        (("--listen", "nowhere"), 2, "--listen nowhere: expected HOST:PORT"),
    ],
)
def test_what_cannot_be_watched_is_named(
    aot: Aot, arguments: tuple[str, ...], code: int, words: str
) -> None:
    with stub.serving(pages=pages()) as server:
        check(aot("watch", server.base_url, *arguments), code, words)


def test_servers_and_endpoints_of_another_kind_are_named(aot: Aot, tmp_path: Path) -> None:
    model = word_level(tmp_path)
    with stub.serving() as server:
        check(aot("watch", server.base_url), 2, "has no page of counters (/metrics)")
    with stub.serving(pages=pages()) as server:
        with publishing(tmp_path, [], [b"\x01no events"]) as endpoint:
            done = aot("watch", server.base_url, "--events", endpoint, "--seconds", 5, "--private")
            check(done, 1, "not a batch of KV events")
        many = messages(8, vocabulary=40_000)
        with publishing(tmp_path, many[:2], many[2:]) as endpoint:
            where = (server.base_url, "--events", endpoint, "--seconds", 3)
            done = aot("watch", *where, "--tokenizer", model)
            check(done, 2, "is of another model")
        check(
            aot("watch", server.base_url, "--events", f"ipc://{tmp_path}/x", "--tokenizer", "no",
                "--seconds", 1), 2, "no: no tokenizer.json there",
        )  # fmt: skip


def test_silence_is_said_where_the_server_computed_prompts() -> None:
    from aot.scripts.live.facts import Events, Seen
    from aot.scripts.live.shown import lines

    silent = Events(0, 0, 0, 0, 0, 0, silent=True, partings=())
    seen = Seen("u", "m", "vLLM", None, 9.0, 5_000.0, 0.0, 0.0, 0.0, {}, True, silent, {})
    text = "\n".join(lines(seen))
    assert "no KV event came, although the server computed prompts" in text
    assert "its counters began anew meanwhile" in text


def test_the_model_of_a_server_on_this_machine_shows_its_text(aot: Aot, tmp_path: Path) -> None:
    folder = str(word_level(tmp_path))
    page = pages()["/metrics"].replace("vllm:", "sglang:")
    told = json.dumps({"version": "0.5.23", "model_path": folder, "disable_radix_cache": False})
    known = {"/metrics": page, "/server_info": told}
    made = messages(8)
    with (
        stub.serving(pages=known) as server,
        publishing(tmp_path, made[:2], made[2:]) as endpoint,
    ):
        seen = shown(aot("watch", server.base_url, "--events", endpoint, "--seconds", 3, "--json"))
    assert seen["engine"] == "SGLang"
    assert isinstance(seen["events"]["partings"][0]["now"], str)
