"""What can be chosen on the command line: help, completion and messages follow from these types.

They repeat what the rooms know, so that showing help imports none of them; a test holds them equal.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

ArmName = Literal["jit", "auto", "aot", "mended", "store", "restarted"]
ServedArm = Literal["jit", "auto", "aot", "store", "restarted"]
"""Of a server that is started: mended is of the traffic."""
LoadedArm = Literal["jit", "auto", "aot"]
"""Those of a server that was started by others."""
RenderedArm = Literal["jit", "auto", "aot", "store"]
"""Of a server that is started elsewhere."""
TargetName = Literal[
    "compose", "k8s", "helm-values", "prometheus", "prometheus-rules", "grafana"
]  # what a server file can be rendered as
Chart = Literal["production-stack", "llm-d"]
TraceFormat = Literal[
    "mooncake",
    "bailian",
    "coding",
    "ragpulse",
    "azure",
    "burstgpt",
    "sharegpt",
    "weka",
    "aiperf",
    "blocks",
    "openai",
]
EndpointName = Literal["chat", "completions", "responses", "messages", "generate"]
LintFormat = Literal["text", "json", "sarif", "github"]
FailOn = Literal["never", "note", "warning", "error"]  # levels of a finding
ApiName = Literal["openai", "anthropic", "gemini"]
TtlName = Literal["5m", "1h"]  # how long a hosted API keeps a prefix
Provider = Literal["anthropic", "gemini", "openai"]  # the hosted APIs with a price table
# Folders of shipped files.
Shelf = Literal["experiments", "workloads", "servers", "prompts", "profiles"]


# typer takes no Literal for an option that can be given again.
class PolicyName(StrEnum):
    """How a simulated cache chooses what to drop."""

    LRU = "lru"
    LEAF_LRU = "leaf-lru"
    IN_FLIGHT = "in-flight"
    RADIX = "radix"
    FIFO = "fifo"
    LFU = "lfu"
    OPT = "opt"


class FigureKind(StrEnum):
    """What figures can be exported as besides SVG."""

    PNG = "png"
    PDF = "pdf"
