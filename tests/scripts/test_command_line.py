"""The command line itself: help, versions, completion, shipped files, files of the wrong kind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.command import Aot, check

from aot.scripts.cli import main as command_line

HEAVY = ("rich", "numpy", "pandas", "openai", "requests", "ruamel", "matplotlib")


def modules_of(*arguments: str, **env: str) -> set[str]:
    """What a process of the command line has imported when it ends."""
    code = (
        "import sys, atexit\n"
        "atexit.register(lambda: print('MODULES', *sys.modules))\n"
        "from aot.scripts.cli.main import main\n"
        f"sys.argv = ['aot', *{list(arguments)!r}]\nmain()\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, **env},
    )
    assert "MODULES" in done.stdout, done.stderr
    return {name.partition(".")[0] for name in done.stdout.split("MODULES")[1].split()}


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["run", "-h"], ["gate", "--help"]]
)
def test_help_imports_nothing_that_takes_time(arguments: list[str]) -> None:
    assert not modules_of(*arguments) & set(HEAVY)


@pytest.mark.parametrize(
    "words", ["aot ", "aot serve --arm ", "aot render demo --target ", "aot run "]
)
def test_completion_imports_nothing_that_takes_time(words: str) -> None:
    env = {
        "_AOT_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }
    assert not modules_of(**env) & set(HEAVY)


def complete(words: str) -> list[str]:
    env = {
        **os.environ,
        "_AOT_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }
    command = [sys.executable, "-P", "-m", "aot.scripts.cli"]
    return subprocess.run(command, env=env, capture_output=True, text=True).stdout.split()


def test_verbs_choices_and_names_are_completed() -> None:
    assert complete("aot capa") == ["capacity"]
    assert complete("aot serve --arm ") == ["jit", "auto", "aot", "store", "restarted"]
    assert "qwen3-8b-l4" in complete("aot serve qwen3-8b")
    assert complete("aot run demo-b") == ["demo-both"]


def test_help_and_version(aot: Aot) -> None:
    first, second = aot("-h"), aot("--help")
    check(first, 0)
    assert first.stdout == second.stdout
    order = ["Measure:", "Prompts:", "Traffic:", "Serve and deploy:", "Reports:", "This machine:"]
    assert [line for line in first.stdout.splitlines() if line in order] == order
    assert max(map(len, first.stdout.splitlines())) <= 80
    assert aot("--version").stdout.startswith("aot 0.")
    assert aot("engine", "-h").returncode == 0


def test_a_verb_that_is_none_has_its_nearest(aot: Aot) -> None:
    check(aot("lnit"), 2, "No such command 'lnit'", "Did you mean 'lint'")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("run", "w.yaml"),
            "w.yaml: this is a workload; aot run takes an experiment, which names one",
        ),
        (("run", "s.yaml"), "s.yaml: this is a server file; aot run takes an experiment"),
        (
            ("sweep", "s.yaml", "--over", "rate=1,2"),
            "aot sweep takes an experiment, which names one",
        ),
        (("serve", "e.yaml"), "e.yaml: this is an experiment; aot serve takes a server file"),
        (("serve", "w.yaml"), "w.yaml: this is a workload; aot serve takes a server file"),
        (("render", "w.yaml", "--target", "k8s"), "aot render takes a server file"),
        (("doctor", "--server", "w.yaml"), "w.yaml: this is a workload; aot doctor takes a server"),
        (
            ("schedule", "s.yaml", "-o", "o"),
            "s.yaml: this is a server file; aot schedule takes a work",
        ),
        (
            ("load", "e.yaml", "--url", "http://x"),
            "e.yaml: this is an experiment; aot load takes a w",
        ),
        (
            ("run", "log.jsonl"),
            "log.jsonl: this is a schedule or a request log; aot run takes an exp",
        ),
        (("run", "prompt"), "prompt: this is a prompt folder; aot run takes an experiment (.yaml)"),
        (
            ("serve", "compiled.json"),
            "compiled.json: this is a JSON file; aot serve takes a server",
        ),
        (("run", "nowhere.yaml"), "nowhere.yaml: no such file"),
        (("report", "e.yaml"), "e.yaml: this is an experiment; aot report takes a run directory"),
        (
            ("gate", "e.yaml", "--against", "x", "--max-regression", "ttft_p50=5%"),
            "takes a run dire",
        ),
        (
            ("compile", "e.yaml", "--model", "x"),
            "e.yaml: this is an experiment; aot compile takes a prompt",
        ),
        (("lint", "s.yaml"), "s.yaml: this is a server file; aot lint takes a prompt folder"),
        (
            ("oracle", "prompt"),
            "prompt: this is a prompt folder; aot oracle takes a workload, a sch",
        ),
        (("savings", "s.yaml", "--requests-per-day", "1"), "aot savings takes a compiled prompt"),
        (
            ("ask", "prompt", "Q", "--model", "m"),
            "prompt: this is a prompt folder; aot ask takes a com",
        ),
        (
            ("serve", "s.yaml", "--arm", "jti"),
            "'store', 'restarted'. Did you mean 'jit'?",
        ),
        (("schedule", "w.yaml", "-o", "/dev/null/x"), "/dev/null/x: cannot be written"),
        (("run", "dem"), "no experiment of that name is shipped, did you mean 'demo'?"),
        (("serve", "qwen3-8b-l5"), "did you mean 'qwen3-8b-l4'?"),
    ],
)
def test_a_file_of_the_wrong_kind_is_named_as_what_it_is(
    aot: Aot, workload: Path, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    workload.rename(tmp_path / "w.yaml")
    (tmp_path / "s.yaml").write_text("engine: vllm\nmodel: x\n")
    (tmp_path / "e.yaml").write_text("name: e\nserver: s.yaml\nworkload: w.yaml\n")
    (tmp_path / "log.jsonl").write_text("{}\n")
    (tmp_path / "compiled.json").write_text("{}")
    before = sorted(p.name for p in tmp_path.rglob("*"))
    check(aot(*arguments), 2, words)
    assert sorted(p.name for p in tmp_path.rglob("*")) == before


def test_an_experiment_may_name_what_is_shipped(
    aot: Aot, fake_engine: Path, tmp_path: Path
) -> None:
    (tmp_path / "e.yaml").write_text(f"name: e\nserver: {fake_engine.name}\nworkload: demoo\n")
    check(aot("run", "e.yaml"), 2, "no workload of that name is shipped, did you mean 'demo'?")
    check(aot("schedule", "demo", "-o", "s.jsonl"), 0)
    assert (tmp_path / "s.jsonl").exists()


def test_init_writes_what_can_be_measured(aot: Aot, fake_engine: Path, tmp_path: Path) -> None:
    check(aot("init", "mine"), 0)
    names = ("server.yaml", "workload.yaml", "experiment.yaml", "prompt")
    assert sorted(p.name for p in (tmp_path / "mine").iterdir()) == sorted(names)
    check(aot("schedule", "mine/workload.yaml", "-o", "s.jsonl"), 0)
    check(aot("serve", "mine/server.yaml", "--dry-run"), 0)
    assert "server: server.yaml" in (tmp_path / "mine" / "experiment.yaml").read_text()
    check(aot("init", "mine"), 2, "mine: is there already")
    (tmp_path / "file").write_text("x")
    check(aot("init", "file"), 2, "file: is there already")
    assert (tmp_path / "file").read_text() == "x"


def test_shipped_files_are_listed_shown_and_copied(aot: Aot, tmp_path: Path) -> None:
    assert "qwen3-8b-l4" in aot("configs", "list", "servers").stdout
    assert "experiments" in aot("configs", "list").stdout
    assert "scenario: support-bot" in aot("configs", "show", "workloads", "demo").stdout
    assert "--- system_prompt.txt" in aot("configs", "show", "prompts", "support-bot").stdout
    check(aot("configs", "copy", "workloads", "demo", "mine.yaml"), 0)
    assert "prompt: support-bot\n" in (tmp_path / "mine.yaml").read_text()
    check(aot("schedule", "mine.yaml", "-o", "s.jsonl"), 0)
    check(aot("configs", "copy", "workloads", "demo", "mine.yaml"), 2, "is left as it is")
    check(aot("configs", "copy", "experiments", "demo", "experiment.yaml"), 0)
    assert "server: demo\nworkload: demo\n" in (tmp_path / "experiment.yaml").read_text()
    check(aot("configs", "copy", "experiments", "routing", "new/"), 0)
    assert (tmp_path / "new" / "routing.yaml").exists()
    check(aot("configs", "copy", "experiments", "routing"), 0)
    assert "[replicas, replicas-round-robin]" in (tmp_path / "routing.yaml").read_text()
    check(aot("configs", "show", "servers", "demoo"), 2, "did you mean 'demo'?")
    check(aot("configs", "copy", "prompts", "support-bot"), 0)
    assert (tmp_path / "support-bot" / "system_prompt.txt").exists()
    check(aot("configs", "copy", "prompts", "support-bot"), 2, "is left as it is")
    (tmp_path / "folder").mkdir()
    check(aot("configs", "copy", "servers", "demo", "folder"), 0)
    assert (tmp_path / "folder" / "demo.yaml").exists()


def test_an_end_with_a_text_is_told_and_is_no_success(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ends(*_: object, **__: object) -> None:
        sys.exit("a module of the user's own")

    monkeypatch.setattr(command_line, "app", ends)
    assert command_line.call(["load"]) == 1
    assert command_line.call(["gate"]) == 2
    assert capsys.readouterr().err.count("a module of the user's own") == 2
