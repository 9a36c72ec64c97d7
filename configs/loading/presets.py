"""What is shipped, by name: recipes and facts, and the files that users start from."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel

from aot.configs.kernel.errors import ToolkitError, UsageError
from aot.configs.kernel.places import CONFIGS
from aot.configs.loading.kinds import Kind
from aot.configs.loading.load import did_you_mean, load
from aot.configs.schema.beside import RouterRecipe
from aot.configs.schema.hardware import Architecture, Card
from aot.configs.schema.recipe import EngineRecipe, EnvironmentRecipe, ModelRecipe, StoreRecipe
from aot.configs.schema.wording import Profile

Model = TypeVar("Model", bound=BaseModel)


Shipped = Kind | Literal["prompt", "profile"]
"""What a user can name instead of a path."""
SHIPPED: dict[Shipped, str] = {
    "experiment": "experiments",
    "workload": "workloads",
    "server": "servers",
    "prompt": "prompts",
    "profile": "profiles",
}
"""The folder of each under configs/."""
ENDINGS = (".yaml", ".yml", ".json", ".jsonl", ".csv", ".gz", ".parquet", ".txt")
"""What makes a word the name of a file, not of something shipped (llama-3.1-8b has a dot, too)."""


def recipe_names(folder: str) -> list[str]:
    """Names of the shipped files in configs/`folder`/, without .yaml. ToolkitError where the
    installation has lost them."""
    names = sorted(p.stem for p in (CONFIGS / folder).glob("*.yaml"))
    if not names:
        raise ToolkitError(
            f"{CONFIGS / folder} is missing or empty: this installation of aot is not complete; "
            "install it again (pip install --force-reinstall aot-prefix-caching)"
        )
    return names


def shipped_names(kind: Shipped) -> list[str]:
    """The names of what is shipped of a kind. Raises as `recipe_names`."""
    if kind == "prompt":
        return sorted(p.name for p in (CONFIGS / "prompts").glob("*/") if p.is_dir())
    return recipe_names(SHIPPED[kind])


def shipped_file(kind: Shipped, name: str) -> Path:
    """The path of a shipped file (of a prompt: its folder)."""
    return CONFIGS / SHIPPED[kind] / (name + ("" if kind == "prompt" else ".yaml"))


def file_of(kind: Shipped, given: Path, beside: Path = Path()) -> Path:
    """The file (for a prompt: the folder) that `given` names: a path relative to the folder
    `beside`, or the bare name of what is shipped.

    A path is returned whether or not there is something. UsageError, with the nearest name, for a
    bare name that is neither.
    """
    path = beside / given
    if path.exists() or len(given.parts) != 1 or given.suffix in ENDINGS:
        return path
    known = shipped_names(kind)
    if given.name in known:
        return shipped_file(kind, given.name)
    raise UsageError(
        f"{path}: no such file, and no {kind} of that name is shipped"
        f"{did_you_mean(given.name, known)} (aot configs list {SHIPPED[kind]})"
    )


def engine_recipe(name: str) -> EngineRecipe:
    """The recipe configs/engines/`name`.yaml; UsageError with the known names otherwise."""
    return _recipe("engines", name, EngineRecipe, "engine environment")


def router_recipe(name: str) -> RouterRecipe:
    """The recipe configs/routers/`name`.yaml; UsageError with the known names otherwise."""
    return _recipe("routers", name, RouterRecipe, "router environment")


def store_recipe(name: str) -> StoreRecipe:
    """The recipe configs/stores/`name`.yaml; UsageError with the known names otherwise."""
    return _recipe("stores", name, StoreRecipe, "store environment")


def model_recipe(name: str) -> ModelRecipe:
    """The recipe configs/models/`name`.yaml; UsageError with the known names otherwise."""
    return _recipe("models", name, ModelRecipe, "model recipe")


def profile(name: str) -> Profile:
    """configs/profiles/`name`.yaml; UsageError with the known names otherwise."""
    return _recipe("profiles", name, Profile, "profile")


def card(name: str) -> Card:
    """The card configs/cards/`name`.yaml; UsageError with the known names otherwise."""
    return _recipe("cards", name, Card, "card")


def architectures() -> list[Architecture]:
    """All of configs/architectures/."""
    names = recipe_names("architectures")
    return [_recipe("architectures", name, Architecture, "architecture") for name in names]


def environment_recipe(name: str) -> tuple[Path, EnvironmentRecipe]:
    """The recipe of the environment of an engine, a router or a store, and its folder."""
    if name in recipe_names("routers"):
        return CONFIGS / "routers", router_recipe(name)
    if name in recipe_names("stores"):
        return CONFIGS / "stores", store_recipe(name)
    return CONFIGS / "engines", engine_recipe(name)


def _recipe(folder: str, name: str, shape: type[Model], noun: str) -> Model:
    known = recipe_names(folder)
    if name not in known:
        raise UsageError(
            f"unknown {noun} '{name}'{did_you_mean(name, known)}; "
            f"known: {', '.join(known)} (files in configs/{folder}/)"
        )
    return load(CONFIGS / folder / f"{name}.yaml", shape)
