"""A model folder with a tokenizer and a chat template, small enough to count by hand."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no tools') }}{% endif %}"
    "{{ bos_token }} {{ m.role }} {{ m.content }} \n{% endfor %}"
    "{% if add_generation_prompt %}assistant{% endif %}"
)


def word_level(folder: Path) -> Path:
    """The files of a model whose tokenizer knows nine words."""
    words = ["<s>", "system", "user", "assistant", "be", "kind", "hello", "you", "[UNK]"]
    tokenizer = Tokenizer(WordLevel({w: n for n, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"chat_template": TEMPLATE, "bos_token": {"content": "<s>"}}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder
