"""What is recorded of every behaviour of tests/support/behaviours.py, and what the report says."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from support.behaviours import BEHAVIOURS, Asked, serving
from support.middle import tls

from aot.analysis import report
from aot.configs.dialects.wording import USUAL, Wording
from aot.configs.loading.wording import of_options
from aot.workloads.load.dispatch import Dispatcher
from aot.workloads.load.sink import Sink
from aot.workloads.requests import schedule as schedule_file
from aot.workloads.requests.limits import LateError, Limits
from aot.workloads.requests.request import Prefix, Request, Schedule
from aot.workloads.wire.bodies import Bodies
from aot.workloads.wire.connection import Wire
from aot.workloads.wire.exchange import exchange
from aot.workloads.wire.record import Record

REQUESTS = 2
BUSY = "chunks came in one read on average"
"""True of any answer on a machine that is too busy to read each chunk when it comes; the finding
itself has its tests in tests/analysis."""
CHUNKS = {"chunks": 6, "prompt": 120, "cached": 96, "output": 6, "hidden": None, "choices": None,
          "resent": False, "error": None}  # fmt: skip
"""What is recorded where nothing else is said: six texts, each a token."""
LIMITS = {"connect_s": 1.0, "first_text_s": 0.5, "between_texts_s": 0.4, "total_s": 1.5}
NOT_STREAMED = "not streamed"
MERGED = "chunks are not tokens"
SILENT = "without cached tokens"


def _error(words: str, chunks: int = 0, **more: Any) -> dict[str, Any]:
    unknown = dict.fromkeys(("prompt", "cached", "output"))
    return {**unknown, "chunks": chunks, "error": words, **more}


ORDINARY = """normal role-first role-with-text empty-among-texts reasoning-content
    reasoning-both-keys thinking content-parts thinking-parts refusal-text tool-calls function-call
    text-with-keys message-echo logprobs spaced-json escaped-json prompt-filter-first finish-stop
    finish-length finish-eos_token finish-tool_calls no-finish no-done no-done-no-finish
    usage-behind-done usage-every-count usage-deepseek usage-moonshot usage-litellm
    usage-bare-second usage-bare-first usage-in-every-chunk usage-null-in-every-chunk
    shown-reasoning lines-no-space lines-crlf lines-cr lines-comments lines-comment-inside
    lines-event-and-id lines-several-lines lines-no-last-empty-line byte-by-byte
    empty-line-with-the-next last-chunk-split last-chunk-bytewise last-chunk-zeros chunk-extension
    trailers closed-behind-done held-open-behind-done more-behind-the-answer chunk-extensions
    no-length content-length connection-close interim early-head slow-head no-stream-options
    reset-behind-done slowly""".split()
"""Nothing is remarkable in these."""
RECORDED: dict[str, tuple[dict[str, Any], str | None]] = {
    **{name: ({}, None) for name in ORDINARY},
    "two-choices": ({"choices": 2}, "several alternatives"),
    "four-tokens-a-chunk": ({"chunks": 3, "output": 12}, MERGED),
    "three-tokens-and-a-bit": ({"chunks": 2}, MERGED),
    "one-chunk": ({}, NOT_STREAMED),
    "bursts": ({}, "3.0 chunks a read on average"),
    "counts-and-then-more": (
        {"chunks": 3, "output": 3, "error": "the stream ended before the answer was complete"},
        "before the answer was complete"),
    "one-event": ({"chunks": 1}, NOT_STREAMED),
    "let-go-together": ({}, NOT_STREAMED),
    "http10": ({}, NOT_STREAMED),
    "gzip-stream": ({}, NOT_STREAMED),
    "goes-on": ({"chunks": 9, "output": 9}, "more tokens than were asked for"),
    "usage-zero-cached": ({"cached": 0}, None),
    **{
        f"usage-{name}": ({"cached": None}, SILENT)
        for name in (
            "no-cached", "null-details", "list-details", "null-cached", "text-cached",
            "negative-cached", "true-cached",
        )
    },
    "usage-cached-above-prompt": ({"cached": 500}, "more cached tokens than the prompt has"),
    **{
        f"usage-{name}": (dict.fromkeys(("prompt", "cached", "output")), "without a usage block")
        for name in ("no-usage", "null-usage")
    },
    "no-done-no-usage": (dict.fromkeys(("prompt", "cached", "output")), "without a usage block"),
    "usage-hidden-reasoning": ({"output": 500, "hidden": 494}, "were not sent (hidden reasoning)"),
    "usage-sglang-reasoning": ({"output": 500, "hidden": 494}, "were not sent (hidden reasoning)"),
    "closed-kept-connections": ({"resent": True}, "1 requests went twice"),
    **{
        f"cut-{reason}": (
            {"chunks": 3, "output": 3, "error": f"ended the answer early: {reason}"}, reason)
        for reason in ("abort", "error", "content_filter", "cancelled", "SAFETY", "overloaded")
    },
    "stops-early": (
        {"chunks": 2, "output": 2, "error": "the answer stopped after 2 of 6 tokens (stop)"},
        "stopped after 2 of 6 tokens"),
    "no-text": ({"chunks": 0, "error": "the answer carried no text"}, "no text"),
    "ends-at-once": ({"chunks": 0, "error": "the answer carried no text"}, "no text"),
    "no-end-at-all": (_error("the stream ended before the answer was complete", 6), "before the"),
    "lines-one-newline": (_error("an event is not JSON"), "not JSON"),
    "lines-bare-json": (_error("no stream but text/event-stream: {"), "no stream"),
    "error-event": (_error("the server sent an error: engine died", 3), "engine died"),
    "error-text": (_error("the server sent an error: engine died", 3), "engine died"),
    "error-named": (_error("the server sent an error: upstream gone", 3), "upstream gone"),
    "error-in-a-comment": (_error("the server sent an error: worker lost", 3), "worker lost"),
    "error-first": (_error("the server sent an error: no capacity"), "no capacity"),
    "detail": (_error("the server sent an error: upstream closed"), "upstream closed"),
    "not-json": (_error("an event is not JSON: '{oops", 3), "not JSON"),
    "null-event": (_error("an event is no object: 'null'", 3), "no object"),
    "closed-at-once": (_error("the connection ended before the answer did"), "ended before"),
    "cut-in-the-middle": (_error("the connection ended before the answer did", 3), "ended before"),
    "no-http": (_error("the server does not speak HTTP/1"), "HTTP/1"),
    "never-answers": (_error("timed out: no text within 0.5 s"), "no text within"),
    "only-pings": (_error("timed out: no text within 0.5 s"), "no text within"),
    "stalls": (_error("timed out: no text for 0.4 s, after 3", 3), "after 3"),
    "pings-after-texts": (_error("timed out: no text for 0.4 s, after 3", 3), "after 3"),
    "never-ends": (_error("timed out: not complete within 1.5 s", ...), "not complete"),  # type: ignore[arg-type]
    "401": (_error("HTTP 401: wrong key"), "wrong key"),
    "403": (_error("HTTP 403: forbidden"), "forbidden"),
    "413": (_error("HTTP 413: 413 Too Large"), "Too Large"),
    "422": (_error("HTTP 422: body.ignore_eos: not permitted"), "ignore_eos"),
    "429": (_error("HTTP 429: slow down"), "slow down"),
    "500": (_error("HTTP 500: EngineDeadError"), "EngineDead"),
    "502": (_error("HTTP 502: 502 Bad Gateway"), "Bad Gateway"),
    "503": (_error("HTTP 503: no ready replica"), "replica"),
    "504": (_error("HTTP 504"), "504"),
    "529": (_error("HTTP 529: Overloaded"), "Overloaded"),
    "301": (_error("HTTP 301, which points to /elsewhere"), "/elsewhere"),
    "308": (_error("HTTP 308, which points to https://other/v1"), "https://other/v1"),
    "json-in-200": (_error("no stream but application/json: too long"), "too long"),
    "json-answer": (_error("no stream but application/json: {"), "no stream"),
    "page-in-200": (_error("no stream but text/html: Log in"), "Log in"),
    "nothing-in-200": (_error("no stream but text/event-stream: nothing"), "nothing"),
    "gzip-refusal": (_error("HTTP 400: packed words"), "packed words"),
    "strict": (_error("HTTP 400: unknown field ignore_eos"), "ignore_eos"),
    "reasoning-model": (_error("HTTP 400: max_tokens is not supported"), "max_tokens"),
    "no-stream-options": (_error("HTTP 400: stream_options"), "stream_options"),
    "key-header": (_error("HTTP 400: no subscription key"), "subscription"),
    "more-headers": (_error("HTTP 400: no team"), "no team"),
    "needs-a-field": (_error("HTTP 400: no user"), "no user"),
    "deployment-path": (_error("HTTP 400: no deployment"), "deployment"),
}  # fmt: skip
"""Facts that differ from CHUNKS, and words of the finding; None: the report has nothing to say."""


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, list[Asked]]]:
    with serving() as started:
        yield started


def schedule() -> Schedule:
    user = ({"role": "user", "content": "q"},)
    prefix = Prefix("p", ({"role": "system", "content": "s"},), (user, user))
    requests = tuple(Request(f"r{n}", 0.0, "t", "p", user) for n in range(REQUESTS))
    return Schedule("s", 1, "closed", 1, 6, True, 0.5, {"p": prefix}, requests, limits=LIMITS)


def recorded(url: str, wording: Wording = USUAL, folder: Path | None = None) -> list[Record]:
    """What is recorded of requests one after the other; in `folder`, as a run keeps it."""
    planned, kept = schedule(), []
    files = None
    if folder is not None:
        digest = schedule_file.write(planned, folder / "schedule.jsonl")
        records = folder / "phases" / "r1-auto" / "records"
        files = Sink(records, "auto", 1, digest, time.perf_counter())
    zero = time.perf_counter()

    def keep(record: Record) -> None:
        kept.append(record)
        if files:
            files.keep(record)

    limits = Limits.of(planned.timeout_s, **planned.limits)
    headers = {"Content-Type": "application/json"}
    headers |= wording.sent_headers(url, "k" if wording.key_header else None, "--api-key-env")
    clock = lambda: time.perf_counter() - zero  # noqa: E731
    wire = Wire(url, wording.target("m"), wording.dialect, limits, clock, headers)
    bodies = Bodies(planned, "m", None, wording=wording)
    dispatcher = Dispatcher(planned, {None: wire}, bodies, "auto", 1, keep)
    for request in planned.requests:
        dispatcher.send(request, None)
    wire.close()
    if files:
        files.close()
    return kept


def facts(record: Record) -> dict[str, Any]:
    return {
        "chunks": len(record.chunk_s), "prompt": record.prompt_tokens,
        "cached": record.cached_tokens, "output": record.output_tokens,
        "hidden": record.hidden_tokens, "choices": record.choices, "resent": record.resent,
        "error": record.error,
    }  # fmt: skip


def test_every_behaviour_is_judged() -> None:
    assert set(RECORDED) == set(BEHAVIOURS)
    assert len(RECORDED) >= 130


@pytest.mark.parametrize("name", RECORDED)
def test_what_is_recorded_and_what_the_report_says(
    server: tuple[str, list[Asked]], tmp_path: Path, name: str
) -> None:
    expected, words = RECORDED[name]
    records = recorded(f"{server[0]}/{name}", folder=tmp_path)
    assert len(records) == REQUESTS
    wanted = {**CHUNKS, **expected}
    last = facts(records[-1])
    assert (wanted["error"] or "") in (last["error"] or "")
    assert (last["error"] is None) == (wanted["error"] is None), last["error"]
    for key in wanted.keys() - {"error"}:
        assert wanted[key] in (last[key], ...), (key, last)
    said = findings(tmp_path)
    if words is not None:
        assert words in said
    else:
        assert [line for line in said.splitlines() if BUSY not in line] == []


def findings(folder: Path) -> str:
    """What is said of the records themselves, beyond that all is well."""
    (folder / "phases" / "r1-auto" / "done.json").write_text("{}")
    checks = {
        "every request answered", "records agree with themselves", "token counts reported by the "
        "server", "answers came as they were generated", "clock runs forwards",
    }  # fmt: skip
    made = report.evaluate(folder)
    mine = [f for f in made.findings if f.check in checks]
    assert len(mine) >= 3
    told = (f for f in mine if f.level != "ok" or "twice" in f.detail)
    return "\n".join(f"{f.check}: {f.detail}" for f in told)


@pytest.mark.parametrize("name", ["slowly", "empty-line-with-the-next"])
def test_texts_are_stamped_when_they_come(server: tuple[str, list[Asked]], name: str) -> None:
    """Once, of several times: a busy machine wakes the reader late now and then."""
    for _ in range(5):
        seen = len(server[1])
        before = time.perf_counter()
        (record, _) = recorded(f"{server[0]}/{name}")
        written = [s for asked in server[1][seen : seen + 1] for s in asked.text_s]
        assert len(written) == 6
        assert written[0] > before
        gaps = [b - a for a, b in pairwise(written)]
        stamped = [b - a for a, b in pairwise(record.chunk_s)]
        if stamped == pytest.approx(gaps, abs=0.03):
            break
    else:
        assert stamped == pytest.approx(gaps, abs=0.03)


def test_the_next_request_goes_when_the_answer_is_complete(
    server: tuple[str, list[Asked]],
) -> None:
    """Not when the server closes the stream, 0.6 s later."""
    first, second = recorded(f"{server[0]}/held-open-behind-done")
    assert first.last_token_s is not None
    assert second.sent_s is not None
    assert second.sent_s - first.last_token_s < 0.3


def test_a_connection_with_more_on_it_is_not_used_again(server: tuple[str, list[Asked]]) -> None:
    seen = len(server[1])
    recorded(f"{server[0]}/more-behind-the-answer")
    assert [asked.before for asked in server[1][seen:]] == [0, 0]
    recorded(f"{server[0]}/normal")
    assert [asked.before for asked in server[1][-2:]] == [0, 1]


OPTIONS: dict[str, dict[str, Any]] = {
    "strict": {"omit": ["ignore_eos"]},
    "reasoning-model": {"profile": "openai"},
    "no-stream-options": {"omit": ["stream_options"]},
    "key-header": {"profile": "azure", "path": "/v1/chat/completions"},
    "more-headers": {"headers": ["X-Team: blue"]},
    "needs-a-field": {"fields": ["user=u1"]},
    "deployment-path": {"profile": "azure"},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_what_a_strict_server_wants_can_be_said(server: tuple[str, list[Asked]], name: str) -> None:
    assert recorded(f"{server[0]}/{name}")[0].error is not None
    (record, _) = recorded(f"{server[0]}/{name}", of_options(**OPTIONS[name]))
    assert record.error is None
    assert len(record.chunk_s) == 6


@contextmanager
def deaf(backlog: int) -> Iterator[int]:
    """A port where connections are made by the kernel at most, and nobody reads."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=backlog)
    port = listener.getsockname()[1]
    others = []
    for _ in range(4 if backlog == 0 else 0):  # until there is no room for another
        other = socket.socket()
        other.setblocking(False)
        other.connect_ex(("127.0.0.1", port))
        others.append(other)
    try:
        yield port
    finally:
        for each in (listener, *others):
            each.close()


@pytest.mark.parametrize(
    ("scheme", "backlog", "prompt", "words"),
    [
        ("http", 16, 100, "timed out: no text within 0.5 s"),
        ("http", 16, 24_000_000, "timed out: the request was not taken within 0.5 s"),
        ("https", 16, 100, "timed out: no connection within 0.3 s"),
        ("http", 0, 100, "timed out: no connection within 0.3 s"),
    ],
)
def test_every_wait_has_an_end_that_is_named(
    scheme: str, backlog: int, prompt: int, words: str
) -> None:
    body = b"x" * prompt
    dialect = USUAL.dialect
    zero = time.perf_counter()
    with deaf(backlog) as port:
        url = f"{scheme}://127.0.0.1:{port}"
        limits = Limits(0.3, 0.5, 0.5, 2.0)
        wire = Wire(url, dialect.path, dialect, limits, lambda: time.perf_counter() - zero)
        record = Record("r", "auto", 1, "t", "p", None, 0.0)
        with pytest.raises(LateError, match=words):
            exchange(wire, body, record)
        assert time.perf_counter() - zero < 2.0
        wire.close()


@pytest.mark.parametrize(
    "name",
    ["normal", "only-pings", "never-ends", "closed-behind-done", "reset-behind-done", "stalls",
     "cut-in-the-middle", "held-open-behind-done"],
)  # fmt: skip
def test_tls_changes_nothing(
    server: tuple[str, list[Asked]], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tls(server[0], tmp_path) as port:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
        record = recorded(f"https://127.0.0.1:{port}/{name}")[-1]
    expected, _ = RECORDED[name]
    wanted, last = {**CHUNKS, **expected}, facts(record)
    assert (wanted["error"] or "") in (last["error"] or "")
    assert (last["error"] is None) == (wanted["error"] is None), last["error"]
    assert wanted["chunks"] in (last["chunks"], ...)
