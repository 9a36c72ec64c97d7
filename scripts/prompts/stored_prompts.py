"""Which compiled prompts are on a store's disk, and why others are found by nobody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aot.configs.kernel.errors import CacheStateError, UsageError
from aot.configs.schema.beside import StoreConfig
from aot.scripts.prompts.compiling import fingerprint_of
from aot.scripts.server_files import launched
from aot.serving.local import models, store_contents, store_disk
from aot.serving.local.store_contents import Contents, StoredPrompt
from aot.serving.topology.stores import STORES
from aot.workloads.prompts.compiled import Compiled


def entry_of(prompt: Compiled, model: str, store: StoreConfig) -> StoredPrompt:
    """`prompt` as `store` keeps it for the model at the path `model`. CacheStateError where it
    fills not one chunk."""
    names = STORES[store.kind].chunk_names(prompt.static_token_ids, store.chunk_tokens)
    if not names:
        raise CacheStateError(
            f"{prompt.id}: its {prompt.static_tokens} static tokens are shorter than a chunk of "
            f"{store.chunk_tokens}: nothing of it can be stored; set store.chunk_tokens lower"
        )
    return StoredPrompt(
        prompt.id, prompt.cache_key, model, prompt.tokenizer_sha256, prompt.cache_salt,
        store.chunk_tokens, names,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Found:
    """A compiled prompt on a disk. `stale`: why nobody finds it; empty where it can be found."""

    prompt: StoredPrompt
    present: int
    stale: str

    @property
    def state(self) -> str:
        if self.stale:
            return f"stale: {self.stale}"
        if self.present < len(self.prompt.chunks):
            return "not there" if not self.present else "partly: compile it in again"
        return "there"


def disk_of(server: Path) -> Path:
    """The folder that a server file's store keeps; UsageError where it has none."""
    store = launched(server, "look for").store
    if store is None or store.disk is None:
        raise UsageError(f"{server}: has no store with a 'disk'")
    return (server.parent / store.disk).resolve()


def found(disk: Path, server: Path | None, more: Sequence[Compiled]) -> list[Found]:
    """The prompts that were compiled into `disk`, and `more` of them; against what a server file
    says now, where one is given."""
    contents, chunks = store_contents.read(disk), store_disk.chunks(disk)
    sites = _sites(contents, server)
    if more and len(sites) != 1:
        raise UsageError(
            f"the store was filled by {len(sites)} models: name the server file in place of its "
            "disk, so that it is clear which one is meant"
        )
    given = [entry_of(prompt, model, store) for model, store in sites for prompt in more]
    entries = [*contents.prompts.values(), *given]
    wanted = {(e.cache_key, e.model, e.chunk_tokens): e for e in entries}.values()
    now = sites[0] if server else None
    return [Found(e, e.present(chunks), _stale(e, contents, now)) for e in wanted]


Site = tuple[str, StoreConfig]
"""The path of a model and the store it is kept in."""


def _sites(contents: Contents, server: Path | None) -> list[Site]:
    """Of a server file as it is now; else of all who filled the disk."""
    if server is None:
        fillings = contents.models.values()
        return [(f.model, StoreConfig(chunk_tokens=f.chunk_tokens)) for f in fillings]
    config = launched(server, "look for")
    assert config.store is not None
    return [(models.resolve(config.model, server), config.store)]


def _stale(prompt: StoredPrompt, contents: Contents, now: Site | None) -> str:
    """Why nobody finds it, in words; empty where it can be found."""
    filling = contents.models.get(prompt.model)
    size = now[1].chunk_tokens if now else filling.chunk_tokens if filling else None
    if now and now[0] != prompt.model:
        return f"another model path: {prompt.model}, and the file has {now[0]}"
    if size and size != prompt.chunk_tokens:
        return f"another chunk size: {prompt.chunk_tokens}, now {size}"
    if store_disk.is_gone(prompt.model):
        return f"its model is gone: {prompt.model}"
    weights = store_contents.weights_of(prompt.model)
    if filling and filling.weights and weights and filling.weights != weights:
        return "the model has other weights, or another config.json, now"
    template = fingerprint_of(prompt.model)
    if template and template != prompt.tokenizer_sha256:
        return "another tokenizer or chat template"
    return ""
