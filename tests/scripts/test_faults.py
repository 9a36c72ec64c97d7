"""The faults that scripts/bench/mutations.py plants can be planted: each stands where it says."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

CHECKOUT = Path(__file__).parents[2]
FAULTS = yaml.safe_load((CHECKOUT / "scripts" / "bench" / "faults.yaml").read_text())


@pytest.mark.parametrize("file", FAULTS)
def test_a_fault_has_its_place_and_its_tests(file: str) -> None:
    text = (CHECKOUT / file).read_text()
    for edit in FAULTS[file]["edits"]:
        assert text.count(edit["old"]) == 1, edit["old"]
        assert edit["new"] != edit["old"]
    assert all((CHECKOUT / test).exists() for test in FAULTS[file]["tests"])
