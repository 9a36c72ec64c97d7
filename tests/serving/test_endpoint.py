from __future__ import annotations

import pytest
from support.stub import KEY, MODEL, serving

from aot.configs.kernel.errors import EndpointError, UsageError
from aot.configs.kernel.ports import free_port
from aot.serving.client.chat import Usage
from aot.serving.client.endpoint import Endpoint, connect

HELLO = [{"role": "user", "content": "hello"}]


def test_the_one_model_served_is_found_and_asked() -> None:
    with serving(tokens=3, prompt_tokens=40, cached_tokens=32) as stub:
        endpoint = connect(stub.base_url + "/v1/", None, None)
        assert (endpoint.base_url, endpoint.model) == (stub.base_url, MODEL)
        assert endpoint.chat(HELLO, 3) == Usage(40, 32, 3)


def test_unreported_cached_tokens_are_unknown() -> None:
    with serving(cached_tokens=None) as stub:
        assert connect(stub.base_url, MODEL, None).chat(HELLO, 1).cached_tokens is None


def test_what_a_server_lacks_is_unknown_not_an_error() -> None:
    with serving() as stub:
        endpoint = connect(stub.base_url, None, None)
        assert endpoint.tokenize(HELLO) is None
        assert endpoint.metrics_text() is None
        assert endpoint.metrics() == {}


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("429", "answered 429 .too many requests.*stub says 429.*Wait, or send less"),
        ("500", "answered 500: .*stub says 500.*own log"),
    ],
)
def test_an_error_answer_is_one_paragraph(fault: str, words: str) -> None:
    with serving(fault=fault) as stub, pytest.raises(EndpointError, match=words):
        connect(stub.base_url, None, None).chat(HELLO, 1)


def test_a_missing_key_names_the_option() -> None:
    with (
        serving(require_key=True) as stub,
        pytest.raises(EndpointError, match=r"answered 401 .*--api-key-env NAME"),
    ):
        connect(stub.base_url, None, None)


def test_the_right_key_opens_and_is_not_in_any_repr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUB_KEY", KEY)
    with serving(require_key=True) as stub:
        endpoint = connect(stub.base_url, None, "STUB_KEY")
        assert endpoint.chat(HELLO, 1).prompt_tokens == 120
    assert KEY not in repr(endpoint)


def test_wrong_arguments_are_usage_errors() -> None:
    with serving() as stub:
        with pytest.raises(UsageError, match="does not serve 'other', but golden"):
            connect(stub.base_url, "other", None)
        with pytest.raises(UsageError, match="NO_SUCH_KEY is not set"):
            connect(stub.base_url, None, "NO_SUCH_KEY")
    with pytest.raises(UsageError, match="must start with http"):
        connect("localhost:8000", None, None)


def test_a_server_that_is_not_there_is_named() -> None:
    port = free_port("127.0.0.1")
    with pytest.raises(EndpointError, match=rf"127.0.0.1:{port} is not reachable; is the server"):
        connect(f"http://127.0.0.1:{port}", None, None)
    with pytest.raises(EndpointError, match="is not reachable"):
        Endpoint(f"http://127.0.0.1:{port}", MODEL).chat(HELLO, 1)
