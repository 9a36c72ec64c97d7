"""The structure is tested too: who imports whom, and that the documents tell the truth."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.command import CHECKOUT

from aot.scripts.cli.main import VERBS, verb

ROOMS = ("analysis", "configs", "scripts", "serving", "workloads")
MODULES = [p for room in ROOMS for p in sorted((CHECKOUT / room).rglob("*.py"))]


def test_the_import_contracts_hold() -> None:
    lint = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([lint], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert " 0 broken" in done.stdout


@pytest.mark.parametrize("module", MODULES, ids=lambda p: str(p.relative_to(CHECKOUT)))
def test_files_are_small_and_say_what_they_are(module: Path) -> None:
    text = module.read_text()
    assert text.count("\n") <= 300
    if module.name != "__init__.py":
        owns = (ast.get_docstring(ast.parse(text)) or "").split("\n\n")[0]
        assert 10 < len(owns) < 260, f"the first line of {module} does not say what it owns"


@pytest.mark.parametrize("room", ROOMS)
def test_a_sub_package_holds_one_concept(room: str) -> None:
    for folder in {p.parent for p in (CHECKOUT / room).rglob("*.py")}:
        assert len([p for p in folder.glob("*.py") if p.name != "__init__.py"]) <= 13, folder


def test_no_module_in_workloads_is_named_after_the_standard_library() -> None:
    """Locust puts the locustfile's folder first on sys.path."""
    names = {p.stem for p in (CHECKOUT / "workloads" / "load").glob("*.py")} - {"__init__"}
    assert not names & set(sys.stdlib_module_names)


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_is_in_the_readme_and_says_the_same_everywhere(name: str) -> None:
    assert f"aot {name}" in (CHECKOUT / "README.md").read_text()
    assert verb(name).get_short_help_str(200) == VERBS[name][1].removesuffix(".") or (
        verb(name).help or ""
    ).startswith(VERBS[name][1])


def test_links_between_documents_lead_somewhere() -> None:
    for document in [CHECKOUT / "README.md", *(CHECKOUT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_every_fault_in_the_table_has_its_test() -> None:
    text = (CHECKOUT / "docs" / "reliability.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("| ")]
    faults = [row for row in rows if row[0].strip() != "fault"]
    assert len(faults) >= 30
    for *_, held_by in faults:
        file, _, name = held_by.strip().partition("::")
        assert f"def {name}(" in (CHECKOUT / "tests" / f"{file}.py").read_text(encoding="utf-8")
