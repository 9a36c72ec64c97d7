"""A server file → files for whoever runs it: compose, Kubernetes, Helm, Prometheus, Grafana."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from aot.configs.kernel.errors import ConfigError, UsageError
from aot.configs.schema.experiment import Arm
from aot.scripts.render.asked import COMPILED, Asked, Options
from aot.scripts.server_files import launched
from aot.serving.render import compose, helm, kubernetes, llm_d
from aot.serving.render.gate import Warmed
from aot.serving.render.kit import Kit, cluster_name, secret_key
from aot.serving.render.stored import VALUES, Store
from aot.serving.render.watching import monitoring, observed
from aot.serving.render.watching.in_compose import Monitoring
from aot.serving.topology.container import Contained, toolkit_image


def render(path: Path, target: str, arm: Arm | None, options: Options) -> str:
    """The text of the file. `arm` None: store where the file has one, else aot.

    Raises ConfigError and UsageError for what cannot be rendered.
    """
    server = launched(path, "render")
    arm = arm or ("store" if server.store else "aot")
    if options.in_cluster and target != "prometheus":
        raise UsageError(f"--in-cluster goes with --target prometheus, not {target}")
    if options.monitoring and target not in ("compose", "k8s"):
        raise UsageError(f"--monitoring goes with --target compose or k8s, not {target}")
    if options.warm and (arm not in COMPILED or target not in ("compose", "k8s")):
        raise UsageError(
            "--warm goes with --arm aot or store, and with --target compose or k8s: a chart has no "
            "place for what warms its pods"
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
    if store := asked.store:
        head += f"\n{_chunks(store)}"
    watched = None
    if asked.options.monitoring:
        watched = Monitoring(asked.name, asked.server.engine, asked.rules(), asked.dashboard())
    made = compose.render(
        asked.name, asked.server, contained, _texts(contained), warmed, watched, store
    )
    return _yaml(made, head)


def _k8s(asked: Asked) -> str:
    asked = asked.closed()
    contained, warmed, name = asked.contained(in_cluster=True), asked.warmed, asked.name_in_cluster
    space = asked.server.container.namespace
    head = _secret_command(asked, contained)
    if warmed and not warmed.texts:
        head += (
            f"And: kubectl -n {space} create configmap {name}-compiled "
            "--from-file=compiled.json, which aot compile makes; a folder that it made of a log "
            "goes as --from-file=FOLDER (or render it in: --warm)\n"
        )
    head += "Apply: kubectl apply --server-side -f this-file.yaml" + _image_words(asked, warmed)
    head += f'\nWho may ask it: pods of {space}, and namespaces, with the label aot.client: "true"'
    if store := asked.store:
        head += f"\n{_other_stores(space, name, store)}"
    documents = kubernetes.render(name, asked.server, contained, _texts(contained), warmed, store)
    if asked.options.monitoring:
        kit, front = Kit(name, space), asked.server.front is not None
        documents += observed.manifests(
            kit, asked.server.engine, asked.rules(alone=True), asked.dashboard(alone=True),
            router=front, warmed=warmed is not None,
        )  # fmt: skip
    return _yaml(documents, head)


def _chunks(store: Store) -> str:
    if store.folder is None:
        return "What is in the store ends with it: the file has no store.disk"
    return (
        f"What is stored: aot store list {store.folder / store.values}; it grows until chunks are "
        f"removed. Other folders in {store.folder} are of other weights or settings"
    )


def _other_stores(space: str, name: str, store: Store) -> str:
    mine = f"app.kubernetes.io/name={name},app.kubernetes.io/component=store"
    return (
        "What was stored for other weights or settings stays until it is removed: kubectl -n "
        f"{space} delete deployment,service,networkpolicy,pvc -l {mine},{VALUES}!={store.values}"
    )


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
    if asked.store:
        raise UsageError(
            "store: the chart has no place for one; take --target k8s, name one that runs "
            "(store.address), or go without: --arm aot"
        )
    name = cluster_name(name, helm.LONGEST)
    asked = replace(asked, options=replace(asked.options, name=name))
    contained = asked.contained(in_cluster=True, drain_s=helm.GRACE_S)
    head = _secret_command(asked, contained)
    head += "helm repo add vllm https://vllm-project.github.io/production-stack\n"
    space = asked.server.container.namespace
    head += f"helm install -n {space} NAME vllm/vllm-stack -f this-file.yaml"
    if asked.server.container.max_replicas:
        head += (
            "\nIt scales by KEDA, which asks http://prometheus-operated.monitoring.svc:9090: the "
            "chart takes no other"
        )
    if asked.arm in COMPILED:
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


NUMERIC = re.compile(r"[-+.]?\d[\w.+:-]*|[yn]", re.IGNORECASE)
"""What other readers of YAML take as a number or as true: 1e5, 0o17 and y are text to PyYAML, and
kubectl would refuse them where text is wanted."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "'" if NUMERIC.fullmatch(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Plain.add_representer(str, _text)


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
