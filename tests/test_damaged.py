"""Damaged inputs, over 600, drawn with a fixed seed: files of every kind and answers of servers.

Whatever is in them, a verb ends with an exit code that means something and a paragraph, never with
a traceback, and what it was to write is whole or not there.
"""

from __future__ import annotations

import json
import random
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from support import made_run, stub
from support.command import Aot
from support.compiled import prompt
from support.traces import MOONCAKE, OPENAI, lines

from aot.configs.kernel.places import CONFIGS

SEED = 20261126
EACH = 60
JUNK = [
    "\x00", "\t", "ÿ", "\u2028", "{", "]", ": ", "- ", "&a", "*a", "!!python/object:x", "null",
    "1e999", "-1", "NaN", '"', "'", "%", "\\", "9" * 30, "true", "[]", "{}", "\r", "\ud83d",
]  # fmt: skip


def damaged(data: bytes, draw: random.Random) -> bytes:
    """One to three wounds: something cut out, put in, doubled or changed."""
    for _ in range(draw.randint(1, 3)):
        at = draw.randrange(len(data) + 1)
        end = min(len(data), at + draw.randint(1, 40))
        junk = draw.choice(JUNK).encode("utf-8", "surrogatepass")
        data = draw.choice(
            [
                data[:at] + data[end:],
                data[:at] + junk + data[at:],
                data[:at] + junk + data[end:],
                data[:end] + data[at:end] + data[end:],
                data[:at],
                data[:at] + bytes(draw.randrange(256) for _ in range(3)) + data[end:],
            ]
        )
    return data


def wounds(name: str, data: bytes, count: int = EACH) -> Iterator[bytes]:
    draw = random.Random(f"{SEED} {name}")
    for _ in range(count):
        yield damaged(data, draw)


def ends_well(aot: Aot, *command: object) -> int:
    done = aot(*command)
    assert done.returncode in (0, 1, 2, 3), (command, done.stderr)
    assert "Traceback" not in done.stderr
    assert done.returncode == 0 or done.stderr.strip() or done.stdout.strip()
    return done.returncode


@pytest.mark.parametrize("target", ["k8s", "compose"])
def test_server_files(aot: Aot, tmp_path: Path, target: str) -> None:
    text = "engine: vllm\nmodel: org/m\nreplicas: 2\nargs: [--max-num-seqs, 8]\nenv: {A: b}\n"
    text += "router: {name: smg, policy: cache_aware}\ncontainer: {shm_gib: 4}\ngpus: 1\n"
    out = tmp_path / "out.yaml"
    for data in wounds(f"server {target}", text.encode()):
        (tmp_path / "server.yaml").write_bytes(data)
        out.unlink(missing_ok=True)
        code = ends_well(aot, "render", "server.yaml", "--target", target, "-o", "out.yaml")
        assert out.exists() == (code == 0)


def test_workload_files(aot: Aot, workload: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    original = workload.read_bytes()
    for data in wounds("workload", original):
        workload.write_bytes(data)
        out.unlink(missing_ok=True)
        code = ends_well(aot, "schedule", workload, "-o", "out.jsonl")
        assert out.exists() == (code == 0)


def test_experiment_files(aot: Aot, tmp_path: Path) -> None:
    text = (CONFIGS / "experiments" / "demo.yaml").read_bytes()
    for data in wounds("experiment", text):
        (tmp_path / "experiment.yaml").write_bytes(data)
        # Nothing is installed here, so that not even a file that is still whole is measured.
        assert ends_well(aot, "run", "experiment.yaml") != 0
        assert not list(tmp_path.glob("runs/*"))


@pytest.mark.parametrize("verb", ["oracle", "lint", "schedule"])
def test_logs(aot: Aot, tmp_path: Path, verb: str) -> None:
    for name, text in (("openai", 4 * lines(OPENAI)), ("mooncake", 4 * lines(MOONCAKE))):
        if verb == "lint" and name == "mooncake":
            continue
        for data in wounds(f"log {verb} {name}", text.encode(), EACH // 2):
            (tmp_path / "log.jsonl").write_bytes(data)
            more = ["-o", "out.jsonl"] if verb == "schedule" else []
            ends_well(aot, verb, "log.jsonl", *more)


def test_compiled_prompts(aot: Aot, tmp_path: Path) -> None:
    text = prompt("p", list(range(9))).to_text()
    for data in wounds("compiled", text.encode()):
        (tmp_path / "compiled.json").write_bytes(data)
        ends_well(
            aot, "ask", "compiled.json", "Why?", "--model", "m", "--url", "http://127.0.0.1:9"
        )


@pytest.mark.parametrize(
    "name",
    ["manifest.json", "schedule.jsonl", "requests-0.jsonl", "proof.json", "warm.json",
     "metrics-after.txt", "facts.json"],
)  # fmt: skip
def test_runs(aot: Aot, tmp_path: Path, name: str) -> None:
    run = made_run.make(tmp_path / "made")
    found = sorted(run.rglob(name))
    original = found[0].read_bytes()
    for data in wounds(f"run {name}", original, 2):
        found[0].write_bytes(data)
        ends_well(aot, "report", run)
        assert not list(run.glob(".*partial"))
    shutil.rmtree(run)


GOOD = {
    "id": "1", "object": "chat.completion", "created": 0, "model": stub.MODEL,
    "choices": [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "x"}}
    ],
    "usage": {"prompt_tokens": 120, "completion_tokens": 1, "total_tokens": 121,
              "prompt_tokens_details": {"cached_tokens": 96}},
}  # fmt: skip
PAGES = {
    "/v1/models": json.dumps({"data": [{"id": stub.MODEL, "max_model_len": 4096}]}),
    "/metrics": "# TYPE vllm:cache_config_info gauge\n"
    'vllm:cache_config_info{enable_prefix_caching="True",block_size="4"} 1\n'
    "# TYPE vllm:prompt_tokens counter\nvllm:prompt_tokens_total 7\n",
    "/version": '{"version": "0.32.0"}',
    "/tokenize": '{"tokens": [1, 2, 3], "count": 3, "max_model_len": 4096}',
}  # fmt: skip
WHOLE = [
    "<html>login</html>", "[]", "null", '""', "0", "", '{"choices": []}', '{"choices": null}',
    '{"choices": [null]}', '{"choices": {"0": 1}}', '{"data": 1}', '{"data": [1]}', '{"tokens": 1}',
    '{"choices": [{"message": null}], "usage": []}',
    '{"choices": [{"message": {"content": 7}}], "usage": {"prompt_tokens": "many"}}',
]  # fmt: skip


@contextmanager
def answering(answer: Callable[[str], bytes]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            data = answer(self.path)
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self) -> None:
            self.do_POST()

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _verbs(url: str) -> list[list[object]]:
    return [
        ["warm", "compiled.json", "--url", url],
        ["ask", "compiled.json", "Why?", "--model", stub.MODEL, "--url", url],
        ["ask", "compiled.json", "Why?", "--model", "m", "--url", url, "--api", "anthropic"],
        ["ask", "compiled.json", "Why?", "--model", "m", "--url", url, "--api", "gemini"],
        ["audit", "isolation", url, "--trials", "1", "--tokens", "96"],
    ]


@pytest.mark.parametrize("number", range(5), ids=["warm", "ask", "anthropic", "gemini", "audit"])
def test_answers(aot: Aot, tmp_path: Path, number: int) -> None:
    (tmp_path / "compiled.json").write_text(prompt("p", list(range(9))).to_text())
    draw = random.Random(f"{SEED} answers {number}")
    answers = {**PAGES, "": json.dumps(GOOD)}
    hurt = ["/v1/models", "/metrics", "/version", "/tokenize", "", "", ""]
    current: dict[str, bytes] = {}

    def answer(path: str) -> bytes:
        known = path if path in PAGES else ""
        return current.get(known, answers[known].encode())

    with answering(answer) as url:
        for whole in WHOLE:
            current = {"": whole.encode()}
            ends_well(aot, *_verbs(url)[number])
        for _ in range(EACH // 2):
            name = draw.choice(hurt)
            current = {name: damaged(answers[name].encode(), draw)}
            ends_well(aot, *_verbs(url)[number])
        for tokens in ("1e308", '"\\ud800"', "[1, Infinity]", "[true]", '{"0": 1}', "[[]]"):
            current = {"/tokenize": f'{{"tokens": {tokens}}}'.encode()}
            ends_well(aot, *_verbs(url)[number])
        current = {"/v1/models": b'{"data": [{"id": "\\ud800"}]}'}
        ends_well(aot, *_verbs(url)[number])
