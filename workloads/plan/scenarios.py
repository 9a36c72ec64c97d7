"""A workload file → a schedule. Everything random is decided here, before the clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from aot.configs.kernel.errors import UsageError
from aot.configs.loading.presets import file_of
from aot.configs.schema.workload import (
    Agent,
    BestOfN,
    ClosedLoop,
    DocQa,
    FewShot,
    Mixture,
    MultiTurn,
    Prompted,
    Rag,
    SupportBot,
    Traffic,
    Unique,
    WorkloadConfig,
)
from aot.workloads.plan import cancels, mixture, sessions, single_turn
from aot.workloads.plan.lexicon import Lexicon
from aot.workloads.plan.static_texts import StaticTexts
from aot.workloads.prompts import folder as prompts
from aot.workloads.requests.request import Prefix, Request, Schedule

CHECKED = 8
"""Requests whose planned length is counted again."""


def build(
    config: WorkloadConfig, name: str, folder: Path, lexicon: Lexicon | None = None
) -> Schedule:
    """The schedule of `config`, whose relative paths start at `folder`.

    `lexicon` makes texts of exact lengths for one tokenizer. Raises UsageError where the scenario
    needs it and it is not there, and where lengths would not come out exactly.
    """
    if isinstance(config, Mixture):

        def of_part(part: WorkloadConfig, its_name: str, its_folder: Path) -> Schedule:
            return build(part, its_name, its_folder, lexicon)

        parts = mixture.parts_of(config, name, folder, of_part)
        return _schedule(config, name, *mixture.merged(config, name, parts))
    if isinstance(config, SupportBot) and not single_turn.has_lengths(config):
        read = prompts.read(file_of("prompt", config.prompt, folder))
        return _schedule(config, name, *single_turn.support_bot(config, read))
    if lexicon is None:
        raise UsageError(
            f"{folder / name}.yaml: texts of exact lengths need the model's tokenizer: give "
            "--model PATH, or 'tokenizer' in the server file"
        )
    prefixes, requests = _parts(config, folder, lexicon)
    schedule = _schedule(config, name, prefixes, requests)
    _check(schedule, lexicon)
    return schedule


def _parts(
    config: Prompted | Unique, folder: Path, lexicon: Lexicon
) -> tuple[dict[str, Prefix], list[Request]]:
    if isinstance(config, Unique):
        return single_turn.unique(config, lexicon)
    prompt = prompts.read(file_of("prompt", config.prompt, folder))
    texts = StaticTexts(lexicon, prompt, config.seed)
    return PARTS[type(config)](config, texts)


PARTS: dict[type[Traffic], Callable[[Any, StaticTexts], single_turn.Parts]] = {
    SupportBot: single_turn.exact_support_bot,
    FewShot: single_turn.few_shot,
    Rag: single_turn.rag,
    DocQa: single_turn.doc_qa,
    BestOfN: single_turn.best_of_n,
    MultiTurn: sessions.multi_turn,
    Agent: sessions.agent,
}


def _schedule(
    config: Traffic, name: str, prefixes: dict[str, Prefix], requests: Sequence[Request]
) -> Schedule:
    closed = config.load if isinstance(config.load, ClosedLoop) else None
    most = max((r.max_tokens or 1) for r in requests)
    if config.cancels:
        requests = list(cancels.drawn(config.cancels, requests, config.seed))
    return Schedule(
        name=name,
        seed=config.seed,
        mode=config.load.mode,
        users=closed.users if closed else 1,
        max_tokens=most,
        ignore_eos=config.output.ignore_eos,
        timeout_s=config.request_timeout_s,
        prefixes=prefixes,
        requests=tuple(requests),
        think_s=closed.think_s if closed else 0.0,
        limits=config.limits.model_dump(exclude_none=True) if config.limits else {},
        endpoint=config.endpoint,
    )


def _check(schedule: Schedule, lexicon: Lexicon) -> None:
    """UsageError when a planned length is not what the tokenizer counts."""
    known = [r for r in schedule.planned if r.prompt_tokens is not None]
    for request in known[:: max(1, len(known) // CHECKED)]:
        chat = schedule.chat_of(request)
        counted = lexicon.tokens(chat.messages, chat.tools)
        if counted != request.prompt_tokens:
            raise UsageError(
                f"{schedule.name}: {request.id} was planned with {request.prompt_tokens} tokens "
                f"and has {counted}: this tokenizer merges words, so lengths cannot be exact"
            )
