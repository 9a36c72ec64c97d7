"""Read a run directory: whatever is there, and say plainly what is missing.

runs/NAME-TIMESTAMP/
  manifest.json            resolved configs, servers, versions, hardware, commit, schedule hash
  schedule.jsonl           the traffic, the same for every arm of every server
  mended/                  the same without its flaws, for the arm mended: schedule, tokens
  tokens-SERVER.parquet    token ids of every planned prompt (absent without a tokenizer)
  compiled/SERVER/         the static prefixes that the aot arm warms, as `aot compile` writes them
  phases/r1-jit/           one arm of one repeat; with several servers r1-jit@SERVER
    tokens.parquet         token ids of the prompts that have the server's own answers in them
    records/               requests-N.jsonl, load-N.json: written by the load side
    metrics-before.txt, metrics-after.txt    the engine's /metrics around the replay
    facts.json             what the engine said of its cache
    proof.json warm.json command.json server.log load.log
    server.jsonl           what the engine said of itself during the replay, once a second
    floor/                 some requests again, one at a time, and their dynamic suffix alone
    done.json              written last: without it the phase was interrupted
  records.parquet summary.json report.html report.md figures/     derived from the above
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from aot.analysis.cache.oracle import Sent
from aot.analysis.runs import cached_tokens
from aot.analysis.runs import manifest as run_manifest
from aot.analysis.runs.phases import Phase, read_phase, read_tokens
from aot.analysis.runs.records import Keep
from aot.configs.kernel.errors import UsageError
from aot.configs.kernel.salts import tenant_salt
from aot.configs.schema.experiment import ARMS, MENDED
from aot.serving.engines.engine import Engine
from aot.serving.engines.table import ENGINES, OPENAI
from aot.workloads.requests import schedule as schedule_file
from aot.workloads.requests.request import Schedule
from aot.workloads.requests.static_part import sampled_requests, static_part
from aot.workloads.requests.tokens import common_prefix


@dataclass(frozen=True)
class ServerRun:
    """What was measured on one server."""

    name: str
    facts: dict[str, Any]
    """Its entry in the manifest: engine, model, remote, versions, config."""
    schedule: Schedule | None
    schedule_sha256: str | None
    phases: list[Phase]
    tokens: dict[str, list[int]] | None
    missing: list[str]
    """What should be there and is not, in words."""
    slo: dict[str, float | None] | None = None
    """The workload's limits for goodput."""
    skip: tuple[int, int] = (0, 0)
    """Requests at either end of the schedule that count for no latency."""
    silent_zeros: int = 0
    """Answers without cached tokens, of a server that leaves out a 0."""
    mended: ServerRun | None = None
    """The same for the arm mended, whose traffic is another; without phases."""
    _leaves_by_phase: dict[str, dict[str, list[int]]] = field(default_factory=dict, repr=False)

    @property
    def engine(self) -> Engine:
        return ENGINES.get(self.facts["engine"] or "", OPENAI)

    @property
    def version(self) -> str:
        """The version of the engine's package, which a recipe may install under a longer name."""
        versions = [v for k, v in self.facts["versions"].items() if k.startswith(self.engine.name)]
        return versions[0] if versions else ""

    @property
    def config(self) -> dict[str, Any]:
        return self.facts.get("config") or {}

    @property
    def remote(self) -> bool:
        return bool(self.facts.get("remote"))

    def of(self, phase: Phase) -> ServerRun:
        """With the traffic that a phase replayed."""
        return self.mended if phase.arm == MENDED and self.mended else self

    def prompts(self, phase: Phase) -> dict[str, list[int]]:
        """Token ids of every prompt of a phase: as planned, or with the answers that it got."""
        return (self.of(phase).tokens or {}) | (phase.tokens or {})

    def sent(self, phase: Phase) -> list[Sent] | None:
        """The prompts of a phase in the order of sending (a request that failed may still have
        filled the cache; one that was never sent has not). None where their tokens are unknown, and
        where clients hung up: how much was computed of a prompt before its first text is unknown.
        """
        records = phase.records[phase.records["sent_s"].notna()].sort_values("sent_s")
        run, tokens = self.of(phase), self.prompts(phase)
        if run.tokens is None or not set(records["id"]) <= tokens.keys():
            return None
        hung_up = records[records["cancelled_s"].notna()]
        if (hung_up["error"].isna() | hung_up["first_token_s"].isna()).any():
            return None
        salts, leaves = run._salts, run._leaves(phase)
        rows = zip(records["id"], records["sent_s"], records["first_token_s"], strict=True)
        return [
            Sent(
                id_, tokens[id_], salts.get(id_), leaves.get(id_, ()), sent_s,
                None if ready_s != ready_s else ready_s,
            )
            for id_, sent_s, ready_s in rows
        ]  # fmt: skip

    def before(self, phase: Phase) -> list[tuple[list[int], str | None]]:
        """What was in the cache when the clock started, with its salts: proving, and warming."""
        cached: list[tuple[list[int], str | None]] = [(phase.canary, None)] if phase.canary else []
        if phase.arm in ("aot", "store"):
            sent = {w["id"]: int(w.get("fills", 1)) + 1 for w in phase.warmed or ()}
            for key, ids in (self.tokens or {}).items():
                prefix, _, number = key.removeprefix("probe/").rpartition("/")
                if key.startswith("probe/") and int(number) < sent.get(prefix, 0):
                    cached.append((ids, self._salt_of(prefix)))
        return cached

    @cached_property
    def static_prefixes(self) -> dict[str, list[int]]:
        """The static tokens of each prefix, by the rule by which they are compiled and warmed."""
        tokens, schedule = self.tokens or {}, self.schedule
        prefixes = {}
        for prefix in schedule.prefixes if schedule else ():
            probes = [f"probe/{prefix}/{n}" for n in (0, 1)]
            own = [r.id for r in sampled_requests(schedule, prefix)] if schedule else []
            if tokens.keys() >= set(probes):
                prefixes[prefix] = static_part([tokens[i] for i in (*probes, *own) if i in tokens])
        return prefixes

    def _salt_of(self, prefix: str) -> str | None:
        own = self.schedule.prefixes[prefix].salt if self.schedule else None
        return tenant_salt(prefix, own, bool(self.config.get("tenant_salts")))

    @cached_property
    def _salts(self) -> dict[str, str | None]:
        """By request."""
        requests = self.schedule.requests if self.schedule else ()
        return {r.id: self._salt_of(r.prefix) for r in requests}

    def _leaves(self, phase: Phase) -> dict[str, list[int]]:
        """What a request of a phase leaves in the cache besides its prompt: its answer, as far as
        the next turn's prompt shows it. The last token was generated and not computed."""
        if phase.name not in self._leaves_by_phase:
            self._leaves_by_phase[phase.name] = self._leave(self.prompts(phase))
        return self._leaves_by_phase[phase.name]

    def _leave(self, tokens: dict[str, list[int]]) -> dict[str, list[int]]:
        leaves: dict[str, list[int]] = {}
        if self.schedule is None:
            return leaves
        for r in self.schedule.requests:
            if r.appends and r.after in tokens and r.id in tokens:
                before, now = tokens[r.after], tokens[r.id]
                if common_prefix(before, now) == len(before):
                    generated = self.schedule.output_tokens(self.schedule.by_id[r.after])
                    leaves[r.after] = now[: len(before) + generated - 1]
        return leaves

    def of_arm(self, arm: str) -> list[Phase]:
        return [p for p in self.phases if p.arm == arm]

    @property
    def arms(self) -> list[str]:
        """Arms with at least one record, in the order of the vocabulary."""
        seen = {p.arm for p in self.phases if len(p.records)}
        return [a for a in ARMS if a in seen]


@dataclass(frozen=True, slots=True)
class Run:
    """Everything a report is made from."""

    folder: Path
    manifest: dict[str, Any]
    schedule: Schedule | None
    schedule_sha256: str | None
    servers: list[ServerRun]


def phase_name(arm: str, repeat: int, server: str | None = None) -> str:
    """The folder name of a phase; `server` where the run has several."""
    return f"r{repeat}-{arm}" + (f"@{server}" if server else "")


def tokens_file(server: str) -> str:
    """The name of the file with a server's token counts."""
    return f"tokens-{server}.parquet"


def load(folder: Path, keep: Keep | None = None) -> Run:
    """The run in `folder`, as far as it is there; `keep` is given all its records.

    Raises UsageError when it is no run directory.
    """
    missing: list[str] = []
    manifest = run_manifest.read(folder / "manifest.json")
    if manifest is None and not (folder / "phases").is_dir():
        raise UsageError(f"{folder}: no run directory (no readable manifest.json, no phases/)")
    if manifest is None:
        manifest = run_manifest.from_folders(folder)
        missing.append("manifest.json: which machine, versions and engine this was is unknown")
    schedule, digest = _schedule(folder / "schedule.jsonl", missing)
    mended, mended_digest = None, None
    if (folder / MENDED).is_dir():
        mended, mended_digest = _schedule(folder / MENDED / "schedule.jsonl", missing)
    servers = []
    configs = manifest.get("configs") or {}
    slo = (configs.get("workload") or {}).get("slo")
    experiment = configs.get("experiment") or {}
    skip = int(experiment.get("skip_first", 0)), int(experiment.get("skip_last", 0))
    for name, facts in manifest["servers"].items():
        engine = ENGINES.get(facts["engine"] or "", OPENAI)
        lacking = list(missing)
        phases = []
        for planned in [p for p in manifest["phases"] if p["server"] == name]:
            arm, repeat = str(planned["arm"]), int(planned["repeat"])
            here = folder / "phases" / planned["folder"]
            phase = read_phase(here, arm, repeat, name, engine, keep)
            lacking += _shortcomings(phase, f"arm {arm}, repeat {repeat}", schedule)
            phases += [phase] if phase else []
        tokens = read_tokens(folder / tokens_file(name))
        others = read_tokens(folder / MENDED / tokens_file(name))
        if tokens is None:
            lacking.append("token ids of the planned prompts (no tokenizer): no expected hit ratio")
        phases, silent = cached_tokens.known(phases)
        own = ServerRun(name, facts, schedule, digest, phases, tokens, lacking, slo, skip, silent)
        if mended:
            other = replace(own, schedule=mended, schedule_sha256=mended_digest, tokens=others,
                            phases=[], _leaves_by_phase={})  # fmt: skip
            own = replace(own, mended=other)
        servers.append(own)
    return Run(folder, manifest, schedule, digest, servers)


def _shortcomings(phase: Phase | None, name: str, schedule: Schedule | None) -> list[str]:
    if phase is None:
        return [f"{name}: not measured"]
    shortcomings = []
    if not phase.complete:
        planned = len(schedule.requests) if schedule else "an unknown number of"
        count = len(phase.records)
        shortcomings.append(f"{name}: interrupted, {count} of {planned} requests were recorded")
    shortcomings += [f"{name}: {words}; nothing of it was read" for words in phase.foreign]
    if phase.broken_lines:
        shortcomings.append(f"{name}: {phase.broken_lines} unreadable record(s)")
    return shortcomings


def _schedule(path: Path, missing: list[str]) -> tuple[Schedule | None, str | None]:
    try:
        return schedule_file.read(path), schedule_file.digest(path)
    except UsageError as error:
        missing.append(f"the schedule ({error}): what was planned is unknown")
        return None, None
