"""`aot explain` without its command line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from aot.configs.caches.rule import CacheRule
from aot.scripts.checkup import history
from aot.scripts.checkup.causes import Knowledge
from aot.scripts.checkup.checking import Where, running
from aot.scripts.checkup.explain import Explained, explain
from aot.scripts.checkup.history import Sent
from aot.scripts.checkup.of_log import BLOCK_TOKENS, tokens_per_character
from aot.scripts.connecting import connect
from aot.scripts.doctor.cache_blocks import own_blocks
from aot.scripts.prompts.compiling import tokenizer_of
from aot.scripts.traffic import plan, served
from aot.serving.client.detect import detect, folder_of_model
from aot.workloads.requests.body import chat

Tokens = Callable[..., list[int] | None]
"""Messages, tools and arguments of the chat template → token ids."""


def explained(
    log: Path,
    request: str,
    where: Where,
    model: str | None,
    block_tokens: int | None,
    capacity_tokens: int | None,
    lifetime_s: float | None,
) -> Explained:
    """The cause of one request, by all that is given. UsageError for a log that is none, and a
    request that is not in it."""
    where = running(where)
    encode, known, block = _server(where, model)
    known = replace(
        known,
        capacity_tokens=capacity_tokens or known.capacity_tokens,
        lifetime_s=lifetime_s,
        encode=_encoder(encode) if encode else known.encode,
        exact=encode is not None,
    )
    size = block_tokens or block or BLOCK_TOKENS
    past = history.read(log, request, size, lambda every: tokens_per_character(every, model)[0])
    return explain(past, known)


def _server(where: Where, model: str | None) -> tuple[Tokens | None, Knowledge, int | None]:
    """Who counts tokens, what the server's cache is, and its block size."""
    encode: Tokens | None = tokenizer_of(model).encode if model else None
    if where.url:
        endpoint = connect(where.url, where.model, where.api_key_env, where.wording)
        engine = detect(endpoint)
        facts = engine.cache_facts(endpoint.page(engine))
        folder = folder_of_model(endpoint, engine)
        local = plan.local_tokenizer(str(folder)) if folder else None
        return (
            encode or (local.encode if local else endpoint.tokenize),
            Knowledge(facts.capacity_tokens, facts.rule, adapters=endpoint.adapters()),
            facts.block_tokens,
        )
    if where.file:
        name, block = served.as_served(where.file, model, None)
        rule: CacheRule | None = served.known_rule(where.file, None, block)
        blocks = own_blocks(where.file, block, 1)
        if encode is None and Path(name).is_dir():
            local = plan.local_tokenizer(name)
            encode = local.encode if local else None
        return encode, Knowledge(blocks * block if blocks else None, rule), block
    return encode, Knowledge(), None


def _encoder(encode: Tokens) -> Callable[[Sent], list[int] | None]:
    """Of whole requests; each once."""
    known: dict[int, list[int] | None] = {}

    def of(sent: Sent) -> list[int] | None:
        line = sent.seen.line
        if line not in known:
            messages, tools = chat(sent.logged.endpoint, sent.logged.body)
            arguments: dict[str, Any] = sent.logged.body.get("chat_template_kwargs") or {}
            known[line] = encode(messages, tools, arguments)
        return known[line]

    return of
