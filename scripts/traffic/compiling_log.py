"""`aot compile LOG`: the static parts of logged traffic, each a compiled prompt like any other."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from aot.configs.kernel.errors import UsageError
from aot.scripts.prompts.compiling import target_of
from aot.scripts.terminal import note
from aot.scripts.traffic import plan
from aot.serving.client.endpoint import Endpoint
from aot.workloads.prompts import compiled as compiled_file
from aot.workloads.prompts.compile_prefix import compile_prefix
from aot.workloads.prompts.compiled import Compiled
from aot.workloads.requests.body import TEXTS
from aot.workloads.requests.request import Prefix
from aot.workloads.traces import formats


@dataclass(frozen=True, slots=True)
class Worth:
    """One static part of a log. `requests`: that begin with it, and with no longer one."""

    compiled: Compiled
    requests: int

    @property
    def spared_tokens(self) -> int:
        """Of the requests after the first, as if it was computed for each of them."""
        return self.compiled.cached_tokens * (self.requests - 1)


def compile_log(
    log: Path, model: str | None, server: Endpoint | None, block_tokens: int | None
) -> list[Worth]:
    """The static parts of two or more requests that fill a block, the one that spares most first.

    Raises UsageError where there is none, and what reading logs and counting tokens raises.
    """
    if plan.is_log(log) and formats.detect(log).knows != "messages":
        raise UsageError(f"{log}: has no texts, of which something could be compiled")
    schedule = plan.schedule_of(log)
    if texts := sum((r.endpoint or schedule.endpoint) in TEXTS for r in schedule.requests):
        raise UsageError(
            f"{log}: {texts} of its {len(schedule.requests)} requests are texts without a chat "
            "template (completions, generate), and what is compiled is a chat; warm from the log "
            f"itself: aot warm {log}"
        )
    target = target_of(model, server, block_tokens, None)
    uses = Counter(r.prefix for r in schedule.requests)
    found = []
    for prefix in schedule.prefixes.values():
        if uses[prefix.id] < 2 or not _has_text(prefix):
            continue
        if prefix.arguments:
            note(
                f"{prefix.id}: its requests have arguments of the chat template, which a compiled "
                f"prompt has not; warm it from the log: aot warm {log}"
            )
            continue
        made = compile_prefix(schedule, prefix, replace(target, salt=prefix.salt))
        if made.cached_tokens:
            found.append(Worth(made, uses[prefix.id]))
    if not found:
        raise UsageError(
            f"{log}: no two sessions of its {len(schedule.requests)} requests begin alike for a "
            f"block of {target.block_tokens} tokens under one cache salt: there is nothing to "
            f"compile; aot lint {log} may say why"
        )
    return sorted(found, key=lambda w: -w.spared_tokens)


def _has_text(prefix: Prefix) -> bool:
    """Whether there is anything of the traffic in it: messages, tools, or the beginning of one that
    both probes have."""
    (one, *_), (other, *_) = prefix.probes
    begins_alike = str(one.get("content"))[:1] == str(other.get("content"))[:1]
    return bool(prefix.messages or prefix.tools or begins_alike)


def check_place(folder: Path) -> None:
    """UsageError for a folder that is there: what is in it is somebody's."""
    if folder.exists() or folder.is_symlink():
        raise UsageError(f"-o {folder}: is there already; name a new folder, or remove it")
    if not folder.parent.is_dir():
        raise UsageError(f"-o {folder}: no folder {folder.parent}")


def write(found: Sequence[Worth], folder: Path) -> list[Path]:
    """One file each, in a folder that is there with all of them or not at all."""
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        names = [f"{n:02d}-{worth.compiled.cache_key[:12]}.json" for n, worth in enumerate(found)]
        for name, worth in zip(names, found, strict=True):
            compiled_file.write(worth.compiled, made / name)
        made.chmod(0o755)
        made.rename(folder)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    return [folder / name for name in names]
