"""Files and folders that two processes may want."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from aot.configs.kernel.errors import UsageError
from aot.configs.kernel.files import held, replacing


def test_what_is_written_comes_in_one_step_and_a_failure_leaves_the_old(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("old")
    with pytest.raises(KeyError), replacing(path) as partial:
        partial.write_text({"half": "half"}["other half"])
    assert [p.name for p in tmp_path.iterdir()] == ["f"]
    assert path.read_text() == "old"


@pytest.mark.parametrize("target", ["file/below", "missing/below"])
def test_where_nothing_can_be_written_is_named(tmp_path: Path, target: str) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UsageError, match="cannot be written"),
        replacing(tmp_path / target) as partial,
    ):
        partial.write_text("x")


def test_a_folder_is_for_one_process_at_a_time(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from aot.configs.kernel.files import held\n"
        "with held(Path(sys.argv[1])):\n    print('has it', flush=True); sys.stdin.read()\n"
    )
    command = [sys.executable, "-P", "-c", code, str(tmp_path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "has it\n"
        with pytest.raises(UsageError, match="another aot is measuring into it"), held(tmp_path):
            pass
        process.communicate("")
    with held(tmp_path):
        pass
    assert [p.name for p in tmp_path.iterdir()] == [".lock"]
