"""`aot check` without its command line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from aot.analysis.pages import checkup
from aot.configs.dialects.wording import Wording
from aot.configs.kernel.errors import ToolkitError
from aot.configs.kernel.files import replacing
from aot.configs.schema.remote_server import RemoteConfig
from aot.scripts import server_files
from aot.scripts.checkup import together
from aot.scripts.checkup.answer import Answer
from aot.scripts.checkup.of_log import of_log
from aot.scripts.checkup.shown import broken, working
from aot.scripts.connecting import connect
from aot.scripts.doctor import sizing
from aot.scripts.doctor.cache_blocks import is_here, own_blocks
from aot.scripts.traffic import served
from aot.serving.health import facts, faults


@dataclass(frozen=True, slots=True)
class Where:
    """The server: one that runs, or the file of one; neither: a log alone."""

    url: str | None
    file: Path | None
    model: str | None
    api_key_env: str | None
    wording: Wording


def answer(
    log: Path | None,
    where: Where,
    seconds: float,
    send: bool,
    price: float | None,
    report: Callable[[str], None],
) -> Answer:
    """What is given allows so much. Errors as of logs, server files and servers."""
    server = None
    where = running(where)
    if where.url:
        endpoint = connect(where.url, where.model, where.api_key_env, where.wording)
        server = facts.look(endpoint, seconds, send, report)
    capacity = server.cache.capacity_tokens if server else None
    block = server.cache.block_tokens if server else None
    model = None
    if where.file:
        name, block = served.as_served(where.file, None, block)
        model = name if is_here(name) else None
        blocks = own_blocks(where.file, block, 1)
        capacity = capacity or (blocks * block if blocks else None)
    found = of_log(log, model, block, report) if log else None
    made = Answer(found, server, (), capacity, _bytes_per_token(where.file), where.file, price)
    now = made.found[0] if made.found else None
    of_server = faults.faults(server) if server else []
    wrong = together.faults(found, server, of_server, capacity, now)
    return replace(made, faults=tuple(wrong))


def running(where: Where) -> Where:
    """With the address of a server file that is of a running one."""
    config = server_files.read(where.file) if where.file else None
    if not isinstance(config, RemoteConfig):
        return where
    key = where.api_key_env or config.api_key_env
    return replace(where, url=where.url or config.url, file=None, api_key_env=key)


def _bytes_per_token(file: Path | None) -> float | None:
    if file is None:
        return None
    try:
        memory = sizing.size(file, None).memory
    except ToolkitError:
        return None
    return float(memory.kv_bytes_per_token * memory.cards)


def write_page(made: Answer, path: Path) -> None:
    """The answer as one HTML file."""
    log = made.log
    html = checkup.page(
        made.as_json(),
        working=list(working(made)),
        broken=list(broken(made)),
        shares=[(s.name, s.share, s.words) for s in made.shares],
        curve=log.curve if log else (),
    )
    with replacing(path) as partial:
        partial.write_text(html, encoding="utf-8")
