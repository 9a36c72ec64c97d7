"""Logs of one's own traffic: replayed as they were, captured, and compiled from."""

from __future__ import annotations

import gzip
import http.client
import json
import re
import resource
import signal
import socketserver
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from support import stub
from support.command import Aot, check
from support.mirror import mirror
from support.word_level import word_level

from aot.workloads.requests import schedule as schedule_file

RULES = " ".join(f"Rule {n}: answer politely and quote clause {7 * n}." for n in range(60))
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def mixed(number: int) -> dict[str, Any]:
    """A body of some endpoint, with what its clients put there."""
    text = f"question {number}."
    match number % 4:
        case 0:
            parts = [
                {"type": "text", "text": text},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
            ]
            return {
                "model": "m",
                "temperature": 0.3,
                "cache_salt": f"t{number % 3}",
                "user": "u",
                "messages": [
                    {"role": "system", "content": RULES, "name": "rules"},
                    {"role": "user", "content": parts},
                    {
                        "role": "assistant",
                        "content": None,
                        "reasoning_content": "hm",
                        "tool_calls": [CALL],
                    },
                    {"role": "tool", "tool_call_id": "c", "content": "r"},
                ],
                "response_format": {"type": "json_object"},
                "max_completion_tokens": 5,
                "chat_template_kwargs": {"enable_thinking": False},
                "tools": [TOOL],
                "tool_choice": "auto",
                "logit_bias": {"5": 1},
                "stop": ["x"],
                "seed": 7,
            }
        case 1:
            return {"model": "m", "prompt": f"{RULES} {text}", "max_tokens": 4, "logprobs": 2}
        case 2:
            said = [{"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}}]
            told = [{"type": "tool_result", "tool_use_id": "t", "content": "ok"}]
            marked = {"type": "text", "text": RULES, "cache_control": {"type": "ephemeral"}}
            return {
                "model": "m",
                "system": [marked],
                "max_tokens": 9,
                "metadata": {"user_id": "x"},
                "messages": [
                    {"role": "user", "content": text},
                    {"role": "assistant", "content": said},
                    {"role": "user", "content": told},
                ],
                "tools": [{"name": "f", "input_schema": {"type": "object"}}],
            }
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    told = {"type": "function_call_output", "call_id": "c", "output": "ok"}
    return {
        "model": "m", "instructions": RULES, "max_output_tokens": 20, "store": False,
        "input": [{"role": "user", "content": text}, call, told], "reasoning": {"effort": "low"},
    }  # fmt: skip


def written(path: Path, bodies: list[dict[str, Any]], apart_s: float = 0.01) -> Path:
    rows = ({"timestamp": n * apart_s, "body": body} for n, body in enumerate(bodies))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_server_gets_what_was_logged_but_for_what_is_declared(aot: Aot, tmp_path: Path) -> None:
    bodies = [mixed(n) for n in range(200)]
    log = written(tmp_path / "log.jsonl", bodies)
    done = aot("schedule", log, "-o", "s.jsonl")
    check(done, 0)
    declared = schedule_file.read(tmp_path / "s.jsonl").changes
    assert set(declared.values()) == {200}
    assert [what.split(":")[0] for what in declared] == ["model", "stream"]
    with mirror() as (url, sent):
        aot("load", "s.jsonl", "--url", url, "-o", "run")
    sent = [(path, body) for path, body in sent if not path.endswith("tokenize")]
    assert len(sent) == 200
    found = {json.dumps(b, sort_keys=True): p for p, b in sent}
    paths = ("/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/responses")
    for number, body in enumerate(bodies):
        wanted = {**body, "model": "served", "stream": True}
        if number % 4 < 2:
            wanted["stream_options"] = {"include_usage": True}
        assert found[json.dumps(wanted, sort_keys=True)] == paths[number % 4]
    report = (tmp_path / "run" / "report.md").read_text()
    assert "model: the one that the server has (200 requests)" in report


def test_the_times_of_a_log_are_replayed_as_they_were(aot: Aot, tmp_path: Path) -> None:
    """Whatever a turn of a session seems to have waited for; and their order is the user's."""
    turn = {"session_id": "s", "duration_s": 30.0, "body": mixed(1)}
    rows = [{**turn, "timestamp": at_s} for at_s in (0.0, 1.5, 2.0)]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    check(aot("schedule", "log.jsonl", "-o", "s.jsonl"), 0)
    made = schedule_file.read(tmp_path / "s.jsonl").requests
    assert [r.at_s for r in made] == [0.0, 1.5, 2.0]
    assert [r.after for r in made] == [None, "r000000", "r000001"]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[::-1]))
    check(aot("schedule", "log.jsonl", "-o", "t.jsonl"), 2, "--sort puts them in order")
    check(aot("schedule", "log.jsonl", "-o", "t.jsonl", "--sort"), 0)


def test_a_body_of_sglangs_own_endpoint_is_found_and_limited(aot: Aot, tmp_path: Path) -> None:
    body = {"text": RULES, "sampling_params": {"max_new_tokens": 90, "temperature": 0}}
    row = {"timestamp": 1, "url": "http://gpu/generate", "body": body}
    (tmp_path / "log.jsonl").write_text(json.dumps(row) + "\n")
    check(aot("schedule", "log.jsonl", "-o", "s.jsonl", "--max-tokens", 5), 0)
    (made,) = schedule_file.read(tmp_path / "s.jsonl").requests
    limited = {"max_new_tokens": 5, "temperature": 0}
    assert (made.body, made.max_tokens) == ({**body, "sampling_params": limited}, 5)


def asked(number: int, who: str) -> dict[str, Any]:
    system = f"You are the helpdesk of {who}.\n{RULES}"
    return {"model": "m", "max_tokens": 4, "messages": [
        {"role": "system", "content": system}, {"role": "user", "content": f"ticket {number}"}
    ]}  # fmt: skip


def test_static_parts_are_found_in_one_part_and_given_to_the_other(
    aot: Aot, tmp_path: Path
) -> None:
    bodies = [asked(n, ("Acme", "Globex")[n % 2]) for n in range(20)]
    log = written(tmp_path / "log.jsonl", bodies)
    check(aot("schedule", log, "-o", "s.jsonl", "--learn", "0.5"), 0)
    made = schedule_file.read(tmp_path / "s.jsonl")
    assert len(made.requests) == 10
    assert made.requests[0].at_s == 0.0
    assert len(made.prefixes) == 2
    for request in made.requests:
        prefix = made.prefixes[request.prefix]
        assert request.body is not None
        probe = made.probe(prefix, 0).messages[0]["content"]
        assert request.body["messages"][0]["content"][:1000] == probe[:1000]
    check(aot("schedule", log, "-o", "t.jsonl", "--learn", "0.01"), 2, "too few to find static")
    assert not (tmp_path / "t.jsonl").exists()


def test_a_log_is_warmed_from_and_needs_no_times_for_it(aot: Aot, tmp_path: Path) -> None:
    rows = "".join(json.dumps(asked(n, "Acme")) + "\n" for n in range(6))
    (tmp_path / "log.jsonl").write_text(rows)
    with stub.serving(gap_s=0.001, remembers=True) as server:
        done = aot("warm", "log.jsonl", "--url", server.base_url)
        assert "Traceback" not in done.stderr
        assert "found-0" in done.stdout
        loaded = aot("load", "log.jsonl", "--url", server.base_url, "-o", "run")
        assert "Traceback" not in loaded.stderr
    header = json.loads((tmp_path / "run" / "schedule.jsonl").read_text().splitlines()[0])
    assert (header["mode"], header["requests"]) == ("closed", 6)
    check(aot("schedule", "log.jsonl", "-o", "s.jsonl"), 2, "have no times; say how they arrive")


def test_what_is_static_in_a_log_is_compiled(aot: Aot, tmp_path: Path) -> None:
    model = word_level(tmp_path)
    rules = {name: f"{name} be kind and honest " * 20 for name in ("you", "hello")}
    rows = [
        {"messages": [{"role": "system", "content": rules[name]},
                      {"role": "user", "content": "hello " * n}], "cache_salt": salt}
        for name, salt, count in (("you", "s", 5), ("hello", None, 3)) for n in range(1, count + 1)
    ]  # fmt: skip
    log = tmp_path / "log.jsonl"
    log.write_text("".join(json.dumps({k: v for k, v in r.items() if v}) + "\n" for r in rows))
    options = ("--model", model, "--block-tokens", 4)
    done = aot("compile", log, *options, "-o", "found")
    check(done, 0, "warm them: aot warm found ")
    found = [json.loads(p.read_text()) for p in sorted((tmp_path / "found").iterdir())]
    assert [c["cache_salt"] for c in found] == ["s", None]  # the one that spares most comes first
    assert all(c["static_tokens"] > 60 and c["block_tokens"] == 4 for c in found)
    spared = [c["cached_tokens"] * (n - 1) for c, n in zip(found, (5, 3), strict=True)]
    assert all(f"{tokens:,}" in done.stdout for tokens in spared)
    # Nothing is overwritten, nothing half-written, and what does not go together is said.
    check(aot("compile", log, *options, "-o", "found"), 2, "is there already")
    check(aot("compile", log, *options), 2, "name a new folder for them: -o FOLDER")
    check(aot("compile", log, *options, "-o", "x/y"), 2, "no folder x")
    check(aot("compile", log, *options, "--salt", "t", "-o", "new"), 2, "not for a log")
    log.write_text("".join(json.dumps({"messages": [{"role": "user", "content": w}]}) + "\n"
                           for w in ("you " * 9, "be " * 9)))  # fmt: skip
    check(aot("compile", log, *options, "-o", "new"), 2, "there is nothing to compile")
    log.write_text("{}\n")
    check(aot("compile", log, *options, "-o", "new"), 2, "log.jsonl")
    log.write_text('{"prompt": "you be kind", "max_tokens": 2}\n' * 3)
    check(aot("compile", log, *options, "-o", "new"), 2, "3 of its 3 requests are texts")
    log.write_text('{"timestamp": 0, "input_length": 9, "output_length": 1, "hash_ids": [1]}\n')
    check(aot("compile", log, *options, "-o", "new"), 2, "has no texts")
    (tmp_path / "gone").symlink_to("nowhere")
    check(aot("compile", log, *options, "-o", "gone"), 2, "is there already")
    assert not (tmp_path / "new").exists()


def test_an_experiment_takes_a_log(aot: Aot, tmp_path: Path) -> None:
    written(tmp_path / "log.jsonl", [asked(n, "Acme") for n in range(12)])
    experiment = tmp_path / "e.yaml"
    with stub.serving(gap_s=0.001, remembers=True) as server:
        remote = f"engine: vllm\nruntime: remote\nurl: {server.base_url}\n"
        (tmp_path / "remote.yaml").write_text(remote)
        experiment.write_text(
            "name: own\nserver: remote.yaml\nworkload: log.jsonl\narms: [auto, aot]\nrepeats: 1\n"
        )
        done = aot("run", experiment)
        assert "Traceback" not in done.stderr, done.stderr
        assert (tmp_path / "runs").is_dir(), done.stderr
        (run,) = (tmp_path / "runs").iterdir()
        report = (run / "report.md").read_text()
    assert "not replayed: the static parts were found in them (6 requests)" in report
    assert "| requests ok / failed / planned | 6 / 0 / 6 |" in report
    swept = aot("sweep", experiment, "--over", "workload.requests=3,4")
    check(swept, 2, "log.jsonl", "is replayed as it is")


@contextmanager
def proxy(tmp_path: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A capture that runs, and its URL; it is ended by who uses it."""
    aot = str(Path(sys.executable).with_name("aot"))
    command = [aot, "capture", "--listen", "127.0.0.1:0", *options]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout
        try:
            yield started, started.stdout.readline().split()[0]
        finally:
            started.kill()


def post(url: str, body: dict[str, Any]) -> bytes:
    headers = {"Content-Type": "application/json", "Authorization": "Bearer hidden-key"}
    data = json.dumps(body).encode()
    request = urllib.request.Request(f"{url}/v1/chat/completions", data, headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return bytes(answer.read())


def test_what_passes_by_is_logged_and_replays_as_it_was(aot: Aot, tmp_path: Path) -> None:
    options = ("-o", "log.jsonl")
    with (
        stub.serving(gap_s=0.001, remembers=True) as server,
        proxy(tmp_path, "--to", server.base_url, *options) as (started, url),
    ):
        direct = post(server.base_url, {**asked(0, "Acme"), "stream": True})
        passed = post(url, {**asked(0, "Acme"), "stream": True})
        assert passed.count(b"data:") == direct.count(b"data:")
        for number in range(1, 6):
            post(url, {**asked(number, "Acme"), "stream": True})
        with urllib.request.urlopen(f"{url}/v1/models", timeout=30) as answer:
            assert answer.status == 200
        started.send_signal(signal.SIGINT)
        said, _ = started.communicate(timeout=30)
    assert started.returncode == 0
    assert "6 of 6 requests in log.jsonl" in said
    text = (tmp_path / "log.jsonl").read_text()
    assert "hidden-key" not in text
    rows = [json.loads(line) for line in text.splitlines()]
    assert [r["body"] for r in rows] == [{**asked(n, "Acme"), "stream": True} for n in range(6)]
    assert all(r["response"]["usage"]["completion_tokens"] == 4 for r in rows)
    check(aot("schedule", "log.jsonl", "-o", "s.jsonl"), 0)
    made = schedule_file.read(tmp_path / "s.jsonl")
    assert [r.body for r in made.requests] == [r["body"] for r in rows]


def streams_of(payload: bytes, headers: bytes = b"", cut: bool = False) -> Any:
    """A server of one answer, which may break off."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += self.rfile.read(1)
            length = re.search(rb"(?i)content-length: (\d+)", head)
            self.rfile.read(int(length[1]) if length else 0)
            promised = len(payload) + 100 if cut else len(payload)
            self.wfile.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                + headers + b"Content-Length: %d\r\n\r\n" % promised + payload
            )  # fmt: skip

    return serving_one(Handler)


@contextmanager
def serving_one(handler: type[socketserver.BaseRequestHandler]) -> Iterator[str]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


SAID = b'data: {"choices":[{"index":0,"delta":{"content":"secret words"}}]}\n\n'
ENDED = (
    b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":3}}\n\ndata: [DONE]\n\n'
)


def captured(tmp_path: Path, url: str, *options: str) -> tuple[object, dict[str, Any], str]:
    """One request through a capture: what its client got, its line, and the last words."""
    with proxy(tmp_path, "--to", url, "-o", "log.jsonl", *options) as (started, passed):
        try:
            got: object = post(passed, {**asked(0, "Acme"), "stream": True})
        except (OSError, http.client.HTTPException) as error:
            got = error
        started.send_signal(signal.SIGINT)
        said, _ = started.communicate(timeout=30)
    (line,) = (tmp_path / "log.jsonl").read_text().splitlines()
    return got, json.loads(line), said


def test_half_an_answer_is_passed_on_as_half_of_one(tmp_path: Path) -> None:
    with streams_of(SAID, cut=True) as url:
        got, row, _ = captured(tmp_path, url)
    assert isinstance(got, Exception)
    assert "ClientPayloadError" in row["error"]
    assert row["response"]["status"] == 200


def test_a_packed_answer_is_passed_on_packed_and_read(tmp_path: Path) -> None:
    data = gzip.compress(SAID + ENDED)
    with streams_of(data, b"Content-Encoding: gzip\r\n") as url:
        got, row, _ = captured(tmp_path, url)
    assert got == data
    assert row["response"]["usage"] == {"prompt_tokens": 9, "completion_tokens": 3}


@pytest.mark.parametrize("payload", [b"data: secret words\n\n", SAID])
def test_a_private_log_has_no_text_in_its_errors(aot: Aot, tmp_path: Path, payload: bytes) -> None:
    model = str(word_level(tmp_path))
    with streams_of(payload) as url:
        _, row, _ = captured(tmp_path, url, "--private", "--model", model, "--block-tokens", "4")
    assert "secret" not in json.dumps(row)
    assert row["format"] == "aot-blocks/1"
    check(aot("oracle", "log.jsonl", "--capacity", "inf", "--json"), 0)


def test_what_a_template_refuses_is_a_line_and_counted(tmp_path: Path) -> None:
    model = word_level(tmp_path)
    settings = model / "tokenizer_config.json"
    settings.write_text(settings.read_text().replace("m.role == 'tool'", "m.role == 'user'"))
    with streams_of(SAID + ENDED) as url:
        _, row, said = captured(tmp_path, url, "--private", "--model", str(model))
    assert row["error"] == "could not be read: no text of it is written"
    assert "1 of 1 requests in log.jsonl, 1 of them not read" in said


def test_a_log_of_one_endpoint_is_replayed_there(aot: Aot, tmp_path: Path) -> None:
    """Also another than chat: its requests name none of their own."""
    for number, path in ((1, "/v1/completions"), (3, "/v1/responses")):
        log = written(tmp_path / f"{number}.jsonl", [mixed(number)] * 3)
        check(aot("schedule", log, "-o", f"s{number}.jsonl"), 0)
        with mirror() as (url, sent):
            aot("load", f"s{number}.jsonl", "--url", url, "-o", f"run{number}")
        assert [p for p, _ in sent if not p.endswith("tokenize")] == [path] * 3


def test_the_oracle_shows_and_draws_what_overlaps(aot: Aot, tmp_path: Path) -> None:
    model = word_level(tmp_path)
    rows = [{"timestamp": n, "duration_s": 1.5, "body": asked(n, "Acme")} for n in range(6)]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = ("--policy", "leaf-lru", "--policy", "in-flight", "--policy", "opt",
               "--capacity", 900, "--capacity", "inf", "--figure", "f.svg")  # fmt: skip
    done = aot("oracle", "log.jsonl", "--model", model, "--block-size", 4, *options)
    check(done, 0)
    last = next(line for line in done.stdout.splitlines() if line.startswith("infinite"))
    assert last.count("%") == 2  # overlapping has no endless cache
    assert "in-flight" in (tmp_path / "f.svg").read_text()
    check(aot("oracle", "log.jsonl", "--what-if", "--skip", 2), 2, "goes with --block-size")


def test_a_killed_proxy_loses_the_last_line_at_most(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    with stub.serving(gap_s=0.001) as server:
        options = ("--to", server.base_url, "-o", "log.jsonl")
        with proxy(tmp_path, *options) as (started, url):
            for number in range(5):
                post(url, {**asked(number, "Acme"), "stream": True})
        # What makes the lines outlives it, and runs when nothing else wants the processor.
        latest = time.monotonic() + 60
        while log.read_text().count("\n") < 4 and time.monotonic() < latest:
            time.sleep(0.1)
        time.sleep(1.0)
        whole = log.read_text()
        assert whole.count("\n") >= 4
        log.write_text(whole + '{"timestamp": 17')
        with proxy(tmp_path, *options) as (started, url):
            post(url, {**asked(9, "Acme"), "stream": True})
            started.send_signal(signal.SIGTERM)
            started.wait(timeout=30)
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert rows[-1]["body"]["messages"][1]["content"] == "ticket 9"
    assert len(rows) == whole.count("\n") + 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--private"], "--private: name the model"),
        (["--key-file", "k"], "go with --private"),
        (["--listen", "nowhere"], "--listen nowhere: expected HOST:PORT"),
        (["--listen", "203.0.113.1:80"], "--listen 203.0.113.1:80:"),
        (["-o", "/proc/none/log"], "-o /proc/none/log:"),
    ],
)
def test_what_cannot_be_captured_is_refused(
    aot: Aot, tmp_path: Path, options: list[str], words: str
) -> None:
    output = [] if "-o" in options else ["-o", "log.jsonl"]
    check(aot("capture", "--to", "http://127.0.0.1:9", *output, *options), 2, words)
    assert not [p for p in tmp_path.glob("log.jsonl*") if p.stat().st_size]


def test_a_server_that_is_not_there_is_a_bad_gateway_and_a_line(tmp_path: Path) -> None:
    with proxy(tmp_path, "--to", "http://127.0.0.1:9", "-o", "log.jsonl") as (started, url):
        with pytest.raises(urllib.error.HTTPError) as raised:
            post(url, asked(0, "Acme"))
        raised.value.close()
        assert raised.value.code == 502
        started.send_signal(signal.SIGINT)
        started.wait(timeout=30)
    (row,) = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert row["response"]["status"] == 502
    assert "ClientConnectorError" in row["error"]


@pytest.mark.parametrize("ends", ["full", "killed"])
def test_a_log_that_cannot_go_on_stops_and_the_traffic_does_not(tmp_path: Path, ends: str) -> None:
    log = tmp_path / "log.jsonl"
    with (
        stub.serving(gap_s=0.001) as server,
        proxy(tmp_path, "--to", server.base_url, "-o", "log.jsonl") as (started, url),
    ):
        post(url, asked(0, "Acme"))
        while not log.stat().st_size:
            time.sleep(0.01)
        (writer,) = psutil.Process(started.pid).children()
        if ends == "full":
            most = log.stat().st_size + 100  # the next line is written in part
            resource.prlimit(writer.pid, resource.RLIMIT_FSIZE, (most, most))
        else:
            writer.kill()
        passed = [post(url, asked(number, "Acme")) for number in (1, 2)]
        started.send_signal(signal.SIGINT)
        said, _ = started.communicate(timeout=30)
    assert all(b"choices" in answer for answer in passed)
    assert [json.loads(line)["body"] for line in log.read_text().splitlines()] == [asked(0, "Acme")]
    known = "1 of 3 requests in log.jsonl, 2 lost"
    assert (known if ends == "full" else "an unknown number of 3 requests") in said


def test_a_log_is_measured_as_it_is_and_mended(aot: Aot, tmp_path: Path) -> None:
    bodies = [asked(n, "Acme") for n in range(12)]
    for number, body in enumerate(bodies):
        now = f"2026-11-20T09:{number:02d}:07.{7919 * number % 10**6:06d}Z"
        body["messages"][0]["content"] = f"Current time: {now}\n{RULES}"
    written(tmp_path / "log.jsonl", bodies)
    with stub.serving(gap_s=0.001, remembers=True) as server:
        done = aot("run", "--log", "log.jsonl", "--url", server.base_url, "--repeats", 1)
    assert "Traceback" not in done.stderr, done.stderr
    experiment = yaml.safe_load((tmp_path / "runs" / "log.yaml").read_text())
    assert experiment["arms"] == ["auto", "mended"]  # nothing is static, and nothing has salts
    assert experiment["mended"] == "log-mended.jsonl"
    [run] = [p for p in (tmp_path / "runs").iterdir() if p.is_dir()]
    told = (run / "report.md").read_text()
    assert "the same requests with the flaws of their prompts mended" in told
    own = schedule_file.read(run / "schedule.jsonl")
    mended = schedule_file.read(run / "mended" / "schedule.jsonl")
    assert [r.id for r in own.requests] == [r.id for r in mended.requests]
    begins = {str(mended.chat_of(r).messages[0]["content"])[:20] for r in mended.requests}
    assert len(begins) == 1
    assert (run / "phases" / "r1-mended" / "records").is_dir()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--log", "none.jsonl", "--url", "http://127.0.0.1:9"), "--log none.jsonl: no such file"),
        (("--log", "log.jsonl"), "on which server?"),
        (
            ("--url", "http://127.0.0.1:9"),
            "give either an experiment file, or --log LOG, or --resume",
        ),
        (("e.yaml", "--repeats", "2"), "go with --log"),
    ],
)
def test_what_cannot_be_measured_of_a_log_is_named(
    aot: Aot, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    written(tmp_path / "log.jsonl", [asked(n, "Acme") for n in range(4)])
    (tmp_path / "e.yaml").write_text("name: e\nserver: demo\nworkload: log.jsonl\narms: [auto]\n")
    check(aot("run", *arguments), 2, words)
    assert not (tmp_path / "runs").exists()


def test_the_arm_mended_and_its_log_belong_together(aot: Aot, tmp_path: Path) -> None:
    written(tmp_path / "log.jsonl", [asked(n, "Acme") for n in range(4)])
    written(tmp_path / "other.jsonl", [asked(n, "Acme") for n in range(6)])
    common = "name: e\nserver: remote.yaml\nworkload: log.jsonl\nrepeats: 1\n"
    with stub.serving(gap_s=0.001) as server:
        remote = f"engine: openai\nruntime: remote\nurl: {server.base_url}\n"
        (tmp_path / "remote.yaml").write_text(remote)
        for more, words in (
            ("arms: [auto, mended]\n", "needs the key 'mended'"),
            ("arms: [auto]\nmended: other.jsonl\n", "needs the arm"),
            ("arms: [auto, mended]\nmended: other.jsonl\n", "has other requests than the workload"),
        ):
            (tmp_path / "e.yaml").write_text(common + more)
            check(aot("run", "e.yaml"), 2, words)
