"""What the command line repeats of the rooms, so as not to import them, is what they know."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, get_args

import pytest

from aot.analysis.cache.policies import IN_FLIGHT, POLICIES
from aot.configs.loading.presets import SHIPPED, recipe_names
from aot.configs.schema.experiment import ARMS, MENDED
from aot.scripts.cli import choices
from aot.scripts.render import asked, targets
from aot.serving.hosted.api import APIS, TTLS
from aot.workloads.traces.formats import FORMATS


@pytest.mark.parametrize(
    ("choice", "known"),
    [
        (choices.ArmName, ARMS),
        (choices.ServedArm, {*ARMS} - {MENDED}),
        (choices.TargetName, targets.TARGETS),
        (choices.Chart, asked.CHARTS),
        (choices.TraceFormat, FORMATS),
        (choices.PolicyName, {*POLICIES, IN_FLIGHT}),
        (choices.ApiName, APIS),
        (choices.TtlName, TTLS),
        (choices.Provider, recipe_names("pricing")),
        (choices.Shelf, SHIPPED.values()),
    ],
)
def test_choices_are_what_the_rooms_know(choice: Any, known: Iterable[str]) -> None:
    assert sorted(get_args(choice) or choice) == sorted(known)
