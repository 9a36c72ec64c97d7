"""Settings by name: found, changed, checked by the same models as the files."""

from __future__ import annotations

import pytest

from aot.configs.kernel.errors import UsageError
from aot.configs.kernel.places import CONFIGS
from aot.configs.loading.load import load, load_workload
from aot.configs.loading.settings import changed, full_name, value
from aot.configs.schema.server import ServerConfig

WORKLOAD = load_workload(CONFIGS / "workloads" / "support-bot.yaml")
DOC_QA = load_workload(CONFIGS / "workloads" / "doc-qa.yaml")
SERVER = load(CONFIGS / "servers" / "demo.yaml", ServerConfig)


def test_short_names_are_keys_of_files() -> None:
    assert full_name("rate", WORKLOAD) == "workload.arrivals.rate_per_s"
    assert full_name("tenants", WORKLOAD) == "workload.tenants.count"
    assert full_name("tenants", DOC_QA) == "workload.documents.count"
    assert full_name("server.schedule_policy", WORKLOAD) == "server.schedule_policy"


def test_a_nested_key_changes_alone() -> None:
    made = changed("workload", WORKLOAD, {"workload.arrivals.rate_per_s": 5})
    assert made.arrivals.rate_per_s == 5  # type: ignore[union-attr]
    assert made.model_copy(update={"arrivals": WORKLOAD.arrivals}) == WORKLOAD
    # In a default, too: the rest of it stays.
    bare = DOC_QA.model_validate({"scenario": "doc-qa", "prompt": "p", "requests": 3})
    made = changed("workload", bare, {"workload.documents.count": 5})
    assert made.documents.count == 5  # type: ignore[union-attr]
    assert made.documents.tokens == bare.documents.tokens  # type: ignore[union-attr]


def test_changes_for_another_file_change_nothing() -> None:
    assert changed("server", SERVER, {"workload.seed": 3}) is SERVER


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"server.blok_tokens": 32}, "did you mean 'block_tokens'"),
        ({"server.block_tokens": "many"}, "server.block_tokens=many: block_tokens: "),
        ({"server.model.size": 1}, "'model' has no keys of its own"),
    ],
)
def test_what_does_not_fit_is_named(changes: dict[str, int | str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        changed("server", SERVER, changes)  # type: ignore[arg-type]


def test_an_unknown_setting_is_named_with_what_was_meant() -> None:
    with pytest.raises(UsageError, match="did you mean 'static_tokens'"):
        full_name("static_token", WORKLOAD)
    with pytest.raises(UsageError, match=r"'engine\.block' is no setting"):
        full_name("engine.block", WORKLOAD)


def test_values_are_read_as_in_a_file() -> None:
    assert [value(t) for t in ("1", "0.5", "true", "fcfs")] == [1, 0.5, True, "fcfs"]
    with pytest.raises(UsageError, match="is no single value"):
        value("{a: 1}")
