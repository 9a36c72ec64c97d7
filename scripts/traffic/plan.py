"""Before the clock: a workload's schedule, its token counts, and the prefixes to warm."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from aot.configs.dialects.table import DIALECTS
from aot.configs.kernel.errors import UsageError
from aot.configs.kernel.files import replacing
from aot.configs.kernel.salts import Salts, tenant_salt
from aot.configs.loading.load import load_workload
from aot.serving.cache.warm import StaticPrefix
from aot.workloads.logs.file import Rows
from aot.workloads.plan import scenarios
from aot.workloads.plan.lexicon import Lexicon
from aot.workloads.prompts import compiled as compiled_file
from aot.workloads.prompts.compiled import Compiled
from aot.workloads.requests import schedule as schedule_file
from aot.workloads.requests.request import PROBES, Chat, Schedule
from aot.workloads.requests.tokens import ChatTokenizer, from_folder
from aot.workloads.traces import formats, to_schedule
from aot.workloads.traces.to_schedule import Options

YAML = (".yaml", ".yml")
Encode = Callable[..., list[int] | None]
"""Messages, tools and arguments of the chat template → token ids; None where nobody can tell."""
Tokens = dict[str, list[int]]
"""Token ids by request id; the prefixes' probes are 'probe/PREFIX/0' to 'probe/PREFIX/2'."""


LEARNED = 0.5
"""Of a log that is measured under several arms: the first half tells what is static."""


def schedule_of(path: Path, encode: Encode | None = None, learn: float = 0.0) -> Schedule:
    """The schedule of a workload file (.yaml), of a log or a trace, or a schedule file itself.

    `encode` counts tokens for texts of exact lengths. `learn`: of a log, the share in which static
    parts are found, and which is not replayed.
    """
    lexicon = Lexicon(encode) if encode else None
    if path.suffix in YAML:
        return scenarios.build(load_workload(path), path.stem, path.parent, lexicon)
    if not is_log(path):
        return schedule_file.read(path)
    rows, format_ = Rows(path), formats.detect(path)
    options = Options(learn=learn, one_by_one=True)
    return to_schedule.schedule(formats.read(rows, format_), format_, path.name, options, lexicon)


def is_log(path: Path) -> bool:
    """Whether traffic is a log or a trace, rather than a workload or a schedule."""
    return path.suffix not in YAML and path.exists() and not schedule_file.is_schedule(path)


def endpoint_of(path: Path) -> str:
    """The kind of endpoint that traffic is for. UsageError for a workload or schedule file that is
    none, before a server is asked."""
    if path.suffix in YAML:
        return load_workload(path).endpoint
    if is_log(path):
        first = next(formats.read(Rows(path, skip_bad=True), formats.detect(path)))
        return first.endpoint
    return schedule_file.read(path).endpoint


def local_encoder(model: str, plain: bool = False) -> Encode | None:
    """The tokenizer in the model's folder, if `model` is one and has one; `plain`: a chat template
    is not needed."""
    tokenizer = local_tokenizer(model, plain)
    return tokenizer.encode if tokenizer else None


def local_tokenizer(model: str, plain: bool = False) -> ChatTokenizer | None:
    """The same with all it can do."""
    return from_folder(Path(model), plain) if Path(model).is_dir() else None


def takes_texts(endpoint: str) -> bool:
    """Whether prompts go to such an endpoint as texts, so that no chat template is needed."""
    return DIALECTS[endpoint].item is None


def count_tokens(schedule: Schedule, encode: Encode) -> Tokens | None:
    """Token ids of every prompt and probe; None as soon as `encode` cannot tell."""
    probes = count_probes(schedule, encode)
    requests = _count_requests(schedule, encode)
    return None if probes is None or requests is None else requests | probes


def _count_requests(schedule: Schedule, encode: Encode) -> Tokens | None:
    """None, too, where requests are for several kinds of endpoints, which render in ways of their
    own."""
    if any(r.endpoint not in (None, schedule.endpoint) for r in schedule.requests):
        return None
    chats = ((r.id, schedule.chat_of(r), schedule.arguments_of(r)) for r in schedule.planned)
    return _count(chats, encode)


def count_probes(schedule: Schedule, encode: Encode) -> Tokens | None:
    """Token ids of the prefixes' probes only: what warming needs."""
    chats = (
        (probe_key(prefix.id, which), schedule.probe(prefix, which), prefix.arguments)
        for prefix in schedule.prefixes.values()
        for which in PROBES
    )
    return _count(chats, encode)


def count_answered(schedule: Schedule, answers: Mapping[str, str], encode: Encode) -> Tokens | None:
    """Token ids of the prompts that have the server's own answers in them, as far as these are
    known; None when `encode` cannot tell."""
    chats: list[tuple[str, Chat, Mapping[str, Any]]] = []
    for request in schedule.requests:
        if request.appends:
            with suppress(KeyError):  # a turn before it failed: it was never sent
                chats.append((request.id, schedule.chat_of(request, answers), {}))
    return _count(chats, encode)


def _count(chats: Iterable[tuple[str, Chat, Mapping[str, Any]]], encode: Encode) -> Tokens | None:
    """By name: chats with the arguments of their template."""
    tokens: Tokens = {}
    for key, chat, arguments in chats:
        ids = encode(*chat, arguments) if arguments else encode(*chat)
        if ids is None:
            return None
        tokens[key] = ids
    return tokens


def probe_key(prefix_id: str, which: int) -> str:
    return f"probe/{prefix_id}/{which}"


def static_prefixes(
    schedule: Schedule,
    compiled: Mapping[str, Compiled],
    salts: Salts | None = None,
    tenant_salts: bool = False,
) -> list[StaticPrefix]:
    """What to warm: per prefix, two chats that differ only in their dynamic part. A prefix that
    fills no block is left out: nothing of it can be found again."""
    prefixes = []
    for prefix in schedule.prefixes.values():
        compiled_prefix = compiled.get(prefix.id)
        if compiled_prefix is not None and compiled_prefix.full_blocks == 0:
            continue
        static = compiled_prefix.static_tokens if compiled_prefix else None
        salt = tenant_salt(prefix.id, prefix.salt, tenant_salts)
        salt = salts.of("warm", salt) if salts else salt
        first, second, third = (schedule.probe(prefix, which).messages for which in PROBES)
        prompts = (first, second, third)
        given = (prefix.tools, salt, prefix.arguments)
        prefixes.append(StaticPrefix(prefix.id, prompts, static, *given))
    return prefixes


def write_compiled(compiled: Mapping[str, Compiled], run_folder: Path, server: str) -> None:
    """compiled/SERVER/PREFIX.json: what the aot arm warms, as `aot compile` writes it."""
    folder = run_folder / "compiled" / server
    for prefix, compiled_prefix in compiled.items():
        folder.mkdir(parents=True, exist_ok=True)
        name = re.sub(r"[^\w.-]+", "-", prefix).strip("-.")
        compiled_file.write(compiled_prefix, folder / f"{name or 'prefix'}.json")


def check_context(
    schedule: Schedule, tokens: Tokens | None, context_tokens: int | None, encode: Encode | None
) -> None:
    """UsageError when a prompt and its output do not fit into the model's context."""
    if tokens is None or context_tokens is None or encode is None:
        return
    # Answers that are not there yet count as the words that they may have.
    turns = {r.after for r in schedule.requests if r.appends}
    longest_answers = {
        r.id: " the" * schedule.output_tokens(r) for r in schedule.requests if r.id in turns
    }
    last = {r.id for r in schedule.requests if r.appends} - turns
    for request in schedule.requests:
        if request.id in tokens:
            prompt = len(tokens[request.id])
        elif request.id in last:
            prompt = len(encode(*schedule.chat_of(request, longest_answers)) or ())
        else:
            continue
        needed = prompt + schedule.output_tokens(request)
        if needed > context_tokens:
            raise UsageError(
                f"{request.id} needs {needed} tokens (prompt and output), but the model's context "
                f"is {context_tokens} (context_tokens in the server file, --scale for a trace)"
            )


def write_tokens(tokens: Tokens | None, path: Path) -> None:
    """One row per prompt, id and token_ids. Nothing without tokens."""
    if not tokens:
        return
    table = pa.table(
        {
            "id": pa.array(list(tokens)),
            "token_ids": pa.array(list(tokens.values()), pa.list_(pa.int32())),
        }
    )
    with replacing(path) as partial:
        pq.write_table(table, partial, compression="zstd")
