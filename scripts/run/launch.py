"""A server file and an arm → what to start on this machine, or the reason why it cannot be."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aot.configs.kernel.errors import ConfigError, UsageError
from aot.configs.kernel.ports import free_port
from aot.configs.loading.presets import engine_recipe
from aot.configs.schema.experiment import STORED, Arm
from aot.configs.schema.recipe import Device, EngineRecipe
from aot.configs.schema.server import ServerConfig
from aot.scripts.doctor import sizing
from aot.scripts.run.stored import filled_by, store_of
from aot.scripts.run.target import Target, Up
from aot.scripts.server_files import check_beside, launched
from aot.scripts.terminal import note, status
from aot.serving.client.endpoint import Endpoint
from aot.serving.engines import table
from aot.serving.engines.engine import Engine
from aot.serving.engines.launch_plan import LaunchPlan, Site
from aot.serving.local import docker, environments, models
from aot.serving.local.cards import check_cards, given
from aot.serving.local.deployment import Deployment, Plans, Stored, deployed
from aot.serving.local.environments import Environment
from aot.serving.local.machine import this_machine, usable_cores
from aot.serving.topology import container
from aot.serving.topology.routers import ROUTERS, Place, by_urls, worker_args
from aot.serving.topology.shares import CARDS_VARIABLE, cards_of, cores_of

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Launcher:
    """Everything about a server file that does not depend on the arm."""

    path: Path
    config: ServerConfig
    engine: Engine
    environment: Environment
    model: str
    device: Device
    recipe: EngineRecipe | None
    router: Environment | None = None
    """Where the router is installed; None without one."""

    def plans(self, arm: Arm) -> Plans:
        """The commands for `arm`, with ports that are free now."""
        config, front = self.config, self.config.front
        block = config.block_tokens or self.engine.default_blocks[self.device]
        stored = arm in STORED
        store = store_of(self.path, config, block, self.environment) if stored else None
        if front is None:
            port = config.port or free_port(config.host)
            return self._stored(Plans((self._plan(config, arm, port, store),), store=store))
        assert self.router is not None
        engines_ = tuple(
            self.replica(arm, n, free_port(LOOPBACK), store) for n in range(config.replicas)
        )
        router = ROUTERS[front.name]
        port = config.port or free_port(config.host)
        place = Place(
            config.host, port, free_port(LOOPBACK), config.name_in_api, self.engine.alive_path
        )
        finding = by_urls([plan.base_url for plan in engines_])
        fronted = (router, router.plan(front, self.router.bin_dir, finding, place))
        return self._stored(Plans(engines_, fronted, store))

    def replica(self, arm: Arm, number: int, port: int, store: Stored | None) -> LaunchPlan:
        """One of several; only the router is seen from outside."""
        inside = self.config.model_copy(update={"host": LOOPBACK})
        return self._plan(inside, arm, port, store, number)

    def at(self, host: str, port: int) -> Launcher:
        """The same, listening there."""
        there = self.config.model_copy(update={"host": host, "port": port})
        return replace(self, config=there)

    def _stored(self, plans: Plans) -> Plans:
        if plans.store is None:
            return plans
        first = (self.config, self.engine, plans.engines[0], self.model)
        return replace(plans, store=filled_by(plans.store, *first))

    def _plan(
        self,
        config: ServerConfig,
        arm: Arm,
        port: int,
        store: Stored | None = None,
        replica: int | None = None,
    ) -> LaunchPlan:
        """One engine; `replica`: its number, where there are several."""
        if config.runtime == "docker":
            contained = container.contain(config, arm, self.engine, self.model)
            cards = cards_of(given(self.config, CARDS_VARIABLE), replica or 0, contained.cards)
            name = docker.container_name(self.name, port)
            return docker.plan(contained, config.container, (config.host, port), cards, name)
        recipe = self.recipe
        site = Site(
            bin_dir=self.environment.bin_dir,
            model=self.model,
            port=port,
            device=self.device,
            cpu_flags=this_machine().cpu_flags,
            serve_args=(
                *(recipe.serve_args if recipe else ()),
                *worker_args(config.front, self.engine),
            ),
            env={**(recipe.env if recipe else {}), **(store.env if store else {})},
            store=store.address if store else None,
        )
        if replica is not None:
            # Over what the file says, which is what is shared out here.
            shared = {"env": {**config.env, **self._share(replica)}}
            config = config.model_copy(update=shared)
        return self.engine.plan(config, arm, site)

    def _share(self, replica: int) -> dict[str, str]:
        """What keeps a replica to its own cards, or its own cores where there are enough."""
        if self.device == "cuda":
            own = cards_of(given(self.config, CARDS_VARIABLE), replica, self.config.cards)
            return {CARDS_VARIABLE: ",".join(own)}
        name, replicas = self.engine.cores_variable, self.config.replicas
        cores = cores_of(usable_cores(), given(self.config, name) or None, replica, replicas)
        return {name: cores} if cores else {}

    remote = False

    def lacks_store(self, arms: Sequence[str]) -> str | None:
        store = self.config.store
        if store is None:
            return "its file has no 'store', e.g. store: {kind: lmcache, disk: kv-store}"
        if "restarted" in arms and not (store.disk or store.address):
            return "its store has no 'disk', so that a restart leaves nothing"
        return None

    def lacks_salts(self, endpoint: str) -> str | None:
        return self.engine.lacks_salts(None, endpoint)

    @property
    def name(self) -> str:
        return self.path.stem

    def outlives(self, arm: Arm) -> bool:
        return arm != "jit" and (arm in STORED or self.engine.outlives(self.config))

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
        router = self.router.versions if self.router else {}
        return {**router, **self.environment.versions}

    def resolved(self) -> dict[str, Any]:
        return self.config.model_dump(mode="json")

    @contextmanager
    def serving(self, arm: Arm, log: Path) -> Iterator[Up]:
        """`up`, as an experiment needs it."""
        with self.up(arm, log) as up:
            yield Up(
                self.endpoint(up),
                up.plans.as_shell(),
                lambda: up.alive,
                lambda: up.replicas_alive,
                lambda: up.store_state,
                lambda: up.store_page,
            )

    @contextmanager
    def up(
        self, arm: Arm, log: Path, ready: Callable[[str], None] = lambda _: None
    ) -> Iterator[Deployment]:
        """The server, healthy, for as long as the block runs. `ready` gets each engine's base URL
        before anybody else may use it."""
        plans, timeout_s = self.plans(arm), self.config.startup_timeout_s
        front, name = self.config.front, f"{self.engine.name} ({arm})"
        if front:
            name = f"{self.config.replicas} × {name} behind {front.name} ({front.policy})"
        with ExitStack() as stack:
            with status(f"starting {name}") as line:
                if self.config.runtime == "docker":
                    docker.pull(self.versions["image"], line)
                with sizing.explained(self.path):
                    started = deployed(plans, self.engine, log, timeout_s, line, ready)
                    up = stack.enter_context(started)
            for words in up.notes:
                note(f"warning: {words}")
            note(f"{name} healthy after {up.started_s:.0f} s: {up.plan.base_url}")
            yield up

    def endpoint(self, up: Deployment) -> Endpoint:
        plan, front = up.plan, self.config.front
        return Endpoint(
            plan.base_url,
            plan.served_name,
            self.config.api_key_env,
            replicas=up.replica_urls,
            keeps_owners=bool(front and front.keeps_owners),
            key_header=ROUTERS[front.name].key_header if front else None,
            tenant_salts=self.config.tenant_salts,
            model_folder=self.model,
            args=up.plans.engines[0].argv,
        )


def prepare(path: Path) -> Launcher:
    """Read the file of a server to be launched and check that this machine has what it names.

    Raises ConfigError (file, model path), UsageError (unknown environment), NotInstalledError.
    """
    return of(path, launched(path, "start"))


def of(path: Path, config: ServerConfig) -> Launcher:
    """As `prepare`, for a file that was read already."""
    try:
        return _prepare(path, config)
    except ConfigError:
        raise
    except UsageError as error:
        raise ConfigError(path, str(error)) from None


def _prepare(path: Path, config: ServerConfig) -> Launcher:
    config = table.accepted(config)
    engine = table.engine(config.engine)
    recipe = None if config.recipe == "current" else engine_recipe(config.recipe)
    if recipe and recipe.engine != config.engine:
        raise UsageError(
            f"environment: '{config.recipe}' holds {recipe.engine}, but engine is {config.engine}"
        )
    check_beside(config)
    if config.runtime == "docker":
        environment = _contained(path, config, engine)
    else:
        environment = environments.require(config.recipe)
    if recipe is None and config.engine not in environment.versions:
        raise UsageError(
            f"environment: {config.engine} is not installed beside the toolkit; name a recipe "
            "(aot engine list)"
        )
    model = models.resolve(config.model, path)
    device: Device = recipe.device if recipe else ("cuda" if this_machine().gpus else "cpu")
    sizing.refuse_too_large(config, model)
    front = config.front
    if front and config.tenant_salts and not ROUTERS[front.name].passes_salts:
        raise UsageError(
            f"tenant_salts: {front.name} drops a request's cache_salt, so that tenants would share "
            "caches; take another router: {name: smg, policy: cache_aware}"
        )
    router = environments.require(front.recipe) if front else None
    launcher = Launcher(path, config, engine, environment, model, device, recipe, router)
    # Refuses what engine, router or store cannot do, before anything starts.
    launcher.plans("auto")
    if config.store:
        launcher.plans("store")
    check_cards(config, device)
    return launcher


def _contained(path: Path, config: ServerConfig, engine: Engine) -> Environment:
    """A container's image in the place of an environment."""
    docker.check()
    image = container.contain(config, "auto", engine, models.resolve(config.model, path)).image
    return Environment("docker", "installed", Path(), {config.engine: image, "image": image})


def check_reset(path: Path, target: Target) -> None:
    """ConfigError when the experiment file at `path` wants a reset that this server lacks."""
    reset = target.engine.reset
    needed = reset is not None and reset.needs_dev_mode
    if needed and isinstance(target, Launcher) and not target.config.dev_mode:
        raise ConfigError(
            path, f"endpoint needs 'dev_mode: true' in {target.path}", key="cache_reset"
        )
