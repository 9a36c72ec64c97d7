"""The pytest plugin on the real SDKs: what an application sends, and where it parts."""

from __future__ import annotations

import asyncio
from typing import Any

import anthropic
import openai
import pytest

from aot.scripts.prompts.recording import Recorder

RULES = "".join(f"Rule {n}: answer in a kind way, and name clause {7 * n}. " for n in range(60))
TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}


def ask(system: str, question: str, **more: Any) -> str | None:
    client = openai.OpenAI(base_url="http://nowhere.invalid/v1", api_key="k")
    messages: Any = [
        {"role": "system", "content": system},
        {"role": "user", "content": question},
    ]
    answer = client.chat.completions.create(model="m", messages=messages, **more)
    return answer.choices[0].message.content


def test_a_stable_prefix_passes_and_nothing_is_sent(prompt_recorder: Recorder) -> None:
    assert ask(RULES, "Where is order 7?", tools=[TOOL]) == "ok"
    prompt_recorder.answer = "It is on its way."
    assert ask(RULES, "And order 8?", tools=[TOOL]) == "It is on its way."
    prompt_recorder.assert_stable()
    assert [body["messages"][1]["content"] for _, body in prompt_recorder.requests] == [
        "Where is order 7?", "And order 8?",
    ]  # fmt: skip


def test_a_prefix_with_a_clock_fails_with_path_texts_and_tokens(prompt_recorder: Recorder) -> None:
    for minute in (1, 2):
        ask(f"Now: 2026-03-01T09:0{minute}:11Z\n{RULES}", "Where is my order?")
    with pytest.raises(AssertionError) as caught:
        prompt_recorder.assert_stable()
    words = str(caught.value)
    assert "messages[0].content of request 2: volatile-time" in words
    assert "'Now: 2026-03-01T09:02:11Z" in words
    lost = prompt_recorder.report().flaws[0].tokens_per_request
    assert lost == pytest.approx(len(RULES) / 4 / 2, rel=0.05)  # one of the two requests pays
    prompt_recorder.assert_stable(ignore=("volatile-time",))
    prompt_recorder.assert_stable(most_lost_tokens=len(RULES))


def test_every_api_of_both_sdks(prompt_recorder: Recorder) -> None:
    client = openai.OpenAI(base_url="http://nowhere.invalid/v1", api_key="k")
    other = anthropic.Anthropic(base_url="http://nowhere.invalid", api_key="k")
    said = client.responses.create(model="m", instructions=RULES, input="Why?").output_text
    assert said == "ok"
    assert client.completions.create(model="m", prompt=RULES).choices[0].text == "ok"
    turns: Any = [{"role": "user", "content": "Why?"}]
    answer: Any = other.messages.create(model="m", max_tokens=9, system=RULES, messages=turns)
    assert answer.content[0].text == "ok"
    with other.messages.stream(model="m", max_tokens=9, system=RULES, messages=turns) as stream:
        assert "".join(stream.text_stream) == "ok"
    chunks = client.chat.completions.create(model="m", messages=turns, stream=True)
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == "ok"
    events = client.responses.create(model="m", input="Why?", stream=True)
    assert [e.delta for e in events if e.type == "response.output_text.delta"] == ["ok"]
    assert [endpoint for endpoint, _ in prompt_recorder.requests] == [
        "responses", "completions", "messages", "messages", "chat", "responses",
    ]  # fmt: skip


def test_asynchronous_clients_too(prompt_recorder: Recorder) -> None:
    async def talk() -> None:
        client = openai.AsyncOpenAI(base_url="http://nowhere.invalid/v1", api_key="k")
        turns: Any = [{"role": "system", "content": RULES}]
        for question in ("Why?", "How?"):
            turns.append({"role": "user", "content": question})
            answer = await client.chat.completions.create(model="m", messages=turns)
            turns.append({"role": "assistant", "content": answer.choices[0].message.content})

    asyncio.run(talk())
    assert len(prompt_recorder.requests) == 2
    prompt_recorder.assert_stable()


def test_one_request_says_nothing(prompt_recorder: Recorder) -> None:
    with pytest.raises(ValueError, match=r"0 request\(s\) recorded; at least two are needed"):
        prompt_recorder.assert_stable()
