"""Prometheus and Grafana beside a server under Docker Compose, with what they need to show it
(pure)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import yaml

from aot.serving.render.gate import PORT as GATE_PORT
from aot.serving.render.watching.monitoring import named
from aot.serving.topology.container import PORT, ROUTER_METRICS_PORT

PROMETHEUS, GRAFANA = "prom/prometheus:v3.5.0", "grafana/grafana:12.1.0"


@dataclass(frozen=True, slots=True)
class Monitoring:
    """What is evaluated and shown; the ports of this machine on which both answer (loopback)."""

    name: str
    engine: str
    rules: dict[str, Any]
    dashboard: dict[str, Any]
    prometheus_port: int = 9090
    grafana_port: int = 3000


def services(
    watched: Monitoring, engines: list[str], gates: Iterable[str], router: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Services, and the files in them. Engines are reached by the network of the Compose file, on
    which nobody else is."""
    targets = [{"targets": [f"{name}:{PORT}" for name in engines]}]
    jobs: list[dict[str, Any]] = [
        {
            "job_name": f"{watched.name}-engine",
            "static_configs": targets,
            "metric_relabel_configs": [named(watched.engine)],
        }
    ]
    if there := [f"{name}:{GATE_PORT}" for name in gates]:
        jobs.append({"job_name": f"{watched.name}-gate", "static_configs": [{"targets": there}]})
    if router:
        fronts = [{"targets": [f"router:{ROUTER_METRICS_PORT}"]}]
        jobs.append({"job_name": f"{watched.name}-router", "static_configs": fronts})
    scraping = {
        "global": {"scrape_interval": "5s", "evaluation_interval": "15s"},
        "rule_files": ["/etc/prometheus/aot-rules.yml"],
        "scrape_configs": jobs,
    }
    source = {
        "apiVersion": 1,
        "datasources": [
            {"name": "Prometheus", "type": "prometheus", "uid": "prometheus", "isDefault": True,
             "access": "proxy", "url": "http://prometheus:9090"}
        ],
    }  # fmt: skip
    boards = {
        "apiVersion": 1,
        "providers": [{"name": "aot", "type": "file", "options": {"path": BOARDS}}],
    }
    files = {
        "prometheus": ("/etc/prometheus/prometheus.yml", _yaml(scraping)),
        "prometheus-rules": ("/etc/prometheus/aot-rules.yml", _yaml(watched.rules)),
        "grafana-source": (f"{PROVISIONED}/datasources/aot.yml", _yaml(source)),
        "grafana-boards": (f"{PROVISIONED}/dashboards/aot.yml", _yaml(boards)),
        "grafana-dashboard": (f"{BOARDS}/aot.json", json.dumps(watched.dashboard, indent=1)),
    }
    made = {
        "prometheus": _service(PROMETHEUS, watched.prometheus_port, 9090, "prometheus", files),
        "grafana": {
            **_service(GRAFANA, watched.grafana_port, 3000, "grafana", files),
            "depends_on": ["prometheus"],
        },
    }
    return made, {name: {"content": text} for name, (_, text) in files.items()}


PROVISIONED = "/etc/grafana/provisioning"
BOARDS = "/var/lib/grafana/aot"


def _service(
    image: str, port: int, inside: int, kind: str, files: dict[str, tuple[str, str]]
) -> dict[str, Any]:
    return {
        "image": image,
        "restart": "unless-stopped",
        "ports": [f"127.0.0.1:{port}:{inside}"],
        "configs": [
            {"source": name, "target": target}
            for name, (target, _) in files.items()
            if name.startswith(kind)
        ],
    }


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
