"""The wheel in an empty environment, inside a project that has folders of the same names."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from support.command import CHECKOUT
from support.stub import MODEL, serving

from aot.serving.local.packages import installer, pip_of

ROOMS = ("analysis", "configs", "scripts", "serving", "workloads")
TRAP = "raise SystemExit('a file of the user was executed: ' + __file__)\n"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [*pip_of(sys.executable), "wheel", "--quiet", "--no-deps", "-w", folder, CHECKOUT]
    subprocess.run(command, check=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def programs(wheel: Path) -> Path:
    """The programs of an environment that holds the wheel and nothing of the checkout."""
    tool, folder = installer(), wheel.parent / "environment"
    env = {**os.environ, **tool.env}
    subprocess.run(tool.create(sys.executable, folder), check=True, env=env)
    command = tool.install(str(folder / "bin" / "python"), str(wheel))
    subprocess.run(command, check=True, env=env)
    return folder / "bin"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A user's project: packages called like our rooms, and traps called like what we start."""
    for room in ROOMS:
        (tmp_path / room).mkdir()
        (tmp_path / room / "__init__.py").write_text("")
        (tmp_path / room / "job.py").write_text("def job() -> str:\n    return 'theirs'\n")
    for name in ("aot.py", "locust.py", "psutil.py", "pip.py", "gevent.py"):
        (tmp_path / name).write_text(TRAP)
    return tmp_path


def run(program: Path, *arguments: object, cwd: Path, **more: str) -> str:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHONPATH", "AOT_"))}
    done = subprocess.run(
        [program, *map(str, arguments)],
        cwd=cwd, env={**env, "HOME": str(cwd / "home"), **more}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def test_a_wheel_holds_one_name(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"aot"}
    assert not any("/bench/" in name or name.endswith((".sh", "/check", "/test")) for name in names)
    assert "aot/configs/experiments/demo.yaml" in names


def test_the_tool_runs_inside_a_foreign_project(programs: Path, project: Path) -> None:
    aot = programs / "aot"
    assert "Measure:" in run(aot, "--help", cwd=project)
    assert "demo" in run(aot, "configs", "list", "servers", cwd=project)
    assert "fits" in run(aot, "doctor", "--server", "qwen3-8b-l4", cwd=project)
    run(aot, "schedule", "demo", "-o", "s.jsonl", cwd=project)
    with serving() as stub:
        where = ("--url", stub.base_url, "--model", MODEL)
        assert "report:" in run(aot, "load", "s.jsonl", *where, "-o", "out", cwd=project)
    assert (project / "out" / "report.html").exists()


def test_what_it_installs_and_fetches_is_kept_in_the_users_data_folder(
    programs: Path, project: Path
) -> None:
    code = "from aot.configs.kernel.places import engines_dir; print(engines_dir())"
    said = run(programs / "python", "-P", "-c", code, cwd=project, XDG_DATA_HOME=str(project / "d"))
    assert Path(said.strip()) == project / "d" / "aot" / ".engines"
    named = run(programs / "python", "-P", "-c", code, cwd=project, AOT_HOME=str(project / "h"))
    assert Path(named.strip()) == project / "h" / ".engines"


@pytest.mark.parametrize("room", ROOMS)
def test_the_project_finds_its_own_modules(programs: Path, project: Path, room: str) -> None:
    (project / "main.py").write_text(
        f"from {room}.job import job\nimport {room}\nprint(job(), {room}.__file__)\n"
    )
    (project / "aot.py").unlink()
    assert run(programs / "python", "main.py", cwd=project).startswith("theirs " + str(project))


def test_a_project_without_init_files_finds_its_own_modules(programs: Path, project: Path) -> None:
    (project / "scripts" / "__init__.py").unlink()
    (project / "main.py").write_text("from scripts.job import job\nprint(job())\n")
    assert run(programs / "python", "main.py", cwd=project) == "theirs\n"


def test_an_installation_without_its_data_says_so(programs: Path, project: Path) -> None:
    (shipped,) = programs.parent.glob("lib/*/site-packages/aot/configs")
    hidden = shipped.with_name("hidden")
    (shipped / "servers").rename(hidden)
    try:
        done = subprocess.run(
            [programs / "aot", "serve", "demo"], cwd=project, capture_output=True, text=True
        )
    finally:
        hidden.rename(shipped / "servers")
    assert done.returncode == 1
    assert "this installation of aot is not complete; install it again" in done.stderr
    assert "Traceback" not in done.stderr
