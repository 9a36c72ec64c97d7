"""Where the wording of requests comes from: a profile, then a server file or options over it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from aot.configs.dialects.table import EndpointName
from aot.configs.dialects.wording import Wording, header
from aot.configs.kernel.errors import UsageError
from aot.configs.loading.presets import profile as shipped
from aot.configs.schema.wording import NEEDED, Differences, RequestsConfig


def of_config(config: RequestsConfig) -> Wording:
    """The wording that a server file asks for. UsageError for a profile that is not known."""
    wording = _of(config, config.endpoint)
    return with_profile(wording, config.profile) if config.profile else wording


def of_options(
    endpoint: EndpointName | None = None,
    profile: str | None = None,
    path: str | None = None,
    headers: Sequence[str] = (),
    fields: Sequence[str] = (),
    omit: Sequence[str] = (),
    rename: Sequence[str] = (),
) -> Wording:
    """The wording that options of the command line ask for. UsageError that names the option."""
    if path is not None and not path.startswith("/"):
        raise UsageError(f"--path: '{path}' must start with /; the base URL is before it")
    if path is not None and re.search(r"[\s\x00-\x1f]", path):
        raise UsageError("--path: it has a space in it, which no path has")
    renamed = [_pair(text, "--rename", "OLD=NEW") for text in rename]
    for option, names in (("--omit", omit), ("--rename", [n for pair in renamed for n in pair])):
        if taken := sorted(NEEDED & set(names)):
            raise UsageError(f"{option}: without {', '.join(taken)} it is no request")
    wording = Wording(
        endpoint,
        path,
        dict(header(text, "--header") for text in headers),
        dict(_field(text) for text in fields),
        tuple(omit),
        dict(renamed),
    )
    return with_profile(wording, profile) if profile else wording


def with_profile(wording: Wording, name: str) -> Wording:
    """What was asked for, over what a kind of server wants. UsageError for a kind that is not
    known."""
    base = _of(shipped(name))
    is_for: EndpointName | None = "chat" if base.path else None
    return wording.over(replace(base, profile=name, path_is_for=is_for))


def _of(config: Differences, endpoint: EndpointName | None = None) -> Wording:
    return Wording(
        endpoint,
        config.path,
        {name: value.get_secret_value() for name, value in config.headers.items()},
        config.body,
        tuple(config.omit),
        config.rename,
        config.key_header,
    )


def _pair(text: str, named_by: str, shape: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name or not value:
        raise UsageError(f"{named_by}: expected {shape}, got '{text}'")
    return name, value


def _field(text: str) -> tuple[str, Any]:
    """NAME=JSON; what is no JSON is a text."""
    name, value = _pair(text, "--body", "NAME=VALUE")
    if name in NEEDED:
        raise UsageError(f"--body: {name} is what is measured, and cannot be replaced")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
