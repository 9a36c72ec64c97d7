"""A server file → files for whoever runs it: compose, Kubernetes, Helm, Prometheus, Grafana."""

from __future__ import annotations

import json
import re
from collections import Counter
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
from aot.serving.render import compose, helm, kubernetes, llm_d
from aot.serving.render.gate import Warmed
from aot.serving.render.kit import Kit, cluster_name, secret_key
from aot.serving.render.watching import grafana, monitoring, observed, rules
from aot.serving.render.watching.in_compose import Monitoring
from aot.serving.topology import container
from aot.serving.topology.container import Contained, toolkit_image
from aot.serving.topology.routers import ROUTERS
from aot.workloads.prompts import compiled

CHARTS = ("production-stack", "llm-d")
EVERYBODY = "*"


@dataclass(frozen=True, slots=True)
class Options:
    """What only some targets look at. `warm`: compiled.json files; `name` and `namespace` over what
    the server file says."""

    chart: str = CHARTS[0]
    ttft_slo_s: float = 1.0
    in_cluster: bool = False
    runbooks: str = rules.RUNBOOKS
    warm: tuple[Path, ...] = ()
    monitoring: bool = False
    name: str | None = None
    namespace: str | None = None


@dataclass(frozen=True, slots=True)
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
        server, engine = self.server, table.engine(self.server.engine)
        if in_cluster and server.kv_events and server.kv_events.startswith("tcp://"):
            # A pod is an address of its own: who may reach it says the NetworkPolicy.
            port = server.kv_events.rpartition(":")[2]
            server = server.model_copy(update={"kv_events": f"tcp://{EVERYBODY}:{port}"})
        drain_s = server.container.drain_s if drain_s is None else drain_s
        return container.contain(server, self.arm, engine, model, drain_s)

    @property
    def watched(self) -> Watched:
        """What its metrics are called."""
        names = table.engine(self.server.engine).watched
        if names is None:
            raise UsageError(f"engine: the metrics of {self.server.engine} are not known here")
        return names

    @property
    def warmed(self) -> Warmed | None:
        """What is compiled into its caches; None under another arm than aot."""
        if self.arm != "aot":
            return None
        names = Counter(path.name for path in self.options.warm)
        texts = {}
        for number, path in enumerate(self.options.warm):
            compiled.read(path)  # what is not one is named here, not in a pod
            name = path.name if names[path.name] == 1 else f"{number}-{path.name}"
            texts[name] = path.read_text(encoding="utf-8")
        return Warmed(toolkit_image(self.server), texts)

    def rules(self) -> dict[str, Any]:
        """Prometheus' rules for it."""
        front = self.server.front
        router = ROUTERS[front.name] if front else None
        if front and router and not router.asks_to_render(front.policy):
            router = None
        slo_s, runbooks = self.options.ttft_slo_s, self.options.runbooks
        return rules.rules(self.server.engine, self.watched, slo_s, router, runbooks)

    def dashboard(self) -> dict[str, Any]:
        return grafana.dashboard(self.server.engine, self.watched)

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
            box = box.model_copy(update={"namespace": self.options.namespace})
        named = self.server.model_copy(update={"container": box})
        return replace(self, server=named).keyed()

    def keyed(self) -> Asked:
        """In a cluster others can reach it: a key is on by default, as on any such host."""
        key = self.server.api_key_env or PUBLIC_KEY
        return replace(self, server=self.server.model_copy(update={"api_key_env": key}))


def render(path: Path, target: str, arm: Arm, options: Options = Options()) -> str:
    """The text of the file. Raises ConfigError and UsageError for what cannot be rendered."""
    server = launched(path, "render")
    if options.in_cluster and target != "prometheus":
        raise UsageError(f"--in-cluster goes with --target prometheus, not {target}")
    if options.monitoring and target not in ("compose", "k8s"):
        raise UsageError(f"--monitoring goes with --target compose or k8s, not {target}")
    if options.warm and (arm != "aot" or target not in ("compose", "k8s")):
        raise UsageError(
            "--warm goes with --arm aot, and with --target compose or k8s: a chart has no place "
            "for what warms its pods"
        )
    try:
        return TARGETS[target](Asked(path, server, arm, options))
    except ConfigError:
        raise
    except UsageError as error:
        raise ConfigError(path, str(error)) from None


def _compose(asked: Asked) -> str:
    contained, warmed = asked.contained(in_cluster=False), asked.warmed
    keys = " and ".join(f"{source}=..." for source in contained.secrets.values())
    head = "Start: docker compose up -d --wait" + (f"; put {keys} into .env" if keys else "")
    head += _image_words(asked, warmed)
    if warmed and not warmed.texts:
        head += "\nBeside it: compiled.json (aot compile), which the gates compile in."
    watched = None
    if asked.options.monitoring:
        watched = Monitoring(asked.name, asked.server.engine, asked.rules(), asked.dashboard())
    made = compose.render(asked.name, asked.server, contained, _texts(contained), warmed, watched)
    return _yaml(made, head)


def _k8s(asked: Asked) -> str:
    asked = asked.closed()
    contained, warmed, name = asked.contained(in_cluster=True), asked.warmed, asked.name_in_cluster
    space = asked.server.container.namespace
    head = _secret_command(asked, contained)
    if warmed and not warmed.texts:
        head += (
            f"And: kubectl -n {space} create configmap {name}-compiled "
            "--from-file=compiled.json, which aot compile makes (or render it in: --warm)\n"
        )
    head += "Apply: kubectl apply -f this-file.yaml" + _image_words(asked, warmed)
    head += f'\nWho may ask it: pods of {space}, and namespaces, with the label aot.client: "true"'
    documents = kubernetes.render(name, asked.server, contained, _texts(contained), warmed)
    if asked.options.monitoring:
        kit, front = Kit(name, space), asked.server.front is not None
        documents += observed.manifests(
            kit, asked.server.engine, asked.rules(), asked.dashboard(),
            router=front, warmed=warmed is not None,
        )  # fmt: skip
    return _yaml(documents, head)


def _image_words(asked: Asked, warmed: Warmed | None) -> str:
    if warmed is None and asked.server.front is None:
        return ""
    image = toolkit_image(asked.server)
    return f"\nThe image {image} is made from the toolkit's Dockerfile: docker build -t {image} ."


def _helm(asked: Asked) -> str:
    asked = asked.closed()
    name = asked.name_in_cluster
    if asked.options.chart == "llm-d":
        head = "For charts llm-d-router-standalone and llm-d-router-gateway; the engines are those "
        return _yaml(llm_d.values(name, asked.server), head + "of: aot render --target k8s")
    contained = asked.contained(in_cluster=True, drain_s=helm.GRACE_S)
    head = _secret_command(asked, contained)
    head += "helm repo add vllm https://vllm-project.github.io/production-stack\n"
    head += "helm install NAME vllm/vllm-stack -f this-file.yaml"
    if asked.server.container.max_replicas:
        head += (
            "\nIt scales by KEDA, which asks http://prometheus-operated.monitoring.svc:9090: the "
            "chart takes no other"
        )
    if asked.arm == "aot":
        head += (
            "\nIts pods come up cold, because the chart has no place for what warms them: aot warm "
            "each, or take --target k8s"
        )
    return _yaml(helm.production_stack(name, asked.server, contained), head)


def _prometheus(asked: Asked) -> str:
    head = "Beside it: aot render --target prometheus-rules -o aot-rules.yml"
    inside = asked.options.in_cluster
    if asked.server.front and not inside:
        head += (
            "\nThe engines behind the router have their own /metrics: put their addresses, which "
            "aot serve\nprints, in the place of the router's."
        )
    name = asked.name_in_cluster if inside else asked.name
    return _yaml(monitoring.scrape(name, asked.server, in_cluster=inside), head)


def _rules(asked: Asked) -> str:
    return _yaml(asked.rules(), "Check: promtool check rules aot-rules.yml")


def _grafana(asked: Asked) -> str:
    return json.dumps(asked.dashboard(), indent=2, ensure_ascii=False) + "\n"


def _texts(contained: Contained) -> dict[PurePosixPath, str]:
    return {inside: path.read_text(encoding="utf-8") for inside, path in contained.files.items()}


def _secret_command(asked: Asked, contained: Contained) -> str:
    literals = " ".join(
        f'--from-literal={secret_key(source)}="${source}"' for source in contained.secrets.values()
    )
    space, name = asked.server.container.namespace, asked.name_in_cluster
    words = f"First: kubectl -n {space} create secret generic {name}-keys {literals}\n"
    if "HF_TOKEN" not in contained.secrets:
        words += 'Gated weights: --from-literal=hf-token="$HF_TOKEN" in it, too\n'
    return words


class _Plain(yaml.SafeDumper):
    """Without anchors, which not every reader of manifests takes."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True


def _yaml(value: Any, head: str) -> str:
    comment = "".join(f"# {line}\n" for line in ("Made by aot render.", *head.splitlines()))
    documents = value if isinstance(value, list) else [value]
    options: dict[str, Any] = {"sort_keys": False, "allow_unicode": True, "width": 100}
    text: str = yaml.dump_all(documents, Dumper=_Plain, **options)
    return comment + text


TARGETS: dict[str, Callable[[Asked], str]] = {
    "compose": _compose,
    "k8s": _k8s,
    "helm-values": _helm,
    "prometheus": _prometheus,
    "prometheus-rules": _rules,
    "grafana": _grafana,
}
