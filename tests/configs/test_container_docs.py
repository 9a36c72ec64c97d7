"""The table of container keys in the docs is that of the schema."""

from __future__ import annotations

import re

from aot.configs.kernel.places import CHECKOUT
from aot.configs.schema.container import ContainerConfig


def test_every_key_of_a_container_is_in_the_docs() -> None:
    text = (CHECKOUT / "docs" / "configuration.md").read_text()
    section = text.split("### In containers")[1].split("\n**")[0]
    keys = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert keys == list(ContainerConfig.model_fields)
