"""`aot compile`: a prompt folder, the model's tokenizer or a server, → compiled.json."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from aot.configs.kernel.errors import EndpointError, UsageError
from aot.configs.loading.presets import recipe_names
from aot.serving.client.detect import detect
from aot.serving.client.endpoint import Endpoint
from aot.serving.engines import block_hashes
from aot.serving.engines.engine import Engine
from aot.serving.local import models
from aot.workloads.prompts import folder as prompts
from aot.workloads.prompts import kept
from aot.workloads.prompts.compile import Encode, Target, compile_folder, fingerprint
from aot.workloads.prompts.compile_prefix import compile_prefix
from aot.workloads.prompts.compiled import BlockHashes, Compiled
from aot.workloads.requests.request import Schedule
from aot.workloads.requests.tokens import ChatParts, ChatTokenizer, from_folder

DEFAULT_BLOCK_TOKENS = 16
"""vLLM's on CUDA: what is assumed where no server says otherwise."""


def compile_prompt(
    folder: Path,
    variables: dict[str, str],
    model: str | None,
    server: Endpoint | None,
    block_tokens: int | None,
    salt: str | None,
    arguments: Mapping[str, Any] | None = None,
) -> Compiled:
    """Compile for a model's folder (or recipe name), a running server, or both: then the tokens
    are counted locally, and block size, context and the model's name are the server's.
    `arguments`: of the chat template."""
    read = None if kept.is_kept(folder) else prompts.read(folder)
    target = with_arguments(target_of(model, server, block_tokens, salt), arguments or {})
    if read is not None:
        return compile_folder(read, variables, target)
    prompt = kept.read(folder)
    if not prompt.has_static_part:
        raise UsageError(
            f"{folder}: nothing of it is static: it is empty, or begins with what is filled in"
        )
    schedule = prompt.schedule(folder.stem)
    made = compile_prefix(schedule, schedule.prefixes[kept.PREFIX], target)
    return made.model_copy(update={"variables": {}})


def with_arguments(target: Target, arguments: Mapping[str, Any]) -> Target:
    """The same, its tokens counted with arguments of the chat template."""
    if not arguments:
        return target

    def encode(chats: Sequence[ChatParts]) -> list[list[int]]:
        given = [(m, t, {**arguments, **(more[0] if more else {})}) for m, t, *more in chats]
        return target.encode(given)

    return replace(target, encode=encode, arguments=arguments)


def target_of(
    model: str | None, server: Endpoint | None, block_tokens: int | None, salt: str | None
) -> Target:
    """What is compiled for: a model's folder or recipe, a running server, or both. UsageError where
    its tokens cannot be counted."""
    if server is None:
        return _local(model or "", block_tokens, salt)
    local = tokenizer_of(model).encode_many if model else None
    return _served(server, local, block_tokens, salt)


def _local(model: str, block_tokens: int | None, salt: str | None) -> Target:
    folder = model_folder(model)
    return Target(
        model=folder.name,
        block_tokens=block_tokens or DEFAULT_BLOCK_TOKENS,
        salt=salt,
        context_tokens=_context_of(folder),
        encode=tokenizer_of(model).encode_many,
        hashes=_hashes,
        weights_sha256=_weights_of(folder),
    )


def _weights_of(folder: Path) -> str | None:
    """What names a model whatever its path: its configuration, and the names and sizes of its
    weights. None without them."""
    config, weights = folder / "config.json", sorted(folder.glob("*.safetensors"))
    if not config.exists() or not weights:
        return None
    sizes = [[path.name, path.stat().st_size] for path in weights]
    text = config.read_text(encoding="utf-8") + json.dumps(sizes)
    return hashlib.sha256(text.encode()).hexdigest()


def compile_schedule(
    schedule: Schedule, server: Endpoint, engine: Engine, local: Encode | None
) -> dict[str, Compiled]:
    """Every static prefix of planned traffic, by its id; empty where neither a tokenizer (`local`)
    nor the server can count tokens, or nobody knows the block size."""
    facts = engine.cache_facts(server.page(engine))
    if facts.block_tokens is None:
        return {}
    encode = local or _encode_on(server)
    target = _target(server, engine, facts.block_tokens, None, encode)
    try:
        return {p.id: compile_prefix(schedule, p, target) for p in schedule.prefixes.values()}
    except _NoTokenizeError:
        return {}


def _served(
    server: Endpoint, local: Encode | None, block_tokens: int | None, salt: str | None
) -> Target:
    engine = detect(server)
    facts = engine.cache_facts(server.page(engine))
    block = block_tokens or facts.block_tokens
    if block is None:
        raise UsageError(
            f"{server.base_url} does not report its block size; give it: --block-tokens N"
        )
    return _target(server, engine, block, salt, local or _encode_on(server))


def _target(
    server: Endpoint, engine: Engine, block: int, salt: str | None, encode: Encode
) -> Target:
    return Target(
        model=server.model,
        block_tokens=block,
        salt=salt,
        context_tokens=server.context_tokens(),
        encode=encode,
        hashes=_hashes if engine.block_hashes else (lambda *_: None),
    )


def static_tokens(schedule: Schedule, folder: str, block_tokens: int) -> dict[str, int]:
    """Tokens of every static prefix of planned traffic, by the model's own tokenizer."""
    target = _local(folder, block_tokens, None)
    prefixes = schedule.prefixes.values()
    return {p.id: compile_prefix(schedule, p, target).static_tokens for p in prefixes}


class _NoTokenizeError(EndpointError):
    """The server does not count tokens for us."""


def _encode_on(server: Endpoint) -> Encode:
    def encode(chats: Sequence[ChatParts]) -> list[list[int]]:
        token_ids = []
        for messages, *more in chats:
            ids = server.tokenize(list(messages), *more)
            if ids is None:
                raise _NoTokenizeError(
                    f"{server.base_url} has no usable /tokenize; count with the model's own "
                    "tokenizer: --model PATH"
                )
            token_ids.append(ids)
        return token_ids

    return encode


def tokenizer_of(model: str) -> ChatTokenizer:
    """The tokenizer of a model folder or recipe; UsageError where there is none."""
    tokenizer = from_folder(model_folder(model))
    if tokenizer is None:
        raise UsageError(
            f"--model {model}: no tokenizer.json with a chat template there; name a model folder, "
            "a recipe (aot model list), or a running server: --server URL"
        )
    return tokenizer


def fingerprint_of(folder: str) -> str | None:
    """Of the tokenizer and chat template in a model's folder; None where there is none."""
    tokenizer = from_folder(Path(folder))
    return fingerprint(tokenizer.encode_many) if tokenizer else None


def model_folder(model: str) -> Path:
    """The folder of a path or of a recipe's name; NotInstalledError for one not fetched yet."""
    if Path(model).is_dir() or model not in recipe_names("models"):
        return Path(model).resolve()
    return Path(models.resolve(model, Path(model)))


def _context_of(folder: Path) -> int | None:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    positions = config.get("max_position_embeddings")
    return int(positions) if positions else None


def _hashes(ids: Sequence[int], block_tokens: int, salt: str | None) -> BlockHashes:
    chain = block_hashes.chain(ids, block_tokens, salt)
    return BlockHashes(algorithm=block_hashes.ALGORITHM, hashes=[h.hex() for h in chain])
