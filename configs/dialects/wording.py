"""How requests are worded for one server: its endpoint, and what it wants otherwise than usual."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from aot.configs.dialects.dialect import Asked, Dialect, Message
from aot.configs.dialects.table import DIALECTS, EndpointName
from aot.configs.kernel import network
from aot.configs.kernel.errors import UsageError
from aot.configs.kernel.secrecy import held_in

HEADER = re.compile(r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")
"""The name of a header (RFC 9110, token)."""
OURS = frozenset({"host", "content-length", "transfer-encoding", "connection"})
VARIABLE = re.compile(r"\$\{(\w+)\}|\$(\w+)")


@dataclass(frozen=True, slots=True)
class Wording:
    """`path`: instead of the endpoint's, {model} in it is the model's name. `headers`: sent with
    every request; a value may name a variable, $NAME, and is never shown. `fields`: put into the
    body; `omit`: left out of it; `rename`: old name → new name. `key_header`: where the API key
    goes instead of Authorization."""

    endpoint: EndpointName | None = None
    """None: what the traffic is for, else chat."""
    path: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    fields: Mapping[str, Any] = field(default_factory=dict)
    omit: tuple[str, ...] = ()
    rename: Mapping[str, str] = field(default_factory=dict)
    key_header: str | None = None
    profile: str | None = None
    """The kind of server that it is for, where that was said."""
    path_is_for: EndpointName | None = None
    """The one endpoint whose path `path` is; None where whoever gave it knows."""

    @property
    def dialect(self) -> Dialect:
        return DIALECTS[self.endpoint or "chat"]

    def for_endpoint(self, name: str) -> Wording:
        """The same, for traffic that is made for an endpoint of that name, unless another one was
        asked for."""
        return self if self.endpoint else replace(self, endpoint=name)  # type: ignore[arg-type]

    def at(self, endpoint: str) -> Wording:
        """The same at another kind of endpoint."""
        return replace(self, endpoint=endpoint)  # type: ignore[arg-type]

    def over(self, base: Wording) -> Wording:
        """What is said here, and of `base` what is not."""
        return Wording(
            self.endpoint or base.endpoint,
            self.path or base.path,
            merged(base.headers, self.headers),
            {**base.fields, **self.fields},
            tuple(dict.fromkeys([*base.omit, *self.omit])),
            {**base.rename, **self.rename},
            self.key_header or base.key_header,
            self.profile or base.profile,
            None if self.path else base.path_is_for,
        )

    @property
    def sends_ignore_eos(self) -> bool:
        sent = self.dialect.has_ignore_eos and "ignore_eos" not in self.omit
        return bool(self.fields.get("ignore_eos", sent))

    @property
    def sends_salts(self) -> bool:
        return "cache_salt" not in self.omit

    def target(self, model: str) -> str:
        """The path of a request, behind the base URL. UsageError where there is none for this
        endpoint."""
        if self.path_is_for not in (None, self.dialect.name):
            raise UsageError(
                f"profile {self.profile}: its path is of the {self.path_is_for} endpoint; give "
                f"that for {self.dialect.name} (--path, or path in a server file's requests)"
            )
        return (self.path or self.dialect.path).replace("{model}", model)

    def body(self, prompt: Sequence[Message] | str, asked: Asked) -> dict[str, Any]:
        """The body as this server wants it."""
        usual = self._changed(self.dialect.body(prompt, asked))
        if isinstance(inside := usual.get("sampling_params"), dict):  # of /generate
            usual["sampling_params"] = self._changed(inside)
        return usual | dict(self.fields)

    def logged(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """A body that was logged, as this server wants it."""
        return self._changed(body) | dict(self.fields)

    def _changed(self, body: Mapping[str, Any]) -> dict[str, Any]:
        return {self.rename.get(k, k): v for k, v in body.items() if k not in self.omit}

    def sent_headers(self, url: str, key: str | None, named_by: str) -> dict[str, str]:
        """Headers of a request, who asks included. UsageError for a variable that is not set."""
        given = {name: filled(value, f"header {name}") for name, value in self.headers.items()}
        if self.key_header and key:
            who = {self.key_header: key} | network.authorization(url, None, named_by)
        else:
            who = network.authorization(url, key, named_by)
        return merged(who, given)

    def to_json(self) -> str:
        """For another process of ours; with what is secret, so not for a file."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Wording:
        row = json.loads(text)
        return Wording(**{**row, "omit": tuple(row["omit"])})

    def shown(self) -> dict[str, Any]:
        """What a report may say of it: the names of headers and fields, and no value."""
        usual = asdict(Wording())
        mine = {k: v for k, v in asdict(self).items() if v != usual[k]}
        for key in mine.keys() & {"headers", "fields"}:
            mine[key] = sorted(mine[key])
        if self.path:
            mine["path"] = self.path.partition("?")[0]
        return mine


USUAL = Wording()


def merged(*headers: Mapping[str, str]) -> dict[str, str]:
    """Headers over headers; the names of them know no capitals."""
    last: dict[str, tuple[str, str]] = {}
    for each in headers:
        last |= {name.lower(): (name, value) for name, value in each.items()}
    return dict(last.values())


def header(text: str, named_by: str) -> tuple[str, str]:
    """'Name: value' → both. UsageError for what is no header, or is set by the client itself."""
    name, colon, value = text.partition(":")
    name, value = name.strip(), value.strip()
    if not colon or not HEADER.fullmatch(name):
        raise UsageError(f"{named_by}: expected 'Name: value', got a text without a header's name")
    if name.lower() in OURS:
        raise UsageError(f"{named_by}: {name} is set by the client itself")
    if not value.isprintable() or not value.isascii():
        raise UsageError(f"{named_by}: the value of {name} has a character that no header carries")
    return name, value


def filled(value: str, named_by: str) -> str:
    """A value with $NAME put in. UsageError where the variable is not set, or holds nothing."""
    return VARIABLE.sub(lambda m: held_in(m[1] or m[2], named_by), value)
