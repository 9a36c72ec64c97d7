"""The program that fills virtual environments: uv where it is there, else pip.

usage: python packages.py ARGUMENT ... (installs them beside that Python; used by the Makefile)

uv takes a quarter of pip's time for an engine (20 s instead of 98 s for vLLM on two cores, empty
caches), but does not read pip's configuration: what people have set there (a mirror, a folder of
wheels, a certificate) is handed to it.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

UV_FLAGS = {
    "index-url": "--default-index",
    "extra-index-url": "--index",
    "find-links": "--find-links",
    "constraint": "--constraint",
    "trusted-host": "--allow-insecure-host",
}
"""pip's settings → uv's flags. Values with several words are several values."""
SECTIONS = ("global", "install", ":env:")
"""Where pip finds its settings, the weakest first."""
INDEX_FLAGS = ("--default-index", "--index", "--allow-insecure-host")
"""Those of them that making an environment takes, too."""
BEST_MATCH = ("--index-strategy", "unsafe-best-match")
"""pip's rule: the newest version of all indexes, not those of the first one that has any."""


@dataclass(frozen=True, slots=True)
class Uv:
    """uv, told what pip is configured to do."""

    program: str
    flags: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    name = "uv"

    def create(self, interpreter: str, folder: Path) -> list[str]:
        """The command that makes an environment (with pip, for those who use it there)."""
        pairs = zip(self.flags[::2], self.flags[1::2], strict=True)
        index = [word for pair in pairs if pair[0] in INDEX_FLAGS for word in pair]
        return [self.program, "venv", "--seed", "--python", interpreter, *index, str(folder)]

    def install(self, python: str, *arguments: str) -> list[str]:
        own = (*BEST_MATCH, *self.flags)
        return [self.program, "pip", "install", "--python", python, *own, *arguments]

    def uninstall(self, python: str, *names: str) -> list[str]:
        return [self.program, "pip", "uninstall", "--python", python, *names]


@dataclass(frozen=True, slots=True)
class Pip:
    """pip of the environment itself."""

    env: Mapping[str, str] = field(default_factory=dict)
    name = "pip"

    def create(self, interpreter: str, folder: Path) -> list[str]:
        return [interpreter, "-P", "-m", "venv", str(folder)]

    def install(self, python: str, *arguments: str) -> list[str]:
        # --no-compile: byte-compiling every module of torch and its friends takes longer than
        # compiling the used ones at first start (98 s instead of 186 s on 2 cores).
        return [*pip_of(python), "install", "--no-compile", *arguments]

    def uninstall(self, python: str, *names: str) -> list[str]:
        return [*pip_of(python), "uninstall", "-y", *names]


def pip_of(python: str) -> list[str]:
    """pip of an environment, away from what the working directory calls pip."""
    return [python, "-P", "-m", "pip", "--disable-pip-version-check"]


def installer() -> Uv | Pip:
    """uv beside this Python or on the PATH, else pip."""
    beside = Path(sys.executable).with_name("uv")
    program = str(beside) if beside.exists() else shutil.which("uv")
    if program is None:
        return Pip()
    settings = pip_settings()
    cert = settings.get("cert")
    return Uv(program, uv_flags(settings, os.environ), {"SSL_CERT_FILE": cert} if cert else {})


def pip_settings() -> dict[str, str]:
    """What pip is configured to do here, by the names of its settings; empty without a pip."""
    command = [*pip_of(sys.executable), "config", "list"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return settings_of(done.stdout)


def settings_of(listing: str) -> dict[str, str]:
    """`pip config list` as what `pip install` makes of it.

    The variable wins over the section of the command, and that over `global`; the order of the
    lines differs between versions of pip and says nothing.
    """
    named: dict[str, dict[str, str]] = {section: {} for section in SECTIONS}
    for line in listing.splitlines():
        # global.index-url='...', install.index-url='...', :env:.index-url='...'
        name, _, value = line.partition("=")
        section, _, key = name.rpartition(".")
        if section in named:
            with suppress(ValueError):
                named[section][key] = " ".join(shlex.split(value.replace("\\n", " ")))
    return {key: value for section in SECTIONS for key, value in named[section].items()}


def uv_flags(settings: Mapping[str, str], environ: Mapping[str, str]) -> tuple[str, ...]:
    """pip's settings as flags of uv; an index that uv itself is told of stays the one."""
    own_index = environ.get("UV_DEFAULT_INDEX") or environ.get("UV_INDEX_URL")
    return tuple(
        word
        for key, flag in UV_FLAGS.items()
        for value in settings.get(key, "").split()
        if not (key == "index-url" and own_index)
        for word in (flag, value)
    )


def main(arguments: list[str]) -> int:
    """Install into the environment of this Python, with uv if the registry has it."""
    if isinstance(installer(), Pip):
        subprocess.run([*pip_of(sys.executable), "install", "--quiet", "uv"], check=False)
    tool = installer()
    command = tool.install(sys.executable, "--quiet", *arguments)
    return subprocess.run(command, env={**os.environ, **tool.env}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
