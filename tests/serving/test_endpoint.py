from __future__ import annotations

import pytest
from support.stub import KEY, MODEL, serving

from aot.configs.kernel.errors import EndpointError, UsageError
from aot.configs.kernel.ports import free_port
from aot.configs.kernel.salts import Salts
from aot.configs.loading.wording import of_options
from aot.scripts import connecting
from aot.serving.cache import isolation, proof
from aot.serving.cache.isolation import Tenant
from aot.serving.client import profiles
from aot.serving.client.chat import Usage
from aot.serving.client.endpoint import Endpoint, connect
from aot.serving.engines.table import OPENAI

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


def test_a_model_is_enough_where_there_is_no_list_of_them() -> None:
    with serving(models=False) as stub:
        assert connect(stub.base_url, MODEL, None).chat(HELLO, 1).prompt_tokens == 120
        with pytest.raises(EndpointError, match="404"):
            connect(stub.base_url, None, None)


def test_a_reasoning_model_is_asked_in_its_own_words() -> None:
    with serving(refuses="max_tokens") as stub:
        connect(stub.base_url, MODEL, None).chat(HELLO, 3)
    assert [b.get("max_completion_tokens") for b in stub.received] == [None, 3]
    assert "temperature" not in stub.received[1]


def test_a_leak_is_seen_though_the_server_leaves_out_a_zero() -> None:
    """Without the rule that an absent count is 0 once it was shown, it would count as isolated."""
    with serving(remembers=True, omits_zero=True) as stub:
        place = connect(stub.base_url, MODEL, None)
        trials = isolation.run(Tenant(place, None), Tenant(place, None), 3, 96, lambda _: None)
        assert [t.shows_by_count for t in trials] == [True, True, True]
        apart = isolation.run(Tenant(place, "a"), Tenant(place, "b"), 3, 96, lambda _: None)
        assert [t.shows_by_count for t in apart] == [False, False, False]
        assert {t.known.cached_tokens for t in isolation.run(
            Tenant(place, "c"), Tenant(place, "d"), 2, 96, lambda _: None)} == {0}  # fmt: skip


def test_a_canary_that_leaves_out_a_zero_is_a_proof() -> None:
    with serving(remembers=True, omits_zero=True) as stub:
        place = connect(stub.base_url, MODEL, None)
        for arm, seen in (("auto", (0, 96)), ("jit", (0, 0))):
            salts = Salts(arm, "phase" if arm == "auto" else "request")
            wanted = proof.Wanted(arm, None, "x", remote=True, salts=salts)  # type: ignore[arg-type]
            assert proof.prove(place, OPENAI, wanted, arm).canary_cached == seen


@pytest.mark.parametrize(
    "answer",
    ['{"choices": [], "usage": null}', '{"error": {"message": "overloaded"}}', "<html>in</html>"],
)
def test_what_is_no_answer_is_an_error_and_no_count(answer: str) -> None:
    posts = {"/v1/chat/completions": (200, answer)}
    with serving(posts=posts) as stub, pytest.raises(EndpointError, match="not as a chat API"):
        connect(stub.base_url, MODEL, None).chat(HELLO, 1)


@pytest.mark.parametrize(
    ("path", "page", "name"),
    [
        ("/api/version", '{"version": "0.12.3"}', "ollama"),
        ("/props", '{"default_generation_settings": {}}', "llama.cpp"),
        ("/info", '{"model_id": "m", "max_total_tokens": 4096}', "tgi"),
        ("/health/readiness", '{"status": "healthy", "litellm_version": "1.9"}', "litellm"),
        ("/other", "{}", None),
    ],
)
def test_a_kind_of_server_is_known_by_its_pages(path: str, page: str, name: str | None) -> None:
    with serving(pages={path: page}) as stub:
        assert profiles.by_pages(connect(stub.base_url, MODEL, None)) == name
        found = connecting.connect(stub.base_url, MODEL, None)
        assert found.wording.profile == name
        assert ("cache_salt" in found.wording.omit) == (name in ("ollama", "llama.cpp", "tgi"))
        given = connecting.connect(stub.base_url, MODEL, None, of_options(profile="vllm"))
        assert given.wording.omit == ()


def test_a_vendor_is_known_by_its_host() -> None:
    assert profiles.by_host("https://api.openai.com") == "openai"
    assert profiles.by_host("https://me.openai.azure.com") == "azure"
    assert profiles.by_host("https://api.openai.com.evil.test") is None
