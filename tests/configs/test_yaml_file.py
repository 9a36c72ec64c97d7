"""YAML text → data: lines of keys, keys that are given twice, words that are no numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from aot.configs.kernel.errors import ConfigError
from aot.configs.loading.load import load, load_workload
from aot.configs.loading.yaml_file import parse, scalar
from aot.configs.schema.experiment import ExperimentConfig
from aot.configs.schema.server import ServerConfig


def written(folder: Path, text: str) -> Path:
    path = folder / "file.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model: x\nport: 1\n\nport: 2\n", "file.yaml:4: port: is given twice, here and in line 2"),
        ("model: x\nenv:\n  A: a\n  B: b\n  A: c\n", "file.yaml:5: A: is given twice, here and in line 3"),
        ("model: x\nrouter: {name: smg, name: smg}\n", "file.yaml:2: name: is given twice"),
        ("args:\n- {a: 1, b: 2, a: 3}\n", "file.yaml:2: a: is given twice, here and in line 2"),
        ("model: [x\n", "file.yaml:2: not valid YAML"),
        ("model: x\n\tport: 1\n", "file.yaml:2: not valid YAML"),
        ("model: a: b\n", "file.yaml:1: not valid YAML"),
        ("model: x\ntrue: 1\n", "file.yaml:2: a key must be a word, not True"),
        ("model: !vault x\n", "a tag (!...) stands before 'x'"),
    ],
)  # fmt: skip
def test_what_is_no_yaml_is_named_with_its_lines(tmp_path: Path, text: str, words: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load(path, ServerConfig)
    assert words in str(caught.value)
    assert path.read_text() == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("port: yes", "key 'port': input should be a valid integer, got 'yes'"),
        ("port: true", "key 'port': input should be a valid integer, got True"),
        ("port: '8000'", "key 'port': input should be a valid integer, got '8000'"),
        ("cache_gib: many", "key 'cache_gib': input should be a valid number, got 'many'"),
        ("cache_gib: on", "key 'cache_gib': input should be a valid number, got 'on'"),
        ("dev_mode: yes", "key 'dev_mode': write true or false, got 'yes'"),
        ("dev_mode: 1", "key 'dev_mode': write true or false, got 1"),
        ("replicas: 2.5", "key 'replicas': input should be a valid integer, got 2.5"),
    ],
)
def test_words_are_no_numbers(tmp_path: Path, text: str, words: str) -> None:
    path = written(tmp_path, f"model: x\n{text}\n")
    with pytest.raises(ConfigError) as caught:
        load(path, ServerConfig)
    assert f"file.yaml:2: {words}" in str(caught.value)


def test_numbers_are_read_in_every_spelling(tmp_path: Path) -> None:
    path = written(tmp_path, "model: x\ncache_gib: 1.5e0\nstartup_timeout_s: 30\nport: 8000\n")
    server = load(path, ServerConfig)
    assert (server.cache_gib, server.startup_timeout_s, server.port) == (1.5, 30.0, 8000)
    assert type(server.port) is int


def test_the_line_is_that_of_the_deepest_key(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "scenario: support-bot\nprompt: p\nrequests: 3\narrivals:\n  kind: poisson\n"
        "  rate_per_s: none\n",
    )
    with pytest.raises(ConfigError, match=r"file\.yaml:6: key 'arrivals\.rate_per_s'"):
        load_workload(path)


def test_data_is_plain(tmp_path: Path) -> None:
    data = parse(written(tmp_path, "a: 1\nb: [true, 1.5, 'x', null]\nc: |\n  text\n")).data
    assert data == {"a": 1, "b": [True, 1.5, "x", None], "c": "text\n"}
    assert [type(v) for v in (data, data["a"], *data["b"][:3], data["c"])] == [
        dict, int, bool, float, str, str,
    ]  # fmt: skip


def test_texts_stay_as_they_are_written(tmp_path: Path) -> None:
    path = written(tmp_path, "a: 007\nb: yes\nc: 1.50\n")
    assert parse(path, as_texts=True).data == {"a": "007", "b": "yes", "c": "1.50"}
    with pytest.raises(ConfigError, match="line 1; remove one"):
        parse(written(tmp_path, "a: 1\na: 2\n"), as_texts=True)


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", 3), ("2.5", 2.5), ("true", True), ("yes", "yes"), ("x: 1", {"x": 1}), ("[1", None)],
)
def test_a_single_value(text: str, value: object) -> None:
    assert scalar(text) == value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "scenario: rag\n",
            "this is a workload; the key that names it takes an experiment, which names one",
        ),
        (
            "engine: vllm\nmodel: x\n",
            "this is a server file; the key that names it takes an experiment",
        ),
    ],
)
def test_a_file_of_another_kind_is_named_as_what_it_is(
    tmp_path: Path, text: str, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        load(written(tmp_path, text), ExperimentConfig)
    with pytest.raises(
        ConfigError, match="this is an experiment; the key that names it takes a workload"
    ):
        load_workload(written(tmp_path, "name: a\nserver: s\nworkload: w\n"))
