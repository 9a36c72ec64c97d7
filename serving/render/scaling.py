"""How many replicas there are, by requests that wait: KEDA where Prometheus is named, else a
HorizontalPodAutoscaler (pure)."""

from __future__ import annotations

from typing import Any

from aot.configs.schema.server import ServerConfig
from aot.serving.render.kit import Kit
from aot.serving.topology.container import Contained

WAITING_PER_REPLICA = "4"
"""Requests that wait before another replica is started: queueing is what more of them mend."""
SLOWLY_S = 600
"""Scaling down: a replica that goes takes its cache with it."""


def autoscaler(kit: Kit, server: ServerConfig, contained: Contained) -> dict[str, Any]:
    """Between `replicas` and `max_replicas`."""
    most = max(server.container.max_replicas or 1, server.replicas)
    if server.container.prometheus_url:
        return _by_keda(kit, server, contained, most)
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": kit.name},
        "minReplicas": server.replicas,
        "maxReplicas": most,
        "metrics": [
            {
                "type": "Pods",
                "pods": {
                    # As metrics adapters spell it.
                    "metric": {"name": contained.packaging.waiting_metric.replace(":", "_")},
                    "target": {"type": "AverageValue", "averageValue": WAITING_PER_REPLICA},
                },
            }
        ],
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": SLOWLY_S}},
    }
    return kit.manifest("autoscaling/v2", "HorizontalPodAutoscaler", spec)


def _by_keda(kit: Kit, server: ServerConfig, contained: Contained, most: int) -> dict[str, Any]:
    metric = contained.packaging.waiting_metric
    # A Deployment's pods, NAME-REPLICASET-POD, not those of NAME-OTHER; where the name is long
    # Kubernetes cuts off the last dash.
    pods = f"{kit.name}-[a-z0-9]+(-[a-z0-9]{{5}})?"
    query = f'sum({metric}{{namespace="{kit.namespace}",pod=~"{pods}"}})'
    trigger = {
        "type": "prometheus",
        "metadata": {
            "serverAddress": server.container.prometheus_url,
            "query": query,
            "threshold": WAITING_PER_REPLICA,
        },
    }
    slowly = {"stabilizationWindowSeconds": SLOWLY_S}
    spec = {
        "scaleTargetRef": {"name": kit.name},
        "minReplicaCount": server.replicas,
        "maxReplicaCount": most,
        "triggers": [trigger],
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": {"scaleDown": slowly}}},
    }
    return kit.manifest("keda.sh/v1alpha1", "ScaledObject", spec)
