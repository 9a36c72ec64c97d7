"""What is shipped, by name; and where things are kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from aot.configs.kernel import places
from aot.configs.kernel.errors import ToolkitError, UsageError
from aot.configs.kernel.places import CONFIGS, engines_dir, home, writable
from aot.configs.loading import presets
from aot.configs.loading.presets import file_of, recipe_names, shipped_names


def test_every_kind_is_found_by_name(tmp_path: Path) -> None:
    for kind, folder in presets.SHIPPED.items():
        for name in shipped_names(kind):
            path = file_of(kind, Path(name), tmp_path)
            assert path.parent == CONFIGS / folder
            assert path.exists()


def test_what_is_there_comes_first(tmp_path: Path) -> None:
    (tmp_path / "demo").write_text("")
    assert file_of("server", Path("demo"), tmp_path) == tmp_path / "demo"


@pytest.mark.parametrize(
    "given", ["sub/demo", "demo.yaml", "missing.yml", "/demo", "trace.jsonl", "log.csv"]
)
def test_a_path_stays_a_path(tmp_path: Path, given: str) -> None:
    assert file_of("server", Path(given), tmp_path) == tmp_path / given


@pytest.mark.parametrize(
    ("kind", "name", "nearest"),
    [
        ("server", "qwen3-8b-l5", "qwen3-8b-l4"),
        ("server", "llama-3.1-8b-l44", "llama-3.1-8b-l4"),
        ("workload", "suport-bot", "support-bot"),
        ("experiment", "demoo", "demo"),
        ("prompt", "suport-bot", "support-bot"),
    ],
)
def test_an_unknown_name_has_its_nearest(
    tmp_path: Path, kind: presets.Shipped, name: str, nearest: str
) -> None:
    with pytest.raises(UsageError) as caught:
        file_of(kind, Path(name), tmp_path)
    assert f"did you mean '{nearest}'?" in str(caught.value)
    assert f"aot configs list {presets.SHIPPED[kind]}" in str(caught.value)


def test_an_installation_without_its_data_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presets, "CONFIGS", tmp_path)
    with pytest.raises(ToolkitError, match="not complete; install it again"):
        recipe_names("engines")


def test_home_is_named_or_the_checkout_or_the_users_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AOT_HOME", str(tmp_path))
    assert engines_dir() == tmp_path / ".engines"
    monkeypatch.delenv("AOT_HOME")
    assert home() == places.CHECKOUT
    monkeypatch.setattr(places, "CHECKOUT", None)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert home() == tmp_path / "data" / "aot"


def test_a_home_that_cannot_be_written_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="AOT_HOME"):
        writable(tmp_path / "file" / ".engines")
    assert writable(tmp_path / "new" / ".engines").is_dir()
