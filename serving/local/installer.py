"""Makes the environment of an engine or a router from its recipe, and says how it is going."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from packaging.specifiers import SpecifierSet

from aot.configs.kernel.children import follow
from aot.configs.kernel.errors import ToolkitError, UsageError
from aot.configs.kernel.files import replacing
from aot.configs.kernel.places import engines_dir, writable
from aot.configs.loading.presets import environment_recipe
from aot.configs.schema.recipe import EnvironmentRecipe
from aot.serving.local.environments import (
    MARKER,
    Environment,
    engine_environ,
    inspect,
    recipe_digest,
)
from aot.serving.local.packages import Pip, Uv, installer

Report = Callable[[str], None]
"""Called with one line of progress."""


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
            if environment.folder.is_symlink():
                environment.folder.unlink()  # what it leads to is not ours
            else:
                shutil.rmtree(environment.folder)
        _Installer(name, recipe, beside, environment.folder, report, interpreter, installer()).run()
    return inspect(name)


def _check_python(name: str, recipe: EnvironmentRecipe, interpreter: str) -> None:
    code = "import platform; print(platform.python_version())"
    try:
        done = subprocess.run(
            [interpreter, "-I", "-c", code], capture_output=True, text=True, check=True
        )
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
        self._step("checking that it loads", [self.python, "-P", "-c", self.recipe.probe])
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
        with self.log.open("a", encoding="utf-8") as log:
            log.write(f"$ {' '.join(command)}\n")

            def tell(line: str) -> None:
                log.write(line)
                log.flush()
                self.report(f"{title}: {line.strip()[:100]}")

            code = follow(command, tell, env={**engine_environ(), **self.tool.env})
        if code != 0:
            tail = "\n".join(self.log.read_text(encoding="utf-8").splitlines()[-12:])
            raise ToolkitError(
                f"installing {self.name}: '{title}' failed with exit code {code}. The end of "
                f"{self.log}:\n{tail}"
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
        done = subprocess.run(
            [self.python, "-P", "-c", code], capture_output=True, text=True, check=True
        )
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
