"""Where things are kept: engine environments, model folders and the shipped configuration files."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_data_path

from aot.configs.kernel.errors import UsageError

PACKAGE = Path(__file__).resolve().parents[2]
"""The folder of the rooms: the checkout, or site-packages/aot."""
CONFIGS = PACKAGE / "configs"
CHECKOUT = PACKAGE if (PACKAGE / "src" / "aot").is_dir() else None
"""The checkout that this runs from; None where the toolkit is installed from a wheel."""


def home() -> Path:
    """The folder that holds .engines/ and .models/: AOT_HOME, else the checkout, else the
    platform's folder for a user's data."""
    if named := os.environ.get("AOT_HOME"):
        return Path(named).expanduser().absolute()
    return CHECKOUT or user_data_path("aot")


def engines_dir() -> Path:
    return home() / ".engines"


def models_dir() -> Path:
    return home() / ".models"


def writable(folder: Path) -> Path:
    """`folder`, made if need be. UsageError, with the remedy, where it cannot be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"{folder}: cannot be written ({error.strerror}); engines and models are kept there: "
            "name another folder in the environment variable AOT_HOME"
        ) from None
    if not os.access(folder, os.W_OK):
        raise UsageError(
            f"{folder}: this user may not write there; engines and models are kept there: name "
            "another folder in the environment variable AOT_HOME"
        )
    return folder
