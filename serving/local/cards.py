"""Whether this machine has the cards that a server file names."""

from __future__ import annotations

import os

from aot.configs.kernel.errors import UsageError
from aot.configs.schema.server import ServerConfig
from aot.configs.schema.variables import plain
from aot.serving.local.machine import this_machine
from aot.serving.topology.shares import CARDS_VARIABLE


def given(config: ServerConfig, variable: str) -> str | None:
    """What the user has set: in the server file, else around us."""
    return plain(config.env).get(variable, os.environ.get(variable))


def check_cards(config: ServerConfig, device: str) -> None:
    needed, gpus = config.replicas * config.cards, len(this_machine().gpus)
    # Those of CUDA_VISIBLE_DEVICES were counted when they were shared out.
    shared_out = given(config, CARDS_VARIABLE) is not None
    if device == "cuda" and not shared_out and needed > max(gpus, 1):
        raise UsageError(
            f"replicas: {config.replicas} with {config.cards} card(s) each need {needed}, and "
            f"this machine has {gpus}"
        )
