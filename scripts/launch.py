"""A server file and an arm → what to start on this machine, or the reason why it cannot be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from configs.errors import ConfigError, UsageError
from configs.load import engine_recipe, load
from configs.schema import Arm, EngineRecipe, ServerConfig
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
    """Read a server file and check that this machine has what it names.

    Raises ConfigError (file, model path), UsageError (unknown environment), NotInstalledError.
    """
    config = load(path, ServerConfig)
    try:
        return _prepare(path, config)
    except ConfigError:
        raise
    except UsageError as error:
        raise ConfigError(path, str(error)) from None


def _prepare(path: Path, config: ServerConfig) -> Launcher:
    engine = engines.engine(config.engine)
    recipe = None
    if config.environment != "current":
        recipe = engine_recipe(config.environment)
    environment = environments.require(config.environment)
    model = models.resolve(config.model, path)
    device: Literal["cpu", "cuda"] = (
        recipe.device if recipe else ("cuda" if this_machine().gpus else "cpu")
    )
    launcher = Launcher(path, config, engine, environment, model, device, recipe)
    launcher.plan("auto")  # refuses settings that the engine cannot serve, before anything starts
    return launcher
