"""Plant plausible faults, one at a time, and see whether the tests notice.

    python -P scripts/bench/mutations.py [--only verdict] [--list]

Each fault (faults.yaml) is one edit of one file in a copy of the checkout, and runs the tests named
with it; where these pass the fault has survived. Exit code 1 where more than a tenth has.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
import yaml

CHECKOUT = Path(__file__).resolve().parents[2]
ROOMS = ("analysis", "configs", "scripts", "serving", "src", "tests", "workloads")
TIMEOUT_S = 300
MOST_SURVIVORS = 0.1


@dataclass(frozen=True, slots=True)
class Fault:
    """`old` stands in `file` once, and `new` in its place is the fault."""

    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    @property
    def words(self) -> str:
        return f"{self.file}: {' '.join(self.old.split())} → {' '.join(self.new.split())}"


def main(
    only: Annotated[str, typer.Option(help="faults of files whose name has this in it")] = "",
    list_only: Annotated[bool, typer.Option("--list", help="show them, and run nothing")] = False,
) -> None:
    """Run every fault, and name the survivors."""
    known = yaml.safe_load((Path(__file__).parent / "faults.yaml").read_text(encoding="utf-8"))
    faults = [
        Fault(file, edit["old"], edit["new"], tuple(of_file["tests"]))
        for file, of_file in known.items()
        for edit in of_file["edits"]
        if only in file
    ]
    if list_only:
        sys.stdout.write("".join(f"{f.words}\n" for f in faults))
        return
    survivors = []
    with tempfile.TemporaryDirectory() as folder:
        copy = _copy(Path(folder) / "checkout")
        for number, fault in enumerate(faults, 1):
            survived = _survives(copy, fault)
            survivors += [fault] if survived else []
            state = "SURVIVED" if survived else "found"
            sys.stdout.write(f"[{number}/{len(faults)}] {state}: {fault.words}\n")
            sys.stdout.flush()
    sys.stdout.write(f"{len(survivors)} of {len(faults)} survived\n")
    if len(survivors) > MOST_SURVIVORS * len(faults):
        raise typer.Exit(1)


def _copy(folder: Path) -> Path:
    for room in ROOMS:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(CHECKOUT / room, folder / room, symlinks=True, ignore=ignored)
    shutil.copy(CHECKOUT / "pyproject.toml", folder)
    return folder


def _survives(copy: Path, fault: Fault) -> bool:
    path = copy / fault.file
    whole = path.read_text(encoding="utf-8")
    if whole.count(fault.old) != 1:
        raise SystemExit(f"{fault.file}: {fault.old!r} stands there {whole.count(fault.old)} times")
    path.write_text(whole.replace(fault.old, fault.new), encoding="utf-8")
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider",
               *fault.tests]  # fmt: skip
    try:
        done = subprocess.run(
            command, cwd=copy, env={**os.environ, "PYTHONPATH": str(copy / "src")},
            capture_output=True, timeout=TIMEOUT_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return False  # a fault that hangs is noticed
    finally:
        path.write_text(whole, encoding="utf-8")
    return done.returncode == 0


if __name__ == "__main__":
    typer.run(main)
