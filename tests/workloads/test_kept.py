"""One prompt in every form in which people keep it compiles to the same static tokens."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from aot.configs.kernel.errors import UsageError
from aot.scripts.prompts.compiling import compile_prompt
from aot.workloads.prompts import kept

RULES = "be kind hello you " * 12
CHAT = [{"role": "system", "content": RULES}, {"role": "user", "content": "{{ question }}"}]
ASKED = [{"role": "system", "content": RULES}, {"role": "user", "content": "hello"}]
FILES = {
    "messages.json": json.dumps(CHAT),
    "asked.json": json.dumps(ASKED),
    "chat.json": json.dumps({"model": "m", "messages": ASKED, "temperature": 0}),
    "anthropic.json": json.dumps(
        {"model": "m", "max_tokens": 9, "messages": ASKED[1:],
         "system": [{"type": "text", "text": RULES, "cache_control": {"type": "ephemeral"}}]}
    ),
    "responses.json": json.dumps({"model": "m", "instructions": RULES, "input": "hello"}),
    "langchain.yaml": yaml.safe_dump(
        {"_type": "chat", "input_variables": ["question"],
         "messages": [{"prompt": {"template": RULES}}, {"prompt": {"template": "{question}"}}]}
    ),
    "langchain.json": json.dumps(
        {"_type": "chat", "messages": [{"prompt": {"template": RULES}},
                                       {"prompt": {"template": "{question}"}}]}
    ),
    "promptfooconfig.yaml": yaml.safe_dump({"prompts": ["file://messages.json"], "providers": []}),
    "inline.yaml": yaml.safe_dump({"prompts": [json.dumps(CHAT)], "providers": []}),
    "agent.prompty": f"---\nname: a\n---\nsystem:\n{RULES}\n\nuser:\n{{{{question}}}}\n",
    "system.md": RULES,
    "prompt.j2": RULES,
}  # fmt: skip


def test_every_form_has_the_same_static_tokens(tmp_path: Path, model: Path) -> None:
    home = tmp_path / "kept"
    home.mkdir()
    for name, text in FILES.items():
        (home / name).write_text(text)
    folder = home / "roles"
    folder.mkdir()
    (folder / "system.md").write_text(RULES)
    (folder / "user.md").write_text("{{ question }}")
    alone = home / "alone"
    alone.mkdir()
    (alone / "system_prompt.txt").write_text(RULES)
    made = {}
    for path in sorted(home.iterdir()):
        assert kept.is_kept(path), path
        made[path.name] = compile_prompt(path, {}, str(model), None, 4, None)
    shortest = min(p.static_tokens for p in made.values())
    assert shortest > 12 * 4
    first = made["messages.json"].static_token_ids[:shortest]
    for name, prompt in made.items():
        assert prompt.static_token_ids[:shortest] == first, name
        # The frame of the next message, and what two questions have in common to this tokenizer.
        assert prompt.static_tokens - shortest <= 5, name
        assert prompt.chat(0)[-1] != prompt.chat(1)[-1]


def test_examples_of_a_dialogue_are_static(tmp_path: Path, model: Path) -> None:
    turns = [CHAT[0], {"role": "user", "content": "hello"}, {"role": "assistant", "content": "you"}]
    path = tmp_path / "p.json"
    path.write_text(json.dumps([*turns, CHAT[1]]))
    made = compile_prompt(path, {}, str(model), None, 4, None)
    assert made.messages == turns
    assert made.static_tokens > 12 * 4 + 4


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("p.py", "SYSTEM = 'be kind'", "is a program, which is not run; save its prompt as text"),
        ("p.prompty", "be kind", "no 'system:' or 'user:' in a line of its own"),
        ("p.yaml", "a: [", "no prompt that is known"),
        ("p.yaml", "a: 1", "expected messages, or a request body with messages, input or prompt"),
        ("p.yaml", "_type: chat\nmessages: [{x: 1}]", r"messages\[0\].prompt.template is no text"),
        ("p.yaml", "prompts: [file://no.txt]", "no.txt: cannot be read"),
        ("p.j2", "{% if %}", "no prompt that is known"),
        ("p.md", "", "nothing of it is static: it is empty, or begins with what is filled in"),
        ("p.md", "{{ now }}", "nothing of it is static"),
    ],
)
def test_what_is_no_prompt_is_named(
    tmp_path: Path, model: Path, name: str, text: str, words: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=words):
        compile_prompt(tmp_path / name, {}, str(model), None, 4, None)
