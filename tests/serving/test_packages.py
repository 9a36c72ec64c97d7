"""What installs packages, and that uv is told what pip is configured to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from aot.serving.local import packages
from aot.serving.local.packages import Pip, Uv, uv_flags

SETTINGS = {
    "index-url": "https://mirror/simple",
    "extra-index-url": "https://a/simple file:///b",
    "find-links": "/wheels",
    "cert": "/ca.pem",
    "timeout": "9",
}


def test_settings_of_pip_become_flags_of_uv() -> None:
    assert uv_flags(SETTINGS, {}) == (
        "--default-index", "https://mirror/simple", "--index", "https://a/simple",
        "--index", "file:///b", "--find-links", "/wheels",
    )  # fmt: skip
    assert uv_flags({}, {}) == ()


def test_an_index_that_uv_is_told_of_itself_stays() -> None:
    assert "--default-index" not in uv_flags(SETTINGS, {"UV_DEFAULT_INDEX": "https://own"})


def test_pips_own_words_are_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = tmp_path / "pip.conf"
    config.write_text("[global]\nindex-url = https://mirror/simple\nfind-links =\n  /a\n  /b\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    settings = packages.pip_settings()
    assert settings["index-url"] == "https://mirror/simple"
    assert settings["find-links"].split() == ["/a", "/b"]
    monkeypatch.setenv("PIP_INDEX_URL", "https://nearer/simple")
    assert packages.pip_settings()["index-url"] == "https://nearer/simple"


@pytest.mark.parametrize("backwards", [False, True])
def test_the_nearer_setting_wins_in_any_order_of_pips_lines(backwards: bool) -> None:
    lines = [
        ":env:.index-url='https://variable'",
        "global.index-url='https://global'",
        "install.find-links='/install\\n/b'",
        "global.find-links='/global'",
        "download.cert='/elsewhere.pem'",
        "global.timeout='a quote",
    ]
    assert packages.settings_of("\n".join(lines[::-1] if backwards else lines)) == {
        "index-url": "https://variable",
        "find-links": "/install /b",
    }


def test_without_uv_it_is_pip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(packages.sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(packages.shutil, "which", lambda _: None)
    assert packages.installer() == Pip()


def test_the_commands(tmp_path: Path) -> None:
    uv = Uv("uv", ("--index", "i", "--constraint", "c"))
    assert uv.create("python3", tmp_path)[-3:] == ["--index", "i", str(tmp_path)]
    assert uv.install("p", "x==1")[:5] == ["uv", "pip", "install", "--python", "p"]
    assert uv.install("p", "x==1")[-5:] == ["--index", "i", "--constraint", "c", "x==1"]
    assert Pip().install("p", "x")[-3:] == ["install", "--no-compile", "x"]
    for command in (Pip().create("p", tmp_path), Pip().install("p"), Pip().uninstall("p", "x")):
        assert command[1] == "-P"  # a folder called pip or venv here is not executed
