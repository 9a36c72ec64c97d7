"""What replicas get of the cards and cores that the user has set."""

from __future__ import annotations

from pathlib import Path

import pytest

from aot.configs.kernel import ports
from aot.configs.kernel.errors import UsageError
from aot.scripts.run import launch
from aot.serving.local import machine
from aot.serving.topology.shares import cards_of, cores_of


def test_cards_are_those_that_are_visible() -> None:
    assert [cards_of("4,5,6,7", n, 1) for n in range(4)] == [["4"], ["5"], ["6"], ["7"]]
    assert cards_of("4, 5,6,7", 1, 2) == ["6", "7"]
    assert cards_of("GPU-aa,MIG-bb", 1, 1) == ["MIG-bb"]
    assert cards_of(None, 1, 2) == ["2", "3"]


def test_too_few_cards_are_named() -> None:
    with pytest.raises(UsageError, match="CUDA_VISIBLE_DEVICES=4,5 shows 2 card"):
        cards_of("4,5", 2, 1)


@pytest.mark.parametrize(
    ("usable", "given", "shares"),
    [
        ([0, 1, 2, 3], None, ["0-1", "2-3"]),
        ([4, 6, 8, 9], None, ["4-4,6-6", "8-9"]),
        ([0, 1], "12-15", ["12-13", "14-15"]),
        ([0, 1], "2,5,8", ["2-2", "5-5"]),
        ([0], None, [None, None]),
        ([0, 1], "nobind", [None, None]),
        ([0, 1], "0-3|4-7", [None, None]),
    ],
)
def test_cores(usable: list[int], given: str | None, shares: list[str | None]) -> None:
    assert [cores_of(usable, given, n, 2) for n in range(2)] == shares


def test_replicas_share_what_the_file_or_the_shell_sets(
    fake_router: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "VLLM_CPU_OMP_THREADS_BIND"

    def cores() -> list[str | None]:
        return [plan.env.get(name) for plan in launch.prepare(fake_router).plans("auto").engines]

    monkeypatch.setattr(launch, "usable_cores", lambda: [4, 5, 6, 7])
    assert cores() == ["4-5", "6-7"]
    monkeypatch.setenv(name, "8-11")
    assert cores() == ["8-9", "10-11"]
    fake_router.write_text(fake_router.read_text() + f"env: {{{name}: '0,2'}}\n")
    assert cores() == ["0-0", "2-2"]


def test_64_replicas_never_get_a_port_twice() -> None:
    for _ in range(20):
        given = [ports.free_port("127.0.0.1") for _ in range(130)]
        assert len(set(given)) == 130


def test_the_machine_is_asked_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = tmp_path / "nvidia-smi"
    script.write_text(f"#!/bin/sh\necho asked >> {tmp_path}/log\necho 'H100, 80 GiB, 1'\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    machine.this_machine.cache_clear()
    try:
        assert {machine.this_machine().gpus for _ in range(10)} == {("H100, 80 GiB, 1",)}
        assert (tmp_path / "log").read_text() == "asked\n"
    finally:
        machine.this_machine.cache_clear()
