"""`aot render --target prometheus`: what is scraped (pure)."""

from __future__ import annotations

from typing import Any

from aot.configs.kernel.ports import joined
from aot.configs.schema.server import ServerConfig
from aot.serving.topology.container import PORT


def scrape(name: str, server: ServerConfig, *, in_cluster: bool) -> dict[str, Any]:
    """prometheus.yml: the server where its file says it listens; or, in a cluster, the pods of
    `aot render --target k8s`, engines, gates and router, by their labels."""
    target = joined(server.host, server.port or PORT)
    jobs: list[dict[str, Any]] = [
        {"job_name": name, "scrape_interval": "5s", "static_configs": [{"targets": [target]}]}
    ]
    if in_cluster:
        ports = {"engine": "http", "gate": "gate"}
        jobs = [_pods(f"{name}-{j}", name, server, "engine", port) for j, port in ports.items()]
    for job in jobs:
        job["metric_relabel_configs"] = [named(server.engine)]
    if in_cluster and server.front:  # whose metrics are its own: vllm_router_...
        jobs.append(_pods(f"{name}-router", name, server, "router", "metrics"))
    return {"rule_files": ["aot-rules.yml"], "scrape_configs": jobs}


def named(engine: str) -> dict[str, Any]:
    """Gives metrics their own names again: asked for OpenMetrics, as Prometheus before 3 asks, new
    clients write sglang_... for sglang:... (seen on SGLang 0.5.23 with Prometheus 2.42)."""
    return {
        "source_labels": ["__name__"],
        "regex": f"{engine}_(.+)",
        "target_label": "__name__",
        "replacement": f"{engine}:$1",
    }


def _pods(job: str, name: str, server: ServerConfig, component: str, port: str) -> dict[str, Any]:
    meta = "__meta_kubernetes_pod_"
    labels = [f"{meta}label_app_kubernetes_io_{label}" for label in ("name", "component")]
    return {
        "job_name": job,
        "scrape_interval": "5s",
        "kubernetes_sd_configs": [
            {"role": "pod", "namespaces": {"names": [server.container.namespace]}}
        ],
        "relabel_configs": [
            {
                "source_labels": [*labels, f"{meta}container_port_name"],
                "regex": f"{name};{component};{port}",
                "action": "keep",
            },
            # As an operator's PodMonitor has them: rules tell deployments apart by the first, KEDA
            # asks for both.
            *(
                {"source_labels": [source], "target_label": label}
                for source, label in (
                    ("__meta_kubernetes_namespace", "namespace"),
                    (f"{meta}name", "pod"),
                )
            ),
        ],
    }
