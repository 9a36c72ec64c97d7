from __future__ import annotations

from pathlib import Path

import pytest

from aot.configs.kernel.errors import UsageError
from aot.workloads.requests.tokens import common_prefix, from_folder


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
