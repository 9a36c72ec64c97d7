from __future__ import annotations

from pathlib import Path

import pytest

from aot.configs.kernel.errors import ConfigError, UsageError
from aot.configs.kernel.places import CONFIGS
from aot.configs.loading.load import load, load_server, load_workload
from aot.configs.loading.presets import engine_recipe, recipe_names
from aot.configs.loading.pricing import PriceTable
from aot.configs.schema.beside import RouterRecipe
from aot.configs.schema.experiment import ExperimentConfig
from aot.configs.schema.hardware import Architecture, Card
from aot.configs.schema.recipe import EngineRecipe, ModelRecipe
from aot.configs.schema.remote_server import RemoteConfig
from aot.configs.schema.server import ServerConfig
from aot.configs.schema.workload import SupportBot

SHAPES = {
    "engines": EngineRecipe,
    "models": ModelRecipe,
    "routers": RouterRecipe,
    "servers": ServerConfig,
    "experiments": ExperimentConfig,
    "pricing": PriceTable,
    "cards": Card,
    "architectures": Architecture,
}


def wrong(tmp_path: Path, text: str, shape: type = ServerConfig) -> str:
    path = tmp_path / "file.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path, shape)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_yaml_in_the_repository_loads() -> None:
    files = sorted(f for f in CONFIGS.rglob("*.yaml") if f.parent.name in SHAPES)
    for file in (CONFIGS / "workloads").glob("*.yaml"):
        assert load_workload(file).scenario in file.stem or file.stem in ("demo", "eight-tenants")
    assert len(files) >= 7
    for file in files:
        load(file, SHAPES[file.parent.name])


def test_an_unknown_key_names_line_and_nearest_key(tmp_path: Path) -> None:
    message = wrong(tmp_path, "model: x\nblok_tokens: 32\n")
    assert "file.yaml:2:" in message
    assert "unknown key 'blok_tokens', did you mean 'block_tokens'?" in message


def test_an_unknown_key_deep_in_a_union_is_named_as_the_file_has_it(tmp_path: Path) -> None:
    text = "scenario: support-bot\nprompt: p\nrequests: 3\narrivals:\n  kind: poisson\n  rate: 2\n"
    message = wrong(tmp_path, text, SupportBot)
    assert "file.yaml:6: unknown key 'arrivals.rate', did you mean 'rate_per_s'?" in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model: x\nport: many\n", "file.yaml:2: key 'port': input should be a valid integer"),
        ("model: x\nport: 70000\n", "key 'port'"),
        ("engine: vllm\n", "key 'model' is required"),
        ("", "got an empty file"),
        ("- a\n- b\n", "got a list"),
        ("model: [x\n", "not valid YAML"),
        ("model: x\nhost: 0.0.0.0\ndev_mode: true\n", "host must be loopback, not 0.0.0.0"),
        ("model: x\nhost: 0.0.0.0\n", "say 'expose_unauthenticated: true'"),
        ("model: x\nhost: '::'\napi_key_env: null\n", "leave api_key_env out (then it is in AOT_"),
    ],
)
def test_wrong_server_files(tmp_path: Path, text: str, words: str) -> None:
    assert words in wrong(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("runtime: cloud\nmodel: x\n", "should be 'local', 'docker' or 'remote', got 'cloud'"),
        ("runtime: remote\nengine: vllm\n", "key 'url' is required"),
        ("runtime: remote\nengine: vllm\nurl: gpu:8000\n", "must start with http:// or https://"),
        (
            "runtime: remote\nengine: vllm\nurl: http://x\nargs: [-x]\nport: 1\n",
            "args, port cannot be set on a server that runs already; set it where that server is",
        ),
        ("runtime: remote\nengine: vllm\nurl: http://x\ntokeniser: y\n", "mean 'tokenizer'"),
    ],
)  # fmt: skip
def test_wrong_files_of_remote_servers(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "file.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_server(path)
    assert words in str(caught.value)


def test_a_remote_url_is_the_base(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_text("runtime: remote\nengine: openai\nurl: http://x:1/v1/\n")
    found = load_server(path)
    assert isinstance(found, RemoteConfig)
    assert found.url == "http://x:1"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: a\nworkload: w\n", "give either 'server' (one file) or 'servers'"),
        ("name: a\nworkload: w\nserver: s\nservers: [t]\n", "give either 'server' (one file)"),
        ("name: a\nworkload: w\nservers: []\n", "key 'servers'"),
        ("name: a\nworkload: w\nservers: [x/s.yaml, y/s.yaml]\n", "have the same name (s, s)"),
        ("name: a/b\nserver: s\nworkload: w\n", "key 'name': use letters"),
        ("name: a\nserver: s\nworkload: w\narms: [jit, jit]\n", "an arm is listed twice"),
        ("name: a\nserver: s\nworkload: w\narms: [jitt]\n", "key 'arms.0'"),
        ("name: a\nserver: s\nworkload: w\nrepeats: 0\n", "key 'repeats'"),
    ],
)
def test_wrong_experiment_files(tmp_path: Path, text: str, words: str) -> None:
    assert words in wrong(tmp_path, text, ExperimentConfig)


def test_a_missing_file_is_named_and_its_neighbour_suggested(tmp_path: Path) -> None:
    (tmp_path / "server.yaml").write_text("model: x\n")
    with pytest.raises(
        ConfigError, match=r"servr\.yaml: no such file; did you mean .*server\.yaml"
    ):
        load(tmp_path / "servr.yaml", ServerConfig)


def test_all_problems_are_in_one_message(tmp_path: Path) -> None:
    message = wrong(tmp_path, "modell: x\nport: many\n")
    assert "'modell'" in message
    assert "'port'" in message
    assert "key 'model' is required" in message


def test_numbers_in_args_are_taken_as_text(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("model: x\nargs: [--max-num-seqs, 8]\n")
    assert load(path, ServerConfig).args == ["--max-num-seqs", "8"]


def test_an_unknown_recipe_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"'vllm-cp', did you mean 'vllm-cpu'\?; known: sglang"):
        engine_recipe("vllm-cp")
    assert {"vllm", "vllm-cpu"} <= set(recipe_names("engines"))
