"""Planted traffic on a real engine: what check, watch and explain say of it, against the truth."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from aot.configs.kernel.ports import free_port
from aot.scripts.prompts.compiling import tokenizer_of
from aot.workloads.requests.tokens import common_prefix
from support.command import started
from support.live import aot

MODEL, ROUNDS = "smollm2-135m", 7
WORDS = (
    "policy customer refund ticket order parcel answer politely section article deliver within "
    "days contact agent always never quote number invoice"
).split()
Messages = list[dict[str, Any]]


def rules(count: int, seed: int) -> str:
    rng = random.Random(seed)
    return "\n".join(f"Rule {n}: {' '.join(rng.choices(WORDS, k=12))}." for n in range(count))


class Planted:
    """Four applications; of the first three a flaw breaks the prefix. `mended` is a prompt as it
    would be without it, up to its dynamic end."""

    def __init__(self) -> None:
        self._rng = random.Random(5)
        self._rules = [rules(40, 1), rules(40, 2), rules(36, 3)]
        names = ("weather", "stock", "mail", "search", "calendar")
        self._tools = [
            json.dumps({"type": "function", "function": {"name": f"{n}_tool",
                        "description": rules(8, 10 + i), "parameters": {"type": "object"}}})
            for i, n in enumerate(names)
        ]  # fmt: skip

    def of(self, app: str, number: int) -> tuple[Messages, Messages]:
        """A prompt, and the same mended."""
        some = self._rng.randrange(10**6)
        asked = {"role": "user", "content": f"{some}: where is parcel {some * 7 % 10**5}?"}
        first, second, third = self._rules
        now = f"2026-11-20T09:{number:02d}:07.{some:06d}Z"
        shuffled = self._rng.sample(self._tools, len(self._tools))
        head = "Your tools are, one a line, each with its rules:\n"
        texts = {
            "clock": (f"You are Ada of Example Ltd. Current time: {now}\n{first}",
                      f"You are Ada of Example Ltd. Current time: \n{first}"),
            "id": (f"Request id: {uuid.UUID(int=self._rng.getrandbits(128))}\n{second}",
                   f"Request id: \n{second}"),
            "tools": (head + "\n".join(shuffled), head + "\n".join(self._tools)),
            "clean": (f"You are the clerk.\n{third}",) * 2,
        }  # fmt: skip
        sent, mended = texts[app]
        return [{"role": "system", "content": sent}, asked], [
            {"role": "system", "content": mended}, asked
        ]  # fmt: skip


APPS = ("clock", "id", "tools", "clean")


def ask(url: str, messages: Messages, key: str | None = None, **fields: Any) -> dict[str, Any]:
    """One request, and its row of a log."""
    body = {"model": MODEL, "messages": messages, "max_tokens": 2, **fields}
    headers = {"Content-Type": "application/json"}
    if key:
        headers["Authorization"] = f"Bearer {os.environ[key]}"
    began = time.time()
    request = urllib.request.Request(
        f"{url}/v1/chat/completions", json.dumps(body).encode(), headers
    )
    with urllib.request.urlopen(request, timeout=300) as answer:
        usage = json.load(answer)["usage"]
    return {
        "timestamp": began,
        "duration_s": time.time() - began,
        "url": "/v1/chat/completions",
        "body": body,
        "response": {"status": 200, "usage": usage},
    }


def check_live(files: Path, name: str, url: str, events: str, block: int, key: str | None) -> Path:
    """Watch while traffic is planted: each place to the token, its cost to 5 % (or a block), and no
    other. Returns the log of the traffic."""
    port, options = free_port("127.0.0.1"), ("--api-key-env", key) if key else ()
    watching = started(
        "watch", url, "--events", events, "--tokenizer", MODEL, "--json", "--listen",
        f"127.0.0.1:{port}", *options, cwd=files,
    )  # fmt: skip
    try:
        until(lambda: _answers(port))
        time.sleep(1.0)  # until the subscription has reached the publisher
        planted, truth = Planted(), {app: list[tuple[list[int], list[int]]]() for app in APPS}
        log = files / f"planted-{name}.jsonl"
        tokenizer, rows = tokenizer_of(MODEL), []
        for number in range(ROUNDS):
            for app in APPS:
                sent, mended = planted.of(app, number)
                rows.append({**ask(url, sent, key), "app": app})
                truth[app].append((tokenizer.encode(sent), tokenizer.encode(mended)))
        log.write_text("".join(json.dumps(row) + "\n" for row in rows))
        time.sleep(7.0)  # the last branches are whole then
    finally:
        watching.send_signal(signal.SIGINT)
        out, err = watching.communicate(timeout=60)
    assert watching.returncode == 130, err
    seen = json.loads(out)
    assert seen["prompt_tokens"] == sum(len(ids) for v in truth.values() for ids, _ in v)
    _check_places(seen["events"]["partings"], truth, rows, block)
    assert seen["events"]["lost_messages"] == 0
    assert seen["reachable_hit_ratio"] > seen["hit_ratio"] + 0.3
    return log


def _check_places(
    places: list[dict[str, Any]],
    truth: dict[str, list[tuple[list[int], list[int]]]],
    rows: list[dict[str, Any]],
    block: int,
) -> None:
    found = {place["at"]: place for place in places}
    kinds = {"clock": "volatile-time", "id": "volatile-id", "tools": "list-order"}
    wanted = {}
    for app, rule in kinds.items():
        prompts = [ids for ids, _ in truth[app]]
        wanted[min(common_prefix(prompts[0], other) for other in prompts[1:])] = (app, rule)
    assert found.keys() == wanted.keys()
    for at, (app, rule) in wanted.items():
        assert found[at]["rule"] == rule, (app, found[at])
        own = [row["response"]["usage"] for row in rows if row["app"] == app]
        cached = [(u["prompt_tokens_details"] or {}).get("cached_tokens") or 0 for u in own]
        mended = [ids for _, ids in truth[app]]
        reach = [common_prefix(mended[0], ids) // block * block for ids in mended[1:]]
        lost = [r - c // block * block for r, c in zip(reach, cached[1:], strict=True)]
        total = sum(n for n in lost if n >= max(2 * block, 32))
        allowed = max(0.05 * total, block * len(lost))
        assert found[at]["tokens"] == pytest.approx(total, abs=allowed), (app, lost, cached)
        if app != "tools":
            assert found[at]["times"] == len(lost)


def check_explained(files: Path, log: Path, url: str, key: str | None) -> None:
    """Each cause that can be planted here, of one request."""
    options = ("--api-key-env", key) if key else ()
    planted = Planted()
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    salted = planted.of("clean", 40)[0]
    short = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi there!"}]
    rows.append({**ask(url, salted, key, cache_salt="another tenant"), "app": "salt"})
    rows += [{**ask(url, short, key), "app": "short"} for _ in range(2)]
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    wanted = {
        1: ("first touch", None),
        2 * len(APPS) + 1: ("edit", "volatile-time"),
        2 * len(APPS) + 2: ("edit", "volatile-id"),
        2 * len(APPS) + 3: ("edit", "list-order"),
        2 * len(APPS) + 4: ("nothing missed", None),
        ROUNDS * len(APPS) + 1: ("salt", "cache_salt"),
        ROUNDS * len(APPS) + 3: ("below a block", None),
    }
    for line, (cause, more) in wanted.items():
        done = aot(
            "explain", line, "--log", log.name, "--url", url, "--tokenizer", MODEL, "--json",
            *options, cwd=files,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        made = json.loads(done.stdout)
        if cause == "below a block" and made["cause"] == "nothing missed":
            continue  # blocks of a token, as SGLang has them
        assert made["cause"] == cause, made
        assert more in (None, made["rule"]) or more in made["words"]


def check_in_flight_and_expired(files: Path, url: str, key: str) -> None:
    """SGLang's alone: two of one prompt in one batch, behind a long one; and a cache that is
    emptied between two uses, as one with a lifetime is."""
    first, twins, rows = threading.Event(), [], []

    def send(number: int, seed: int) -> None:
        if number:
            first.wait()
            time.sleep(0.3 + 0.1 * number)
        else:
            first.set()
        text = rules(40 if number else 150, seed)
        messages = [{"role": "user", "content": f"{text} {number}"}]
        twins.append(ask(url, messages, key))

    senders = [threading.Thread(target=send, args=(n, 400 + (n > 0))) for n in range(3)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    rows += sorted(twins, key=lambda row: float(row["timestamp"]))
    for _ in range(2):
        rows.append(ask(url, [{"role": "user", "content": rules(20, 410)}], key))
        until(lambda: _flushed(url, key))
        time.sleep(3.0)
    log = files / "flight.jsonl"
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for line, options, cause in ((3, (), "in flight"), (5, ("--lifetime", 2), "expired")):
        done = aot(
            "explain", line, "--log", log.name, "--url", url, "--tokenizer", MODEL, "--json",
            "--api-key-env", key, *options, cwd=files,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["cause"] == cause, done.stdout


def check_checked(files: Path, log: Path, url: str, key: str | None) -> None:
    """Nothing is wrong with the server, and the flaws of the log are named."""
    options = ("--seconds", 2, "--json", *(("--api-key-env", key) if key else ()))
    done = aot("check", "--url", url, *options, cwd=files)
    assert done.returncode == 0, done.stderr
    alone = json.loads(done.stdout)
    assert alone["faults"] == [], alone
    assert alone["server"]["cache"]["enabled"] is True
    first, *others = alone["server"]["repeats"]["cached_tokens"]
    assert 2 * first < min(others)
    done = aot("check", log.name, "--url", url, *options, cwd=files)
    assert done.returncode == 0, done.stderr
    both = json.loads(done.stdout)
    assert both["faults"] == [], both["faults"]
    rules = {flaw["rule"] for flaw in both["log"]["flaws"]}
    assert {"volatile-time", "volatile-id"} <= rules
    assert both["found"]["by"] == "by the usage in the log"
    assert both["next"] == f"aot run --log {log.name} --url {url}"


def until(done: Callable[[], bool]) -> None:
    latest = time.monotonic() + 60
    while not done():
        assert time.monotonic() < latest
        time.sleep(0.1)


def _flushed(url: str, key: str) -> bool:
    """Not where the engine has not put the last answer away yet: it refuses then."""
    bearer = {"Authorization": f"Bearer {os.environ[key]}"}
    request = urllib.request.Request(f"{url}/flush_cache", b"", bearer)
    with suppress(urllib.error.HTTPError), urllib.request.urlopen(request, timeout=60):
        return True
    return False


def _answers(port: int) -> bool:
    with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        return bool(answer.status == 200)
    return False
