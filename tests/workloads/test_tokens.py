"""Chats are counted as the model's own files say, whatever form its template has."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aot.configs.kernel.errors import UsageError
from aot.workloads.lint import template as lint_template
from aot.workloads.requests.request import Message
from aot.workloads.requests.tokens import ChatTokenizer, common_prefix, from_folder


def test_a_chat_is_rendered_and_counted_as_the_template_says(model: Path) -> None:
    tokenizer = from_folder(model)
    assert tokenizer is not None
    chat = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hello you"}]
    assert tokenizer.encode(chat) == [0, 1, 4, 5, 0, 2, 6, 7, 3]


def test_a_template_that_refuses_is_a_usage_error(model: Path) -> None:
    tokenizer = from_folder(model)
    assert tokenizer is not None
    with pytest.raises(UsageError, match="chat template refuses the messages: no tools"):
        tokenizer.encode([{"role": "tool", "content": "x"}])


def test_a_folder_without_template_or_vocabulary_has_no_tokenizer(
    model: Path, tmp_path: Path
) -> None:
    (model / "tokenizer_config.json").write_text("{}")
    assert from_folder(model) is None
    assert from_folder(tmp_path / "nowhere") is None


@pytest.mark.parametrize(
    ("first", "second", "length"),
    [([1, 2, 3], [1, 2, 4], 2), ([1, 2], [1, 2, 3], 2), ([], [1], 0), ([5], [6], 0)],
)
def test_common_prefix(first: list[int], second: list[int], length: int) -> None:
    assert common_prefix(first, second) == length


CHAT: list[Message] = [
    {"role": "user", "content": "hello"},
    {"role": "assistant", "content": "you"},
]
TURNS = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}


def with_template(model: Path, template: object) -> ChatTokenizer:
    config = json.loads((model / "tokenizer_config.json").read_text())
    (model / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": template}))
    tokenizer = from_folder(model)
    assert tokenizer is not None
    return tokenizer


def test_a_model_may_have_a_template_of_its_own_for_tools(model: Path) -> None:
    named = [
        {"name": "default", "template": TURNS},
        {"name": "tool_use", "template": "{{ tools | tojson(separators=(',', ':')) }}" + TURNS},
    ]
    tokenizer = with_template(model, named)
    assert tokenizer.render(CHAT) == "<user>hello<assistant>you"
    assert tokenizer.render(CHAT, (TOOL,)).startswith('[{"type":"function","function":{"name":"f"')


def test_what_training_masks_by_is_rendered_as_it_is(model: Path) -> None:
    masked = (
        "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %};{% endfor %}"
    )
    assert with_template(model, masked).render(CHAT) == "hello;you;"


def test_the_date_of_a_template_is_pinned_by_its_own_argument(model: Path) -> None:
    dated = (
        "{% if date_string is not defined %}{% set date_string = strftime_now('%d %b %Y') %}"
        "{% endif %}Today: {{ date_string }}." + TURNS
    )
    tokenizer = with_template(model, dated)
    assert tokenizer.dated_by() == "date_string"
    pinned = tokenizer.with_arguments({"date_string": "26 Jul 2026"})
    assert pinned.dated_by() is None
    assert pinned.render(CHAT).startswith("Today: 26 Jul 2026.<user>")
    assert pinned.render(CHAT, (), {"date_string": "then"}).startswith("Today: then.")
    assert with_template(model, "{{ strftime_now('%d') }}" + TURNS).dated_by() == ""
    assert with_template(model, TURNS).dated_by() is None
    only_with_tools = "{% if tools %}{{ strftime_now('%d') }}{% endif %}" + TURNS
    assert with_template(model, only_with_tools).dated_by() == ""


@pytest.mark.parametrize(
    ("template", "rules"),
    [
        (TURNS, []),
        ("{% if tools %}{{ strftime_now('%d %H') }}{% endif %}" + TURNS, ["template-date"]),
        (
            "{% for m in messages %}{% if loop.last and tools %}{{ tools }}{% endif %}"
            "<{{ m.role }}>{{ m.content }}{% endfor %}",
            ["template-history"],
        ),
        (
            "{% for m in messages %}{% if m.reasoning_content and loop.last %}"
            "{{ m.reasoning_content }}{% endif %}{{ m.content.split('</think>')[-1] }}{% endfor %}",
            ["template-history"],
        ),
    ],
)
def test_templates_are_looked_at_with_tools_and_thinking(
    model: Path, template: str, rules: list[str]
) -> None:
    tokenizer = with_template(model, template)
    found = lint_template.lint(tokenizer.render, tokenizer.tomorrow().render)
    assert [f.rule for f in found] == rules
