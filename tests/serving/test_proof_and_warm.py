"""Proof and warming against a cache that is played by the test, rule by rule."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from aot.configs.caches.rule import dense
from aot.configs.dialects.wording import USUAL, Wording
from aot.configs.kernel.errors import CacheStateError
from aot.configs.kernel.salts import Salts
from aot.serving.cache import proof, warm
from aot.serving.client.chat import Message, Tools, Usage
from aot.serving.engines.engine import Engine, Page
from aot.serving.engines.vllm import VLLM
from aot.serving.metrics.counters import parse

BLOCK = 32


@dataclass
class PlayedServer:
    """Answers like a vLLM whose every character is a token. `caching` is what it really does."""

    reports_enabled: str = "True"
    caching: bool = True
    reports_tokens: bool = True
    preloaded: tuple[str, ...] = ()
    forgets: bool = False
    whole: bool = False
    """Whether a store gives a prompt of whole chunks but for its last token."""
    replicas: tuple[str, ...] = ()
    wording: Wording = USUAL
    seen: list[str] = field(default_factory=list)

    def page(self, engine: Engine) -> Page:
        label = f'enable_prefix_caching="{self.reports_enabled}",block_size="{BLOCK}"'
        return Page(parse(f"vllm:cache_config_info{{{label}}} 1\n"), {})

    def chat(
        self,
        messages: list[Message],
        max_tokens: int,
        salt: str | None = None,
        tools: Tools = (),
        prefix: str | None = None,
    ) -> Usage:
        text = (salt or "") + "".join(m["content"] for m in messages)
        earlier = [*self.preloaded, *([] if self.forgets else self.seen)]
        shared = max((_shared(text, e) for e in earlier), default=0) if self.caching else 0
        cached = dense(BLOCK).expected_tokens(shared, len(text))
        if self.whole and shared == len(text):
            cached = len(text) - 1
        self.seen.append(text)
        return Usage(len(text), cached if self.reports_tokens else None, max_tokens)


def _shared(a: str, b: str) -> int:
    return next(
        (n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )


def prove(server: PlayedServer, arm: str, block: int | None = BLOCK) -> proof.Proof:
    return proof.prove(server, VLLM(), proof.Wanted(arm, block, "fresh process"), "run/r1")


@pytest.mark.parametrize("arm", ["auto", "aot"])
def test_an_empty_cache_that_works_is_proved(arm: str) -> None:
    found = prove(PlayedServer(), arm)
    assert found.problems == ()
    first, second = found.canary_cached
    assert first == 0
    assert second == found.canary_expected > 2 * BLOCK
    proof.insist(found)


def test_a_store_may_give_all_but_the_last_token() -> None:
    """vLLM with LMCache: 191 of 192 tokens, where the device alone gives 160."""
    found = prove(PlayedServer(whole=True), "store")
    first, second = found.canary_cached
    assert (first, second) == (0, (found.canary_prompt_tokens or 0) - 1)
    assert "hit" in found.problems[0]  # nothing beyond the device: its rule is another
    for arm, problems in (("store", 0), ("jit", 2)):
        wanted = proof.Wanted(arm, BLOCK, "fresh process", beyond=True)  # type: ignore[arg-type]
        found = proof.prove(PlayedServer(whole=True), VLLM(), wanted, "run/r1")
        assert len(found.problems) == problems, found.problems


def test_a_disabled_cache_is_proved_for_jit() -> None:
    found = prove(PlayedServer(reports_enabled="False", caching=False), "jit")
    assert (found.problems, found.canary_cached) == ((), (0, 0))


@pytest.mark.parametrize(
    ("server", "arm", "words"),
    [
        (PlayedServer(), "jit", "reports prefix caching on"),
        (
            PlayedServer(reports_enabled="False"),
            "jit",
            "expected 0",
        ),  # says off, caches all the same
        (PlayedServer(reports_enabled="False", caching=False), "aot", "reports prefix caching off"),
        (PlayedServer(caching=False), "aot", "hit 0 cached tokens, expected"),  # says on, does not
        (PlayedServer(reports_tokens=False), "auto", "does not report cached tokens"),
    ],
)
def test_a_server_that_is_not_what_the_arm_means_is_refused(
    server: PlayedServer, arm: str, words: str
) -> None:
    found = prove(server, arm)
    with pytest.raises(CacheStateError, match=words):
        proof.insist(found)


def test_a_cache_that_is_not_empty_is_refused() -> None:
    text = proof.canary("run/r1", BLOCK)[0]["content"]
    with pytest.raises(CacheStateError, match="never sent before hit"):
        proof.insist(prove(PlayedServer(preloaded=(text,)), "auto"))


def test_a_block_size_that_the_engine_overrode_is_refused() -> None:
    with pytest.raises(CacheStateError, match=r"blocks of 32 tokens, the server file says.*: 64"):
        proof.insist(prove(PlayedServer(), "auto", block=64))
    assert prove(PlayedServer(), "auto", block=None).problems == ()


def test_canaries_of_two_phases_share_no_block() -> None:
    one, two = (proof.canary(n, BLOCK)[0]["content"] for n in ("run/r1-jit", "run/r1-aot"))
    assert _shared(one, two) < BLOCK
    assert len(one.split()) >= 3 * BLOCK


def prefixes(static: int | None) -> list[warm.StaticPrefix]:
    return [
        warm.StaticPrefix(
            name,
            tuple(
                [
                    {"role": "system", "content": f"{name} " + "s" * 94},
                    {"role": "user", "content": question},
                ]
                for question in ("A?", "B!", "A")
            ),
            static,
        )
        for name in ("alpha", "gamma")
    ]


def test_warming_verifies_every_full_block() -> None:
    server = PlayedServer()
    warmed = warm.warm(server, VLLM(), prefixes(100), lambda _: None)  # type: ignore[arg-type]
    assert [(w.expected_tokens, w.cached_tokens, w.verified) for w in warmed] == [
        (96, 96, True)
    ] * 2
    assert len(server.seen) == 4
    warm.insist(warmed)


class Windows(PlayedServer):
    """Finds a beginning from the third request on, as a cache of windows does."""

    def chat(self, messages: list[Message], max_tokens: int, salt: str | None = None,
             tools: Tools = (), prefix: str | None = None) -> Usage:  # fmt: skip
        before = sum("".join(m["content"] for m in messages)[:8] == e[:8] for e in self.seen)
        usage = super().chat(messages, max_tokens, salt, tools, prefix)
        return usage if before >= 2 else Usage(usage.prompt_tokens, 0, usage.output_tokens)


def test_a_cache_of_windows_is_filled_twice() -> None:
    server = Windows()
    warmed = warm.warm(server, VLLM(), prefixes(100), lambda _: None)  # type: ignore[arg-type]
    assert [(w.cached_tokens, w.verified, w.fills) for w in warmed] == [(96, True, 2)] * 2
    assert len(server.seen) == 6
    dense = warm.warm(PlayedServer(), VLLM(), prefixes(100), lambda _: None)  # type: ignore[arg-type]
    assert [w.fills for w in dense] == [1, 1]


def test_a_prefix_shorter_than_a_block_says_so() -> None:
    warmed = warm.warm(PlayedServer(), VLLM(), prefixes(20), lambda _: None)  # type: ignore[arg-type]
    with pytest.raises(CacheStateError, match="20 static tokens are shorter than a block of 32"):
        warm.insist(warmed)


def test_warming_twice_is_no_failure() -> None:
    server = PlayedServer()
    warm.warm(server, VLLM(), prefixes(90), lambda _: None)  # type: ignore[arg-type]
    again = warm.warm(server, VLLM(), prefixes(90), lambda _: None)  # type: ignore[arg-type]
    assert [(w.expected_tokens, w.cached_tokens, w.verified) for w in again] == [(64, 96, True)] * 2


def test_without_a_tokenizer_a_hit_is_what_is_verified() -> None:
    warmed = warm.warm(PlayedServer(), Engine(), prefixes(None), lambda _: None)  # type: ignore[arg-type]
    assert [(w.expected_tokens, w.verified) for w in warmed] == [(None, True)] * 2


@pytest.mark.parametrize(
    ("server", "words"),
    [
        (PlayedServer(caching=False), "no token was cached: is prefix caching on"),
        (PlayedServer(reports_tokens=False), "reports no cached tokens per request"),
        (
            PlayedServer(forgets=True, preloaded=("alpha " + "s" * 40, "gamma " + "s" * 40)),
            "may be too small",
        ),
    ],
)
def test_success_is_not_claimed_without_hits(server: PlayedServer, words: str) -> None:
    warmed = warm.warm(server, VLLM(), prefixes(100), lambda _: None)  # type: ignore[arg-type]
    with pytest.raises(CacheStateError, match=r"2 of 2 static prefixes.*e.g. alpha") as caught:
        warm.insist(warmed)
    assert words in str(caught.value)


class Deaf(PlayedServer):
    """What stands before it drops the salts."""

    base_url = "http://front"

    def each(self) -> list[Deaf]:
        return [self]

    def chat(self, messages: list[Message], max_tokens: int, salt: str | None = None,
             tools: Tools = (), prefix: str | None = None) -> Usage:  # fmt: skip
        return super().chat(messages, max_tokens, None, tools, prefix)


class Hears(Deaf):
    def chat(self, messages: list[Message], max_tokens: int, salt: str | None = None,
             tools: Tools = (), prefix: str | None = None) -> Usage:  # fmt: skip
        return PlayedServer.chat(self, messages, max_tokens, salt, tools, prefix)


@pytest.mark.parametrize("salts", [Salts("nonce", "phase"), None])
def test_salts_that_get_lost_on_the_way_are_a_problem(salts: Salts | None) -> None:
    wanted = proof.Wanted("auto", BLOCK, "fresh process", salts=salts, tenants_apart=True)
    (problem,) = proof.prove_each(Deaf(), VLLM(), wanted, "run/r1").problems
    assert "http://front found a prompt under another cache salt than it was sent with" in problem
    assert proof.prove_each(Hears(), VLLM(), wanted, "run/r1").problems == ()


def test_where_no_salts_are_sent_none_can_get_lost() -> None:
    wanted = proof.Wanted("auto", BLOCK, "fresh process")
    server = Deaf()
    assert proof.prove_each(server, VLLM(), wanted, "run/r1").problems == ()
    assert len(server.seen) == 2
