from __future__ import annotations

import json
from pathlib import Path

import pytest

import configs.load
from configs.errors import ConfigError, NotInstalledError, ToolkitError, UsageError
from serving import environments, models

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
    for module in (configs.load, environments):
        monkeypatch.setattr(module, "CONFIGS", tmp_path)
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


def test_a_half_finished_install_is_redone(tiny: Path) -> None:
    folder = environments.engines_dir() / "tiny"
    folder.mkdir(parents=True)
    (folder / "left-over").write_text("of an interrupted install")
    made = environments.install("tiny", silent)
    assert made.state == "installed"
    assert made.versions["six"] == "1.16.0"
    assert not (folder / "left-over").exists()
    lines: list[str] = []
    assert environments.install("tiny", lines.append) == made
    assert lines == []  # nothing to do the second time


def test_a_failing_step_shows_the_log_and_leaves_no_marker(tiny: Path) -> None:
    recipe = tiny / "engines" / "tiny.yaml"
    recipe.write_text(RECIPE.format(package="six==0.0.0.0.1"))
    with pytest.raises(ToolkitError) as caught:
        environments.install("tiny", silent)
    assert "No matching distribution found for six==0.0.0.0.1" in str(caught.value)
    assert environments.inspect("tiny").state == "incomplete"


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
