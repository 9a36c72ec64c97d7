"""The KV store of a server file: what to start of it, or where it runs, and what engines need."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from aot.configs.kernel.errors import UsageError
from aot.configs.kernel.ports import free_port
from aot.configs.schema.experiment import STORED
from aot.configs.schema.server import ServerConfig
from aot.serving.engines import flags
from aot.serving.engines.engine import Engine
from aot.serving.engines.launch_plan import LaunchPlan
from aot.serving.local import environments, store_contents
from aot.serving.local.deployment import Stored
from aot.serving.local.environments import Environment
from aot.serving.local.store_contents import Filling
from aot.serving.topology import stores


def store_of(
    path: Path, config: ServerConfig, block_tokens: int, environment: Environment
) -> Stored:
    """The store of the server file at `path`, whose engine has `block_tokens` a block and runs in
    `environment`.

    Raises UsageError (no store, chunks that do not fit, nothing at its address), NotInstalledError.
    """
    store = config.store
    if store is None:
        raise UsageError(
            f"the arms {' and '.join(sorted(STORED))} go through a KV store, and the file has no "
            "'store'; e.g. store: {kind: lmcache, disk: kv-store}"
        )
    packages = stores.packages_of(environments.require(store.kind).folder)
    needed = stores.environment(packages)
    stores.check_chunk(store, block_tokens)
    if store.address:
        stores.check_reachable(store.address)
        return Stored(store.address, needed)
    disk = (path.parent / store.disk).resolve() if store.disk else None
    place = stores.Place(free_port(stores.LOOPBACK), free_port(stores.LOOPBACK))
    program = stores.STORES[store.kind]
    plan = program.plan(store, environment.bin_dir / "python", packages, place, disk)
    return Stored(place.address, needed, (program, plan), disk)


def filled_by(
    stored: Stored, config: ServerConfig, engine: Engine, plan: LaunchPlan, model: str
) -> Stored:
    """The same with what an engine started by `plan` computes into it.

    Raises UsageError where its disk holds other values under the same keys.
    """
    if stored.disk is None or config.store is None:
        return stored
    filling = Filling(
        model,
        store_contents.weights_of(model),
        flags.chosen(plan.argv, engine.name, engine.file_rules.value_flags),
        config.store.chunk_tokens,
    )
    unfound = store_contents.check(stored.disk, filling)
    return replace(stored, filling=filling, notes=(unfound,) if unfound else ())
