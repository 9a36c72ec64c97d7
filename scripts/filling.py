"""`aot compile --into SERVER`: a compiled prompt into the store of a server file."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from aot.configs.kernel.errors import CacheStateError, UsageError
from aot.scripts.prompts import warming
from aot.scripts.prompts.compiling import compile_prompt
from aot.scripts.prompts.stored_prompts import entry_of
from aot.scripts.run import launch
from aot.scripts.run.launch import Launcher
from aot.scripts.terminal import status
from aot.serving.cache.warm import Warmed, insist
from aot.serving.local import store_contents, store_disk
from aot.serving.local.deployment import Deployment
from aot.serving.local.store_contents import StoredPrompt
from aot.workloads.prompts.compiled import Compiled

ON_DISK_S = 60.0
POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Stored:
    """What compiling into a store did. `chunks`: full ones of the static part, on its disk now."""

    prompt: Compiled
    warmed: Warmed
    chunks: int
    disk: Path


def launcher_of(server: Path) -> Launcher:
    """UsageError where the file has no store with a disk of its own."""
    launcher = launch.prepare(server)
    store = launcher.config.store
    if store is None or store.disk is None:
        what = "has no 'store'" if store is None else "has a store without a 'disk'"
        if store and store.address:
            what = f"names a store that runs already ({store.address}), whose disk is not ours"
        raise UsageError(
            f"--into {server}: {what}; it needs one such as store: {{kind: lmcache, disk: "
            "kv-store}, or: aot serve, then aot warm"
        )
    return launcher


def compile_into(
    folder: Path, variables: dict[str, str], launcher: Launcher, salt: str | None
) -> Stored:
    """Start the server of a file with its store, prefill the prompt and verify that it hits, wait
    until its chunks are on the disk, and end all of it.

    Raises CacheStateError where it was not found again, or did not reach the disk.
    """
    store = launcher.config.store
    assert store is not None
    log = Path(tempfile.mkstemp(prefix="aot-compile-", suffix=".log")[1])
    with launcher.up("store", log) as up:
        endpoint = launcher.endpoint(up)
        where = warming.place(endpoint)
        prompt = compile_prompt(folder, variables, launcher.model, endpoint, None, salt)
        warming.check([prompt], where)
        with status("compiling the static prefix into the store") as line:
            warmed = warming.warm_all([prompt], where, line)
            insist(warmed)
            entry = entry_of(prompt, launcher.model, store)
            disk = _disk(up)
            # Before it is there for certain: a part of it is listed as a part.
            store_contents.write(disk, store_contents.read(disk).with_prompt(entry))
            line(f"waiting until its {len(entry.chunks)} chunks are on the disk")
            _wait(entry, disk, up)
    return Stored(prompt, warmed[0], len(entry.chunks), disk)


def _disk(up: Deployment) -> Path:
    assert up.plans.store is not None
    assert up.plans.store.disk is not None
    return up.plans.store.disk


def _wait(entry: StoredPrompt, disk: Path, up: Deployment) -> None:
    deadline = time.monotonic() + ON_DISK_S
    while (there := entry.present(store_disk.chunks(disk))) < len(entry.chunks):
        lost = up.store_lost_writes
        if lost or time.monotonic() > deadline:
            why = "the disk did not take them (is it full?)" if lost else "the store wrote no more"
            raise CacheStateError(
                f"{entry.id}: {there} of {len(entry.chunks)} chunks are in {disk}: {why}; see "
                f"{up.store.log if up.store else 'its log'}"
            )
        time.sleep(POLL_S)
