"""Records the requests that an application sends through the openai or anthropic SDK, at the HTTP
layer below them, and answers in their server's place; and says where their prompts part."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from aot.configs.dialects.table import EndpointName
from aot.workloads.lint import log as lint_log
from aot.workloads.lint import seen
from aot.workloads.lint.flaw import Flaw
from aot.workloads.lint.log import LogReport
from aot.workloads.lint.seen import Seen
from aot.workloads.logs import bodies
from aot.workloads.requests.body import check
from aot.workloads.traces.in_time import CHARACTERS_PER_TOKEN

LIBRARIES = ("httpx", "httpx2")
"""That the SDKs send with, by their version."""
Patch = Callable[[object, str, object], None]
"""Sets an attribute until the test is over."""


class UnstablePromptError(AssertionError):
    """Prompts that should share a beginning do not."""


@dataclass(slots=True)
class Recorder:
    """`requests`: endpoint and body of every request, in their order. `answer`: what the model is
    made to say; None: requests go on to the server that they are for."""

    answer: str | None = "ok"
    requests: list[tuple[EndpointName, dict[str, Any]]] = field(default_factory=list)

    def install(self, patch: Patch) -> None:
        """From here on requests come here, whichever client sends them."""
        for name in LIBRARIES:
            if importlib.util.find_spec(name) is not None:
                self._install(importlib.import_module(name), patch)

    def _install(self, library: Any, patch: Patch) -> None:
        sync, later = library.HTTPTransport, library.AsyncHTTPTransport
        send, send_later = sync.handle_request, later.handle_async_request

        def handle(transport: Any, request: Any) -> Any:
            request.read()
            return self._taken(library, request) or send(transport, request)

        async def handle_later(transport: Any, request: Any) -> Any:
            await request.aread()
            return self._taken(library, request) or await send_later(transport, request)

        patch(sync, "handle_request", handle)
        patch(later, "handle_async_request", handle_later)

    def _taken(self, library: Any, request: Any) -> Any:
        """Our answer; None for what is no request of a model, or goes on to its server."""
        endpoint = bodies.of_url(request.url.path)
        if endpoint is None:
            return None
        body = json.loads(request.content)
        check(body, endpoint)
        self.requests.append((endpoint, body))
        if self.answer is None:
            return None
        whole = _answer(endpoint, self.answer, str(body.get("model")))
        if not body.get("stream"):
            return library.Response(200, json=whole, request=request)
        text = "".join(_events(endpoint, self.answer, whole))
        headers = {"content-type": "text/event-stream"}
        return library.Response(200, content=text.encode(), headers=headers, request=request)

    @property
    def seen(self) -> list[Seen]:
        """The requests as lint sees them."""
        return [
            seen.of(bodies.Logged(endpoint, body), n, {})
            for n, (endpoint, body) in enumerate(self.requests, 1)
        ]

    def report(self) -> LogReport:
        """What they share, what is lost, and where. ValueError below two requests: nothing can be
        said of one."""
        if len(self.requests) < 2:
            raise ValueError(
                f"{len(self.requests)} request(s) recorded; at least two are needed to see what "
                "they share: does the application send through the openai or anthropic SDK?"
            )
        return lint_log.lint(self.seen, "request", 1 / CHARACTERS_PER_TOKEN)

    def assert_stable(self, ignore: tuple[str, ...] = (), most_lost_tokens: float = 0.0) -> None:
        """AssertionError naming every place where requests part that should share more, with both
        texts and the tokens lost, but for the rules in `ignore` (aot lint) and for losses of at
        most so many tokens a request."""
        flaws = [
            f for f in self.report().flaws
            if f.rule not in ignore and (f.tokens_per_request or 0) > most_lost_tokens
        ]  # fmt: skip
        if flaws:
            raise UnstablePromptError("\n".join([_head(len(self.requests)), *map(_line, flaws)]))


def _head(count: int) -> str:
    return f"prompts of {count} requests part where they should share:"


def _line(flaw: Flaw) -> str:
    lost = f"{flaw.tokens_per_request or 0:,.0f} tokens a request lost"
    return f"  {flaw.field} of request {flaw.line}: {flaw.rule}, {lost}\n    {flaw.detail}"


USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}


def _answer(endpoint: EndpointName, text: str, model: str) -> dict[str, Any]:
    """A whole answer, as each API has it."""
    known = {"id": "aot-recorded", "model": model}
    if endpoint == "messages":
        return known | {
            "type": "message", "role": "assistant", "content": [{"type": "text", "text": text}],
            "stop_reason": "end_turn", "stop_sequence": None,
            "usage": {"input_tokens": 1, "output_tokens": 1},
        }  # fmt: skip
    if endpoint == "responses":
        content = [{"type": "output_text", "text": text, "annotations": []}]
        message = {"type": "message", "id": "m", "role": "assistant", "status": "completed",
                   "content": content}  # fmt: skip
        return known | {
            "object": "response", "created_at": 0, "status": "completed", "output": [message],
            "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
        }  # fmt: skip
    said = {"text": text} if endpoint == "completions" else {
        "message": {"role": "assistant", "content": text}
    }  # fmt: skip
    choice = {"index": 0, "finish_reason": "stop", "logprobs": None, **said}
    kind = "text_completion" if endpoint == "completions" else "chat.completion"
    return known | {"object": kind, "created": 0, "choices": [choice], "usage": USAGE}


def _events(endpoint: EndpointName, text: str, whole: dict[str, Any]) -> Iterator[str]:
    """The same as a stream."""
    if endpoint == "messages":
        start = {**whole, "content": [], "stop_reason": None}
        block = {"type": "text", "text": ""}
        yield _named("message_start", message=start)
        yield _named("content_block_start", index=0, content_block=block)
        yield _named("content_block_delta", index=0, delta={"type": "text_delta", "text": text})
        yield _named("content_block_stop", index=0)
        end = {"stop_reason": "end_turn", "stop_sequence": None}
        yield _named("message_delta", delta=end, usage={"output_tokens": 1})
        yield _named("message_stop")
    elif endpoint == "responses":
        place = {"item_id": "m", "output_index": 0, "content_index": 0}
        yield _named("response.output_text.delta", delta=text, sequence_number=0, **place)
        yield _named("response.completed", response=whole, sequence_number=1)
    else:
        choice = dict(whole["choices"][0])
        if "message" in choice:
            choice["delta"] = choice.pop("message")
        kind = whole["object"] + (".chunk" if endpoint == "chat" else "")
        yield f"data: {json.dumps({**whole, 'object': kind, 'choices': [choice]})}\n\n"
        yield "data: [DONE]\n\n"


def _named(kind: str, **fields: Any) -> str:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n"
