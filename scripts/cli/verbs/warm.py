"""The verbs that get static prefixes into caches and look after them there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aot.configs.kernel.errors import UsageError
from aot.scripts.cli.arguments import KeyOption, ServedModelOption, TokenizerOption, verbs
from aot.scripts.cli.choices import ApiName, TtlName
from aot.scripts.cli.warm_options import tell_left_out
from aot.scripts.cli.wording_options import takes_wording
from aot.scripts.terminal import note, say, table

if TYPE_CHECKING:
    from aot.configs.dialects.wording import Wording
    from aot.serving.cache.warm import Warmed
    from aot.serving.client.endpoint import Endpoint
    from aot.workloads.prompts.compiled import Compiled

app = verbs()

EventsOption = Annotated[
    str | None,
    typer.Option("--events", help="the server's KV events: tcp://HOST:PORT or ipc:///PATH"),
]


@app.command()
@takes_wording
def warm(
    what: Annotated[
        list[Path],
        typer.Argument(
            metavar="COMPILED...|WORKLOAD|SCHEDULE",
            help="what to compile in; of a folder all compiled prompts",
        ),
    ],
    url: Annotated[
        list[str] | None, typer.Option("--url", help="base URL; once for each replica")
    ] = None,
    model: ServedModelOption = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="stay, and warm again before it is needed; Ctrl-C ends")
    ] = False,
    every: Annotated[
        float | None,
        typer.Option(
            min=0.1, help="seconds between rounds of --watch; default: by the cache's load"
        ),
    ] = None,
    events: EventsOption = None,
    gate: Annotated[
        str | None,
        typer.Option(
            help="HOST:PORT; stay beside one engine, and answer GET /ready there with 200 when all "
            "of it is in its cache: a readiness probe"
        ),
    ] = None,
    api: Annotated[
        ApiName, typer.Option(help="openai: own servers too; the others are hosted APIs")
    ] = "openai",
    ttl: Annotated[TtlName, typer.Option(help="of a hosted API")] = "5m",
    api_key_env: KeyOption = None,
    tokenizer: TokenizerOption = None,
    *,
    wording: Wording,
) -> None:
    """Prefill static prefixes on a running server; verify that they hit.

    --watch keeps them there: with --events it warms exactly what was evicted, as soon as it was;
    without, it touches every prefix well before the traffic seen could have displaced it. On a
    hosted API (--api) it uses every prefix again before its lifetime (--ttl) is over.

    --gate is for a container beside the engine: it waits for the engine, warms it, warms it again
    when it was started anew or a file was edited, and says by its answer whether it may have
    traffic.
    """
    from aot.scripts.connecting import connect
    from aot.scripts.run import load as load_script
    from aot.scripts.run.wording import worded
    from aot.scripts.traffic import plan
    from aot.serving.cache import warm as warm_room
    from aot.serving.local import models

    if gate:
        _gate(what, url or [], model, api_key_env, wording, gate, every)
        return
    prompts = _compiled(what)
    if api != "openai":
        _warm_hosted(prompts, api, ttl, url[0] if url else None, model, api_key_env, watch)
        return
    if not url:
        raise UsageError("--url is required: where is the server?")
    kind = "chat" if prompts else plan.endpoint_of(what[0])
    model_folder = models.resolve(tokenizer, Path()) if tokenizer else None
    connected = [connect(u, model, api_key_env, wording) for u in url]
    endpoints = [worded(e, kind, model_folder) for e in connected]
    if not prompts:
        if watch or len(what) != 1:
            raise UsageError("--watch and several files need compiled prompts: aot compile")
        schedule = plan.schedule_of(what[0], endpoints[0].tokenize)
        warmed = [w for e in endpoints for w in load_script.warm_prefixes(e, schedule)]
        _show(warmed)
        warm_room.insist(warmed)
        return
    _warm_compiled(prompts, endpoints, watch, every, events)


def _gate(
    what: list[Path],
    url: list[str],
    model: str | None,
    api_key_env: str | None,
    wording: Wording,
    listen: str,
    every: float | None,
) -> None:
    from aot.scripts.warmed.gate import Gate, keep
    from aot.serving.client import endpoint

    if len(url) != 1:
        raise UsageError("--gate stands beside one engine: give one --url")
    if not _compiled(what):
        raise UsageError("--gate needs compiled prompts: aot compile")
    keep(Gate(lambda: endpoint.connect(url[0], model, api_key_env, wording), what, every), listen)


def _warm_compiled(
    prompts: list[Compiled],
    endpoints: list[Endpoint],
    watch: bool,
    every: float | None,
    events: str | None,
) -> None:
    from aot.scripts.prompts import warming, watching
    from aot.scripts.terminal import status
    from aot.serving.cache import warm as warm_room

    if events and len(endpoints) > 1:
        raise UsageError("--events is of one server; run one watch for each --url")
    places = [warming.place(e) for e in endpoints]
    for where in places:
        warming.check(prompts, where)
    if watch and events:
        watching.by_events(warming.fitting(prompts, places[0]), places[0], events)
        return
    warmed = []
    with status("compiling static prefixes ahead of time") as line:
        for where in places:
            line(f"filling {len(prompts)} prefixes on {where.endpoint.base_url}")
            warmed += warming.warm_all(prompts, where, line)
    _show(warmed)
    if not watch:
        warm_room.insist(warmed)
        return
    for where in places:
        warming.fitting(prompts, where)
    watching.by_touch(prompts, places, every)


def _warm_hosted(
    prompts: list[Compiled],
    api: ApiName,
    ttl: TtlName,
    url: str | None,
    model: str | None,
    api_key_env: str | None,
    watch: bool,
) -> None:
    from aot.configs.kernel.network import base_url
    from aot.scripts.prompts import hosted_warming
    from aot.serving.cache import warm as warm_room
    from aot.serving.hosted.api import Account

    if not prompts or model is None:
        raise UsageError(f"--api {api} needs compiled prompts and --model NAME")
    account = Account(url and base_url(url, "--url"), model, api_key_env)
    warmed = hosted_warming.warm(prompts, api, account, ttl)
    _show(warmed)
    warm_room.insist(warmed)
    if watch:
        hosted_warming.keep(prompts, api, account, ttl)


def _compiled(paths: list[Path]) -> list[Compiled]:
    """The compiled prompts among `paths`: all of them, or none."""
    from aot.workloads.prompts import compiled

    tell_left_out(paths)
    # A folder without any may be a log.
    files = [f for p in paths for f in compiled.within(p) or [p]]
    prompts = [compiled.read(p) for p in files if p.suffix == ".json" or compiled.is_compiled(p)]
    if prompts and len(prompts) < len(files):
        raise UsageError("compiled prompts and other files cannot be warmed in one go")
    return prompts


def _show(warmed: list[Warmed]) -> None:
    rows = []
    for w in warmed:
        counts = [w.static_tokens, w.cached_tokens, w.expected_tokens]
        shown = ["unknown" if c is None else str(c) for c in counts]
        rows.append((w.id, *shown, f"{w.prefill_s:.2f} s", "hit" if w.verified else "NOT CACHED"))
    right = ("static tokens", "cached", "expected", "prefill")
    table(("prefix", *right, ""), rows, right=right)
    total = sum(w.cached_tokens or 0 for w in warmed if w.verified)
    say(f"{total:,} tokens of {len(warmed)} prefixes in the cache")
    if not all(w.verified for w in warmed):
        note("not all of them hit")
