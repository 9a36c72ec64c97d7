"""A server file → files for whoever runs it: compose, Kubernetes, Helm, Prometheus, Grafana."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from aot.configs.kernel.errors import ConfigError, UsageError
from aot.configs.schema.experiment import Arm
from aot.configs.schema.server import PUBLIC_KEY, ServerConfig
from aot.scripts.server_files import launched
from aot.serving.engines import table
from aot.serving.engines.engine import Watched
from aot.serving.local import models
from aot.serving.render import compose, grafana, helm, kubernetes, monitoring, rules
from aot.serving.topology import container
from aot.serving.topology.container import Contained
from aot.serving.topology.routers import ROUTERS, Router

CHARTS = ("production-stack", "llm-d")


@dataclass(frozen=True, slots=True)
class Options:
    """What only some targets look at."""

    chart: str = CHARTS[0]
    ttft_slo_s: float = 1.0
    in_cluster: bool = False
    runbooks: str = rules.RUNBOOKS


@dataclass(frozen=True, slots=True)
class Asked:
    """One server to be rendered, and how."""

    path: Path
    server: ServerConfig
    arm: Arm
    options: Options

    @property
    def name(self) -> str:
        """A name that compose and Kubernetes take."""
        return re.sub(r"[^a-z0-9]+", "-", self.path.stem.lower()).strip("-") or "aot"

    def contained(self, *, in_cluster: bool) -> Contained:
        """The container of one engine. UsageError where a cluster could not have its model."""
        model = models.resolve(self.server.model, self.path)
        if in_cluster and Path(model).is_absolute():
            raise UsageError(
                f"model: {self.server.model} is a folder of this machine, which a cluster does "
                "not have; name a hub id"
            )
        return container.contain(self.server, self.arm, table.engine(self.server.engine), model)

    @property
    def watched(self) -> Watched:
        """What its metrics are called."""
        names = table.engine(self.server.engine).watched
        if names is None:
            raise UsageError(f"engine: the metrics of {self.server.engine} are not known here")
        return names

    def rules(self) -> dict[str, Any]:
        """Prometheus' rules for it."""
        front = self.server.front
        router: Router | None = ROUTERS[front.name] if front else None
        if front and router and not router.asks_to_render(front.policy):
            router = None
        slo_s, runbooks = self.options.ttft_slo_s, self.options.runbooks
        return rules.rules(self.server.engine, self.watched, slo_s, router, runbooks)

    def closed(self) -> Asked:
        """Itself; UsageError for what would be open to a whole cluster."""
        if self.server.dev_mode:
            raise UsageError(
                "dev_mode: a Service would let everybody in the cluster empty the cache and more, "
                "without a key; remove the key from this file"
            )
        return self.keyed()

    def keyed(self) -> Asked:
        """In a cluster others can reach it: a key is on by default, as on any such host."""
        key = self.server.api_key_env or PUBLIC_KEY
        return replace(self, server=self.server.model_copy(update={"api_key_env": key}))


def render(path: Path, target: str, arm: Arm, options: Options = Options()) -> str:
    """The text of the file. Raises ConfigError and UsageError for what cannot be rendered."""
    server = launched(path, "render")
    if options.in_cluster and target != "prometheus":
        raise UsageError(f"--in-cluster goes with --target prometheus, not {target}")
    try:
        return TARGETS[target](Asked(path, server, arm, options))
    except ConfigError:
        raise
    except UsageError as error:
        raise ConfigError(path, str(error)) from None


def _compose(asked: Asked) -> str:
    contained = asked.contained(in_cluster=False)
    keys = " and ".join(f"{source}=..." for source in contained.secrets.values())
    head = "Start: docker compose up -d --wait" + (f"; put {keys} into .env" if keys else "")
    return _yaml(compose.render(asked.name, asked.server, contained, _texts(contained)), head)


def _k8s(asked: Asked) -> str:
    asked = asked.closed()
    contained = asked.contained(in_cluster=True)
    head = _secret_command(asked, contained) + "Apply: kubectl apply -f this-file.yaml"
    return _yaml(kubernetes.render(asked.name, asked.server, contained, _texts(contained)), head)


def _helm(asked: Asked) -> str:
    asked = asked.closed()
    if asked.options.chart == "llm-d":
        head = "For charts llm-d-router-standalone and llm-d-router-gateway; the engines are those "
        return _yaml(helm.llm_d(asked.name, asked.server), head + "of: aot render --target k8s")
    contained = asked.contained(in_cluster=True)
    head = _secret_command(asked, contained)
    head += "helm repo add vllm https://vllm-project.github.io/production-stack\n"
    head += "helm install NAME vllm/vllm-stack -f this-file.yaml"
    return _yaml(helm.production_stack(asked.name, asked.server, contained), head)


def _prometheus(asked: Asked) -> str:
    head = "Beside it: aot render --target prometheus-rules -o aot-rules.yml"
    inside = asked.options.in_cluster
    if asked.server.front and not inside:
        head += (
            "\nThe engines behind the router have their own /metrics: put their addresses, which "
            "aot serve\nprints, in the place of the router's."
        )
    return _yaml(monitoring.scrape(asked.name, asked.server, in_cluster=inside), head)


def _rules(asked: Asked) -> str:
    return _yaml(asked.rules(), "Check: promtool check rules aot-rules.yml")


def _grafana(asked: Asked) -> str:
    dashboard = grafana.dashboard(asked.server.engine, asked.watched)
    return json.dumps(dashboard, indent=2, ensure_ascii=False) + "\n"


def _texts(contained: Contained) -> dict[PurePosixPath, str]:
    return {inside: path.read_text(encoding="utf-8") for inside, path in contained.files.items()}


def _secret_command(asked: Asked, contained: Contained) -> str:
    literals = " ".join(
        f'--from-literal={kubernetes.secret_key(source)}="${source}"'
        for source in contained.secrets.values()
    )
    space = asked.server.container.namespace
    return f"First: kubectl -n {space} create secret generic {asked.name}-keys {literals}\n"


def _yaml(value: Any, head: str) -> str:
    comment = "".join(f"# {line}\n" for line in ("Made by aot render.", *head.splitlines()))
    documents = value if isinstance(value, list) else [value]
    return comment + yaml.safe_dump_all(documents, sort_keys=False, allow_unicode=True, width=100)


TARGETS: dict[str, Callable[[Asked], str]] = {
    "compose": _compose,
    "k8s": _k8s,
    "helm-values": _helm,
    "prometheus": _prometheus,
    "prometheus-rules": _rules,
    "grafana": _grafana,
}
