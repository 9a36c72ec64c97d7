"""The traffic of the arm mended: the same requests without their flaws, with a schedule and token
counts of its own beside those of the run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from aot.analysis.runs.run import tokens_file
from aot.configs.kernel.errors import ConfigError, UsageError
from aot.configs.loading.presets import file_of
from aot.configs.schema.experiment import MENDED, ExperimentConfig
from aot.scripts.traffic import plan
from aot.workloads.requests import schedule as schedule_file
from aot.workloads.requests.request import Schedule

Counted = dict[str, plan.Tokens | None]
"""By the name of the server."""


@dataclass(frozen=True, slots=True)
class Mended:
    """What the arm replays."""

    schedule: Schedule
    tokens: Counted

    def write(self, folder: Path) -> None:
        """Into a new run directory."""
        (folder / MENDED).mkdir()
        schedule_file.write(self.schedule, folder / MENDED / "schedule.jsonl")
        for name, tokens in self.tokens.items():
            plan.write_tokens(tokens, folder / MENDED / tokens_file(name))

    def check(self, folder: Path) -> None:
        """UsageError where the run in `folder` was started with another log."""
        if schedule_file.read(folder / MENDED / "schedule.jsonl") != self.schedule:
            raise UsageError(f"{folder}: the mended log changed since it was started")


def prepare(
    path: Path,
    config: ExperimentConfig,
    schedule: Schedule,
    encode: plan.Encode | None,
    count: Callable[[Schedule], Counted],
) -> Mended | None:
    """Of the experiment at `path`; None without that arm. ConfigError where the log that it names
    has other requests than `schedule`."""
    if config.mended is None:
        return None
    log = file_of("workload", config.mended, path.parent)
    made = plan.schedule_of(log, encode, plan.LEARNED)
    theirs, own = ([(r.id, r.at_s, r.after) for r in s.requests] for s in (schedule, made))
    if theirs != own:
        raise ConfigError(
            path, f"{log} has other requests than the workload; make it with: aot lint --fix",
            key="mended",
        )  # fmt: skip
    return Mended(made, count(made))
