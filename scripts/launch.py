"""A server file and an arm → what to start on this machine, or the reason why it cannot be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from configs.errors import ConfigError, UsageError
from configs.load import engine_recipe, load_server
from configs.schema import Arm
from configs.server import EngineRecipe, RemoteConfig, ServerConfig
from scripts import manifest
from scripts.target import Target, Up
from scripts.terminal import note, status
from serving import engines, environments, models
from serving.endpoint import Endpoint
from serving.engine import Engine, LaunchPlan, Site
from serving.environments import Environment
from serving.machine import this_machine
from serving.server import Server, free_port, running


@dataclass(frozen=True, slots=True)
class Launcher:
    """Everything about a server file that does not depend on the arm."""

    path: Path
    config: ServerConfig
    engine: Engine
    environment: Environment
    model: str
    device: Literal["cpu", "cuda"]
    recipe: EngineRecipe | None

    def plan(self, arm: Arm) -> LaunchPlan:
        """The command for `arm`, with a port that is free now."""
        site = Site(
            bin_dir=self.environment.bin_dir,
            model=self.model,
            port=self.config.port or free_port(self.config.host),
            device=self.device,
            cpu_flags=this_machine().cpu_flags,
            serve_args=tuple(self.recipe.serve_args) if self.recipe else (),
            env=self.recipe.env if self.recipe else {},
        )
        return self.engine.plan(self.config, arm, site)

    remote = False

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def model_name(self) -> str:
        return self.config.name_in_api

    @property
    def tokenizer_folder(self) -> str:
        return self.model

    @property
    def context_tokens(self) -> int | None:
        return self.config.context_tokens

    @property
    def block_tokens(self) -> int | None:
        return self.config.block_tokens

    @property
    def versions(self) -> dict[str, str]:
        return self.environment.versions

    def resolved(self) -> dict[str, Any]:
        return manifest.without_secrets(self.config.model_dump(mode="json"))

    @contextmanager
    def serving(self, arm: Arm, log: Path) -> Iterator[Up]:
        """`up`, as an experiment needs it."""
        with self.up(arm, log) as server:
            command = server.plan.as_shell()
            yield Up(self.endpoint(server.plan), command, lambda: server.alive)

    @contextmanager
    def up(self, arm: Arm, log: Path) -> Iterator[Server]:
        """The server, healthy, for as long as the block runs."""
        plan = self.plan(arm)
        timeout_s = self.config.startup_timeout_s
        with ExitStack() as stack:
            with status(f"starting {self.engine.name} ({arm})") as line:
                server = stack.enter_context(running(plan, self.engine, log, timeout_s, line))
            name = f"{self.engine.name} ({arm})"
            note(f"{name} healthy after {server.started_s:.0f} s: {plan.base_url}")
            yield server

    def endpoint(self, plan: LaunchPlan) -> Endpoint:
        return Endpoint(plan.base_url, plan.served_name, self.config.api_key_env)


def prepare(path: Path) -> Launcher:
    """Read the file of a server to be launched and check that this machine has what it names.

    Raises ConfigError (file, model path), UsageError (unknown environment), NotInstalledError.
    """
    config = load_server(path)
    if isinstance(config, RemoteConfig):
        raise ConfigError(path, "this server runs already; there is nothing to start", "runtime")
    return of(path, config)


def of(path: Path, config: ServerConfig) -> Launcher:
    """As `prepare`, for a file that was read already."""
    try:
        return _prepare(path, config)
    except ConfigError:
        raise
    except UsageError as error:
        raise ConfigError(path, str(error)) from None


def _prepare(path: Path, config: ServerConfig) -> Launcher:
    engine = engines.engine(config.engine)
    recipe = None if config.recipe == "current" else engine_recipe(config.recipe)
    if recipe and recipe.engine != config.engine:
        raise UsageError(
            f"environment: '{config.recipe}' holds {recipe.engine}, but engine is {config.engine}"
        )
    environment = environments.require(config.recipe)
    if recipe is None and config.engine not in environment.versions:
        raise UsageError(
            f"environment: {config.engine} is not installed beside the toolkit; name a recipe "
            "(aot engine list)"
        )
    model = models.resolve(config.model, path)
    device: Literal["cpu", "cuda"] = (
        recipe.device if recipe else ("cuda" if this_machine().gpus else "cpu")
    )
    launcher = Launcher(path, config, engine, environment, model, device, recipe)
    launcher.plan("auto")  # refuses settings that the engine cannot serve, before anything starts
    return launcher


def check_reset(path: Path, target: Target) -> None:
    """ConfigError when the experiment file at `path` wants a reset that this server lacks."""
    reset = target.engine.reset
    needed = reset is not None and reset.needs_dev_mode
    if needed and isinstance(target, Launcher) and not target.config.dev_mode:
        raise ConfigError(
            path, f"endpoint needs 'dev_mode: true' in {target.path}", key="cache_reset"
        )
