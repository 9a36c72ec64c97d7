"""Traces that tell lengths and times only: nothing about which prompts begin alike."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from aot.workloads.logs.traced import Traced, count, seconds

AZURE_COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
BURSTGPT_COLUMNS = ("Timestamp", "Request tokens", "Response tokens")


def azure(number: int, row: dict[str, Any]) -> Traced:
    """TIMESTAMP, ContextTokens, GeneratedTokens (Azure/AzurePublicDataset, LLM inference)."""
    return Traced(
        number,
        at_s=_instant(row["TIMESTAMP"]),
        input_tokens=count(row, "ContextTokens", 1),
        output_tokens=count(row, "GeneratedTokens"),
    )


def burstgpt(number: int, row: dict[str, Any]) -> Traced:
    """Timestamp (s), Session ID (in later versions), Request tokens, Response tokens; 0 response
    tokens are requests that failed (HPMLL/BurstGPT)."""
    return Traced(
        number,
        at_s=seconds(row, "Timestamp"),
        input_tokens=count(row, "Request tokens", 1),
        output_tokens=count(row, "Response tokens"),
        session=row.get("Session ID") or None,
    )


def _instant(text: Any) -> float:
    """Seconds since 1970 of a time as Azure writes it: seven digits behind the second."""
    try:
        whole, _, fraction = str(text).removesuffix("+00:00").removesuffix("Z").partition(".")
        return datetime.fromisoformat(f"{whole}+00:00").timestamp() + float(f"0.{fraction or 0}")
    except ValueError:
        raise ValueError(f"field 'TIMESTAMP' is {text!r}, expected a date and time") from None
