"""Compiling on a tokenizer of one token a character, so that every count can be worked out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from aot.configs.kernel.errors import UsageError
from aot.serving.engines import block_hashes
from aot.workloads.prompts import changes, compiled
from aot.workloads.prompts import folder as prompts
from aot.workloads.prompts.compile import Target, compile_folder
from aot.workloads.prompts.compile_prefix import compile_prefix
from aot.workloads.prompts.compiled import BlockHashes, Compiled
from aot.workloads.requests.request import Message, Prefix, Request, Schedule, Tools

BLOCK = 16


def encode(chats: Sequence[tuple[list[Message], Tools]]) -> list[list[int]]:
    """<role>content|...<assistant>, tools in front; one token a character."""
    found = []
    for messages, tools in chats:
        text = json.dumps(tools) if tools else ""
        text += "".join(f"<{m['role']}>{m['content']}|" for m in messages) + "<assistant>"
        found.append([ord(c) for c in text])
    return found


def target(**changes_: object) -> Target:
    def hashes(ids: Sequence[int], block: int, salt: str | None) -> BlockHashes:
        return BlockHashes(
            algorithm="sha256_cbor",
            hashes=[h.hex() for h in block_hashes.chain(ids, block, salt)],
        )

    values = {"model": "m", "block_tokens": BLOCK, "salt": None, "context_tokens": 5000}
    return Target(**(values | changes_), encode=encode, hashes=hashes)  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "prompt"
    for name, text in {
        "system_prompt.txt": "You help {{ tenant }}.\nBe brief.\n",
        "context/a.md": "Document A.\n",
        "context/b.txt": "Document B has {{ braces }} of its own.\n",
        "few_shot_examples.txt": "Q: x\nA: y\n",
        "variables.yaml": "tenant: Acme\n",
        "dynamic_templates/ask.jinja2": "Question: {{ question }}",
        "dynamic_templates/sum.jinja2": "Summarise {{ text }}",
        "dynamic_inputs/ask.txt": "Why?\nHow much?\nWhen?\n",
    }.items():
        path = made / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return made


def make(folder: Path, **more: object) -> Compiled:
    return compile_folder(prompts.read(folder), {}, target(**more))


SYSTEM = (
    "You help Acme.\nBe brief.\nDocument A.\nDocument B has {{ braces }} of its own.\nQ: x\nA: y"
)


def test_the_static_part_is_what_all_prompts_share_to_the_token(folder: Path) -> None:
    made = make(folder)
    # The two templates differ from their first letter on.
    assert "".join(map(chr, made.static_token_ids)) == f"<system>{SYSTEM}|<user>"
    assert made.static_tokens == len(SYSTEM) + 15
    assert made.full_blocks == made.static_tokens // BLOCK
    assert made.cached_tokens + made.rounding_tokens == made.static_tokens
    assert made.messages == [{"role": "system", "content": SYSTEM}]


def test_segments_add_up_and_name_their_files(folder: Path) -> None:
    made = make(folder)
    counts = {s.name: s.tokens for s in made.segments}
    assert counts == {
        "system_prompt.txt": len("You help Acme.\nBe brief."),
        "context/a.md": len("\nDocument A."),
        "context/b.txt": len("\nDocument B has {{ braces }} of its own."),
        "few_shot_examples.txt": len("\nQ: x\nA: y"),
        "chat template and openings": len("<system>|<user>"),
    }
    assert sum(c or 0 for c in counts.values()) == made.static_tokens


def test_templates_have_counts_of_their_own(folder: Path) -> None:
    made = {t.name: t for t in make(folder).templates}
    assert made["ask"].static_tokens == len("Question: ")
    assert made["ask"].inputs == 3
    assert made["ask"].dynamic_tokens.min == len("Why?|<assistant>")
    assert made["ask"].dynamic_tokens.max == len("How much?|<assistant>")


def test_tools_are_a_segment(folder: Path) -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    (folder / "tools.json").write_text(json.dumps(tools))
    made = make(folder)
    counts = {s.name: s.tokens for s in made.segments}
    assert counts["tools.json"] == len(json.dumps(tools))
    assert sum(c or 0 for c in counts.values()) == made.static_tokens


def test_what_the_author_believes_does_not_count(folder: Path) -> None:
    """A variable of the input in a static file ends the static part there."""
    (folder / "system_prompt.txt").write_text("You help {{ tenant }}.\n")
    (folder / "dynamic_templates" / "ask.jinja2").write_text(
        "{{ question }} Then 500 words of rules"
    )
    (folder / "dynamic_templates" / "sum.jinja2").unlink()
    made = make(folder)
    assert "".join(map(chr, made.static_token_ids)).endswith("<user>")
    assert made.templates[0].dynamic_tokens.min > len(" Then 500 words of rules")


def test_the_file_depends_on_nothing_else(folder: Path, tmp_path: Path) -> None:
    assert make(folder).to_text() == make(folder).to_text()
    compiled.write(make(folder), tmp_path / "c.json")
    assert compiled.read(tmp_path / "c.json") == make(folder)
    assert compiled.is_compiled(tmp_path / "c.json")


def test_the_key_depends_on_all_that_decides_a_hit(folder: Path) -> None:
    keys = {make(folder, **more).cache_key
            for more in ({}, {"model": "n"}, {"block_tokens": 32}, {"salt": "s"})}  # fmt: skip
    other = compile_folder(prompts.read(folder), {"tenant": "Other"}, target())
    assert len(keys | {other.cache_key}) == 5


def test_block_hashes_are_chained_and_salted() -> None:
    ids = list(range(40))
    plain, salted = (block_hashes.chain(ids, 16, s) for s in (None, "tenant"))
    assert len(plain) == 2
    assert plain[0] != salted[0]
    assert plain[1] != salted[1]  # the salt is in the first block only, and all others chain to it
    assert block_hashes.chain([9, *ids[1:]], 16)[1] != plain[1]
    # sha256_cbor of vLLM 0.32 for tokens 0..15, as its own hash_block_tokens gives it.
    assert plain[0].hex() == FIRST_BLOCK


FIRST_BLOCK = "dc918a88b139e5afe60b88eda27508d4aee16c10fdc354791efea06206ac0749"


def edited(folder: Path, file: str, old: str, new: str) -> changes.Change:
    before = make(folder)
    path = folder / file
    path.write_text(path.read_text().replace(old, new))
    found = changes.compare(before, make(folder))
    assert found is not None
    return found


def test_an_edit_is_located_and_priced(folder: Path) -> None:
    (folder / "context" / "a.md").write_text("One.\nTwo.\nThree.\n")
    change = edited(folder, "context/a.md", "Two.", "2.")
    assert (change.segment, change.line) == ("context/a.md", 2)
    token = len("<system>You help Acme.\nBe brief.\nOne.\n")
    assert change.token == token
    assert change.valid_blocks == token // BLOCK
    assert change.valid_blocks + change.rebuilt_blocks == make(folder).full_blocks
    assert "'Two.' → '2.'" in change.describe()


def test_an_edit_of_the_dynamic_part_costs_no_block(folder: Path) -> None:
    change = edited(folder, "dynamic_templates/sum.jinja2", "Summarise", "Shorten")
    assert change.rebuilt_blocks == 0


def test_another_block_size_or_model_is_another_cache(folder: Path) -> None:
    change = changes.compare(make(folder), make(folder, block_tokens=32))
    assert change is not None
    assert change.describe().startswith("the block size changed: 0 blocks stay valid")
    assert changes.compare(make(folder), make(folder)) is None


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("system_prompt.txt", "{{ nobody }}", "'nobody' is undefined; known: tenant; give it by"),
        ("system_prompt.txt", "a\n{% if %}", r"system_prompt.txt:2: template syntax"),
        ("dynamic_templates/ask.jinja2", "a\n\n{{ x", r"ask.jinja2:3: template syntax"),
        ("dynamic_inputs/ask.jsonl", '{"q": 1}\n' * 2, "'question' is undefined"),
        ("dynamic_inputs/ask.jsonl", "[1]\n", r"ask.jsonl:1: expected an object"),
        ("dynamic_inputs/ask.txt", "one\n", r"1 input\(s\) give 1 different message"),
        ("dynamic_inputs/ask.txt", "one\none\n", r"2 input\(s\) give 1 different message"),
        ("dynamic_templates/ask.jinja2", "Say hello.", r"at least 2 different ones are needed"),
        ("dynamic_templates/ask.jinja2", "{{ question | round(2) }}", r"rendered: TypeErr"),
        ("dynamic_templates/ask.jinja2", "{% include 'x' %}{{ question }}", r"cannot be rendered"),
        ("dynamic_inputs/asc.txt", "a\nb\n", r"asc.txt: there is no template of that name; .*ask"),
        ("system_prompt.txt", "{{ tenant / 0 }}", r"system_prompt.txt: cannot be rendered"),
        ("variables.yaml", "tenant:\n", r"variable 'tenant' has no value"),
        ("tools.json", "{", r"tools.json:1: not JSON"),
        ("tools.json", "{}", r"tools.json: expected a list of tool schemas"),
        ("variables.yaml", "[", r"variables.yaml:1: not valid YAML"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_folder_is_named(folder: Path, file: str, text: str, words: str) -> None:
    (folder / file).write_text(text)
    with pytest.raises(UsageError, match=words):
        make(folder)


def test_a_value_is_a_text_as_it_stands(folder: Path) -> None:
    (folder / "variables.yaml").write_text("tenant: 007\n")
    assert make(folder).messages[0]["content"].startswith("You help 007.")


def test_an_undecodable_file_is_named_with_the_byte(folder: Path) -> None:
    (folder / "context" / "a.md").write_bytes(b"caf\xe9")
    with pytest.raises(UsageError, match=r"a\.md: byte 3 is not UTF-8"):
        make(folder)


def test_an_empty_static_part(folder: Path) -> None:
    for path in ("context/a.md", "context/b.txt", "few_shot_examples.txt"):
        (folder / path).unlink()
    (folder / "system_prompt.txt").write_text("\n")
    with pytest.raises(UsageError, match="its static part is empty"):
        make(folder)


def test_a_prompt_longer_than_the_context(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"has \d+ tokens, and the model's context is 100"):
        make(folder, context_tokens=100)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not a compiled prompt"),
        ('{"format": "aot-compiled/0"}', "format is 'aot-compiled/0', this version reads"),
        ('{"format": "aot-compiled/1"}', "prompt: Field required; compile anew"),
    ],
)
def test_a_file_that_is_no_compiled_prompt(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(UsageError, match=words):
        compiled.read(tmp_path / "c.json")


def test_planned_traffic_compiles_to_what_its_folder_compiles_to(folder: Path) -> None:
    """The same static tokens under the same key, whoever looks: the folder or the schedule."""
    (folder / "dynamic_templates" / "sum.jinja2").unlink()
    from_folder = make(folder)
    asked = [
        Request(f"r{n}", float(n), "t", "p", ({"role": "user", "content": f"Question: {text}"},))
        for n, text in enumerate(("Why?", "How?", "Who?"))
    ]
    probes = tuple(({"role": "user", "content": f"Question: {x}"},) for x in ("a", "Wh"))
    prefix = Prefix("p", ({"role": "system", "content": SYSTEM},), probes)  # type: ignore[arg-type]
    schedule = Schedule("s", 1, "open", 1, 8, True, 60.0, {"p": prefix}, tuple(asked))
    made = compile_prefix(schedule, prefix, target())
    assert made.cache_key == from_folder.cache_key
    assert made.static_token_ids == from_folder.static_token_ids
    assert made.block_hashes == from_folder.block_hashes
    assert sum(s.tokens or 0 for s in made.segments) == made.static_tokens
    assert made.chat(0)[-1]["content"] == "Question: a"
