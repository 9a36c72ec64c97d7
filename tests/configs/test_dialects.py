"""What each kind of endpoint is asked, and what is read of its answers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aot.configs.dialects.dialect import Asked, BrokenAnswerError, Message, Told
from aot.configs.dialects.table import DIALECTS
from aot.configs.dialects.wording import Wording, filled, header
from aot.configs.kernel import network
from aot.configs.kernel.errors import UsageError
from aot.configs.loading.settings import changed
from aot.configs.loading.wording import of_config, of_options
from aot.configs.schema.remote_server import RemoteConfig
from aot.configs.schema.wording import RequestsConfig

CHAT: list[Message] = [
    {"role": "system", "content": "S"},
    {"role": "user", "content": "Q"},
]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
ASKED = Asked("m", 5, stream=True, ignore_eos=True, salt="s", tools=(TOOL,))


def body(name: str) -> dict[str, Any]:
    dialect = DIALECTS[name]
    return dialect.body(CHAT if dialect.item else "S\n\nQ", ASKED)


def test_what_is_asked() -> None:
    usage = {"stream": True, "stream_options": {"include_usage": True}}
    rest = {"max_tokens": 5, "temperature": 0, "ignore_eos": True, "cache_salt": "s", **usage}
    assert body("chat") == {
        "model": "m", "messages": CHAT, "tools": [TOOL], "tool_choice": "none", **rest,
    }  # fmt: skip
    assert body("completions") == {"model": "m", "prompt": "S\n\nQ", **rest}
    assert body("responses") == {
        "model": "m", "input": CHAT, "max_output_tokens": 5, "temperature": 0, "store": False,
        "stream": True, "ignore_eos": True, "cache_salt": "s", "tool_choice": "none",
        "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}}],
    }  # fmt: skip
    assert body("messages") == {
        "model": "m", "system": "S", "messages": [CHAT[1]], "max_tokens": 5, "temperature": 0,
        "stream": True, "cache_salt": "s", "tool_choice": {"type": "none"},
        "tools": [{"name": "f", "description": "", "input_schema": {"type": "object"}}],
    }  # fmt: skip
    assert body("generate") == {
        "text": "S\n\nQ", "stream": True, "cache_salt": "s",
        "sampling_params": {"max_new_tokens": 5, "temperature": 0, "ignore_eos": True},
    }  # fmt: skip


STREAMS: dict[str, list[dict[str, Any]]] = {
    "completions": [
        {"choices": [{"index": 0, "text": "Y"}]},
        {"choices": [{"index": 0, "text": "es", "finish_reason": "length"}]},
        {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 2,
                                  "prompt_tokens_details": {"cached_tokens": 4}}},
    ],
    "responses": [
        {"type": "response.created", "response": {"status": "in_progress", "usage": None}},
        {"type": "response.output_text.delta", "delta": "Y"},
        {"type": "response.output_text.delta", "delta": "es"},
        {"type": "response.incomplete", "response": {
            "status": "incomplete", "incomplete_details": {"reason": "length"},
            "usage": {"input_tokens": 9, "output_tokens": 2,
                      "input_tokens_details": {"cached_tokens": 4}}}},
    ],
    "messages": [
        {"type": "message_start", "message": {"usage": {"input_tokens": 0, "output_tokens": 0}}},
        {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "Y"}},
        {"type": "ping"},
        {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "es"}},
        {"type": "message_delta", "delta": {"stop_reason": "length"}, "usage": {
            "input_tokens": 5, "output_tokens": 2, "cache_read_input_tokens": 4}},
        {"type": "message_stop"},
    ],
    "generate": [
        {"text": "Y", "meta_info": {"prompt_tokens": 9, "completion_tokens": 1,
                                    "cached_tokens": 4}},
        {"text": "Yes", "meta_info": {"prompt_tokens": 9, "completion_tokens": 2,
                                      "cached_tokens": 4, "finish_reason": {"type": "length"}}},
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", STREAMS)
def test_what_is_read_of_a_stream(name: str) -> None:
    told = Told()
    texts = [DIALECTS[name].take(json.dumps(e).encode(), told) for e in STREAMS[name]]
    assert [t for t in texts if t is not None] == ["Y", "es"]
    assert (told.prompt_tokens, told.cached_tokens, told.output_tokens) == (9, 4, 2)
    assert told.finish_reason == "length"
    assert told.hidden_tokens is None


WHOLE: dict[str, dict[str, Any]] = {
    "chat": {"choices": [{"message": {"content": "Yes"}, "finish_reason": "stop"}],
             "usage": {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {
                 "cached_tokens": 4, "cache_write_tokens": 3}}},
    "completions": {"choices": [{"text": "Yes", "finish_reason": "stop"}],
                    "usage": {"prompt_tokens": 9, "completion_tokens": 2,
                              "prompt_cache_hit_tokens": 4}},
    "responses": {"status": "completed", "output": [
        {"type": "reasoning"},
        {"type": "message", "content": [{"type": "output_text", "text": "Yes"}]}],
        "usage": {"input_tokens": 9, "output_tokens": 2,
                  "input_tokens_details": {"cached_tokens": 4}}},
    "messages": {"content": [{"type": "text", "text": "Yes"}], "stop_reason": "end_turn",
                 "usage": {"input_tokens": 2, "output_tokens": 2, "cache_read_input_tokens": 4,
                           "cache_creation_input_tokens": 3}},
    "generate": {"text": "Yes", "meta_info": {
        "prompt_tokens": 9, "completion_tokens": 2, "cached_tokens": 4}},
}  # fmt: skip


@pytest.mark.parametrize("name", WHOLE)
def test_what_is_read_of_a_whole_answer(name: str) -> None:
    told = Told()
    assert DIALECTS[name].whole(json.dumps(WHOLE[name]).encode(), told) == "Yes"
    assert (told.prompt_tokens, told.cached_tokens, told.output_tokens) == (9, 4, 2)
    if name in ("chat", "messages"):
        assert told.written_tokens == 3


@pytest.mark.parametrize("name", DIALECTS)
@pytest.mark.parametrize(
    "answer",
    [b"<html>log in</html>", b"[]", b'{"error":{"message":"no"}}', b'{"choices":[]}', b"{}",
     b'{"detail":"no"}', b'{"type":"error","error":{"message":"no"}}'],
)  # fmt: skip
def test_what_is_no_answer_is_an_error(name: str, answer: bytes) -> None:
    with pytest.raises(BrokenAnswerError):
        DIALECTS[name].whole(answer, Told())


def test_a_wording_survives_its_way_to_another_process() -> None:
    wording = of_options(
        "completions", "openai", "/x/{model}", ["X-Key: $SECRET"], ["user=u1", "n=2"], ["stream"
        "_options"], ["cache_salt=salt"],
    )  # fmt: skip
    assert Wording.from_json(wording.to_json()) == wording
    assert wording.target("m") == "/x/m"
    assert wording.fields == {"user": "u1", "n": 2}
    assert not wording.sends_salts
    assert not wording.sends_ignore_eos
    assert wording.shown()["headers"] == ["X-Key"]
    assert "SECRET" not in repr(wording)


def test_a_header_takes_its_value_from_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "s3")
    assert filled("Key ${SECRET}", "header X") == "Key s3"
    wording = of_options(headers=["X-Key: $SECRET"])
    assert wording.sent_headers("http://h", None, "--api-key-env") == {"X-Key": "s3"}
    monkeypatch.delenv("SECRET")
    with pytest.raises(UsageError, match="SECRET is not set"):
        wording.sent_headers("http://h", None, "--api-key-env")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"headers": ["no colon"]}, "--header: expected 'Name: value'"),
        ({"headers": ["Host: x"]}, "--header: Host is set by the client itself"),
        ({"headers": ["X-A: é"]}, "a character that no header carries"),
        ({"fields": ["alone"]}, "--body: expected NAME=VALUE"),
        ({"fields": ["messages=[]"]}, "--body: messages is what is measured"),
        ({"omit": ["model"]}, "--omit: without model it is no request"),
        ({"rename": ["a"]}, "--rename: expected OLD=NEW"),
        ({"path": "v1"}, "--path: 'v1' must start with /"),
        ({"profile": "opnai"}, "unknown profile 'opnai'"),
    ],
)
def test_a_wrong_option_is_named(given: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        of_options(**given)
    assert words in str(caught.value)


def test_a_server_file_says_the_same() -> None:
    config = RequestsConfig.model_validate(
        {"profile": "azure", "headers": {"X-A": "b"}, "omit": ["tools"], "endpoint": "chat"}
    )
    wording = of_config(config)
    assert wording.key_header == "api-key"
    assert wording.headers == {"X-A": "b"}
    assert wording.omit == ("ignore_eos", "cache_salt", "temperature", "tools")
    assert "b" not in str(config.model_dump(mode="json")["headers"])
    with pytest.raises(ValueError, match="model: without it, or with another, it is no request"):
        RequestsConfig.model_validate({"omit": ["model"]})


def test_a_name_of_a_header() -> None:
    assert header("X-Team:  blue ", "--header") == ("X-Team", "blue")


def test_a_command_is_written_down_without_what_is_secret() -> None:
    words = [
        "load",
        "w.yaml",
        "--url",
        "https://me:pw@host",
        "--header",
        "X-Key: s3",
        "--header=A: b",
    ]
    shown = network.shown_command(words)
    assert shown == "aot load w.yaml --url https://host --header 'X-Key: …' '--header=A: …'"


@pytest.mark.parametrize(
    "given",
    [{"rename": {"max_tokens": "model"}}, {"rename": {"stream": "s"}}, {"body": {"prompt": "x"}},
     {"key_header": "two words"}, {"key_header": ""}, {"path": "/a b"}, {"path": "v1"},
     {"headers": {"Content-Length": "3"}}, {"headers": {"X": "é"}}],
)  # fmt: skip
def test_a_server_file_that_asks_for_no_request_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        RequestsConfig.model_validate(given)


@pytest.mark.parametrize("endpoint", ["completions", "responses", "messages", "generate"])
def test_a_path_of_a_profile_is_of_one_endpoint(endpoint: Any) -> None:
    """Whether the endpoint was asked for, or is the traffic's."""
    for wording in (
        of_options(endpoint, "azure"),
        of_options(None, "azure").for_endpoint(endpoint),
    ):
        with pytest.raises(UsageError, match=f"profile azure: .*give that for {endpoint}"):
            wording.target("m")
        own = of_options(endpoint, "azure", "/mine").target("m")
        assert own == "/mine"
    assert "/deployments/m/" in of_options(None, "azure").for_endpoint("chat").target("m")


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (["--body", 'api_key="s3"'], "--body 'api_key=…'"),
        (["--body=user=s3"], "'--body=user=…'"),
        (["--path", "/v1/chat?key=s3"], "--path '/v1/chat?…'"),
        (["--path=/v1/chat"], "'--path=/v1/chat'"),
    ],
)
def test_values_of_fields_and_queries_are_not_written_down(given: list[str], shown: str) -> None:
    assert network.shown_command(given) == f"aot {shown}"


def test_a_server_file_is_written_down_without_them_and_changed_with_them() -> None:
    config = RemoteConfig.model_validate(
        {
            "engine": "openai", "runtime": "remote", "url": "http://h",
            "requests": {"headers": {"X": "s3"}, "body": {"k": {"t": "s3"}}, "path": "/v1?k=s3"},
        }
    )  # fmt: skip
    assert "s3" not in config.model_dump_json()
    assert changed("server", config, {"server.model": "m"}).requests == config.requests
