"""Servers, gateways and proxies as they really behave, one behaviour for each path.

A behaviour is a generator of what is done with the connection once a request is there: bytes are
written at once, a number is waited for in seconds, END closes the connection. It is not an engine,
and stands for none.
"""

from __future__ import annotations

import gzip
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

Step = bytes | float | None
END = None
RESET = -1.0
"""Ends the connection by a reset."""
GAP_S = 0.005
Script = Callable[["Asked"], Iterator[Step]]
BEHAVIOURS: dict[str, Script] = {}


@dataclass
class Asked:
    """A request: its body, its headers, and how many came on its connection before it."""

    body: dict[str, Any]
    headers: dict[str, str]
    path: str
    before: int
    text_s: list[float] = field(default_factory=list)
    """When each text was written."""

    @property
    def tokens(self) -> int:
        return int(self.body.get("max_tokens", 6))


def behaviour(script: Script) -> Script:
    BEHAVIOURS[script.__name__.replace("_", "-").strip("-")] = script
    return script


# What is written.


def js(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def head(status: str = "200 OK", kind: str = "text/event-stream", chunked: bool = True,
         *more: str, version: str = "1.1") -> bytes:  # fmt: skip
    lines = [f"HTTP/{version} {status}", f"content-type: {kind}", *more]
    lines += ["transfer-encoding: chunked"] if chunked else []
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def chunk(data: str | bytes) -> bytes:
    raw = data.encode() if isinstance(data, str) else data
    return b"%x\r\n%s\r\n" % (len(raw), raw)


LAST = b"0\r\n\r\n"
DONE = "data: [DONE]\n\n"


def event(delta: dict[str, Any], finish: str | None = None, **more: Any) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return f"data: {js({'id': 'x', 'choices': [choice], **more})}\n\n"


def usage(tokens: int = 6, cached: Any = 96, prompt: int = 120, **more: Any) -> dict[str, Any]:
    counts = {"prompt_tokens": prompt, "completion_tokens": tokens}
    details = {} if cached is Ellipsis else {"prompt_tokens_details": {"cached_tokens": cached}}
    return {**counts, "total_tokens": prompt + tokens, **details, **more}


def counted(counts: dict[str, Any]) -> str:
    return f"data: {js({'id': 'x', 'choices': [], 'usage': counts})}\n\n"


def texts(asked: Asked, events: list[str], gap_s: float = GAP_S) -> Iterator[Step]:
    for one in events:
        yield gap_s
        asked.text_s.append(time.perf_counter())
        yield chunk(one)


def words(count: int) -> list[str]:
    return [event({"content": f"w{n} "}) for n in range(count)]


def answer(asked: Asked, events: list[str] | None = None, tail: str | None = None,
           finish: str | None = "length", gap_s: float = GAP_S) -> Iterator[Step]:  # fmt: skip
    """The usual shape around some events."""
    yield head()
    yield from texts(asked, words(asked.tokens) if events is None else events, gap_s)
    ending = event({"content": ""}, finish) if finish else ""
    yield chunk(ending + (counted(usage(asked.tokens)) + DONE if tail is None else tail))
    yield LAST


def framed(asked: Asked, change: Callable[[str], str]) -> Iterator[Step]:
    """Every event written another way."""
    yield head()
    yield from texts(asked, [change(one) for one in words(6)])
    for one in (event({}, "length"), counted(usage()), DONE):
        yield chunk(change(one))
    yield LAST


def refusal(status: str, text: str, kind: str = "application/json", *more: str) -> Iterator[Step]:
    yield head(status, kind, False, f"content-length: {len(text.encode())}", *more) + text.encode()


@contextmanager
def serving() -> Iterator[tuple[str, list[Asked]]]:
    """All of them on a free port: the base URL, and what was asked so far."""
    listener = socket.create_server(("127.0.0.1", 0))
    seen: list[Asked] = []

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=serve, args=(connection, seen), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", seen
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def serve(connection: socket.socket, seen: list[Asked]) -> None:
    with connection, connection.makefile("rb") as file, suppress(OSError):
        before = 0
        while request := _request(file, before):
            name = request.path.split("/")[1]
            seen.append(request)
            for step in BEHAVIOURS[name](request):
                if step == RESET:
                    linger = struct.pack("ii", 1, 0)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                if step is END or step == RESET:
                    file.close()
                    return
                if isinstance(step, float):
                    time.sleep(step)
                else:
                    connection.sendall(step)
            before += 1


def _request(file: Any, before: int) -> Asked | None:
    line = file.readline().decode()
    if not line.strip():
        return None
    headers = {}
    while (row := file.readline().decode("latin-1").strip()) != "":
        name, _, value = row.partition(":")
        headers[name.lower()] = value.strip()
    body = json.loads(file.read(int(headers.get("content-length", 0))) or b"{}")
    return Asked(body, headers, line.split(" ")[1], before)


# Shapes of events.


@behaviour
def normal(a: Asked) -> Iterator[Step]:
    yield from answer(a)


@behaviour
def role_first(a: Asked) -> Iterator[Step]:
    yield head() + chunk(event({"role": "assistant"}))
    yield 0.05
    yield from list(answer(a))[1:]


def _shape(name: str, events: list[str], **more: Any) -> None:
    def script(asked: Asked) -> Iterator[Step]:
        yield from answer(asked, events, **more)

    BEHAVIOURS[name] = script


_shape("role-with-text", [event({"role": "assistant", "content": "x"})] * 6)
_shape("empty-among-texts", [event({"content": ""}), *words(3), event({"content": ""}), *words(3)])
_shape("reasoning-content", [event({"reasoning_content": "r", "content": None})] * 3 + words(3))
_shape("reasoning-both-keys", [event({"reasoning": "r", "reasoning_content": "r"})] * 3 + words(3))
_shape("thinking", [event({"thinking": "r"})] * 3 + words(3))
_shape("content-parts", [event({"content": [{"type": "text", "text": "x"}]})] * 6)
_shape("thinking-parts",
       [event({"content": [{"type": "thinking", "thinking": [{"text": "r"}]}]})] * 6)  # fmt: skip
_shape("refusal-text", [event({"refusal": "no "})] * 6)
_shape("tool-calls",
       [event({"tool_calls": [{"index": 0, "function": {"arguments": '{"content":"'}}]})] * 6,
       finish="tool_calls")  # fmt: skip
_shape("function-call", [event({"function_call": {"arguments": "ab"}})] * 6, finish="function_call")
_shape("text-with-keys", [event({"content": '"content":"" "usage":{ "error" data: [DONE]\n'})] * 6)
_shape("message-echo", [event({"content": "x"}, message={"content": "xx"})] * 6)
_shape("logprobs", [event({"content": "x"}, logprobs={"content": [{"token": "x"}]})] * 6)
_shape("spaced-json", [json.dumps({"choices": [{"delta": {"content": "x"}}]}) for _ in range(6)])
_shape("escaped-json", [e.replace("w", "\\u2603") for e in words(6)])
_shape("two-choices", [f"data: {js({'choices': [{'index': n % 2, 'delta': {'content': 'x'}}]})}\n\n"
                       for n in range(6)])  # fmt: skip
_shape("four-tokens-a-chunk", [event({"content": "a b c d "})] * 3,
       tail=counted(usage(12)) + DONE)  # fmt: skip
_shape("three-tokens-and-a-bit", [event({"content": "a b c "})] * 2, gap_s=0.01)
_shape("no-text", [event({"content": ""})] * 3)
_shape("ends-at-once", [], finish="stop")
BEHAVIOURS["spaced-json"] = lambda a: answer(
    a, [f"data: {json.dumps({'choices': [{'delta': {'content': 'x'}}]})}\n\n"] * 6
)


@behaviour
def prompt_filter_first(a: Asked) -> Iterator[Step]:
    """Azure."""
    first = js({"choices": [], "prompt_filter_results": [{"prompt_index": 0}]})
    yield head() + chunk(f"data: {first}\n\n")
    yield from list(answer(a))[1:]


@behaviour
def one_chunk(a: Asked) -> Iterator[Step]:
    yield head()
    yield 0.05
    yield chunk("".join(words(6)) + event({}, "length") + counted(usage()) + DONE) + LAST


@behaviour
def one_event(a: Asked) -> Iterator[Step]:
    yield from answer(a, [event({"content": "all of it at once "})], gap_s=0.05)


@behaviour
def let_go_together(a: Asked) -> Iterator[Step]:
    yield head()
    yield 0.05
    yield b"".join(chunk(one) for one in [*words(6), event({}, "length"), counted(usage()), DONE])
    yield LAST


@behaviour
def slowly(a: Asked) -> Iterator[Step]:
    yield from answer(a, gap_s=0.08)


# Why an answer ended.

for _reason in ("stop", "length", "eos_token", "tool_calls"):
    _shape(f"finish-{_reason}", words(6), finish=_reason)
for _reason in ("abort", "error", "content_filter", "cancelled", "SAFETY", "overloaded"):
    _shape(f"cut-{_reason}", words(3), finish=_reason, tail=counted(usage(3)) + DONE)
_shape("stops-early", words(2), finish="stop", tail=counted(usage(2)) + DONE)
_shape("goes-on", words(9), tail=counted(usage(9)) + DONE)
_shape("no-finish", words(6), finish=None)
_shape("no-done", words(6), tail=counted(usage()))
_shape("no-done-no-usage", words(6), tail="")
_shape("no-done-no-finish", words(6), finish=None, tail=counted(usage()))
_shape("no-end-at-all", words(6), finish=None, tail="")
_shape("usage-behind-done", words(6), tail=DONE + counted(usage()))


# Usage.

for _name, _tail in {
    "every-count": counted(usage()),
    "no-cached": counted(usage(cached=...)),
    "null-details": counted(usage(cached=..., prompt_tokens_details=None)),
    "list-details": counted(usage(cached=..., prompt_tokens_details=[{"cached_tokens": 96}])),
    "zero-cached": counted(usage(cached=0)),
    "null-cached": counted(usage(cached=None)),
    "text-cached": counted(usage(cached="96")),
    "negative-cached": counted(usage(cached=-5)),
    "true-cached": counted(usage(cached=True)),
    "cached-above-prompt": counted(usage(cached=500)),
    "deepseek": counted(usage(cached=..., prompt_cache_hit_tokens=96)),
    "moonshot": counted(usage(cached=..., cached_tokens=96)),
    "litellm": counted(usage(cached=..., cache_read_input_tokens=96)),
    "bare-second": counted(usage()) + counted(usage(cached=...)),
    "bare-first": counted(usage(cached=...)) + counted(usage()),
    "no-usage": "",
    "null-usage": 'data: {"choices":[],"usage":null}\n\n',
    "hidden-reasoning": counted(usage(500, completion_tokens_details={"reasoning_tokens": 494})),
    "sglang-reasoning": counted(usage(500, reasoning_tokens=494)),
}.items():
    _shape(f"usage-{_name}", words(6), tail=_tail + DONE)
_shape("usage-in-every-chunk",
       [event({"content": "x"}, usage=usage(n + 1, cached=...)) for n in range(6)])  # fmt: skip
_shape("usage-null-in-every-chunk", [event({"content": "x"}, usage=None) for _ in range(6)])
_shape("shown-reasoning", [event({"reasoning_content": "r"})] * 3 + words(3),
       tail=counted(usage(completion_tokens_details={"reasoning_tokens": 3})) + DONE)  # fmt: skip


# Lines of events.

for _name, _change in {
    "no-space": lambda x: x.replace("data: ", "data:"),
    "crlf": lambda x: x.replace("\n", "\r\n"),
    "cr": lambda x: x.replace("\n", "\r"),
    "comments": lambda x: ": ping\n\n" + x,
    "comment-inside": lambda x: ": PROCESSING\n" + x,
    "event-and-id": lambda x: "event: message\nid: 7\nretry: 10\n" + x,
    "several-lines": lambda x: x.replace(',"choices"', ',\ndata: "choices"'),
    "no-last-empty-line": lambda x: x.rstrip("\n") if "[DONE]" in x else x,
    "one-newline": lambda x: x.replace("\n\n", "\n"),
    "bare-json": lambda x: x.removeprefix("data: ").replace("\n\n", "\n"),
}.items():
    BEHAVIOURS[f"lines-{_name}"] = partial(framed, change=_change)


@behaviour
def byte_by_byte(a: Asked) -> Iterator[Step]:
    yield head()
    stream = "".join(event({"content": f"é☃{n}"}) for n in range(6)) + event({}, "length")
    for one in (stream + counted(usage()) + DONE).encode():
        yield chunk(bytes([one]))
        if one == ord("}"):
            yield 0.002
    yield LAST


@behaviour
def empty_line_with_the_next(a: Asked) -> Iterator[Step]:
    yield head()
    rest = ""
    for one in words(6):
        yield 0.08
        a.text_s.append(time.perf_counter())
        yield chunk(rest + one[:-1])
        rest = "\n"
    yield chunk(rest + event({}, "length") + counted(usage()) + DONE) + LAST


_shape("error-event", [*words(3), f"data: {js({'error': {'message': 'engine died'}})}\n\n"])
_shape("error-text", [*words(3), f"data: {js({'error': 'engine died'})}\n\n"])
_shape("error-named", [*words(3), "event: error\ndata: upstream gone\n\n"])
_shape("error-in-a-comment", [*words(3), "event: error\n: worker lost\n\n"])
_shape("error-first", [f"data: {js({'error': {'message': 'no capacity'}})}\n\n"])
_shape("detail", [f"data: {js({'detail': 'upstream closed'})}\n\n"])
_shape("not-json", [*words(3), "data: {oops\n\n"])
_shape("null-event", [*words(3), "data: null\n\n"])


# HTTP.


def _ending(name: str, *steps: Step) -> None:
    def script(asked: Asked) -> Iterator[Step]:
        yield from list(answer(asked))[:-1]
        yield from steps

    BEHAVIOURS[name] = script


_ending("last-chunk-split", b"0\r\n", 0.005, b"\r\n")
_ending("last-chunk-bytewise", b"0", b"\r", 0.005, b"\n", b"\r", b"\n")
_ending("last-chunk-zeros", b"00000000\r\n\r\n")
_ending("chunk-extension", b"0;last=1\r\n\r\n")
_ending("trailers", b"0\r\nx-took: 3\r\nx-more: 4\r\n\r\n")
_ending("closed-behind-done", END)
_ending("held-open-behind-done", 0.6, LAST)
_ending("more-behind-the-answer", LAST + b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi")


@behaviour
def chunk_extensions(a: Asked) -> Iterator[Step]:
    for step in answer(a):
        data = step if isinstance(step, bytes) else b""
        size, _, rest = data.partition(b"\r\n")
        is_chunk = bool(data) and not data.startswith(b"HTTP") and data != LAST
        yield b"%s;sig=abc\r\n%s" % (size, rest) if is_chunk else step


@behaviour
def http10(a: Asked) -> Iterator[Step]:
    yield head("200 OK", "text/event-stream", False, version="1.0")
    yield "".join([*words(6), event({}, "length"), counted(usage()), DONE]).encode()
    yield END


@behaviour
def no_length(a: Asked) -> Iterator[Step]:
    yield head("200 OK", "text/event-stream", False, "connection: close")
    for one in [*words(6), event({}, "length"), counted(usage()), DONE]:
        yield GAP_S
        yield one.encode()
    yield END


@behaviour
def content_length(a: Asked) -> Iterator[Step]:
    whole = [*words(6), event({}, "length"), counted(usage()), DONE]
    size = len("".join(whole).encode())
    yield head("200 OK", "text/event-stream", False, f"content-length: {size}")
    for one in whole:
        yield GAP_S
        yield one.encode()


@behaviour
def connection_close(a: Asked) -> Iterator[Step]:
    yield head("200 OK", "text/event-stream", True, "connection: close")
    yield from list(answer(a))[1:]
    yield END


@behaviour
def interim(a: Asked) -> Iterator[Step]:
    yield b"HTTP/1.1 100 Continue\r\n\r\n"
    yield 0.01
    yield b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"
    yield 0.01
    yield from answer(a)


@behaviour
def closed_kept_connections(a: Asked) -> Iterator[Step]:
    """Every second request on a connection gets its end instead of an answer."""
    if a.before % 2:
        yield END
    yield from answer(a)


@behaviour
def closed_at_once(a: Asked) -> Iterator[Step]:
    yield END


@behaviour
def cut_in_the_middle(a: Asked) -> Iterator[Step]:
    yield from list(answer(a))[:7]
    yield END


@behaviour
def gzip_stream(a: Asked) -> Iterator[Step]:
    whole = "".join([*words(6), event({}, "length"), counted(usage()), DONE])
    yield head("200 OK", "text/event-stream", True, "content-encoding: gzip")
    yield chunk(gzip.compress(whole.encode())) + LAST


@behaviour
def no_http(a: Asked) -> Iterator[Step]:
    yield b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03"
    yield END


@behaviour
def early_head(a: Asked) -> Iterator[Step]:
    yield head() + chunk(": processing\n\n")
    yield 0.05
    yield from list(answer(a))[1:]


@behaviour
def slow_head(a: Asked) -> Iterator[Step]:
    yield 0.05
    yield from answer(a)


# Silence.


@behaviour
def never_answers(a: Asked) -> Iterator[Step]:
    yield 3.0


@behaviour
def only_pings(a: Asked) -> Iterator[Step]:
    yield head()
    for _ in range(30):
        yield chunk(": ping\n\n")
        yield 0.1


@behaviour
def stalls(a: Asked) -> Iterator[Step]:
    yield head()
    yield from texts(a, words(3))
    yield 3.0


@behaviour
def pings_after_texts(a: Asked) -> Iterator[Step]:
    yield head()
    yield from texts(a, words(3))
    for _ in range(30):
        yield 0.1
        yield chunk(event({"content": ""}) + ": ping\n\n")


@behaviour
def never_ends(a: Asked) -> Iterator[Step]:
    yield head()
    yield from texts(a, words(400), 0.02)


# Refusals.


def _refused(status: str, text: str, kind: str, *more_and_asked: Any) -> Iterator[Step]:
    return refusal(status, text, kind, *more_and_asked[:-1])


for _name, (_status, _text, _kind, *_more) in {
    "401": ("401 Unauthorized", '{"error":{"message":"wrong key"}}', "application/json"),
    "403": ("403 Forbidden", '{"detail":"forbidden"}', "application/json"),
    "413": ("413 Too Large", "<html><h1>413 Too Large</h1></html>", "text/html"),
    "422": (
        "422 X",
        '{"detail":[{"loc":["body","ignore_eos"],"msg":"not permitted"}]}',
        "application/json",
    ),
    "429": ("429 X", '{"error":{"message":"slow down"}}', "application/json", "retry-after: 1"),
    "500": ("500 X", '{"object":"error","message":"EngineDeadError"}', "application/json"),
    "502": ("502 X", "<html><head><title>502 Bad Gateway</title></head></html>", "text/html"),
    "503": ("503 X", '{"message":"no ready replica"}', "application/json"),
    "504": ("504 X", "", "text/html"),
    "529": ("529 X", '{"type":"error","error":{"message":"Overloaded"}}', "application/json"),
    "301": ("301 X", "", "text/html", "location: /elsewhere"),
    "308": ("308 X", "", "text/html", "location: https://other/v1"),
    "json-in-200": ("200 OK", '{"error":{"message":"too long"}}', "application/json"),
    "json-answer": ("200 OK", '{"choices":[{"message":{"content":"x"}}]}', "application/json"),
    "page-in-200": ("200 OK", "<html><title>Log in</title><script>x</script></html>", "text/html"),
    "nothing-in-200": ("200 OK", "", "text/event-stream"),
}.items():
    BEHAVIOURS[_name] = partial(_refused, _status, _text, _kind, *_more)


@behaviour
def gzip_refusal(a: Asked) -> Iterator[Step]:
    body = gzip.compress(b'{"error":{"message":"packed words"}}')
    size = f"content-length: {len(body)}"
    yield head("400 X", "application/json", False, "content-encoding: gzip", size) + body


def _strict(name: str, wrong: Callable[[Asked], str | None]) -> None:
    def script(asked: Asked) -> Iterator[Step]:
        if words_ := wrong(asked):
            return refusal("400 Bad Request", js({"error": {"message": words_}}))
        return answer(asked, words(6), tail=counted(usage()) + DONE)

    BEHAVIOURS[name] = script


KNOWN = {"model", "messages", "stream", "temperature", "max_tokens", "max_completion_tokens",
         "tools", "tool_choice", "stream_options"}  # fmt: skip
_strict("strict", lambda a: next((f"unknown field {k}" for k in a.body if k not in KNOWN), None))
_strict("reasoning-model", lambda a: "max_tokens is not supported" if "max_tokens" in a.body
        else "temperature is not supported" if "temperature" in a.body else None)  # fmt: skip
_strict("no-stream-options", lambda a: "stream_options" if "stream_options" in a.body else None)
_strict("key-header", lambda a: None if "api-key" in a.headers else "no subscription key")
_strict("more-headers", lambda a: None if a.headers.get("x-team") == "blue" else "no team")
_strict("needs-a-field", lambda a: None if a.body.get("user") == "u1" else "no user")
AZURE = "/deployments/m/chat/completions?api-version="
_strict("deployment-path", lambda a: None if AZURE in a.path else f"no deployment at {a.path}")


@behaviour
def bursts(a: Asked) -> Iterator[Step]:
    """nginx, which passes on a buffer when it is full."""
    yield head()
    for _ in range(2):
        yield 0.02
        yield chunk("".join(words(3)))
    yield chunk(event({}, "length") + counted(usage()) + DONE) + LAST


@behaviour
def counts_and_then_more(a: Asked) -> Iterator[Step]:
    """Counts by themselves at the beginning say nothing of the end."""
    yield head() + chunk(counted(usage(3)))
    yield from texts(a, words(3))
    yield LAST


@behaviour
def reset_behind_done(a: Asked) -> Iterator[Step]:
    yield from list(answer(a))[:-1]
    yield RESET
