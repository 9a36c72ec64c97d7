"""What a server file may say to an engine: refused are what we set, secrets, another's flags."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from aot.configs.kernel.errors import UsageError
from aot.configs.kernel.places import CONFIGS
from aot.configs.kernel.secrecy import is_secret, is_secret_flag
from aot.configs.schema.server import ENGINE_KEYS, ServerConfig

SUFFIXES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "K": 2**10, "M": 2**20, "G": 2**30}
"""What vLLM's own parser takes behind whole numbers (engine/arg_utils.py, human_readable_int)."""
TWINS = "flag-twins.csv"
"""In configs/engines/: a column an engine, a row for what serves much the same purpose."""


@dataclass(frozen=True, slots=True)
class FileRules:
    """What a server file may say to an engine."""

    accepted_keys: frozenset[str] = frozenset()
    """Those of ENGINE_KEYS that it has a setting for."""
    instead_of: Mapping[str, str] = field(default_factory=dict)
    """What to write instead of others of them."""
    own_flags: Mapping[str, str] = field(default_factory=dict)
    """Arguments that the toolkit sets itself, with what a user writes instead."""
    own_env: Mapping[str, str] = field(default_factory=dict)
    """Variables that the toolkit sets itself: refused in a server file, never inherited."""
    tier_flags: frozenset[str] = frozenset()
    """Arguments that add tiers to the cache beyond the device: jit is without them."""
    outliving_flags: frozenset[str] = frozenset()
    """Those of them whose tier may hold what an earlier process left."""
    modified_by: Mapping[str, str] = field(default_factory=dict)
    """Keys that change the engine itself, with what a report must say of it."""
    value_flags: frozenset[str] = frozenset()
    """Arguments that decide which values stand in a block: others under the same tokens."""


@cache
def known(engine: str) -> frozenset[str]:
    """Every flag of the engine's own argument parser, in the version of the shipped recipes; empty
    where its list is not shipped."""
    path = CONFIGS / "engines" / f"{engine}.flags"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return frozenset(line for line in text.splitlines() if line.startswith("-"))


@cache
def _others(engine: str) -> tuple[str, ...]:
    """The other engines whose flags are known."""
    names = (path.stem for path in (CONFIGS / "engines").glob("*.flags"))
    return tuple(sorted(name for name in names if name != engine))


@cache
def _twins() -> tuple[dict[str, str], ...]:
    with (CONFIGS / "engines" / TWINS).open(encoding="utf-8", newline="") as handle:
        return tuple(csv.DictReader(handle))


def refuse(server: ServerConfig, rules: FileRules) -> None:
    """UsageError for keys that the engine has no setting for, and for arguments and variables that
    the toolkit sets itself, that hold a secret, or that belong to another engine."""
    for key in ENGINE_KEYS:
        if getattr(server, key) and key not in rules.accepted_keys:
            words = rules.instead_of.get(key, f"{server.engine} has no setting for it; remove it")
            raise UsageError(f"{key}: {words}")
    for arg in server.args:
        if is_secret("", arg.partition("=")[2] or arg):
            raise UsageError(
                "args: a password or a key would show in every process list; set it in the "
                "environment instead (export it before the start, or the key 'env')"
            )
        flag = arg.split("=", 1)[0].replace("_", "-")
        if flag.startswith("-"):
            _refuse_flag(server.engine, flag, rules.own_flags)
    for name in server.env:
        if name in rules.own_env:
            raise UsageError(f"env: {name} does not belong there: {rules.own_env[name]}")


def _refuse_flag(engine: str, flag: str, own_flags: Mapping[str, str]) -> None:
    if (mine := meant(flag, engine, own_flags)) is not None:
        raise UsageError(f"args: {flag} does not belong there: {own_flags[mine]}")
    if is_secret_flag(flag):
        raise UsageError(
            f"args: {flag} would show its value in every process list; set it in the "
            "environment instead (export it before the start, or the key 'env')"
        )
    if not known(engine) or _accepts(engine, flag):
        return
    for owner in _others(engine):
        if flag in known(owner):
            raise UsageError(_foreign(flag, engine, owner, own_flags))


def meant(word: str, engine: str, flags: Iterable[str]) -> str | None:
    """Which of `flags` an argument is, or is short for (argparse takes any clear beginning; _ for
    -; --a=b; and vLLM --a.b for a part of --a)."""
    flag = word.partition("=")[0].partition(".")[0].replace("_", "-")
    if flag in flags:
        return flag
    if flag in known(engine) or not flag.startswith("--"):
        return None
    return next((f for f in flags if f.startswith(flag)), None)


def canonical(args: Sequence[str], engine: str) -> list[str]:
    """`args` with each flag by its whole name, as the engine's parser understands it: any clear
    beginning, and _ for -. A part of a flag (vLLM: --a.b) stays a part."""
    return [_whole(word, engine) if word.startswith("--") else word for word in args]


def _whole(word: str, engine: str) -> str:
    flag, equals, value = word.partition("=")
    head, dot, part = flag.partition(".")
    head = head.replace("_", "-")
    if head not in known(engine):
        meant_by = [f for f in known(engine) if f.startswith(head)]
        head = meant_by[0] if len(meant_by) == 1 else head
    return f"{head}{dot}{part}{equals}{value}"


def _accepts(engine: str, flag: str) -> bool:
    return any(f.startswith(flag) for f in known(engine))


def _foreign(flag: str, engine: str, owner: str, own_flags: Mapping[str, str]) -> str:
    words = f"args: {flag} is a flag of {owner}, and this server's engine is {engine}"
    twin = next((row.get(engine) for row in _twins() if row.get(owner) == flag), None)
    if twin and twin in own_flags:
        return f"{words}; {own_flags[twin]}"
    if twin:
        return f"{words}, which calls it {twin}"
    return f"{words}, which has no flag of that name; remove it, or set 'engine: {owner}'"


def value_of(args: Sequence[str], *names: str) -> str | None:
    """The value of a flag by any of its `names`, the last one given; None where it is absent."""
    last = None
    for n, arg in enumerate(args):
        flag, equals, value = arg.partition("=")
        if flag in names or flag.replace("_", "-") in names:
            last = value if equals else (args[n + 1] if n + 1 < len(args) else None)
    return last


def has(args: Sequence[str], name: str) -> bool:
    """Whether a flag without a value is given."""
    return any(arg.replace("_", "-") == name for arg in args)


def chosen(args: Sequence[str], engine: str, flags: Iterable[str]) -> dict[str, str]:
    """The values of those of `flags` that are given, however they are written."""
    values = {}
    for n, word in enumerate(args):
        flag, equals, value = word.partition("=")
        if word.startswith("-") and (mine := meant(word, engine, flags)):
            following = args[n + 1] if n + 1 < len(args) and not args[n + 1].startswith("-") else ""
            part = flag.partition(".")[2]
            values[f"{mine}.{part}" if part else mine] = value if equals else following
    return values


def number_of(args: Sequence[str], *names: str) -> float | None:
    """The same as a number above zero, with vLLM's suffixes (8k is 8,000, 8K is 8,192); UsageError
    where it is none."""
    raw = value_of(args, *names)
    if raw is None:
        return None
    parts = re.fullmatch(r"(\d+(?:\.\d+)?|\.\d+)([kKmMgG]?)", raw)
    number = float(parts[1]) * SUFFIXES[parts[2]] if parts else 0.0
    if not number:
        raise UsageError(f"args: {names[0]} {raw} is no number above zero")
    return number


def count_of(args: Sequence[str], *names: str) -> int | None:
    """The same as a whole number."""
    number = number_of(args, *names)
    return None if number is None else int(number)


def share_of(args: Sequence[str], *names: str) -> float | None:
    """The same as a share of something."""
    share = number_of(args, *names)
    if share is not None and share > 1:
        raise UsageError(f"args: {names[0]} {share:g} is more than all of it")
    return share


def without(args: Sequence[str], engine: str, flags: Iterable[str]) -> list[str]:
    """`args` less those of `flags`, however they are written, and their values."""
    kept, skipping = [], False
    for word in args:
        if word.startswith("-"):
            skipping = meant(word, engine, flags) is not None
        if not skipping:
            kept.append(word)
    return kept
