"""compiled.json: what is static in a prompt, measured, and everything needed to warm it.

The same folder, model and options give the same bytes on every machine: nothing in it depends on
the time or the place.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from aot.configs.kernel.errors import UsageError
from aot.configs.kernel.files import replacing
from aot.workloads.requests.request import Message, Which, probes

FAMILY = "aot-compiled/"
"""With a version behind it."""
FORMAT: Literal["aot-compiled/1"] = "aot-compiled/1"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Segment(_Strict):
    """A part of the rendered prompt. `tokens` None: the chat template does not show it."""

    name: str
    kind: Literal["system", "document", "examples", "tools", "frame"]
    file: str | None
    tokens: int | None
    sha256: str
    text: str


class Spread(_Strict):
    """Tokens over the rendered inputs."""

    min: int
    median: int
    max: int


class Template(_Strict):
    """One dynamic template: `static_tokens` of its own are shared by all its renderings."""

    name: str
    file: str
    inputs: int
    static_tokens: int
    dynamic_tokens: Spread
    sha256: str


class BlockHashes(_Strict):
    """Names of the full static blocks on a live server, hexadecimal."""

    algorithm: str
    hashes: list[str]


class Compiled(_Strict):
    """One compiled prompt. Token counts are of the model's own tokenizer and chat template."""

    format: Literal["aot-compiled/1"] = FORMAT
    prompt: str
    variables: dict[str, str]
    model: str
    tokenizer_sha256: str
    """Fingerprint of the tokenizer and chat template: over the tokens of fixed chats."""
    block_tokens: int
    cache_salt: str | None
    static_tokens: int
    dynamic_tokens: Spread
    full_blocks: int
    cached_tokens: int
    """Tokens in full blocks: what a later prompt can find of the static part."""
    rounding_tokens: int
    """Static tokens behind the last full block: computed again for every request."""
    cache_key: str
    segments: list[Segment]
    templates: list[Template]
    block_hashes: BlockHashes | None
    static_token_ids: list[int]
    messages: list[Message]
    """The static messages."""
    tools: list[dict[str, Any]]
    weights_sha256: str | None = None
    """Over the model's configuration and the names and sizes of its weights: the same model, under
    whatever name or path. None: compiled by a server."""
    template_arguments: dict[str, Any] = {}
    """Of the chat template, under which all of it was counted; requests must carry the same."""
    probes: tuple[list[Message], list[Message]]
    """Two dynamic parts to prefill and to verify with."""

    @property
    def id(self) -> str:
        """What it is called among others: the folder, and the values of its variables."""
        return " ".join([self.prompt, *self.variables.values()])

    def chat(self, which: Which) -> list[Message]:
        """The whole chat of one probe."""
        return [*self.messages, *probes(*self.probes)[which]]

    def to_text(self) -> str:
        return json.dumps(self.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"


def cache_key(
    model: str, tokenizer_sha256: str, block_tokens: int, salt: str | None, ids: Sequence[int]
) -> str:
    """sha256 over what decides whether two machines mean the same cached blocks."""
    parts = [model, tokenizer_sha256, block_tokens, salt, list(ids)]
    return hashlib.sha256(json.dumps(parts, separators=(",", ":")).encode()).hexdigest()


def write(compiled: Compiled, path: Path) -> None:
    """Replace the file in one step: a failed compile leaves the one that was there."""
    with replacing(path) as partial:
        partial.write_text(compiled.to_text(), encoding="utf-8")


def read(path: Path) -> Compiled:
    """The file; UsageError when it is not there or not a compiled prompt of this version."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(
            f"{path}: no such file; make it with: aot compile PROMPT_DIR -o {path}"
        ) from None
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{path}: not a compiled prompt: {error}; what is static in a log is found by: "
            "aot compile LOG -o FOLDER"
        ) from None
    format_ = data.get("format") if isinstance(data, dict) else None
    if format_ != FORMAT:
        raise UsageError(
            f"{path}: format is {format_!r}, this version reads {FORMAT!r}; compile anew"
        )
    try:
        return Compiled.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UsageError(f"{path}: {where}: {first['msg']}; compile anew") from None


def read_all(what: Sequence[Path]) -> list[Compiled]:
    """Those of all files and folders; UsageError with the first that is none."""
    return [read(path) for path in listed(what)]


def listed(what: Sequence[Path]) -> list[Path]:
    """Files as they are; of a folder, as `aot compile LOG` writes one, the compiled prompts in it
    by name. UsageError for a folder without any."""
    found: list[Path] = []
    for path in what:
        files = within(path) if path.is_dir() else [path]
        if not files:
            raise UsageError(
                f"{path}: a folder without compiled prompts; make one of a log with: "
                "aot compile LOG -o NEW_FOLDER"
            )
        found += files
    return found


def within(folder: Path) -> list[Path]:
    """The compiled prompts in a folder, by name."""
    return [path for path in sorted(folder.glob("*.json")) if is_compiled(path)]


def left_out(what: Sequence[Path]) -> list[Path]:
    """Other JSON files beside the compiled prompts of folders."""
    kept = {path: within(path) for path in what if path.is_dir()}
    return [
        p for d, files in kept.items() if files for p in sorted(d.glob("*.json")) if p not in files
    ]


def is_compiled(path: Path) -> bool:
    """Whether a file looks like one, of this version or another (and not like a workload or a
    schedule)."""
    try:
        with path.open(encoding="utf-8") as handle:
            return FAMILY in handle.read(200)
    except (OSError, UnicodeDecodeError):
        return False
