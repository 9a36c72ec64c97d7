"""The GitHub Action and the pre-commit hook, as far as they run without GitHub: their commands."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from support.command import CHECKOUT


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository with a clean prompt and one with a clock."""
    (tmp_path / ".git").mkdir()
    for name, first in (("clean", "Be kind."), ("clock", "Current time: 12:30:01")):
        folder = tmp_path / "prompts" / name
        (folder / "dynamic_templates").mkdir(parents=True)
        (folder / "system_prompt.txt").write_text(f"{first}\n" + "Name the clause. " * 500)
        (folder / "dynamic_templates" / "ask.jinja2").write_text("{{ question }}")
    return tmp_path


def run(command: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-eo", "pipefail", "-c", command], cwd=cwd, capture_output=True, text=True,
        env={**os.environ, **environment, "PATH": path}, check=False,
    )  # fmt: skip


def action(cwd: Path, **given: str) -> subprocess.CompletedProcess[str]:
    """The last step, with inputs as GitHub hands them over."""
    facts = yaml.safe_load((CHECKOUT / "action.yml").read_text())
    step, inputs = facts["runs"]["steps"][-1], facts["inputs"]
    values = {name: given.get(name, str(spec.get("default", ""))) for name, spec in inputs.items()}
    environment = {}
    for name, text in step["env"].items():
        environment[name] = values[text.removeprefix("${{ inputs.").removesuffix(" }}")]
    return run(step["run"], cwd, **environment)


def test_the_action_annotates_and_fails(project: Path) -> None:
    done = action(project, paths="prompts/clean prompts/clock")
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("::error file=prompts/clock/system_prompt.txt,line=1,title=volat")
    assert action(project, paths="prompts/clean").returncode == 0
    assert action(project, paths="prompts/clock", **{"fail-on": "never"}).returncode == 0
    done = action(project, paths="prompts/clock", arguments="--write-baseline known.json")
    assert done.returncode == 0, done.stderr
    done = action(project, paths="prompts/clock", baseline="known.json")
    assert (done.returncode, done.stdout) == (0, "")


def test_the_action_installs_what_it_runs() -> None:
    steps = yaml.safe_load((CHECKOUT / "action.yml").read_text())["runs"]["steps"]
    assert 'pip install --quiet "$ACTION_PATH"' in [s.get("run") for s in steps]


def test_the_hook_runs_the_command_on_its_arguments(project: Path) -> None:
    (hook,) = yaml.safe_load((CHECKOUT / ".pre-commit-hooks.yaml").read_text())
    assert (hook["language"], hook["pass_filenames"]) == ("python", False)
    done = run(f"{hook['entry']} {shlex.quote('prompts/clock')}", project)
    assert done.returncode == 1
    assert "prompts/clock/system_prompt.txt:1: error: volatile-time" in done.stdout
