"""What a launch needs to know, and exactly what it starts."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import SecretStr

from aot.configs.kernel.ports import joined
from aot.configs.kernel.secrecy import held_in
from aot.configs.schema.recipe import Device
from aot.configs.schema.server import ServerConfig

SECRETS_FILE = "(secrets)"
"""Stands in the command of a container for the file that its secrets are handed over in."""


@dataclass(frozen=True, slots=True)
class Site:
    """What a launch needs to know of this machine beside the server file."""

    bin_dir: Path
    model: str
    port: int
    device: Device
    cpu_flags: frozenset[str] = frozenset()
    serve_args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    store: str | None = None
    """HOST:PORT of the KV store, where the arm goes through one."""


@dataclass(frozen=True, slots=True)
class LaunchPlan:
    """Exactly what will be started. `secrets` maps a variable of the engine to the variable of
    ours that holds its value."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    secrets: Mapping[str, str]
    not_inherited: tuple[str, ...]
    """Variables of our own environment that the engine must not see."""
    host: str
    port: int
    health_path: str
    served_name: str
    container: str | None = None
    """The name of the container that `argv` runs; None for a process of this machine."""
    held: Mapping[str, SecretStr] = field(default_factory=dict)
    """Values of secrets that the server file itself holds, by the engine's variable."""

    @property
    def base_url(self) -> str:
        # A server that listens on all interfaces is reached through loopback.
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://{joined(host, self.port)}"

    def as_shell(self) -> str:
        """The command as a person would paste it; secrets stay references."""
        words = [f"{k}={shlex.quote(v)}" for k, v in sorted(self.env.items())]
        secrets = [f'{k}="${source}"' for k, source in sorted(self.secrets.items())]
        command = shlex.join(self.argv)
        if self.container is None:
            return " ".join([*words, *secrets, command])
        by_file = f"<(printf '%s\\n' {' '.join(secrets)})"
        return " ".join([*words, command.replace(shlex.quote(SECRETS_FILE), by_file)])

    def secret_values(self) -> dict[str, str]:
        """The secrets, by the engine's variables, to be handed to its process and nowhere else.

        Raises UsageError for a variable of ours that is not set, or empty.
        """
        return {
            name: self.held[name].get_secret_value()
            if name in self.held
            else held_in(source, f"{name} of the server file")
            for name, source in self.secrets.items()
        }


# bfloat16 without these is emulated: a 1,600-token prefill of a 135M model took 44 s in bfloat16
# and 10 s in float32 on an AVX2 machine; with AVX512-BF16 bfloat16 is the faster one.
CPU_BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})


def dtype(server: ServerConfig, site: Site) -> str:
    """The dtype to ask for: what the file says, and for 'auto' on a CPU what it computes fast."""
    if server.dtype != "auto" or site.device != "cpu":
        return server.dtype
    return "bfloat16" if site.cpu_flags & CPU_BF16_FLAGS else "float32"
