"""What a store's disk was filled with: by which model, computed how, and which compiled prompts.

A key of the store has the model's path and the tokens in it, and nothing of weights or dtype: after
a change of those it would hand out the values of before. So they are written down beside the chunks
(`aot-contents.json`), and compared before the store starts again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from aot.configs.kernel.errors import UsageError
from aot.configs.kernel.files import replacing
from aot.serving.local.store_disk import Chunk

FILE = "aot-contents.json"
SAMPLE_BYTES = 1 << 20
"""Of the beginning, the middle and the end of each file of weights: reading all takes minutes."""
WEIGHTS = ("*.safetensors", "*.bin", "*.gguf", "config.json", "*.index.json")


@dataclass(frozen=True, slots=True)
class Filling:
    """What the values in a model's chunks depend on. `settings`: arguments of the engine with their
    values. `weights`: a fingerprint; None for a model that is no folder here."""

    model: str
    weights: str | None
    settings: dict[str, str]
    chunk_tokens: int

    def differences(self, other: Filling) -> list[str]:
        """In what `other` computes other values under the same keys: words."""
        words = []
        if self.weights and other.weights and self.weights != other.weights:
            words.append("other weights")
        for name in sorted(self.settings.keys() | other.settings.keys()):
            was, now = (f.settings.get(name, "the default") for f in (self, other))
            if was != now:
                words.append(f"{name} was {was}, now {now}")
        return words


@dataclass(frozen=True, slots=True)
class StoredPrompt:
    """A compiled prompt that was put there. `chunks`: the names of its full ones, in order."""

    id: str
    cache_key: str
    model: str
    tokenizer_sha256: str
    salt: str | None
    chunk_tokens: int
    chunks: tuple[str, ...]

    def present(self, chunks: Iterable[Chunk]) -> int:
        """How many of its chunks are there from its beginning on, which is what can be found."""
        there = {c.name for c in chunks if c.model == self.model and c.salt == self.salt}
        missing = (n for n, name in enumerate(self.chunks) if name not in there)
        return next(missing, len(self.chunks))


@dataclass(frozen=True, slots=True)
class Contents:
    """By the model's path, and by the cache key."""

    models: dict[str, Filling] = field(default_factory=dict)
    prompts: dict[str, StoredPrompt] = field(default_factory=dict)

    def with_model(self, filling: Filling) -> Contents:
        return replace(self, models={**self.models, filling.model: filling})

    def with_prompt(self, prompt: StoredPrompt) -> Contents:
        return replace(self, prompts={**self.prompts, prompt.cache_key: prompt})

    def without(self, models: Iterable[str]) -> Contents:
        gone = set(models)
        return Contents(
            {m: f for m, f in self.models.items() if m not in gone},
            {k: p for k, p in self.prompts.items() if p.model not in gone},
        )


def read(folder: Path) -> Contents:
    """Empty where nothing was written down; UsageError for a file that is not ours."""
    path = folder / FILE
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        fillings = [Filling(**row) for row in data["models"]]
        prompts = [StoredPrompt(**{**r, "chunks": tuple(r["chunks"])}) for r in data["prompts"]]
    except FileNotFoundError:
        return Contents()
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UsageError(
            f"{path}: not what a store of ours was filled with ({error}); remove the file, and the "
            "chunks beside it if you do not know who computed them"
        ) from None
    return Contents({f.model: f for f in fillings}, {p.cache_key: p for p in prompts})


def write(folder: Path, contents: Contents) -> None:
    rows = {
        "models": [asdict(f) for f in contents.models.values()],
        "prompts": [asdict(p) for p in contents.prompts.values()],
    }
    with replacing(folder / FILE) as partial:
        partial.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def check(folder: Path, filling: Filling) -> str | None:
    """What is to be said before a store starts on `folder` for `filling`; None for nothing.

    UsageError where its chunks would be found, and hold other values.
    """
    before = read(folder).models.get(filling.model) if folder.is_dir() else None
    if before is None:
        return None
    if words := before.differences(filling):
        raise UsageError(
            f"store.disk: the chunks in {folder} were computed by this model path with other "
            f"values ({', '.join(words)}), and would be taken for this server's; name another "
            f"disk, or remove them: aot store prune {folder} --model {filling.model}"
        )
    if before.chunk_tokens != filling.chunk_tokens:
        return (
            f"store: the chunks of {before.chunk_tokens} tokens in {folder} are found by nobody "
            f"now that chunk_tokens is {filling.chunk_tokens}; fill it anew, or remove them: "
            f"aot store prune {folder} --model {filling.model}"
        )
    return None


def weights_of(model: str) -> str | None:
    """A fingerprint of a model folder's configuration and weights; None where it is none."""
    folder = Path(model)
    if not folder.is_dir():
        return None
    digest = hashlib.sha256()
    for path in sorted({p for pattern in WEIGHTS for p in folder.glob(pattern)}):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            for start in _samples(size):
                file.seek(start)
                digest.update(file.read(SAMPLE_BYTES))
    return digest.hexdigest()


def _samples(size: int) -> Sequence[int]:
    if size <= 3 * SAMPLE_BYTES:
        return range(0, size, SAMPLE_BYTES)
    return (0, size // 2, size - SAMPLE_BYTES)
