"""A server file that is to be rendered: what of it every target needs."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from aot.configs.kernel import network
from aot.configs.kernel.errors import UsageError
from aot.configs.schema.container import ContainerConfig
from aot.configs.schema.experiment import STORED, Arm
from aot.configs.schema.server import PUBLIC_KEY, ServerConfig
from aot.serving.engines import flags, table
from aot.serving.engines.engine import Watched
from aot.serving.local import models, store_contents
from aot.serving.render import compose, stored
from aot.serving.render.gate import Warmed
from aot.serving.render.kit import LOST, cluster_name
from aot.serving.render.stored import Store
from aot.serving.render.watching import grafana, rules
from aot.serving.topology import container, stores
from aot.serving.topology.container import Contained, toolkit_image
from aot.serving.topology.routers import ROUTERS
from aot.workloads.prompts import compiled

CHARTS = ("production-stack", "llm-d")
EVERYBODY = "*"
COMPILED: frozenset[Arm] = frozenset({"aot", "store"})
"""Arms under which pods are ready when what is compiled is in their caches."""


@dataclass(frozen=True, slots=True)
class Options:
    """What only some targets look at. `warm`: compiled.json files, or folders of them; `name` and
    `namespace` over what the server file says."""

    chart: str = CHARTS[0]
    ttft_slo_s: float = 1.0
    in_cluster: bool = False
    runbooks: str = rules.RUNBOOKS
    warm: tuple[Path, ...] = ()
    monitoring: bool = False
    name: str | None = None
    namespace: str | None = None


@dataclass(frozen=True)
class Asked:
    """One server to be rendered, and how."""

    path: Path
    server: ServerConfig
    arm: Arm
    options: Options

    @property
    def name(self) -> str:
        """A name that Compose takes."""
        stem = self.options.name or self.path.stem
        if LOST.search(stem):
            return cluster_name(stem)
        return re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-") or "aot"

    @property
    def name_in_cluster(self) -> str:
        return cluster_name(self.options.name or self.path.stem)

    def contained(self, *, in_cluster: bool, drain_s: int | None = None) -> Contained:
        """The container of one engine. UsageError where a cluster could not have its model."""
        model = models.resolve(self.server.model, self.path)
        if in_cluster and Path(model).is_absolute():
            raise UsageError(
                f"model: {self.server.model} is a folder of this machine, which a cluster does "
                "not have; name a hub id"
            )
        server = self.server
        if server.kv_events:
            server = server.model_copy(update={"kv_events": _from_a_container(server.kv_events)})
        drain_s = server.container.drain_s if drain_s is None else drain_s
        engine, store = table.engine(server.engine), self._store_address(in_cluster=in_cluster)
        return container.contain(server, self.arm, engine, model, drain_s, store)

    @cached_property
    def store(self) -> Store | None:
        """The KV store that is rendered with it; None where there is none, or it runs already.
        UsageError where the arm needs one."""
        config, engine = self.server.store, table.engine(self.server.engine)
        if self.arm not in STORED:
            return None
        if config is None:
            raise UsageError(
                f"the arm {self.arm} goes through a KV store, and the file has no 'store', e.g. "
                "store: {kind: lmcache, disk: kv-store}"
            )
        block = self.server.block_tokens or engine.default_blocks[container.device_of(self.server)]
        stores.check_chunk(config, block)
        if config.address:
            if network.is_loopback(f"http://{config.address}"):
                raise UsageError(
                    f"store.address: {config.address} would be the container itself; name the "
                    "store as containers reach it"
                )
            return None
        model = models.resolve(self.server.model, self.path)
        plain = container.contain(self.server, "auto", engine, model)
        settings = flags.chosen(plain.command, engine.name, engine.file_rules.value_flags)
        weights = store_contents.weights_of(model) or model
        values = stored.fingerprint(plain.image, weights, settings, config.chunk_tokens)
        folder = (self.path.parent / config.disk).resolve() if config.disk else None
        return Store(config, plain.image, values, folder)

    def _store_address(self, *, in_cluster: bool) -> str | None:
        store, config = self.store, self.server.store
        if store is None:
            return config.address if config and self.arm in STORED else None
        host = store.called(self.name_in_cluster) if in_cluster else compose.STORE
        return f"{host}:{stores.PORT}"

    @property
    def watched(self) -> Watched:
        """What its metrics are called."""
        names = table.engine(self.server.engine).watched
        if names is None:
            raise UsageError(f"engine: the metrics of {self.server.engine} are not known here")
        return names

    @property
    def warmed(self) -> Warmed | None:
        """What is compiled into its caches; None under an arm that compiles nothing."""
        if self.arm not in COMPILED:
            return None
        files = compiled.listed(self.options.warm)
        texts: dict[str, str] = {}
        for number, path in enumerate(files):
            compiled.read(path)  # what is not one is named here, not in a pod
            # A key that a ConfigMap takes, and that the gate looks for.
            key = re.sub(r"[^A-Za-z0-9_-]+", "-", path.stem) + ".json"
            while key in texts:
                key = f"{number}-{key}"
            texts[key] = path.read_text(encoding="utf-8")
        return Warmed(toolkit_image(self.server), texts)

    @property
    def monitored_as(self) -> tuple[str, str]:
        """Namespace and job of its series, by the PodMonitor that is rendered with it."""
        space = self.server.container.namespace
        return space, f"{space}/{self.name_in_cluster}"

    def rules(self, *, alone: bool = False) -> dict[str, Any]:
        """Prometheus' rules for it; `alone`: for no other deployment of its engine."""
        front = self.server.front
        router = ROUTERS[front.name] if front else None
        if front and router and not router.asks_to_render(front.policy):
            router = None
        slo_s, runbooks = self.options.ttft_slo_s, self.options.runbooks
        of = 'namespace="{}",job="{}"'.format(*self.monitored_as) if alone else None
        return rules.rules(self.server.engine, self.watched, slo_s, router, runbooks, of)

    def dashboard(self, *, alone: bool = False) -> dict[str, Any]:
        of = (self.name_in_cluster, *self.monitored_as) if alone else None
        return grafana.dashboard(self.server.engine, self.watched, of)

    def closed(self) -> Asked:
        """Itself, in its namespace; UsageError for what would be open to a whole cluster."""
        if self.server.dev_mode:
            raise UsageError(
                "dev_mode: a Service would let everybody in the cluster empty the cache and more, "
                "without a key; remove the key from this file"
            )
        box = self.server.container
        if (
            box.volume_access == "ReadWriteOnce"
            and max(self.server.replicas, box.max_replicas or 1) > 1
        ):
            raise UsageError(
                "container.volume_access: ReadWriteOnce is for one node, and replicas may be on "
                "several; take ReadWriteMany"
            )
        if self.options.namespace:
            box = _in_namespace(box, self.options.namespace)
        named = self.server.model_copy(update={"container": box})
        return replace(self, server=named).keyed()

    def keyed(self) -> Asked:
        """In a cluster others can reach it: a key is on by default, as on any such host."""
        key = self.server.api_key_env or PUBLIC_KEY
        return replace(self, server=self.server.model_copy(update={"api_key_env": key}))


def _from_a_container(events: str) -> str:
    """A container is an address of its own, on which it must listen; who reaches it is said by a
    NetworkPolicy, or by the port that Compose gives it on the host."""
    if not events.startswith("tcp://"):
        raise UsageError(
            f"kv_events: {events} is inside the container, where nobody could read it; take "
            "tcp://127.0.0.1:PORT"
        )
    return f"tcp://{EVERYBODY}:{events.rpartition(':')[2]}"


def _in_namespace(box: ContainerConfig, namespace: str) -> ContainerConfig:
    try:
        ContainerConfig(namespace=namespace)
    except ValidationError:
        raise UsageError(
            f"--namespace: {namespace!r} is no name of a namespace: small letters, digits and -, "
            "at most 63"
        ) from None
    return box.model_copy(update={"namespace": namespace})
