"""A server file → files for whoever runs it: compose, Kubernetes, Helm, Prometheus, Grafana."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from configs.errors import ConfigError, UsageError
from configs.load import load_server
from configs.schema import Arm
from configs.server import PUBLIC_KEY, RemoteConfig, ServerConfig
from serving import compose, container, engines, grafana, helm, kubernetes, models, monitoring
from serving.container import Contained

CHARTS = ("production-stack", "llm-d")


@dataclass(frozen=True, slots=True)
class Options:
    """What only some targets look at."""

    chart: str = CHARTS[0]
    ttft_slo_s: float = 1.0


def render(path: Path, target: str, arm: Arm, options: Options = Options()) -> str:
    """The text of the file. Raises ConfigError and UsageError for what cannot be rendered."""
    server = load_server(path)
    if isinstance(server, RemoteConfig):
        raise ConfigError(path, "this server runs already; there is nothing to render", "runtime")
    if target not in TARGETS:
        raise UsageError(f"--target: '{target}' is none of {', '.join(TARGETS)}")
    if options.chart not in CHARTS:
        raise UsageError(f"--chart: '{options.chart}' is none of {', '.join(CHARTS)}")
    if target in IN_A_CLUSTER:
        # In a cluster others can reach it: a key is on by default, as it is on any such host.
        server = server.model_copy(update={"api_key_env": server.api_key_env or PUBLIC_KEY})
    name = _name(path.stem)
    try:
        model = _model(path, server, target)
        contained = container.contain(server, arm, engines.engine(server.engine), model)
        return TARGETS[target](name, server, contained, options)
    except ConfigError:
        raise
    except UsageError as error:
        raise ConfigError(path, str(error)) from None


def _model(path: Path, server: ServerConfig, target: str) -> str:
    model = models.resolve(server.model, path)
    if target in IN_A_CLUSTER and Path(model).is_absolute():
        raise UsageError(
            f"model: {server.model} is a folder of this machine, which a cluster does not have; "
            "name a hub id"
        )
    return model


def _name(stem: str) -> str:
    """A name that compose and Kubernetes take."""
    return re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-") or "aot"


def _compose(name: str, server: ServerConfig, contained: Contained, _: Options) -> str:
    head = [f"{key}=..." for key in contained.secrets.values()]
    words = f"; put {' and '.join(head)} into .env beside it" if head else ""
    return _yaml(
        compose.render(name, server, contained), f"Start: docker compose up -d --wait{words}"
    )


def _k8s(name: str, server: ServerConfig, contained: Contained, _: Options) -> str:
    documents = kubernetes.render(name, server, contained)
    head = _secret_command(name, server, contained) + "Apply: kubectl apply -f this-file.yaml"
    return _yaml(documents, head)


def _helm(name: str, server: ServerConfig, contained: Contained, options: Options) -> str:
    if options.chart == "llm-d":
        head = "For charts llm-d-router-standalone and llm-d-router-gateway; the engines are those "
        return _yaml(helm.llm_d(name, server), head + "of: aot render --target k8s")
    head = _secret_command(name, server, contained)
    head += "helm repo add vllm https://vllm-project.github.io/production-stack\n"
    head += "helm install NAME vllm/vllm-stack -f this-file.yaml"
    return _yaml(helm.production_stack(name, server, contained), head)


def _prometheus(name: str, server: ServerConfig, _: Contained, __: Options) -> str:
    return _yaml(
        monitoring.scrape(name, server),
        "Beside it: aot render --target prometheus-rules -o aot-rules.yml",
    )


def _rules(_: str, server: ServerConfig, __: Contained, options: Options) -> str:
    return _yaml(
        monitoring.rules(server, options.ttft_slo_s), "Check: promtool check rules aot-rules.yml"
    )


def _grafana(_: str, server: ServerConfig, __: Contained, ___: Options) -> str:
    return json.dumps(grafana.dashboard(server.engine), indent=2, ensure_ascii=False) + "\n"


def _secret_command(name: str, server: ServerConfig, contained: Contained) -> str:
    literals = " ".join(
        f'--from-literal={kubernetes.secret_key(source)}="${source}"'
        for source in contained.secrets.values()
    )
    space = server.container.namespace
    return f"First: kubectl -n {space} create secret generic {name}-keys {literals}\n"


def _yaml(value: Any, head: str) -> str:
    comment = "".join(f"# {line}\n" for line in ("Made by aot render.", *head.splitlines()))
    documents = value if isinstance(value, list) else [value]
    return comment + yaml.safe_dump_all(documents, sort_keys=False, allow_unicode=True, width=100)


IN_A_CLUSTER = frozenset({"k8s", "helm-values"})
TARGETS: dict[str, Callable[[str, ServerConfig, Contained, Options], str]] = {
    "compose": _compose,
    "k8s": _k8s,
    "helm-values": _helm,
    "prometheus": _prometheus,
    "prometheus-rules": _rules,
    "grafana": _grafana,
}
