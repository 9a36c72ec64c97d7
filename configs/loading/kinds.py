"""What a configuration file is: an experiment, a workload or a server file, by its keys."""

from __future__ import annotations

from typing import Any, Literal

Kind = Literal["experiment", "workload", "server"]
NOUNS: dict[Kind, str] = {
    "experiment": "an experiment",
    "workload": "a workload",
    "server": "a server file",
}


def kind_of(data: Any) -> Kind | None:
    """None for what is none of them, or cannot be told."""
    keys = set(data) if isinstance(data, dict) else set()
    if "scenario" in keys:
        return "workload"
    if "workload" in keys and keys & {"server", "servers"}:
        return "experiment"
    if keys & {"model", "url"} and keys & {"engine", "runtime", "served_name", "context_tokens"}:
        return "server"
    return None


def mistaken(kind: Kind, wanted: Kind, taker: str) -> str:
    """What is said of a file that is another one than `taker` (a verb, a key) takes."""
    names_one = ", which names one" if wanted == "experiment" else ""
    return f"this is {NOUNS[kind]}; {taker} takes {NOUNS[wanted]}{names_one}"
