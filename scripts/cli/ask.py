"""The verb that asks an API with a compiled prompt."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aot.scripts.cli.prompts import KeyOption
from aot.scripts.terminal import note, say


def ask(
    what: Annotated[
        Path, typer.Argument(metavar="COMPILED", help="compiled prompt: the static part")
    ],
    question: Annotated[str, typer.Argument(help="the dynamic part: one user message")],
    model: Annotated[str, typer.Option("--model", help="model name in the API")],
    api: Annotated[str, typer.Option("--api", help="openai, anthropic or gemini")] = "openai",
    url: Annotated[
        str | None, typer.Option("--url", help="base URL; default: the vendor's own")
    ] = None,
    ttl: Annotated[str, typer.Option(help="5m or 1h: how long the static part is kept")] = "5m",
    max_tokens: Annotated[int, typer.Option(min=1, help="longest answer")] = 256,
    api_key_env: KeyOption = None,
) -> None:
    """Ask a hosted API, or a server of one's own, and show what its cache did.

    The static part is kept as each API wants it: by order (openai), by breakpoints (anthropic), as
    a cached content (gemini).
    """
    from aot.serving.hosted import apis
    from aot.serving.hosted.api import Account, Static
    from aot.workloads.prompts import compiled

    name, lifetime = apis.chosen(api, ttl)
    made = compiled.read(what)
    static = Static(made.messages, tuple(made.tools), made.cache_key, made.cache_salt)
    client = apis.client(name, Account(url, model, api_key_env), lifetime)
    answer = client.ask(static, [{"role": "user", "content": question}], max_tokens)
    say(answer.text)
    counts = {
        "prompt": answer.prompt_tokens,
        "cached": answer.cached_tokens,
        "written": answer.written_tokens,
        "output": answer.output_tokens,
    }
    shown = (f"{k} {'not reported' if v is None else v}" for k, v in counts.items())
    note(f"tokens: {', '.join(shown)}")
