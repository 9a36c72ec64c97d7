"""What a server file may say to an engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class FileRules:
    """What a server file may say to an engine."""

    refused_keys: Mapping[str, str] = field(default_factory=dict)
    """Keys that it has no setting for, with what to write instead."""
    own_flags: Mapping[str, str] = field(default_factory=dict)
    """Arguments that the toolkit sets itself, with what a user writes instead."""
    own_env: Mapping[str, str] = field(default_factory=dict)
    """Variables that the toolkit sets itself: refused in a server file, never inherited."""
    modified_by: Mapping[str, str] = field(default_factory=dict)
    """Keys that change the engine itself, with what a report must say of it."""
