"""Engine environments: one virtual environment per engine under .engines/, made from a recipe.

Engines pin torch and hundreds of packages that conflict with each other and with the toolkit, so
they are installed apart and launched, never imported. An environment counts as installed only
when its marker file, written last, names the recipe it was made from: a half-finished install has
none and is redone.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout
from packaging.specifiers import SpecifierSet

from aot.configs.kernel.children import end, start
from aot.configs.kernel.errors import NotInstalledError, ToolkitError, UsageError
from aot.configs.kernel.files import replacing
from aot.configs.kernel.places import engines_dir, writable
from aot.configs.loading.presets import environment_recipe
from aot.configs.schema.recipe import EngineRecipe, EnvironmentRecipe
from aot.serving.engines.table import ENGINES
from aot.serving.local.packages import Pip, Uv, installer

STOP_S = 10.0
MARKER = "aot-installed.json"
State = Literal["installed", "missing", "incomplete", "outdated"]
Report = Callable[[str], None]
"""Called with one line of progress."""


@dataclass(frozen=True, slots=True)
class Environment:
    """An engine environment as it is on disk. `versions` is empty unless installed."""

    name: str
    state: State
    folder: Path
    versions: dict[str, str]

    @property
    def bin_dir(self) -> Path:
        return self.folder / "bin"


def inspect(name: str) -> Environment:
    """What is on disk for recipe `name`; UsageError for an unknown recipe."""
    digest = recipe_digest(name)
    folder = engines_dir() / name
    if not folder.exists():
        return Environment(name, "missing", folder, {})
    try:
        marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        state: State = "installed" if marker["recipe_sha256"] == digest else "outdated"
        return Environment(name, state, folder, marker["versions"])
    except (OSError, ValueError, KeyError):
        return Environment(name, "incomplete", folder, {})


def engine_environ() -> dict[str, str]:
    """Our environment for a process of an engine's Python.

    Without PYTHONDONTWRITEBYTECODE, which some container images set: an engine compiles some
    thousand modules at its first start, and would do so again at each (45 s became 95 s).
    """
    return {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}


def require(name: str) -> Environment:
    """The installed environment `name`, or NotInstalledError with the command that makes it.

    'current' is the Python that runs the toolkit, for those who install an engine beside it.
    """
    if name == "current":
        return _current()
    environment = inspect(name)
    if environment.state == "installed":
        return environment
    why = {
        "missing": "is not installed",
        "incomplete": "is half-installed (an install was interrupted)",
        "outdated": "was made from an older version of its recipe",
    }[environment.state]
    noun = "engine" if isinstance(environment_recipe(name)[1], EngineRecipe) else "router"
    raise NotInstalledError(
        f"{noun} environment '{name}' {why} ({environment.folder}); run: aot {noun} install {name}"
    )


def _current() -> Environment:
    """The Python that runs the toolkit, with the versions of the engines found in it."""
    versions = {}
    engines = [name for name, engine in ENGINES.items() if engine.packaging is not None]
    for package in (*engines, "torch", "transformers"):
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    if not versions.keys() & set(engines):
        raise NotInstalledError(
            "environment 'current': no engine is installed beside the toolkit; run: pip install "
            "vllm, or name a recipe (aot engine list)"
        )
    return Environment("current", "installed", Path(sys.prefix), versions)


def recipe_digest(name: str) -> str:
    """sha256 over the recipe file, its constraints and its local packages."""
    beside, recipe = environment_recipe(name)
    files = [beside / f"{name}.yaml"]
    if recipe.constraints:
        files.append(beside / recipe.constraints)
    for folder in recipe.local_packages:
        files.append(beside / folder / "pyproject.toml")
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def install(name: str, report: Report, python: str | None = None) -> Environment:
    """Make environment `name` anew, unless it is installed already. `python`: the interpreter to
    make it with; None: the one that runs the toolkit.

    Raises UsageError for an interpreter that the recipe's wheels do not exist for, ToolkitError
    with the end of the log when a step fails; what is on disk then counts as incomplete. An
    interrupted install leaves the same.
    """
    beside, recipe = environment_recipe(name)
    interpreter = python or sys.executable
    _check_python(name, recipe, interpreter)
    with only_one(writable(engines_dir()) / f".{name}.lock", report):
        environment = inspect(name)
        if environment.state == "installed":
            return environment
        if environment.folder.exists():
            report(f"removing the {environment.state} {environment.folder}")
            shutil.rmtree(environment.folder)
        _Installer(name, recipe, beside, environment.folder, report, interpreter, installer()).run()
    return inspect(name)


def _check_python(name: str, recipe: EnvironmentRecipe, interpreter: str) -> None:
    code = "import platform; print(platform.python_version())"
    try:
        done = subprocess.run([interpreter, "-c", code], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        raise UsageError(f"--python: {interpreter} is no Python that runs here") from None
    version = done.stdout.strip()
    if not SpecifierSet(recipe.python).contains(version, prereleases=True):
        raise UsageError(
            f"environment '{name}' needs Python {recipe.python}, and {interpreter} is "
            f"{version}; name another one: aot engine install {name} --python python3.12"
        )


@dataclass(frozen=True, slots=True)
class _Installer:
    name: str
    recipe: EnvironmentRecipe
    beside: Path
    """The folder of the recipe and of what it names."""
    folder: Path
    report: Report
    interpreter: str
    tool: Uv | Pip

    @property
    def python(self) -> str:
        return str(self.folder / "bin" / "python")

    @property
    def log(self) -> Path:
        return engines_dir() / f"{self.name}.install.log"

    def run(self) -> None:
        self.log.write_text("", encoding="utf-8")
        create = self.tool.create(self.interpreter, self.folder)
        self._step("creating the environment", create)
        self._install_packages()
        if self.recipe.packages_without_deps:
            bare = self.recipe.packages_without_deps
            self._install(f"installing {', '.join(bare)}", "--no-deps", *bare)
        if self.recipe.remove:
            command = self.tool.uninstall(self.python, *self.recipe.remove)
            self._step("removing what does not load here", command)
        for package in self.recipe.local_packages:
            self._install(f"adding {package}", "--no-deps", str(self.beside / package))
        self._step("checking that it loads", [self.python, "-c", self.recipe.probe])
        self._write_marker()

    def _install_packages(self) -> None:
        arguments = [*self.recipe.packages]
        if self.recipe.constraints:
            arguments += ["-c", str(self.beside / self.recipe.constraints)]
        title = f"installing {', '.join(self.recipe.packages)}"
        index = os.environ.get(self.recipe.fallback_index_env or "") or self.recipe.fallback_index
        try:
            self._install(title, *arguments)
        except ToolkitError:
            # A package that cannot be found is worded in several ways (a pin in the constraints
            # file turns "No matching distribution" into "conflicting dependencies"), so any
            # failure is worth the second attempt.
            if index is None:
                raise
            self.report(f"{self.tool.name} as configured failed; trying again with {index}")
            self._install(title, *arguments, "--extra-index-url", index)

    def _install(self, title: str, *arguments: str) -> None:
        self._step(title, self.tool.install(self.python, *arguments))

    def _step(self, title: str, command: list[str]) -> None:
        self.report(title)
        with (
            self.log.open("a", encoding="utf-8") as log,
            # Else the installer would go on writing after we are killed, under the next install.
            start(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env={**engine_environ(), **self.tool.env},
            ) as process,
        ):
            log.write(f"$ {' '.join(command)}\n")
            try:
                for line in process.stdout or ():
                    log.write(line)
                    log.flush()
                    self.report(f"{title}: {line.strip()[:100]}")
            except BaseException:
                end(process, STOP_S)
                raise
        if process.returncode != 0:
            tail = "\n".join(self.log.read_text(encoding="utf-8").splitlines()[-12:])
            raise ToolkitError(
                f"installing {self.name}: '{title}' failed with exit code "
                f"{process.returncode}. The end of {self.log}:\n{tail}"
            )

    def _write_marker(self) -> None:
        packages = [*self.recipe.packages_without_deps, *self.recipe.packages]
        pinned = [p.split("==")[0] for p in packages if "==" in p]
        names = [*pinned, "torch", "transformers"]
        code = (
            "import json, importlib.metadata as m, platform\n"
            "def v(n):\n"
            "    try: return m.version(n)\n"
            "    except m.PackageNotFoundError: return None\n"
            f"found = {{n: v(n) for n in {names!r}}}\n"
            "print(json.dumps({'python': platform.python_version(), **found}))"
        )
        done = subprocess.run([self.python, "-c", code], capture_output=True, text=True, check=True)
        versions = {k: v for k, v in json.loads(done.stdout).items() if v}
        marker = {"recipe_sha256": recipe_digest(self.name), "versions": versions}
        # The rename is the commit: before it the environment is incomplete.
        with replacing(self.folder / MARKER) as partial:
            partial.write_text(json.dumps(marker, indent=2) + "\n", encoding="utf-8")


@contextmanager
def only_one(lock: Path, report: Report) -> Iterator[None]:
    """Hold `lock`: two processes that make the same folder would tear it down under each other."""
    held = FileLock(lock)
    try:
        held.acquire(blocking=False)
    except Timeout:
        report("another process is working on this; waiting for it")
        held.acquire()
    with held:
        held.release()  # acquired once more by the block
        yield
