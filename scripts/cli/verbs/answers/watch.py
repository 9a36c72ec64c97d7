"""The verb that stays beside a running server and sends it nothing."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aot.configs.kernel.errors import EndpointError, UsageError
from aot.scripts.cli.arguments import JsonOption, KeyOption, ServedModelOption, verbs
from aot.scripts.terminal import note, say, say_json

if TYPE_CHECKING:
    from aot.scripts.live.watch import Live
    from aot.scripts.live.words import Words
    from aot.serving.client.endpoint import Endpoint
    from aot.workloads.prompts.compiled import Compiled

app = verbs()


@app.command()
def watch(
    url: Annotated[str, typer.Argument(metavar="URL", help="base URL of the engine itself")],
    events: Annotated[
        str | None,
        typer.Option("--events", help="the server's KV events: tcp://HOST:PORT or ipc:///PATH"),
    ] = None,
    replay: Annotated[
        str | None,
        typer.Option(help="their history; default: where 'kv_events' in a server file has it"),
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(help="model folder or recipe: shows text; default: the model, if it is here"),
    ] = None,
    private: Annotated[
        bool, typer.Option("--private", help="show positions only, and no text")
    ] = False,
    compiled: Annotated[
        list[Path] | None,
        typer.Option(help="a compiled prompt: which of its blocks are there; repeatable"),
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(min=0, help="end after so long; default: Ctrl-C ends it")
    ] = None,
    every: Annotated[float, typer.Option(min=0.5, help="seconds between two looks")] = 5.0,
    listen: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="serve Prometheus metrics there, too")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="show the state once and end")] = False,
    model: ServedModelOption = None,
    api_key_env: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show live what a cache finds, and where prompts part.

    No request is sent. Its counters say what is found. With --events (vLLM and SGLang:
    --kv-events-config) the prefix tree of the live traffic is rebuilt: at which token prompts part
    although the same follows, how often, and how many tokens are stored again each time.
    """
    from aot.scripts.connecting import connect
    from aot.scripts.live import shown
    from aot.scripts.live.watch import Live, follow
    from aot.serving.client import kv_events

    if events is None and (compiled or once or replay):
        raise UsageError("--compiled, --once and --replay need --events, which tell what is there")
    prompts = _compiled(compiled or [])
    endpoint = connect(url, model, api_key_env)
    words = None if private else _words(tokenizer, endpoint, events)
    live = Live.of(endpoint, prompts, words)
    with ExitStack() as stack:
        source = stack.enter_context(kv_events.subscribed(events)) if events else None
        if events:
            _catch_up(live, events, replay)
        shows = [] if as_json else [stack.enter_context(shown.on_terminal())]
        shows += [shown.exported(listen)] if listen else []
        try:
            follow(live, source, every, 0.5 if once else seconds, shows)
        except SystemExit:  # Ctrl-C is how it usually ends: what was seen is what it is for
            stack.close()
            _conclude(live, events is not None, as_json)
            raise
    _conclude(live, events is not None, as_json)


def _conclude(live: Live, with_events: bool, as_json: bool) -> None:
    from aot.scripts.live import shown

    seen = live.seen(with_events, last=True)
    if as_json:
        say_json(seen.as_json())
        return
    for line in shown.lines(seen):
        say(line)


def _catch_up(live: Live, events: str, replay: str | None) -> None:
    from aot.configs.schema.server import replay_endpoint
    from aot.serving.client import kv_events

    try:
        live.remember(kv_events.replay(replay or replay_endpoint(events)))
    except EndpointError as error:
        note(f"{error}; only what happens from now on is known")


def _words(tokenizer: str | None, endpoint: Endpoint, events: str | None) -> Words | None:
    """Text is shown by the tokenizer that is named, or by the model's own where it is here."""
    from aot.scripts.live.words import Words
    from aot.scripts.prompts.compiling import model_folder
    from aot.serving.client.detect import detect, folder_of_model

    if events is None:
        return None
    if tokenizer:
        return Words(model_folder(tokenizer))
    folder = folder_of_model(endpoint, detect(endpoint))
    if folder and (folder / "tokenizer.json").exists():
        return Words(folder)
    note("no tokenizer of the model is here: positions only (--tokenizer MODEL shows text)")
    return None


def _compiled(paths: list[Path]) -> list[Compiled]:
    from aot.workloads.prompts import compiled

    for path in paths:
        if not compiled.is_compiled(path):
            raise UsageError(f"{path}: not a compiled prompt; make one with: aot compile")
    return [compiled.read(path) for path in paths]
