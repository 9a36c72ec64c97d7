"""A schedule as a file: JSON lines, the same bytes for the same seed on any machine.

The first line is the header, then one line per static prefix, then one per request in order of
planned time. A request's chat is its prefix's messages followed by its own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from aot.configs.dialects.table import DIALECTS
from aot.configs.kernel.errors import UsageError
from aot.configs.kernel.files import replacing
from aot.workloads.requests.body import check
from aot.workloads.requests.limits import Limits
from aot.workloads.requests.request import Message, Prefix, Request, Schedule, Served

FORMAT = "aot-schedule/2"
OPTIONAL = {
    "max_tokens": None, "after": None, "think_s": 0.0, "appends": False, "joins": (),
    "prompt_tokens": None, "body": None, "endpoint": None, "cancel_s": None, "retried": False,
}  # fmt: skip
"""Fields of a request that are written where they are not these."""
HEADER_OPTIONAL: dict[str, Any] = {"limits": {}, "endpoint": "chat", "changes": {}}
ROLES = {"system", "developer", "user", "assistant", "tool", "function"}


def lines(schedule: Schedule) -> Iterator[str]:
    """The file's lines, newline included."""
    header = {
        "format": FORMAT,
        "name": schedule.name,
        "seed": schedule.seed,
        "mode": schedule.mode,
        "users": schedule.users,
        "max_tokens": schedule.max_tokens,
        "ignore_eos": schedule.ignore_eos,
        "timeout_s": schedule.timeout_s,
        "think_s": schedule.think_s,
        "prefixes": len(schedule.prefixes),
        "requests": len(schedule.requests),
    }
    yield _line(header | _given(schedule, HEADER_OPTIONAL))
    for prefix in schedule.prefixes.values():
        row: dict[str, Any] = {
            "prefix": prefix.id,
            "messages": prefix.messages,
            "probes": prefix.probes,
        }
        yield _line(row | _given(prefix, {"tools": (), "salt": None, "arguments": {}}))
    for r in schedule.requests:
        row = {"id": r.id, "at_s": r.at_s, "tenant": r.tenant, "prefix": r.prefix}
        own = {"messages": r.messages} if r.body is None else {}
        served = {"served": asdict(r.served)} if r.served else {}
        yield _line(row | own | _given(r, OPTIONAL) | served)


def _given(noun: Prefix | Request | Schedule, defaults: dict[str, Any]) -> dict[str, Any]:
    return {k: value for k, v in defaults.items() if (value := getattr(noun, k)) != v}


def write(schedule: Schedule, path: Path) -> str:
    """Write the file in one step (a reader never sees half of it); its sha256."""
    digest = hashlib.sha256()
    with replacing(path) as partial, partial.open("wb") as file:
        for line in lines(schedule):
            data = line.encode()
            digest.update(data)
            file.write(data)
    return digest.hexdigest()


def digest(path: Path) -> str:
    """sha256 of a schedule file: what identifies the traffic in every report."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read(path: Path) -> Schedule:
    """Read and check a schedule. Raises UsageError naming file, line and field."""
    rows = [(n, _parse(path, n, line)) for n, line in enumerate(_rows(_text(path)), 1)]
    header = rows[0][1] if rows else {}
    if header.get("format") != FORMAT:
        raise UsageError(
            f"{path}:1: format is {header.get('format')!r}, this version reads {FORMAT!r}; "
            "make the schedule anew with: aot schedule"
        )
    prefixes: dict[str, Prefix] = {}
    requests: dict[str, Request] = {}
    with _located(path, 1):
        endpoint = _endpoint(header.get("endpoint", "chat"))
    for number, row in rows[1:]:
        with _located(path, number):
            if "id" in row:
                _add_request(row, endpoint, prefixes, requests)
            else:
                _add_prefix(row, prefixes)
    with _located(path, 1):
        return _schedule(header, prefixes, requests)


def is_schedule(path: Path) -> bool:
    """Whether a file looks like one (and not like a trace)."""
    try:
        with path.open(encoding="utf-8") as handle:
            return '"aot-schedule/' in handle.read(200)
    except (OSError, UnicodeDecodeError):
        return False


def _rows(text: str) -> list[str]:
    """Lines by \\n only: JSON leaves U+2028 and its like as they are, where splitlines() cuts."""
    return text.removesuffix("\n").split("\n") if text else []


@contextmanager
def _located(path: Path, number: int) -> Iterator[None]:
    """Problems with the fields of one line become a UsageError that names it."""
    try:
        yield
    except KeyError as error:
        raise UsageError(f"{path}:{number}: field {error} is missing") from None
    except (TypeError, ValueError) as error:
        raise UsageError(f"{path}:{number}: {error}") from None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(
            f"{path}: no such file; make one with: aot schedule WORKLOAD.yaml -o {path}"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read as a schedule: {error}") from None


def _schedule(header: Any, prefixes: dict[str, Prefix], requests: dict[str, Request]) -> Schedule:
    if header["mode"] not in ("open", "closed"):
        raise ValueError(f"mode is {header['mode']!r}, expected 'open' or 'closed'")
    if not requests or header["requests"] != len(requests):
        raise ValueError(f"header announces {header['requests']} requests, found {len(requests)}")
    return Schedule(
        name=str(header["name"]),
        seed=int(header["seed"]),
        mode=header["mode"],
        users=int(header["users"]),
        max_tokens=int(header["max_tokens"]),
        ignore_eos=bool(header["ignore_eos"]),
        timeout_s=float(header["timeout_s"]),
        think_s=float(header["think_s"]),
        limits=_limits(header.get("limits", {})),
        endpoint=_endpoint(header.get("endpoint", "chat")),
        changes=header.get("changes", {}),
        prefixes=prefixes,
        requests=tuple(requests.values()),
    )


def _limits(row: Any) -> dict[str, float]:
    known = {f.name for f in fields(Limits)}
    if not isinstance(row, dict) or not row.keys() <= known:
        raise ValueError(f"limits is {row!r}, expected seconds under {', '.join(sorted(known))}")
    if any(not isinstance(s, int | float) or not 0 < s < float("inf") for s in row.values()):
        raise ValueError(f"limits is {row!r}, expected seconds above 0")
    return {name: float(s) for name, s in row.items()}


def _endpoint(name: Any) -> str:
    if name not in DIALECTS:
        raise ValueError(f"endpoint is {name!r}, expected one of {', '.join(DIALECTS)}")
    return str(name)


def _add_prefix(row: Any, prefixes: dict[str, Prefix]) -> None:
    first, second = row["probes"]
    probes = (_messages(first), _messages(second))
    tools = tuple(row.get("tools") or ())
    prefixes[row["prefix"]] = Prefix(
        row["prefix"], _messages(row["messages"]), probes, tools, row.get("salt"),
        row.get("arguments") or {},
    )  # fmt: skip


def _add_request(
    row: Any, endpoint: str, prefixes: dict[str, Prefix], requests: dict[str, Request]
) -> None:
    at_s = float(row["at_s"])
    latest = next(reversed(requests.values())).at_s if requests else 0.0
    if not latest <= at_s < float("inf"):
        raise ValueError(f"at_s is {at_s}, before the request above it ({latest})")
    if row["prefix"] not in prefixes:
        raise ValueError(f"prefix {row['prefix']!r} is not defined above")
    if row["id"] in requests:
        raise ValueError(f"id {row['id']!r} occurs twice")
    after = row.get("after")
    if after is not None and after not in requests:
        raise ValueError(f"after {after!r} is no request above")
    if row.get("appends") and after is None:
        raise ValueError("appends without 'after': to which chat?")
    if unknown := [j for j in row.get("joins", ()) if j not in requests]:
        raise ValueError(f"joins {unknown[0]!r} is no request above")
    given = {k: row[k] for k in OPTIONAL if k in row}
    given["joins"] = tuple(given.get("joins", ()))
    own = _own_messages(row, endpoint)
    _check_numbers(given)
    served = Served(**row["served"]) if row.get("served") else None
    requests[row["id"]] = Request(
        row["id"], at_s, row["tenant"], row["prefix"], own, served=served, **given
    )


def _check_numbers(given: dict[str, Any]) -> None:
    if given.get("max_tokens", 1) < 1:
        raise ValueError(f"max_tokens is {given['max_tokens']}, expected 1 or more")
    if not 0 < given.get("cancel_s", 1) < float("inf"):
        raise ValueError(f"cancel_s is {given['cancel_s']}, expected seconds above 0")


def _own_messages(row: Any, endpoint: str) -> tuple[Message, ...]:
    """Empty for a request with a body, which is checked instead."""
    own_endpoint = _endpoint(row.get("endpoint") or endpoint)
    if row.get("body") is not None:
        check(row["body"], own_endpoint)
        return ()
    own = _messages(row["messages"])
    if not own:
        raise ValueError("messages is empty: a prompt of no length cannot be sent")
    return own


def _messages(rows: Any) -> tuple[Message, ...]:
    for row in rows:
        if row["role"] not in ROLES or not isinstance(row["content"], str | list | None):
            raise ValueError("a message needs a known role and a text as content")
        if isinstance(row["content"], str) and not _can_be_sent(row["content"]):
            raise ValueError("a text has half of a surrogate pair, which no JSON can carry")
    return tuple(dict(row) for row in rows)


def _can_be_sent(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n"


def _parse(path: Path, number: int, line: str) -> Any:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise UsageError(f"{path}:{number}: not JSON: {error}") from None
    if not isinstance(row, dict):
        raise UsageError(f"{path}:{number}: expected an object, got {type(row).__name__}")
    return row
