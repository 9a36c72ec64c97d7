"""One arm of one repeat, whoever started the server: its folder, warming, replay and snapshots.

done.json is written last, so what was interrupted is known, kept, and measured again.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aot.analysis.runs.phases import metrics_file, store_metrics_file
from aot.analysis.runs.run import phase_name
from aot.configs.kernel.errors import CacheStateError, ToolkitError
from aot.configs.kernel.salts import Salts
from aot.configs.schema.experiment import MENDED, Arm
from aot.scripts.run.replay_bar import bar
from aot.scripts.run.target import Up
from aot.scripts.terminal import status
from aot.scripts.traffic import plan
from aot.serving.cache import proof, warm
from aot.serving.client.endpoint import Endpoint
from aot.serving.client.scraper import Scraper
from aot.serving.engines.engine import Engine
from aot.workloads.load import replay
from aot.workloads.load.replay import Replay as Job
from aot.workloads.plan import floor
from aot.workloads.prompts.compiled import Compiled
from aot.workloads.requests import schedule as schedule_file
from aot.workloads.requests.request import Schedule
from aot.workloads.wire.record_lines import read_all

LOCAL = replay.Fleet()


def keeps_apart(schedule: Schedule, endpoint: Endpoint) -> bool:
    """Whether tenants are to be kept apart by cache salts of their own."""
    return endpoint.tenant_salts or any(prefix.salt for prefix in schedule.prefixes.values())


@dataclass(frozen=True, slots=True)
class Phase:
    """Where and what: `run_folder` holds the schedule, `folder` what this phase leaves."""

    run_folder: Path
    arm: Arm
    repeat: int
    server: str | None = None
    """Its name, in a run with several."""

    @property
    def name(self) -> str:
        return phase_name(self.arm, self.repeat, self.server)

    @property
    def folder(self) -> Path:
        return self.run_folder / "phases" / self.name

    @property
    def schedule_folder(self) -> Path:
        """Where what it replays is."""
        return self.run_folder / MENDED if self.arm == MENDED else self.run_folder

    @property
    def done(self) -> bool:
        return (self.folder / "done.json").exists()

    def begin(self) -> None:
        """Make the folder, empty; what an interrupted attempt left is kept beside it."""
        if self.folder.exists():
            attempt = 1
            while (aside := self.folder.with_name(f"{self.name}.interrupted-{attempt}")).exists():
                attempt += 1
            self.folder.rename(aside)
        self.folder.mkdir(parents=True)

    def prove(
        self, endpoint: Endpoint, engine: Engine, wanted: proof.Wanted, encode: plan.Encode
    ) -> None:
        """Show that the cache is in the state that the arm means, and keep what shows it; raises
        CacheStateError where it is not."""
        with status(f"proving the cache state for {self.name}"):
            nonce = f"{secrets.token_hex(6)} {self.run_folder.name} {self.name}"
            shown = proof.prove_each(endpoint, engine, wanted, nonce)
            # The expectation knows what proving left in the cache.
            left = {"canary_token_ids": None if self.arm == "jit" else encode(shown.canary, ())}
        self.write("proof.json", {**shown.as_json(), **left})
        proof.insist(shown)

    def warm(
        self,
        endpoint: Endpoint,
        engine: Engine,
        schedule: Schedule,
        compiled: Mapping[str, Compiled],
        salts: Salts | None = None,
        control: bool = False,
    ) -> None:
        """Fill the cache with the static prefixes that compiling found; CacheStateError unless all
        of them hit, and where there are none, unless that is what is measured (`control`)."""
        prefixes = plan.static_prefixes(schedule, compiled, salts, endpoint.tenant_salts)
        if not prefixes and not control:
            raise CacheStateError(
                "no static prefix fills a block of the cache, so there is nothing to compile ahead "
                "of time: the aot arm would be measured on whatever is cached. Measure the arms "
                "jit and auto, or traffic with a longer static part"
            )
        with status("compiling static prefixes ahead of time") as line:
            warmed = warm.warm(endpoint, engine, prefixes, line)
        self.write("warm.json", [w.as_json() for w in warmed])
        warm.insist(warmed)

    def replay(
        self,
        up: Up,
        engine: Engine,
        schedule: Schedule,
        encode: plan.Encode,
        salts: Salts | None = None,
        fleet: replay.Fleet = LOCAL,
    ) -> None:
        """Replay between two snapshots of the counters, and mark the phase as done.

        Raises ToolkitError when the load generator failed, or the server died under it. Of
        replicas one may die: what it had under way are failed requests, which the report counts.
        """
        endpoint = up.endpoint
        job = replay.Replay(
            schedule=self.schedule_folder / "schedule.jsonl",
            base_url=endpoint.base_url,
            model=endpoint.model,
            users=schedule.users,
            folder=self.folder,
            arm=self.arm,
            repeat=self.repeat,
            api_key_env=endpoint.api_key_env,
            salts=salts,
            fleet=fleet,
            key_header=endpoint.key_header,
            tenant_salts=endpoint.tenant_salts,
            wording=endpoint.wording,
            template=endpoint.template,
        )
        self.write("facts.json", asdict(engine.cache_facts(endpoint.page(engine))))
        self._snapshot(up, "before")
        title = f"replaying {self.arm} (repeat {self.repeat}{self._on()})"
        scraper = Scraper(endpoint, engine, self.folder / "server.jsonl")
        with scraper, bar(title, len(schedule.requests)) as progress:
            replay.run(job, progress)
        if not up.alive():
            raise ToolkitError(f"the engine died during {self.name}; see {self.folder}/server.log")
        if endpoint.replicas:
            self.write("replicas.json", {"alive": up.replicas_alive()})
        if state := up.store_state():
            self.write("store.json", state)
        self._snapshot(up, "after")
        self._count_answered(schedule, encode)
        if self.arm == "aot":
            self._floor(job, schedule)
        self.write("done.json", {"ended_utc": datetime.now(UTC).isoformat()})

    def _floor(self, job: Job, schedule: Schedule) -> None:
        """How long the suffixes take alone, after everything that counts."""
        planned = floor.schedule(schedule)
        if planned is None:
            return
        folder = self.folder / "floor"
        folder.mkdir()
        schedule_file.write(planned, folder / "schedule.jsonl")
        again = replace(
            job, schedule=folder / "schedule.jsonl", users=1, folder=folder, fleet=LOCAL
        )
        with bar(f"{self.name}: the floor, one request at a time", len(planned.requests)) as shown:
            replay.run(again, shown)

    def _count_answered(self, schedule: Schedule, encode: plan.Encode) -> None:
        """The tokens of prompts that have this phase's own answers in them."""
        if not any(r.appends for r in schedule.requests):
            return
        answers: dict[str, str] = {}
        for path in (self.folder / "records").glob("requests-*.jsonl"):
            answers |= {r.id: r.answer for r in read_all(path) if r.answer is not None}
        tokens = plan.count_answered(schedule, answers, encode)
        plan.write_tokens(tokens, self.folder / "tokens.parquet")

    def _on(self) -> str:
        return f", {self.server}" if self.server else ""

    def write(self, name: str, value: Any) -> None:
        (self.folder / name).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")

    def _snapshot(self, up: Up, when: str) -> None:
        """Keep the /metrics page as it is, of every replica and of the store; nothing where there
        is none."""
        pages = {
            metrics_file(when, number if up.endpoint.replicas else None): replica.metrics_text()
            for number, replica in enumerate(up.endpoint.each())
        }
        for name, text in {**pages, store_metrics_file(when): up.store_page()}.items():
            if text is not None:
                (self.folder / name).write_text(text, encoding="utf-8")
