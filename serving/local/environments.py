"""Engine environments: one virtual environment per engine under .engines/, made from a recipe.

Engines pin torch and hundreds of packages that conflict with each other and with the toolkit, so
they are installed apart and launched, never imported. An environment counts as installed only
when its marker file, written last, names the recipe it was made from: a half-finished install has
none and is redone.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from aot.configs.kernel.errors import NotInstalledError
from aot.configs.kernel.places import engines_dir
from aot.configs.loading.presets import environment_recipe
from aot.configs.schema.recipe import EngineRecipe, StoreRecipe
from aot.serving.engines.table import ENGINES

MARKER = "aot-installed.json"
State = Literal["installed", "missing", "incomplete", "outdated"]


@dataclass(frozen=True, slots=True)
class Environment:
    """An engine environment as it is on disk. `versions` is empty unless installed."""

    name: str
    state: State
    folder: Path
    versions: dict[str, str]

    @property
    def bin_dir(self) -> Path:
        return self.folder / "bin"


def inspect(name: str) -> Environment:
    """What is on disk for recipe `name`; UsageError for an unknown recipe."""
    digest = recipe_digest(name)
    folder = engines_dir() / name
    if not folder.exists():
        return Environment(name, "missing", folder, {})
    try:
        marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        state: State = "installed" if marker["recipe_sha256"] == digest else "outdated"
        versions = {str(name): str(version) for name, version in marker["versions"].items()}
        return Environment(name, state, folder, versions)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Environment(name, "incomplete", folder, {})


def engine_environ() -> dict[str, str]:
    """Our environment for a process of an engine's Python.

    Without PYTHONDONTWRITEBYTECODE, which some container images set: an engine compiles some
    thousand modules at its first start, and would do so again at each (45 s became 95 s). With
    PYTHONSAFEPATH: nothing that it starts in turn imports from the working directory.
    """
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONSAFEPATH": "1"}


def require(name: str) -> Environment:
    """The installed environment `name`, or NotInstalledError with the command that makes it.

    'current' is the Python that runs the toolkit, for those who install an engine beside it.
    """
    if name == "current":
        return _current()
    environment = inspect(name)
    if environment.state == "installed":
        return environment
    why = {
        "missing": "is not installed",
        "incomplete": "is half-installed (an install was interrupted)",
        "outdated": "was made from an older version of its recipe",
    }[environment.state]
    recipe = environment_recipe(name)[1]
    kinds = ((EngineRecipe, "engine"), (StoreRecipe, "store"))
    noun = next((noun for kind, noun in kinds if isinstance(recipe, kind)), "router")
    raise NotInstalledError(
        f"{noun} environment '{name}' {why} ({environment.folder}); run: aot {noun} install {name}"
    )


def _current() -> Environment:
    """The Python that runs the toolkit, with the versions of the engines found in it."""
    versions = {}
    engines = [name for name, engine in ENGINES.items() if engine.packaging is not None]
    for package in (*engines, "torch", "transformers"):
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    if not versions.keys() & set(engines):
        raise NotInstalledError(
            "environment 'current': no engine is installed beside the toolkit; install one there, "
            "or name a recipe (aot engine list)"
        )
    return Environment("current", "installed", Path(sys.prefix), versions)


def recipe_digest(name: str) -> str:
    """sha256 over the recipe file, its constraints and its local packages."""
    beside, recipe = environment_recipe(name)
    files = [beside / f"{name}.yaml"]
    if recipe.constraints:
        files.append(beside / recipe.constraints)
    for folder in recipe.local_packages:
        files.append(beside / folder / "pyproject.toml")
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()
