"""Each broken case has its cause found; no clean case has a finding."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.lint_cases import BROKEN_FOLDERS, BROKEN_LOGS, CLEAN_FOLDERS, CLEAN_LOGS, Body, Files

from aot.configs.kernel.errors import UsageError
from aot.configs.kernel.places import CONFIGS
from aot.workloads.lint import folder as lint_folder
from aot.workloads.lint import log as lint_log
from aot.workloads.lint import seen
from aot.workloads.lint.flaw import RULES, Flaw
from aot.workloads.prompts import folder as prompts

MEASURE = lint_folder.Measure(count=lambda text: len(text) // 4, block_tokens=16)


def lint_files(files: Files, folder: Path) -> list[Flaw]:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="")
    return lint_folder.lint(prompts.read(folder), MEASURE)


def lint_bodies(bodies: list[Body], folder: Path) -> lint_log.LogReport:
    path = folder / "requests.jsonl"
    path.write_text("".join(json.dumps(b) + "\n" for b in bodies), encoding="utf-8")
    return lint_log.lint(seen.read(path)[0], str(path), 0.25)


def test_there_are_enough_cases() -> None:
    assert len(BROKEN_FOLDERS) + len(BROKEN_LOGS) >= 50
    assert len(CLEAN_FOLDERS) + len(CLEAN_LOGS) >= 25


@pytest.mark.parametrize("case", BROKEN_FOLDERS)
def test_a_broken_folder(case: str, tmp_path: Path) -> None:
    rule, files = BROKEN_FOLDERS[case]
    found = lint_files(files, tmp_path)
    assert rule in {f.rule for f in found}, found
    assert {f.rule for f in found} <= {rule, "unfilled-variable"}, found
    assert all(f.file in files for f in found)


@pytest.mark.parametrize("case", CLEAN_FOLDERS)
def test_a_clean_folder(case: str, tmp_path: Path) -> None:
    assert lint_files(CLEAN_FOLDERS[case], tmp_path) == []


@pytest.mark.parametrize("case", BROKEN_LOGS)
def test_a_broken_log(case: str, tmp_path: Path) -> None:
    rule, bodies = BROKEN_LOGS[case]
    found = lint_bodies(bodies, tmp_path)
    assert rule in {f.rule for f in found.flaws}, found.flaws
    if rule != "duplicate-text":  # which is found as often as it stands there
        assert found.ideal_tokens < found.computed_tokens
    (flaw,) = [f for f in found.flaws if f.rule == rule]
    assert (flaw.tokens_per_request or 0) > 8


@pytest.mark.parametrize("case", CLEAN_LOGS)
def test_a_clean_log(case: str, tmp_path: Path) -> None:
    assert lint_bodies(CLEAN_LOGS[case], tmp_path).flaws == []


def test_the_shipped_prompts_are_clean() -> None:
    for folder in (CONFIGS / "prompts").iterdir():
        # Short ones are filled up by the scenarios that use them.
        assert {f.level for f in lint_folder.lint(prompts.read(folder), MEASURE)} <= {"note"}


def test_line_and_cost_are_those_of_the_place(tmp_path: Path) -> None:
    files = {
        "system_prompt.txt": "Line one.\nCurrent time: 12:30:01\n" + "x" * 400,
        "dynamic_templates/a.jinja2": "{{ q }}",
        "context/d.md": "y" * 4000,
    }
    (flaw,) = [f for f in lint_files(files, tmp_path) if f.rule == "volatile-time"]
    assert (flaw.file, flaw.line) == ("system_prompt.txt", 2)
    assert flaw.tokens_per_request == (len("12:30:01\n") + 400) // 4 + 1000


def test_every_rule_of_a_case_is_documented() -> None:
    named = {r for r, _ in [*BROKEN_FOLDERS.values(), *BROKEN_LOGS.values()]}
    assert named <= RULES.keys()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no request in it"),
        ("{\n", ":1: not JSON"),
        ("[1]\n", "1: expected an object, got int"),
        ('{"messages": "x"}\n', ":1: field 'messages' is missing or no list"),
        ('{"messages": [{"role": 5, "content": "x"}]}\n', r":1: messages\[0\].role is no text"),
        ('{"messages": [], "tools": 5}\n', ":1: field 'tools' is no list of tool schemas"),
        (
            '{"messages": [{"role": "user", "content": "\\ud800"}]}\n',
            r":1: messages\[0\].content has half a character in it",
        ),
        (
            '{"messages": [{"role": "user", "content": 5}]}\n',
            r":1: messages\[0\].content is no text",
        ),
    ],
)
def test_a_log_that_is_none(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(text)
    with pytest.raises(UsageError, match=words):
        seen.read(path)


@pytest.mark.parametrize("wrapper", ["body", "request", "params"])
def test_wrapped_bodies_are_read(tmp_path: Path, wrapper: str) -> None:
    path = tmp_path / "log.jsonl"
    body = {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]}
    path.write_text(json.dumps({"custom_id": "1", wrapper: body}) + "\n")
    ((request,), _) = seen.read(path)
    assert dict(request.parts)["messages[0].content[0].text"] == "hi"
