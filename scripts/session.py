"""The server that is running now, if any, and what is measured on it phase by phase."""

from __future__ import annotations

import secrets
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from analysis.runs import tokens_file
from configs.errors import CacheStateError
from configs.salts import Salts
from scripts import plan
from scripts.compiling import compile_schedule
from scripts.phase import Phase
from scripts.target import Target, Up
from scripts.terminal import status
from serving import proof
from serving.endpoint import Endpoint
from workloads.compiled import Compiled
from workloads.request import Schedule


@dataclass(slots=True)
class Session:
    """`keep`: empty a running server by its reset endpoint where the next phase can share it."""

    run_folder: Path
    schedule: Schedule
    tokens: dict[str, plan.Tokens | None]
    keep: bool
    _compiled: dict[str, dict[str, Compiled]] = field(default_factory=dict)
    """By server, then by prefix."""
    _stack: ExitStack = field(default_factory=ExitStack)
    _up: Up | None = None
    _is: tuple[str, bool] | None = None
    """Which server is up, and whether it caches."""

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def measure(self, phase: Phase, target: Target) -> None:
        """One phase from its empty folder to its done.json."""
        phase.begin()
        up, reset = self._empty_server(phase, target)
        if up.command:
            phase.write("command.json", {"command": up.command})
        salts = self._salts(phase, target)
        self._prove(phase, target, up.endpoint, reset, salts)
        if phase.arm == "aot":
            compiled = self._compile(target, up.endpoint)
            phase.warm(up.endpoint, target.engine, self.schedule, compiled, salts)
        encode = self._encoder(target, up.endpoint)
        phase.replay(up.endpoint, target.engine, self.schedule, up.alive, encode, salts)

    def _prove(
        self, phase: Phase, target: Target, endpoint: Endpoint, reset: str, salts: Salts | None
    ) -> None:
        encode = self._encoder(target, endpoint)
        if self.tokens[target.name] is None:
            # Without a local tokenizer the server's own counts, once, before anything is measured.
            with status(f"counting the tokens of the planned prompts on {target.name}"):
                self.tokens[target.name] = plan.count_tokens(self.schedule, encode)
            path = self.run_folder / tokens_file(target.name)
            plan.write_tokens(self.tokens[target.name], path)
        wanted = proof.Wanted(phase.arm, target.block_tokens, reset, target.remote, salts)
        with status(f"proving the cache state for {phase.name}"):
            nonce = f"{secrets.token_hex(6)} {self.run_folder.name} {phase.name}"
            found = proof.prove(endpoint, target.engine, wanted, nonce)
            # The expectation knows what proving left in the cache.
            left = {"canary_token_ids": None if phase.arm == "jit" else encode(found.canary, ())}
        phase.write("proof.json", {**found.as_json(), **left})
        proof.insist(found)

    def _compile(self, target: Target, endpoint: Endpoint) -> dict[str, Compiled]:
        """The static prefixes of the schedule as this server will cache them, once a server."""
        if target.name not in self._compiled:
            folder = target.tokenizer_folder
            local = plan.local_tokenizer(folder) if folder else None
            with status("compiling the static prefixes") as line:
                line(f"compiling {len(self.schedule.prefixes)} static prefixes")
                made = compile_schedule(
                    self.schedule, endpoint, target.engine, local.encode_many if local else None
                )
            plan.write_compiled(made, self.run_folder, target.name)
            self._compiled[target.name] = made
        return self._compiled[target.name]

    def _encoder(self, target: Target, endpoint: Endpoint) -> plan.Encode:
        folder = target.tokenizer_folder
        return (plan.local_encoder(folder) if folder else None) or endpoint.tokenize

    def _salts(self, phase: Phase, target: Target) -> Salts | None:
        if not (target.remote and target.engine.has_salts):
            return None
        return Salts(secrets.token_hex(16), "request" if phase.arm == "jit" else "phase")

    def _empty_server(self, phase: Phase, target: Target) -> tuple[Up, str]:
        """A server whose cache is empty, and how it came to be."""
        wanted = (target.name, phase.arm != "jit")
        if self.keep and self._up and self._up.alive() and self._is == wanted:
            return self._up, self._reset(self._up, target)
        self._stack.close()
        self._stack, self._up = ExitStack(), None
        serving = target.serving(phase.arm, phase.folder / "server.log")
        self._up = self._stack.enter_context(serving)
        self._is = wanted
        if not target.remote:
            return self._up, "fresh process"
        salted = "fresh cache salts" if target.engine.has_salts else "not emptied"
        return self._up, f"{salted} on a running server"

    def _reset(self, up: Up, target: Target) -> str:
        reset = target.engine.reset
        path = reset.path if reset else ""
        status_code, body = up.endpoint.post(path)
        words = " ".join(body.split())[:200]
        if (why := target.engine.reset_refusal(status_code, body)) is not None:
            raise CacheStateError(
                f"POST {path} did not empty the cache of {target.name}: HTTP {status_code} "
                f"{words!r}: {why}"
            )
        return f"POST {path}: {words}"
