"""Hosted APIs against the SDKs' own HTTP layers: what is sent, what is read, what is refused.

The answers have the recorded shape of each API and are written by hand. The Anthropic and OpenAI
forms run against the real vLLM in tests/engine; no server here speaks Gemini's.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import psutil
import pytest
from support.command import Aot, check
from support.compiled import prompt as compiled_prompt

from aot.configs.kernel.errors import EndpointError, NotInstalledError, UsageError
from aot.scripts.prompts import hosted_warming
from aot.serving.client.chat import Completion
from aot.serving.hosted import apis
from aot.serving.hosted.api import APIS, Account, Static

STATIC = Static(
    messages=[{"role": "system", "content": "Be brief."}],
    tools=({"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}},),
    key="k" * 64,
)  # fmt: skip
QUESTION = [{"role": "user", "content": "Why?"}]

OPENAI = {
    "id": "1", "object": "chat.completion", "created": 0, "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "So."}}],
    "usage": {"prompt_tokens": 1500, "completion_tokens": 2, "total_tokens": 1502,
              "prompt_tokens_details": {"cached_tokens": 1408}},
}  # fmt: skip
ANTHROPIC = {
    "id": "1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn",
    "stop_sequence": None, "content": [{"type": "text", "text": "So."}],
    "usage": {"input_tokens": 92, "cache_creation_input_tokens": 0,
              "cache_read_input_tokens": 1408, "output_tokens": 2},
}  # fmt: skip
GEMINI = {
    "candidates": [{"content": {"role": "model", "parts": [{"text": "So."}]}}],
    "usageMetadata": {"promptTokenCount": 1500, "cachedContentTokenCount": 1408,
                      "candidatesTokenCount": 2, "totalTokenCount": 1502},
}  # fmt: skip
STORED = {"name": "cachedContents/abc", "usageMetadata": {"totalTokenCount": 1408}}


class Recorder:
    """Answers by the end of the path; keeps what it was asked."""

    def __init__(self, answers: dict[str, tuple[int, Any]]) -> None:
        self.answers = answers
        self.seen: list[tuple[str, dict[str, str], Any]] = []
        self.url = ""
        self.expired: set[str] = set()
        self.gone: tuple[int, Any] = (404, {})


@contextmanager
def api(**answers: Any) -> Iterator[Recorder]:
    recorder = Recorder({k: v if isinstance(v, tuple) else (200, v) for k, v in answers.items()})

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # keeps a connection, as the APIs themselves do

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            recorder.seen.append((self.path, dict(self.headers), body))
            path = self.path.partition("?")[0]
            status, answer = next(v for k, v in recorder.answers.items() if path.endswith(k))
            if body.get("cachedContent") in recorder.expired:
                status, answer = recorder.gone
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    recorder.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield recorder
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def ask(name: Any, recorder: Recorder, static: Static = STATIC, ttl: Any = "5m") -> Completion:
    made = apis.client(name, Account(recorder.url, "m", None), ttl)
    return made.ask(static, QUESTION, 16)


def test_openai_keeps_by_order_and_salt() -> None:
    with api(completions=OPENAI) as server:
        answer = ask("openai", server, Static(STATIC.messages, STATIC.tools, "k", salt="tenant"))
    (_, _, body) = server.seen[0]
    assert body["messages"] == [*STATIC.messages, *QUESTION]
    assert (body["cache_salt"], body["tool_choice"]) == ("tenant", "none")
    assert (answer.text, answer.usage.prompt_tokens, answer.usage.cached_tokens) == (
        "So.",
        1500,
        1408,
    )


def test_openai_without_counts_is_unknown_never_zero() -> None:
    silent = {**OPENAI, "usage": {**OPENAI["usage"], "prompt_tokens_details": None}}  # type: ignore[dict-item]
    with api(completions=silent) as server:
        assert ask("openai", server).usage.cached_tokens is None


@pytest.mark.parametrize("ttl", ["5m", "1h"])
def test_anthropic_marks_the_static_segments(ttl: str) -> None:
    with api(messages=ANTHROPIC) as server:
        answer = ask("anthropic", server, ttl=ttl)
    (path, _, body) = server.seen[0]
    mark = {"type": "ephemeral", "ttl": ttl}
    assert path.endswith("/v1/messages")
    assert body["system"] == [{"type": "text", "text": "Be brief.", "cache_control": mark}]
    assert body["tools"][-1]["cache_control"] == mark
    assert body["tools"][-1]["input_schema"] == {"type": "object"}
    assert body["messages"] == QUESTION  # the dynamic part has no breakpoint
    # input_tokens is the remainder only.
    assert (
        answer.usage.prompt_tokens,
        answer.usage.cached_tokens,
        answer.usage.written_tokens,
    ) == (1500, 1408, 0)


def test_anthropic_without_counts_is_unknown() -> None:
    usage = {"input_tokens": 1500, "output_tokens": 2}
    with api(messages={**ANTHROPIC, "usage": usage}) as server:
        answer = ask("anthropic", server)
    assert (answer.usage.prompt_tokens, answer.usage.cached_tokens) == (1500, None)


def test_anthropic_marks_static_turns_too() -> None:
    turns = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]
    with api(messages=ANTHROPIC) as server:
        ask("anthropic", server, Static([*STATIC.messages, *turns], (), "k"))
    body = server.seen[0][2]
    assert body["messages"][1]["content"][0]["cache_control"]["type"] == "ephemeral"
    assert body["messages"][2] == QUESTION[0]
    assert json.dumps(body).count("cache_control") == 2  # at most four are allowed


def test_gemini_stores_once_and_names_it_then() -> None:
    with api(cachedContents=STORED, generateContent=GEMINI) as server:
        client = apis.client("gemini", Account(server.url, "m", None), "1h")
        first, second = (client.ask(STATIC, QUESTION, 16) for _ in range(2))
    paths = [p.partition("?")[0].rpartition("/")[2] for p, _, _ in server.seen]
    assert paths == ["cachedContents", "m:generateContent", "m:generateContent"]
    stored, asked = server.seen[0][2], server.seen[1][2]
    assert stored["ttl"] == "3600s"
    assert stored["systemInstruction"]["parts"] == [{"text": "Be brief."}]
    assert asked["cachedContent"] == "cachedContents/abc"
    assert "systemInstruction" not in asked
    assert (first.usage.written_tokens, second.usage.written_tokens) == (1408, 0)
    assert (second.usage.prompt_tokens, second.usage.cached_tokens) == (1500, 1408)


def test_gemini_stores_anew_what_has_expired() -> None:
    gone = {
        "error": {"code": 403, "message": "CachedContent not found", "status": "PERMISSION_DENIED"}
    }
    with api(cachedContents=STORED, generateContent=GEMINI) as server:
        client = apis.client("gemini", Account(server.url, "m", None), "5m")
        client.ask(STATIC, QUESTION, 16)
        server.expired = {"cachedContents/abc"}
        server.gone = (403, gone)
        server.answers["cachedContents"] = (200, {**STORED, "name": "cachedContents/new"})
        answers = [client.ask(STATIC, QUESTION, 16) for _ in range(2)]
    names = [body.get("cachedContent") for _, _, body in server.seen]
    assert names == [None, *2 * ["cachedContents/abc"], None, *2 * ["cachedContents/new"]]
    assert [a.usage.written_tokens for a in answers] == [1408, 0]


def test_gemini_that_refuses_a_new_content_too_is_told() -> None:
    with api(cachedContents=STORED, generateContent=(403, ERRORS["gemini"])) as server:
        client = apis.client("gemini", Account(server.url, "m", None), "5m")
        for _ in range(2):
            with pytest.raises(EndpointError, match="403"):
                client.ask(STATIC, QUESTION, 16)
        assert len(server.seen) <= 5


def test_gemini_goes_whole_where_it_is_too_short_to_store() -> None:
    short = (
        400,
        {
            "error": {
                "code": 400,
                "message": "min_total_token_count=1024",
                "status": "INVALID_ARGUMENT",
            }
        },
    )
    with api(cachedContents=short, generateContent=GEMINI) as server:
        answer = ask("gemini", server)
    asked = server.seen[1][2]
    assert asked["systemInstruction"]["parts"] == [{"text": "Be brief."}]
    assert "cachedContent" not in asked
    assert answer.text == "So."


ERRORS = {
    "openai": {"error": {"message": "bad key", "type": "x", "code": "y"}},
    "anthropic": {"type": "error", "error": {"type": "authentication_error", "message": "bad key"}},
    "gemini": {"error": {"code": 401, "message": "bad key", "status": "UNAUTHENTICATED"}},
}
PATHS = {"openai": "completions", "anthropic": "messages", "gemini": "cachedContents"}


@pytest.mark.parametrize("name", APIS)
@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "not authorized.*bad key.*key that is valid"),
        (429, "too many requests"),
        (404, "model"),
    ],
)
def test_an_error_body_becomes_one_paragraph(name: str, status: int, words: str) -> None:
    body = json.loads(json.dumps(ERRORS[name]).replace("401", str(status)))
    with (
        api(**{PATHS[name]: (status, body)}) as server,
        pytest.raises(EndpointError, match=words) as caught,
    ):
        ask(name, server)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", APIS)
def test_an_answer_leaves_no_connection_open(name: Any) -> None:
    answers = {"completions": OPENAI, "messages": ANTHROPIC}
    with api(**answers, cachedContents=STORED, generateContent=GEMINI) as server:
        client = apis.client(name, Account(server.url, "m", None))
        client.ask(STATIC, QUESTION, 16)
        port = int(server.url.rpartition(":")[2])
        ours = psutil.Process().net_connections("tcp")
        assert [
            c for c in ours if c.raddr and c.raddr.port == port and c.status != "TIME_WAIT"
        ] == []


@pytest.mark.parametrize("name", APIS)
def test_a_server_that_is_not_there(name: Any) -> None:
    nowhere = apis.client(name, Account("http://127.0.0.1:9", "m", None))
    with pytest.raises(EndpointError, match=r"http://127.0.0.1:9 is not reachable"):
        nowhere.ask(STATIC, QUESTION, 4)


def test_a_key_that_is_not_set() -> None:
    with pytest.raises(UsageError, match="NO_SUCH_KEY is not set"):
        apis.client("anthropic", Account(None, "m", "NO_SUCH_KEY"))


@pytest.mark.parametrize(
    ("name", "package"), [("anthropic", "anthropic"), ("gemini", "google-genai")]
)
def test_a_missing_sdk_names_the_command(
    name: Any, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, f"aot.serving.hosted.{name}", None)
    with pytest.raises(NotInstalledError, match=f"run: .venv/bin/pip install {package}"):
        apis.client(name, Account(None, "m", None))


def test_hosted_prefixes_are_written_verified_and_used_again(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) > 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(hosted_warming.time, "sleep", sleep)
    prompts = [compiled_prompt("a", [1, 2, 3, 4])]
    with api(messages=ANTHROPIC) as server:
        account = Account(server.url, "m", None)
        (warmed,) = hosted_warming.warm(prompts, "anthropic", account, "5m")
        with pytest.raises(KeyboardInterrupt):
            hosted_warming.keep(prompts, "anthropic", account, "5m")
    assert (warmed.cached_tokens, warmed.verified) == (1408, True)
    assert waits == [240, 240, 240]
    assert len(server.seen) == 4
    assert capfd.readouterr().out.count("used 1, all there, next in 240 s") == 2


def test_the_verb_names_what_is_wrong(aot: Aot) -> None:
    check(
        aot("ask", "c.json", "Why?", "--model", "m", "--api", "cohere"),
        2,
        "'cohere' is not one of 'openai',",
    )
    check(
        aot("ask", "c.json", "Why?", "--model", "m", "--ttl", "2h"),
        2,
        "'2h' is not one of '5m', '1h'",
    )
    check(aot("ask", "c.json", "Why?", "--model", "m"), 2, "c.json: no such file")
    check(aot("warm", "c.json"), 2, "c.json: no such file")
    check(aot("warm", "w.yaml"), 2, "--url is required")
    check(aot("warm", "w.yaml", "--api", "anthropic"), 2, "needs compiled prompts and --model")
    check(aot("warm", "w.yaml", "--api", "x"), 2, "'--api'", "'x' is not one of")


@pytest.mark.parametrize("name", APIS)
def test_a_key_of_the_vendors_goes_to_the_vendor_alone(
    name: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A URL of one's own gets a key only where its variable is named."""
    for variable in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY"):
        monkeypatch.setenv(variable, "of-the-vendor")
    answers = {"completions": OPENAI, "messages": ANTHROPIC}
    with api(**answers, cachedContents=STORED, generateContent=GEMINI) as server:
        ask(name, server)
        sent = json.dumps([headers for _, headers, _ in server.seen])
        assert "of-the-vendor" not in sent
        monkeypatch.setenv("MINE", "of-mine")
        account = Account(server.url, "m", "MINE")
        apis.client(name, account, "5m").ask(STATIC, QUESTION, 16)
    assert "of-mine" in json.dumps([headers for _, headers, _ in server.seen])
    assert Account(None, "m", None).key("OPENAI_API_KEY") == "of-the-vendor"
