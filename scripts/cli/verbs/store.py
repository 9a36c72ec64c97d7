"""`aot store`: KV stores beside an engine: what they need, and what is on their disks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aot.configs.kernel.files import held
from aot.scripts.cli.arguments import verbs
from aot.scripts.cli.verbs.machine import install, list_recipes
from aot.scripts.terminal import say, status, table

app = verbs()
store_app = verbs()
app.add_typer(
    store_app,
    name="store",
    no_args_is_help=True,
    help="KV stores beside an engine, and what is on their disks.",
)
DAMAGED, NOT_SETTLED = 1, 3


@store_app.command("list")
def store_list(
    what: Annotated[
        Path | None,
        typer.Argument(
            metavar="[DISK|SERVER]", help="the disk of a store, or the server file that names it"
        ),
    ] = None,
    compiled: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[COMPILED]...", help="are these compiled prompts in it?"),
    ] = None,
) -> None:
    """Recipes in configs/stores/ and what is installed of them; or what is on a store's disk.

    Whose chunks there are, which compiled prompts can be found, and which are stale: of another
    model path, weights, template or chunk size than now.
    """
    if what is None:
        list_recipes("stores", "store")
        return
    from aot.scripts.prompts import stored_prompts
    from aot.workloads.prompts import compiled as prompts

    server = what if what.suffix in (".yaml", ".yml") else None
    folder = stored_prompts.disk_of(server) if server else what
    _list_chunks(folder)
    entries = stored_prompts.found(folder, server, [prompts.read(p) for p in compiled or ()])
    rows = [
        (
            entry.prompt.id,
            entry.prompt.cache_key[:16],
            str(len(entry.prompt.chunks) * entry.prompt.chunk_tokens),
            f"{entry.present} of {len(entry.prompt.chunks)}",
            entry.state,
        )
        for entry in entries
    ]
    if rows:
        headers = ("compiled prompt", "cache key", "tokens", "chunks there", "")
        table(headers, rows, right=headers[2:4])
    else:
        say("no prompt was compiled into it: aot compile PROMPT_DIR --into SERVER")
    if any(entry.state != "there" for entry in entries):
        raise typer.Exit(NOT_SETTLED)


def _list_chunks(folder: Path) -> None:
    from aot.serving.local import store_disk

    found: dict[tuple[str, str], list[int]] = {}
    for chunk in store_disk.chunks(folder):
        salted = "a cache salt" if chunk.salt else "none"
        found.setdefault((chunk.model, salted), []).append(chunk.size_bytes)
    rows = [
        (model, salt, str(len(sizes)), f"{sum(sizes) / 2**20:,.1f}", _stale(model))
        for (model, salt), sizes in sorted(found.items())
    ]
    table(("model", "under", "chunks", "MiB", "found by"), rows)


def _stale(model: str) -> str:
    """The path of the model is part of each key."""
    from aot.serving.local import store_disk

    if store_disk.is_gone(model):
        return "nobody: there is no such folder (aot store prune)"
    return "engines with this model path"


@store_app.command("verify")
def store_verify(
    folder: Annotated[Path, typer.Argument(help="the disk of a store, while it does not run")],
) -> None:
    """Whether the chunks on a store's disk are as they were written; changes nothing."""
    from aot.serving.local import store_disk

    with status(f"reading {folder}"):
        checked = store_disk.check(folder)
    if not checked.has_sums:
        say(f"{len(checked.unknown)} chunks, and no sums of them: no store of ours ended here")
        raise typer.Exit(NOT_SETTLED)
    for chunk in checked.damaged:
        say(f"damaged: {chunk.path.name}")
    say(
        f"{len(checked.whole)} whole, {len(checked.damaged)} damaged, {len(checked.unknown)} "
        "written since the sums were"
    )
    raise typer.Exit(DAMAGED if checked.damaged else 0)


@store_app.command("prune")
def store_prune(
    folder: Annotated[Path, typer.Argument(help="the disk of a store, while it does not run")],
    model: Annotated[
        list[str] | None,
        typer.Option("--model", help="remove chunks of this model path; may be repeated"),
    ] = None,
) -> None:
    """Remove chunks of models whose folders are gone, or of those named."""
    from aot.serving.local import store_contents, store_disk

    found = store_disk.chunks(folder)
    with held(folder):
        contents = store_contents.read(folder)
        known = {chunk.model for chunk in found} | contents.models.keys()
        gone = {m for m in known if (m in model if model else store_disk.is_gone(m))}
        removed = [chunk for chunk in found if chunk.model in gone]
        store_disk.forget(folder, removed)
        if gone & contents.models.keys():
            store_contents.write(folder, contents.without(gone))
    size = sum(chunk.size_bytes for chunk in removed)
    say(f"removed {len(removed)} chunks, {size / 2**20:,.1f} MiB")


@store_app.command("install")
def store_install(
    name: Annotated[str, typer.Argument(help="recipe name, see: aot store list")],
) -> None:
    """Install what a KV store needs beside the engine's own packages."""
    from aot.configs.loading.presets import store_recipe

    store_recipe(name)
    install("store", name)
