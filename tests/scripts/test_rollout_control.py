"""A word to an `aot serve` that runs already: heard, answered, and refused by name."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.command import Aot, check

from aot.configs.kernel.errors import CacheStateError, ToolkitError, UsageError
from aot.scripts.warmed import control

PORT = 21_999


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    return tmp_path / "run"


def asked(roll: Callable[[Callable[[str], None]], None]) -> list[str]:
    """What the one who asks is told, or the error."""
    told: list[str] = []

    def ask() -> None:
        try:
            control.ask(PORT, told.append)
        except ToolkitError as error:
            told.append(f"error: {error}")

    with control.listening(PORT, roll, pytest.fail) as ear:
        asking = threading.Thread(target=ask)
        asking.start()
        until = time.monotonic() + 20
        while asking.is_alive():
            ear.look()
            assert time.monotonic() < until
            time.sleep(0.01)
    assert not control.socket_path(PORT).exists()
    return told


def test_progress_is_told_and_the_end() -> None:
    def roll(report: Callable[[str], None]) -> None:
        report("replica 0: draining")
        report("replica 0: back")

    assert asked(roll) == ["replica 0: draining", "replica 0: back"]


def test_a_failure_is_told_in_its_own_words() -> None:
    def roll(report: Callable[[str], None]) -> None:
        raise CacheStateError("p: template mismatch")

    assert asked(roll) == ["error: p: template mismatch"]


def test_nobody_serves_there(aot: Aot) -> None:
    with pytest.raises(UsageError, match=f"no 'aot serve' of this user serves on port {PORT}"):
        control.ask(PORT, print)
    check(aot("rollout", f"http://127.0.0.1:{PORT}"), 2, "no 'aot serve' of this user serves on")
    check(aot("rollout", "not a url"), 2, "URL")


def test_where_no_rollout_can_be_asked_for_it_is_served_all_the_same(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime / ("x" * 120)))
    notes: list[str] = []
    with control.listening(PORT, pytest.fail, notes.append) as ear:
        ear.look()
    assert notes[0].startswith("no rollout can be asked for")


def test_who_may_ask_is_the_user_alone(runtime: Path) -> None:
    with control.listening(PORT, pytest.fail, pytest.fail):
        assert control.socket_path(PORT).parent.stat().st_mode & 0o777 == 0o700
