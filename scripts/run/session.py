"""The server that is running now, if any, and what is measured on it phase by phase."""

from __future__ import annotations

import secrets
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from aot.analysis.runs.run import tokens_file
from aot.configs.kernel.errors import CacheStateError
from aot.configs.kernel.salts import Salts
from aot.configs.schema.experiment import STORED, CacheReset
from aot.scripts.prompts.compiling import compile_schedule
from aot.scripts.run.phase import Phase, keeps_apart
from aot.scripts.run.target import Target, Up
from aot.scripts.run.wording import worded
from aot.scripts.terminal import status
from aot.scripts.traffic import plan
from aot.serving.cache import proof
from aot.serving.client.endpoint import Endpoint
from aot.workloads.prompts.compiled import Compiled
from aot.workloads.requests.request import Schedule


@dataclass(slots=True)
class Traffic:
    """What is replayed: one run's schedule, with what is known of it server by server."""

    run_folder: Path
    schedule: Schedule
    tokens: dict[str, plan.Tokens | None]
    compiled: dict[str, dict[str, Compiled]] = field(default_factory=dict)
    """By server, then by prefix."""


@dataclass(slots=True)
class Session:
    """`reset`: how the cache is emptied between two phases; all but a restart keep a server that
    runs as the next phase needs it, of whatever run that is, within one repeat: a repeat is a start
    of its own, or its interval would know nothing of starts."""

    reset: CacheReset = "restart"
    has_controls: bool = False
    """Whether a point without a static part is one of several, on a cache that is proved empty."""
    _stack: ExitStack = field(default_factory=ExitStack)
    _up: Up | None = None
    _is: tuple[str, dict[str, Any], str, int] | None = None
    """Which server is up, with which settings, whether it caches, and for which repeat."""

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def measure(self, phase: Phase, target: Target, traffic: Traffic) -> None:
        """One phase from its empty folder to its done.json."""
        phase.begin()
        salts = self._salts(phase, target, traffic.schedule.endpoint)
        up = self._ready(phase, target, traffic, salts)
        if phase.arm == "restarted":
            self._stack.close()  # engine and store; what is kept is on the store's disk
            self._stack, self._up = ExitStack(), None
            for log in phase.folder.glob("server*.log"):
                log.rename(log.with_stem(f"{log.stem}-before"))
            up, _ = self._started(phase, target, traffic)
        phase.replay(up, target.engine, traffic.schedule, up.endpoint.tokenize, salts)

    def _ready(self, phase: Phase, target: Target, traffic: Traffic, salts: Salts | None) -> Up:
        """A server in the state that the arm means, proved, and warmed where it says so."""
        up, reset = self._started(phase, target, traffic)
        self._prove(phase, target, up.endpoint, reset, salts, traffic)
        if phase.arm in ("aot", *STORED):
            compiled = self._compile(target, up.endpoint, traffic)
            phase.warm(
                up.endpoint, target.engine, traffic.schedule, compiled, salts, self.has_controls
            )
        return up

    def _started(self, phase: Phase, target: Target, traffic: Traffic) -> tuple[Up, str]:
        up, reset = self._empty_server(phase, target, traffic.schedule.endpoint)
        up = replace(
            up, endpoint=worded(up.endpoint, traffic.schedule.endpoint, target.tokenizer_folder)
        )
        if up.command:
            phase.write("command.json", {"command": up.command})
        return up, reset

    def _prove(
        self,
        phase: Phase,
        target: Target,
        endpoint: Endpoint,
        reset: str,
        salts: Salts | None,
        traffic: Traffic,
    ) -> None:
        encode = endpoint.tokenize  # by the tokenizer at hand, where there is one
        if traffic.tokens[target.name] is None:
            # Without a local tokenizer the server's own counts, once, before anything is measured.
            with status(f"counting the tokens of the planned prompts on {target.name}"):
                traffic.tokens[target.name] = plan.count_tokens(traffic.schedule, encode)
            path = traffic.run_folder / tokens_file(target.name)
            plan.write_tokens(traffic.tokens[target.name], path)
        apart = keeps_apart(traffic.schedule, endpoint)
        wanted = proof.Wanted(
            phase.arm, target.block_tokens, reset, target.remote, salts, apart,
            beyond=target.outlives(phase.arm),
        )  # fmt: skip
        phase.prove(endpoint, target.engine, wanted, encode)

    def _compile(self, target: Target, endpoint: Endpoint, traffic: Traffic) -> dict[str, Compiled]:
        """The static prefixes of the schedule as this server will cache them, once a run."""
        if target.name not in traffic.compiled:
            folder = target.tokenizer_folder
            plain = plan.takes_texts(traffic.schedule.endpoint)
            local = plan.local_tokenizer(folder, plain) if folder else None
            with status("compiling the static prefixes") as line:
                line(f"compiling {len(traffic.schedule.prefixes)} static prefixes")
                compiled = compile_schedule(
                    traffic.schedule, endpoint, target.engine, local.encode_many if local else None
                )
            plan.write_compiled(compiled, traffic.run_folder, target.name)
            traffic.compiled[target.name] = compiled
        return traffic.compiled[target.name]

    def _salts(self, phase: Phase, target: Target, endpoint: str) -> Salts | None:
        if target.lacks_salts(endpoint):
            return None
        if target.remote:
            return Salts(secrets.token_hex(16), "request" if phase.arm == "jit" else "phase")
        if (self.reset == "salts" or target.outlives(phase.arm)) and phase.arm != "jit":
            return Salts(secrets.token_hex(16), "phase")
        return None

    def _empty_server(self, phase: Phase, target: Target, endpoint: str) -> tuple[Up, str]:
        """A server whose cache is empty, and how it came to be."""
        kind = phase.arm if phase.arm in ("jit", *STORED) else "cached"
        wanted = (target.name, target.resolved(), kind, phase.repeat)
        if self.reset != "restart" and self._up and self._up.alive() and self._is == wanted:
            return self._up, self._emptied(self._up, target, phase)
        self._stack.close()
        self._stack, self._up = ExitStack(), None
        serving = target.serving(phase.arm, phase.folder / "server.log")
        self._up = self._stack.enter_context(serving)
        self._is = wanted
        if not target.remote:
            outlived = target.outlives(phase.arm)
            salted = ", and fresh cache salts for what outlives it" if outlived else ""
            return self._up, f"fresh process{salted}"
        salted = "not emptied" if target.lacks_salts(endpoint) else "fresh cache salts"
        return self._up, f"{salted} on a running server"

    def _emptied(self, up: Up, target: Target, phase: Phase) -> str:
        if phase.arm == "jit":
            return "nothing to empty: the prefix cache is off"
        if self.reset == "salts" or target.remote:
            return "a fresh cache salt on a running server"
        return self._reset(up, target)

    def _reset(self, up: Up, target: Target) -> str:
        reset = target.engine.reset
        path = reset.path if reset else ""
        words = ""
        for engine in up.endpoint.each():
            status_code, body = engine.post(path)
            words = " ".join(body.split())[:200]
            if (why := target.engine.reset_refusal(status_code, body)) is not None:
                raise CacheStateError(
                    f"POST {path} did not empty the cache of {target.name}: HTTP {status_code} "
                    f"{words!r}: {why}"
                )
        return f"POST {path}: {words}"
