"""A secret of a server file is in nothing that is shown or written, and where it is needed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.command import Aot, check

from aot.configs.kernel.errors import ConfigError
from aot.configs.kernel.secrecy import held_in, is_secret, is_secret_flag
from aot.configs.loading.load import load
from aot.configs.loading.settings import changed
from aot.configs.schema import variables
from aot.configs.schema.server import ServerConfig
from aot.scripts.render import targets
from aot.scripts.render.asked import Options
from aot.scripts.run import launch
from aot.serving.engines.launch_plan import Site
from aot.serving.engines.table import engine

SECRETS = {
    "HF_TOKEN": "nothing-special-1",
    "OPENAI_APIKEY": "nothing-special-2",
    "API_KEYS": "nothing-special-3",
    "DB_PASSWD": "314159265",
    "AWS_SECRET_ACCESS_KEY": "nothing-special-4",
    "githubPat": "nothing-special-5",
    "SSHKEY_TOKEN": "nothing-special-6",
    "REDIS": "redis://me:nothing-special-7@cache:6379/0",
    "UPSTREAM": "hf_nothingspecial8",
    "REGISTRY_AUTH": "nothing-special-9",
    "API_KEY": "27182818",
    "AWS_SECRETKEY": "nothing-special-10",
    "MINIO_ACCESSKEY": "nothing-special-11",
    "openaikey": "nothing-special-12",
    "OPENAI_API_KEY2": "nothing-special-13",
    "SSHPASS": "nothing-special-14",
    "DB_PASSCODE": "nothing-special-15",
    "SLACK_WEBHOOK": "https://hooks.example/nothing-special-16",
    "AZURE_STORAGE_CONNECTION_STRING": "AccountName=a;AccountKey=nothingspecial17",
    "NESTED": '{"api_key": "nothing-special-18"}',
    "X": "option=1 password: nothing-special-19",
}
PLAIN = {
    "MAX_TOKENS": "4096",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
    "VLLM_LOGGING_LEVEL": "DEBUG",
    "MY_PATTERN": "a$b${c}",
    "HF_ENDPOINT": "https://mirror.example/hf",
    "VLLM_ATTENTION_BACKEND": "FLASH_ATTN",
    "NCCL_SOCKET_IFNAME": "eth0",
    "CUDA_VISIBLE_DEVICES": "4,5",
    "KEY_ROTATION": "on",
}


@pytest.mark.parametrize(("name", "value"), SECRETS.items())
def test_what_is_a_secret(name: str, value: str) -> None:
    assert is_secret(name, value)


@pytest.mark.parametrize(("name", "value"), PLAIN.items())
def test_what_is_none(name: str, value: str) -> None:
    assert not is_secret(name, value)


def test_flags_with_secrets() -> None:
    for flag in ("--hf-token", "--api-key", "--some-password", "--ssl-keyfile-password"):
        assert is_secret_flag(flag)
    for flag in ("--max-num-batched-tokens", "--tokenizer", "--session-timeout", "--model"):
        assert not is_secret_flag(flag)


@pytest.fixture
def server(tmp_path: Path) -> Path:
    path = tmp_path / "server.yaml"
    env = {
        **SECRETS,
        **PLAIN,
        "STATED": {"secret": "nothing-special-0"},
        "ALIAS": {"from_env": "MY_ALIAS"},
        "OMP_NUM_THREADS": 4,
    }
    path.write_text(f"engine: vllm\nmodel: org/m\nenv: {json.dumps(env)}\n")
    return path


@pytest.mark.parametrize("target", ["compose", "k8s", "helm-values"])
def test_rendered_files_have_references_only(server: Path, target: str) -> None:
    text = targets.render(server, target, "aot", Options())
    assert [v for v in SECRETS.values() if v in text] == []
    assert "nothing-special" not in text
    assert "MY_ALIAS" in text or "my-alias" in text
    for name, value in PLAIN.items():
        shown = value.replace("$", "$$")  # so that nobody fills it in
        assert name in text
        assert shown in text


def test_a_resolved_file_says_hidden(server: Path) -> None:
    dumped = load(server, ServerConfig).model_dump(mode="json")
    assert {dumped["env"][name] for name in SECRETS} == {"(hidden)"}
    assert {name: dumped["env"][name] for name in PLAIN} == PLAIN
    assert dumped["env"]["ALIAS"] == {"from_env": "MY_ALIAS"}


def test_a_word_of_the_author_counts(tmp_path: Path) -> None:
    path = tmp_path / "server.yaml"
    head = "engine: vllm\nmodel: org/m\nenv:\n  A: "
    path.write_text(head + "{secret: x}\n  KEY_WORD: {plain: y}\n")
    env = load(path, ServerConfig).model_dump(mode="json")["env"]
    assert env == {"A": "(hidden)", "KEY_WORD": "y"}
    path.write_text(head + "{secret: x, plain: y}\n")
    with pytest.raises(ConfigError, match="either 'secret: VALUE' or 'plain: VALUE'"):
        load(path, ServerConfig)


def test_a_reference_is_not_mistaken_for_a_value_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A: {from_env: HF_TOKEN} is ours, HF_TOKEN: VALUE is the file's; api_key_env is ours, too."""
    monkeypatch.setenv("HF_TOKEN", "ours")
    env = {"HF_TOKEN": "hf_of_the_file", "A": {"from_env": "HF_TOKEN"}}
    config = ServerConfig.model_validate({"model": "m", "api_key_env": "HF_TOKEN", "env": env})
    site = Site(Path("/bin"), "m", 1, "cuda")
    values = engine("vllm").plan(config, "aot", site).secret_values()
    assert values == {"VLLM_API_KEY": "ours", "HF_TOKEN": "hf_of_the_file", "A": "ours"}


def test_a_setting_that_is_changed_keeps_the_secrets(server: Path) -> None:
    """Studies change server files; what they start must get the same values."""
    config = load(server, ServerConfig)
    other = changed("server", config, {"server.block_tokens": 32})
    assert other.block_tokens == 32
    assert variables.held(other.env)["HF_TOKEN"].get_secret_value() == SECRETS["HF_TOKEN"]
    assert other.env == config.env


@pytest.mark.parametrize(
    "args",
    [
        ["--otlp-endpoint=http://me:nothing-special@host"],
        ["--kv-transfer-config", '{"kv_connector": "x", "password": "nothing-special"}'],
        ["--hf-token", "nothing-special"],
    ],
)
def test_a_secret_as_an_argument_is_refused(tmp_path: Path, aot: Aot, args: list[str]) -> None:
    (tmp_path / "server.yaml").write_text(f"engine: vllm\nmodel: org/m\nargs: {json.dumps(args)}\n")
    done = aot("render", "server.yaml", "--target", "compose")
    assert "nothing-special" not in check(done, 2, "args", "process list") + done.stdout


def test_an_engine_gets_them_and_its_log_does_not(
    fake_engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_ALIAS", "nothing-special-0")
    env = json.dumps({"HF_TOKEN": "nothing-special-1", "ALIAS": {"from_env": "MY_ALIAS"}})
    fake_engine.write_text(fake_engine.read_text() + f"env: {env}\n")
    script = tmp_path / "home" / ".engines" / "vllm-cpu" / "bin" / "vllm"
    said = (
        f"open({str(tmp_path / 'seen')!r}, 'w').write(os.environ['HF_TOKEN'] + os.environ['ALIAS'])"
    )
    script.write_text(script.read_text().replace("mode = ", f"{said}\nmode = ", 1))
    log = tmp_path / "log"
    with launch.prepare(fake_engine).up("aot", log) as up:
        command = up.plans.as_shell()
    assert (tmp_path / "seen").read_text() == "nothing-special-1nothing-special-0"
    assert "nothing-special" not in log.read_text() + command
    assert 'ALIAS="$MY_ALIAS"' in command


@pytest.mark.parametrize(
    ("value", "words"),
    [("", "is empty, and an empty key is no key"), ("  ", "is empty"), ("a\nb", "a line break")],
)
def test_an_empty_key_is_no_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fake_engine: Path, aot: Aot, value: str,
    words: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("AOT_API_KEY", value)
    with pytest.raises(Exception, match=words):
        held_in("AOT_API_KEY", "--api-key-env")
    text = fake_engine.read_text() + "host: 0.0.0.0\nexpose_unauthenticated: true\n"
    fake_engine.write_text(text)
    check(aot("serve", fake_engine, "--log", "log"), 2, "AOT_API_KEY", words)
    assert not (tmp_path / "log").exists()
    url = "http://127.0.0.1:1"
    check(aot("load", "support-bot", "--url", url, "--api-key-env", "AOT_API_KEY"), 2, words)


def test_events_need_consent_where_others_can_reach_them(aot: Aot, tmp_path: Path) -> None:
    file = tmp_path / "server.yaml"
    for where in ("tcp://*:5557", "tcp://0.0.0.0:5557", "tcp://10.0.0.3:5557", "tcp://[::]:5557"):
        file.write_text(f"engine: vllm\nmodel: org/m\nkv_events: {json.dumps(where)}\n")
        words = ("kv_events", "token ids and salts", "expose_unauthenticated: true")
        check(aot("serve", file, "--dry-run"), 2, *words)
        load_with_consent = file.read_text() + "expose_unauthenticated: true\n"
        file.write_text(load_with_consent)
        assert load(file, ServerConfig).kv_events == where
    for where in ("tcp://127.0.0.1:5557", "tcp://[::1]:5557", "ipc:///run/events"):
        file.write_text(f"engine: vllm\nmodel: org/m\nkv_events: {json.dumps(where)}\n")
        assert load(file, ServerConfig).kv_events == where


@pytest.mark.parametrize("target", ["k8s", "helm-values"])
def test_dev_mode_is_not_put_behind_a_service(aot: Aot, tmp_path: Path, target: str) -> None:
    (tmp_path / "dev.yaml").write_text("engine: vllm\nmodel: org/m\ndev_mode: true\n")
    done = aot("render", "dev.yaml", "--target", target, "-o", "out.yaml")
    check(done, 2, "dev.yaml", "dev_mode", "remove the key")
    assert not (tmp_path / "out.yaml").exists()
