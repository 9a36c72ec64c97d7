"""`aot doctor`: what this machine can run, what is missing, and the command that mends it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from aot.analysis.pages.pdf import browser
from aot.configs.kernel.places import home, models_dir
from aot.configs.loading.presets import engine_recipe, recipe_names
from aot.serving.engines.launch_plan import CPU_BF16_FLAGS
from aot.serving.local import environments
from aot.serving.local.machine import Machine, this_machine
from aot.serving.local.models import READY

MIN_DISK_GIB = 8.0
MIN_MEMORY_GIB = 6.0


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One line of the doctor. `remedy` is a command, or words where no command helps."""

    level: Literal["ok", "missing", "note"]
    what: str
    remedy: str = ""


def examine() -> Iterator[Diagnosis]:
    """All findings on this machine."""
    machine = this_machine()
    yield from _hardware(machine)
    for name in recipe_names("engines"):
        yield _environment(name, machine)
    for name in recipe_names("models"):
        if (models_dir() / name / READY).exists():
            yield Diagnosis("ok", f"model {name}: {models_dir() / name}")
        else:
            yield Diagnosis("missing", f"model {name}", f"aot model fetch {name}")
    if (chromium := browser()) is not None:
        yield Diagnosis("ok", f"{chromium}: aot report --pdf can print")
    else:
        words = "no Chromium: aot report --pdf cannot print, tests of the page are left out"
        yield Diagnosis("note", words, "apt install chromium")


def _hardware(machine: Machine) -> Iterator[Diagnosis]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Diagnosis("ok", f"Python {version}, {machine.system}")
    yield Diagnosis("ok", f"{machine.cores} cores: {machine.cpu}")
    if machine.cpu_flags & CPU_BF16_FLAGS:
        yield Diagnosis("ok", "CPU computes bfloat16 in hardware: dtype auto means bfloat16 here")
    elif "avx2" in machine.cpu_flags or "avx512f" in machine.cpu_flags:
        yield Diagnosis("note", "CPU has no bfloat16 instructions: dtype auto means float32 here")
    else:
        yield Diagnosis("note", "CPU lacks AVX2: the CPU engines will not run here", "another CPU")
    enough = machine.memory_gib >= MIN_MEMORY_GIB
    yield Diagnosis(
        "ok" if enough else "note",
        f"{machine.memory_gib:.0f} GiB memory",
        "" if enough else f"the demo needs about {MIN_MEMORY_GIB:.0f} GiB",
    )
    folder = next(p for p in (home(), *home().resolve().parents) if p.exists())
    free_gib = shutil.disk_usage(folder).free / 2**30
    enough = free_gib >= MIN_DISK_GIB
    yield Diagnosis(
        "ok" if enough else "note",
        f"{free_gib:.0f} GiB free in {folder}",
        ""
        if enough
        else f"an engine needs about {MIN_DISK_GIB:.0f} GiB; or set AOT_HOME elsewhere",
    )
    for gpu in machine.gpus:
        yield Diagnosis("ok", f"GPU: {gpu}")
    if not machine.gpus:
        yield Diagnosis("note", "no NVIDIA GPU found (nvidia-smi): only CPU engines can run")


def _environment(name: str, machine: Machine) -> Diagnosis:
    environment = environments.inspect(name)
    if environment.state == "installed":
        versions = ", ".join(f"{k} {v}" for k, v in environment.versions.items())
        return Diagnosis("ok", f"engine {name}: {versions}")
    if engine_recipe(name).device == "cuda" and not machine.gpus:
        return Diagnosis(
            "note", f"engine {name}: {environment.state}, and there is no GPU for it here"
        )
    return Diagnosis("missing", f"engine {name}: {environment.state}", f"aot engine install {name}")
