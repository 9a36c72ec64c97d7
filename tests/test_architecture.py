"""The structure is tested too: who imports whom, and that the documents tell the truth."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from aot.scripts.cli.main import app

CHECKOUT = Path(__file__).resolve().parent.parent
ROOMS = ("analysis", "configs", "scripts", "serving", "workloads")
MODULES = [p for room in ROOMS for p in sorted((CHECKOUT / room).rglob("*.py"))]


def test_the_import_contracts_hold() -> None:
    lint = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([lint], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "3 kept, 0 broken" in done.stdout


@pytest.mark.parametrize("module", MODULES, ids=lambda p: str(p.relative_to(CHECKOUT)))
def test_files_are_small_and_say_what_they_are(module: Path) -> None:
    text = module.read_text()
    assert text.count("\n") <= 300
    if module.name != "__init__.py":
        assert ast.get_docstring(ast.parse(text)), f"{module} has no docstring"


def test_no_module_in_workloads_is_named_after_the_standard_library() -> None:
    """Locust puts the locustfile's folder first on sys.path."""
    names = {p.stem for p in (CHECKOUT / "workloads").glob("*.py")} - {"__init__"}
    assert not names & set(sys.stdlib_module_names)


def test_every_command_is_in_the_readme_and_has_help() -> None:
    readme = (CHECKOUT / "README.md").read_text()
    commands = get_command(app).commands  # type: ignore[attr-defined]
    for name, command in commands.items():
        assert f"aot {name}" in readme
        assert command.help


def test_every_module_is_in_the_architecture_document() -> None:
    document = (CHECKOUT / "docs" / "architecture.md").read_text()
    missing = [p.name for p in MODULES if p.name != "__init__.py" and f"`{p.name}`" not in document]
    assert missing == []


def test_links_between_documents_lead_somewhere() -> None:
    for document in [CHECKOUT / "README.md", *(CHECKOUT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"
