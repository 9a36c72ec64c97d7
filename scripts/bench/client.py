"""The load client beside the openai SDK and Locust's own OpenAI user, in one run.

    python scripts/bench/client.py [--json]

us_per_chunk: CPU of the client's process per streamed chunk, 32 streams of 128 tokens at a time, as
fast as the server gives them (so that the client is what is measured, not the pace). paced_us_...:
the same at 50 tokens a second, where most of it is the kernel waking the process for each chunk.
ttft_error_p99_ms: how long after the server wrote the first text the client says that it came, with
256 streams of 50 tokens a second in flight; the median of three runs for "bare" and "ours". Both
ends are on this machine and share its clock.
"""

from __future__ import annotations

import json
import os
import random
import select
import socket
import subprocess
import sys
import time
import urllib.request
from collections import deque
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer
from rich.table import Table

from aot.configs.dialects.table import DIALECTS
from aot.configs.kernel.ports import free_port
from aot.scripts.terminal import out, status

HERE, CHAT = Path(__file__).parent, DIALECTS["chat"]
CLIENTS = {
    "bare": "epoll and recv alone: what the machine allows",
    "ours": "the load engine of aot",
    "openai_sdk": "openai SDK, asynchronous",
    "locust_openai_user": "Locust's own OpenAI user",
}
TOKENS = 128
COST_STREAMS = {"bare": 1024, "ours": 1024, "openai_sdk": 128, "locust_openai_user": 64}
COST_AT_ONCE = 32
RUNS = {"bare": 3, "ours": 3, "openai_sdk": 1, "locust_openai_user": 1}
PER_S = 50
PACED_STREAMS = 768
IN_FLIGHT = 256
GAP_S = TOKENS / PER_S / IN_FLIGHT  # on average; at random, so that streams are not in step


def main(
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object")] = False,
    client: Annotated[str | None, typer.Option(hidden=True)] = None,
    url: Annotated[str, typer.Option(hidden=True)] = "",
    job: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """CPU per chunk and TTFT error of three clients against one stub."""
    if client is not None:
        sys.stdout.write(json.dumps(_run(client, url, json.loads(job))) + "\n")
        return
    results = {}
    with status("measuring") as line:
        for name, words in CLIENTS.items():
            line(f"measuring {words}")
            results[name] = _measure(name)
    if as_json:
        sys.stdout.write(json.dumps(results, indent=1) + "\n")
        return
    columns = ("client", "µs/chunk", "× ours", "paced", "TTFT error p50, ms", "p99, ms")
    table = Table(*columns, box=None)
    for name, words in CLIENTS.items():
        row = results[name]
        times = row["us_per_chunk"] / results["ours"]["us_per_chunk"]
        table.add_row(
            words, f"{row['us_per_chunk']:.1f}", f"{times:.1f}", f"{row['paced_us_per_chunk']:.1f}",
            f"{row['ttft_error_p50_ms']:.2f}", f"{row['ttft_error_p99_ms']:.2f}",
        )  # fmt: skip
    out().print(table)


def _measure(name: str) -> dict[str, float]:
    port = free_port("127.0.0.1")
    stub = subprocess.Popen(
        [sys.executable, str(HERE / "stub.py"), str(port)], stdout=subprocess.PIPE
    )
    assert stub.stdout is not None
    stub.stdout.readline()
    url = f"http://127.0.0.1:{port}"
    try:
        fast = {"streams": COST_STREAMS[name], "at_once": COST_AT_ONCE, "per_s": 0, "gap_s": 0}
        # The machine's noise only ever adds to CPU time: the best of some runs.
        cost = min((_client(name, url, fast) for _ in range(RUNS[name])), key=lambda r: r["cpu_s"])
        job = {"streams": PACED_STREAMS, "at_once": 4096, "per_s": PER_S, "gap_s": GAP_S}
        paced = [_paced(name, url, job) for _ in range(RUNS[name])]
    finally:
        stub.kill()
        stub.wait()
    us_per_chunk = cost["cpu_s"] / cost["chunks"] * 1e6
    medians = {key: median(run[key] for run in paced) for key in paced[0]}
    return {"us_per_chunk": us_per_chunk, "chunks": cost["chunks"]} | medians


def _paced(name: str, url: str, job: dict[str, Any]) -> dict[str, float]:
    """One run at a known pace, and how late the client saw each first text."""
    client = _client(name, url, job)
    with urllib.request.urlopen(f"{url}/stamps") as answer:
        written = json.load(answer)
    late = [1000 * (came - written[key][0]) for key, came in client["first_s"].items()]
    late.sort()
    return {
        "paced_us_per_chunk": client["cpu_s"] / client["chunks"] * 1e6,
        "ttft_error_p50_ms": late[len(late) // 2],
        "ttft_error_p99_ms": late[int(len(late) * 0.99)],
        "paced_streams_failed": PACED_STREAMS - len(late),
    }


def _client(name: str, url: str, job: dict[str, Any]) -> dict[str, Any]:
    command = [sys.executable, "-P", __file__, "--client", name, "--url", url]
    done = subprocess.run(
        [*command, "--job", json.dumps(job)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit(done.stderr[-2000:])
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _run(name: str, url: str, job: dict[str, Any]) -> dict[str, Any]:
    jobs = {"bare": _bare, "ours": _ours, "openai_sdk": _openai_sdk, "locust_openai_user": _locust}
    return jobs[name](url, job)


def _body(key: str, per_s: float) -> dict[str, Any]:
    return {
        "model": "golden", "messages": [{"role": "user", "content": key}], "max_tokens": TOKENS,
        "stream": True, "stream_options": {"include_usage": True}, "per_s": per_s,
    }  # fmt: skip


def _keys(job: dict[str, Any]) -> list[str]:
    return [f"{'p' if job['per_s'] else 'c'}{n}" for n in range(job["streams"])]


def _bare(url: str, job: dict[str, Any]) -> dict[str, Any]:
    """No client: receives, takes the time, counts events when all is over."""
    poll, rng = select.epoll(), random.Random(1)
    port = int(url.rpartition(":")[2])
    waiting = deque(_keys(job))
    open_: dict[int, tuple[socket.socket, str]] = {}
    first: dict[str, float] = {}
    chunks = 0
    cpu_s, due = time.process_time(), time.perf_counter()
    while waiting or open_:
        while waiting and len(open_) < job["at_once"] and time.perf_counter() >= due:
            key = waiting.popleft()
            body = json.dumps(_body(key, job["per_s"])).encode()
            connection = socket.create_connection(("127.0.0.1", port))
            head = b"POST / HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % len(body)
            connection.sendall(head + body)
            poll.register(connection, select.EPOLLIN)
            open_[connection.fileno()] = (connection, key)
            due += rng.expovariate(1 / job["gap_s"]) if job["gap_s"] else 0.0
        for descriptor, _ in poll.poll(0.001):
            connection, key = open_[descriptor]
            data = connection.recv(65536)
            now = time.perf_counter()
            texts = data.count(b'"content":" word')
            if texts:
                first.setdefault(key, now)
                chunks += texts
            if data.endswith(b"0\r\n\r\n"):
                poll.unregister(descriptor)
                open_.pop(descriptor)[0].close()
    return _result(time.process_time() - cpu_s, chunks, first)


def _ours(url: str, job: dict[str, Any]) -> dict[str, Any]:
    import gevent
    from gevent.pool import Pool

    from aot.workloads.load.dispatch import calm
    from aot.workloads.requests.limits import Limits
    from aot.workloads.wire.connection import Wire
    from aot.workloads.wire.exchange import exchange
    from aot.workloads.wire.record import Record

    wire = Wire(url, CHAT.path, CHAT, Limits.of(60.0), time.perf_counter)
    bodies = {key: json.dumps(_body(key, job["per_s"])).encode() for key in _keys(job)}
    records: dict[str, Record] = {}

    def send(key: str) -> None:
        record = Record(key, "auto", 1, "", "", None, 0.0)
        exchange(wire, bodies[key], record)
        records[key] = record

    pool, rng = Pool(job["at_once"]), random.Random(1)
    calm()
    cpu_s = time.process_time()
    for key in bodies:
        pool.spawn(send, key)
        if job["gap_s"]:
            gevent.sleep(rng.expovariate(1 / job["gap_s"]))
    pool.join()
    cpu_s = time.process_time() - cpu_s
    chunks = sum(len(r.chunk_s) for r in records.values())
    assert chunks == TOKENS * job["streams"]
    return _result(cpu_s, chunks, {k: r.first_token_s for k, r in records.items()})


def _openai_sdk(url: str, job: dict[str, Any]) -> dict[str, Any]:
    import asyncio

    from openai import AsyncOpenAI

    async def measure() -> dict[str, Any]:
        first: dict[str, float] = {}
        chunks = 0
        limit = asyncio.Semaphore(job["at_once"])
        client = AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)

        async def send(key: str) -> None:
            nonlocal chunks
            async with limit:
                body = _body(key, job["per_s"])
                per_s = body.pop("per_s")
                stream = await client.chat.completions.create(**body, extra_body={"per_s": per_s})
                async for event in stream:
                    if event.choices and event.choices[0].delta.content:
                        first.setdefault(key, time.perf_counter())
                        chunks += 1

        cpu_s, rng = time.process_time(), random.Random(1)
        tasks = []
        for key in _keys(job):
            tasks.append(asyncio.create_task(send(key)))
            if job["gap_s"]:
                await asyncio.sleep(rng.expovariate(1 / job["gap_s"]))
        await asyncio.gather(*tasks)
        return _result(time.process_time() - cpu_s, chunks, first)

    return asyncio.run(measure())


def _nothing(self: Any) -> dict[str, Any]:
    del self
    return {}


def _locust(url: str, job: dict[str, Any]) -> dict[str, Any]:
    from gevent import monkey

    monkey.patch_all()
    import gevent
    import httpx
    from gevent.pool import Pool

    os.environ |= {"OPENAI_API_KEY": "none", "OPENAI_BASE_URL": f"{url}/v1"}
    from locust.contrib.oai import OpenAIUser
    from locust.env import Environment

    # Its hook reads the whole answer and takes it for JSON, which a stream is not: without this it
    # could not stream at all. That it reads everything first is what is measured.
    httpx.Response.json = _nothing  # type: ignore[method-assign,assignment]

    class User(OpenAIUser):
        abstract = False

    user: Any = User(Environment(user_classes=[User]))  # type: ignore[no-untyped-call]
    first: dict[str, float] = {}
    chunks = 0

    def send(key: str) -> None:
        nonlocal chunks
        body = _body(key, job["per_s"])
        per_s = body.pop("per_s")
        stream = user.client.chat.completions.create(**body, extra_body={"per_s": per_s})
        for event in stream:
            if event.choices and event.choices[0].delta.content:
                first.setdefault(key, time.perf_counter())
                chunks += 1

    pool, rng = Pool(job["at_once"]), random.Random(1)
    cpu_s = time.process_time()
    for key in _keys(job):
        pool.spawn(send, key)
        if job["gap_s"]:
            gevent.sleep(rng.expovariate(1 / job["gap_s"]))
    pool.join()
    return _result(time.process_time() - cpu_s, chunks, first)


def _result(cpu_s: float, chunks: int, first: dict[str, Any]) -> dict[str, Any]:
    return {"cpu_s": cpu_s, "chunks": chunks, "first_s": first}


if __name__ == "__main__":
    typer.run(main)
