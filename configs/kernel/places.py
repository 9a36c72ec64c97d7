"""Where things are kept: engine environments, model folders and the shipped configuration files."""

from __future__ import annotations

import os
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
CONFIGS = CHECKOUT / "configs"


def home() -> Path:
    """The folder that holds .engines/ and .models/: AOT_HOME, else the checkout itself."""
    return Path(os.environ.get("AOT_HOME") or CHECKOUT)


def engines_dir() -> Path:
    return home() / ".engines"


def models_dir() -> Path:
    return home() / ".models"
