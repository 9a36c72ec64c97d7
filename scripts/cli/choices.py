"""What can be chosen on the command line, as enumerations: help, completion and messages follow.

They repeat what the rooms know, so that showing help imports none of them; a test holds them equal.
"""

from __future__ import annotations

from enum import StrEnum


class ArmName(StrEnum):
    """A caching mode."""

    JIT = "jit"
    AUTO = "auto"
    AOT = "aot"


class Target(StrEnum):
    """What a server file can be rendered as."""

    COMPOSE = "compose"
    K8S = "k8s"
    HELM_VALUES = "helm-values"
    PROMETHEUS = "prometheus"
    PROMETHEUS_RULES = "prometheus-rules"
    GRAFANA = "grafana"


class Chart(StrEnum):
    """The Helm charts that values are written for."""

    PRODUCTION_STACK = "production-stack"
    LLM_D = "llm-d"


class TraceFormat(StrEnum):
    """The formats of traces and request logs."""

    MOONCAKE = "mooncake"
    BAILIAN = "bailian"
    CODING = "coding"
    RAGPULSE = "ragpulse"
    AZURE = "azure"
    BURSTGPT = "burstgpt"
    SHAREGPT = "sharegpt"
    OPENAI = "openai"


class PolicyName(StrEnum):
    """How a simulated cache chooses what to drop."""

    LRU = "lru"
    LEAF_LRU = "leaf-lru"
    FIFO = "fifo"
    LFU = "lfu"
    OPT = "opt"


class LintFormat(StrEnum):
    """How findings are written."""

    TEXT = "text"
    JSON = "json"
    SARIF = "sarif"
    GITHUB = "github"


class ApiName(StrEnum):
    """The APIs that can be asked."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    GEMINI = "gemini"


class TtlName(StrEnum):
    """How long a hosted API keeps a prefix."""

    FIVE_MINUTES = "5m"
    ONE_HOUR = "1h"


class FigureKind(StrEnum):
    """What figures can be exported as besides SVG."""

    PNG = "png"
    PDF = "pdf"


class Provider(StrEnum):
    """The hosted APIs with a price table."""

    ANTHROPIC = "anthropic"
    GEMINI = "gemini"
    OPENAI = "openai"


class Shelf(StrEnum):
    """The folders of configuration files that are shipped to start from."""

    EXPERIMENTS = "experiments"
    WORKLOADS = "workloads"
    SERVERS = "servers"
    PROMPTS = "prompts"
