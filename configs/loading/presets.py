"""The shipped recipes and facts, by name: engines, routers, models, cards, architectures."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from aot.configs.kernel.errors import UsageError
from aot.configs.kernel.places import CONFIGS
from aot.configs.loading.load import did_you_mean, load
from aot.configs.schema.architecture import Architecture
from aot.configs.schema.card import Card
from aot.configs.schema.recipe import EngineRecipe, EnvironmentRecipe, ModelRecipe
from aot.configs.schema.router import RouterRecipe

Model = TypeVar("Model", bound=BaseModel)


def recipe_names(folder: str) -> list[str]:
    """Names of the shipped files in configs/`folder`/, without .yaml."""
    return sorted(p.stem for p in (CONFIGS / folder).glob("*.yaml"))


def engine_recipe(name: str) -> EngineRecipe:
    """The recipe configs/engines/`name`.yaml; UsageError with the known names otherwise."""
    return _recipe("engines", name, EngineRecipe, "engine environment")


def router_recipe(name: str) -> RouterRecipe:
    """The recipe configs/routers/`name`.yaml; UsageError with the known names otherwise."""
    return _recipe("routers", name, RouterRecipe, "router environment")


def model_recipe(name: str) -> ModelRecipe:
    """The recipe configs/models/`name`.yaml; UsageError with the known names otherwise."""
    return _recipe("models", name, ModelRecipe, "model recipe")


def card(name: str) -> Card:
    """The card configs/cards/`name`.yaml; UsageError with the known names otherwise."""
    return _recipe("cards", name, Card, "card")


def architectures() -> list[Architecture]:
    """All of configs/architectures/."""
    names = recipe_names("architectures")
    return [_recipe("architectures", name, Architecture, "architecture") for name in names]


def environment_recipe(name: str) -> tuple[Path, EnvironmentRecipe]:
    """The recipe of an engine's or a router's environment, and the folder that it is in."""
    if name in recipe_names("routers"):
        return CONFIGS / "routers", router_recipe(name)
    return CONFIGS / "engines", engine_recipe(name)


def _recipe(folder: str, name: str, shape: type[Model], noun: str) -> Model:
    known = recipe_names(folder)
    if name not in known:
        raise UsageError(
            f"unknown {noun} '{name}'{did_you_mean(name, known)}; "
            f"known: {', '.join(known)} (files in configs/{folder}/)"
        )
    return load(CONFIGS / folder / f"{name}.yaml", shape)
