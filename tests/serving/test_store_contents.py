"""What a store was filled with: kept beside its chunks, compared before it is used again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from aot.configs.kernel.errors import UsageError
from aot.serving.engines import flags
from aot.serving.engines.table import ENGINES
from aot.serving.local import store_contents, store_disk
from aot.serving.local.store_contents import Contents, Filling, StoredPrompt
from aot.serving.topology.stores import STORES

FILLING = Filling("/m/tiny", "weights-a", {"--dtype": "float32"}, 64)
EXPECTED = (
    "6309ed506b8721905753f5c73c070bb21c3aafbd9b474b1e231f41368b71123c",
    "860febe096e5c97508a8f00f5cc3d032bdd6b055fba0fb8b8e15cdf3ac0d9cff",
)
PROMPT = StoredPrompt("faq acme", "key", "/m/tiny", "tok", None, 64, ("aa", "bb", "cc"))


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    assert store_contents.read(tmp_path) == Contents()
    contents = Contents().with_model(FILLING).with_prompt(PROMPT)
    store_contents.write(tmp_path, contents)
    assert store_contents.read(tmp_path) == contents
    assert contents.without(["/m/tiny"]) == Contents()
    assert contents.without(["/m/other"]) == contents


@pytest.mark.parametrize("text", ["[]", "{", '{"models": [{"model": 1}], "prompts": []}'])
def test_a_file_that_is_not_ours_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / store_contents.FILE).write_text(text)
    with pytest.raises(UsageError, match=r"aot-contents.json: not what a store of ours"):
        store_contents.read(tmp_path)
    assert (tmp_path / store_contents.FILE).read_text() == text


@pytest.mark.parametrize(
    ("now", "words"),
    [
        ({"settings": {"--dtype": "bfloat16"}}, "--dtype was float32, now bfloat16"),
        ({"settings": {"--dtype": "float32", "--revision": "b"}},
         "--revision was the default, now b"),
        ({"weights": "weights-b"}, "other weights"),
    ],
)  # fmt: skip
def test_other_values_under_the_same_keys_are_refused(
    tmp_path: Path, now: dict[str, object], words: str
) -> None:
    store_contents.write(tmp_path, Contents().with_model(FILLING))
    with pytest.raises(UsageError, match=words) as raised:
        store_contents.check(tmp_path, replace(FILLING, **now))  # type: ignore[arg-type]
    assert f"aot store prune {tmp_path} --model /m/tiny" in str(raised.value)


def test_what_is_only_never_found_is_said(tmp_path: Path) -> None:
    assert store_contents.check(tmp_path / "none", FILLING) is None
    store_contents.write(tmp_path, Contents().with_model(FILLING))
    assert store_contents.check(tmp_path, FILLING) is None
    assert store_contents.check(tmp_path, replace(FILLING, model="/m/other")) is None
    said = store_contents.check(tmp_path, replace(FILLING, chunk_tokens=128))
    assert said is not None
    assert "chunks of 64 tokens" in said
    assert "chunk_tokens is 128" in said


def test_the_chunks_of_a_prompt_count_from_its_beginning(tmp_path: Path) -> None:
    def there(*names: str) -> int:
        for old in tmp_path.glob("*.data"):
            old.unlink()
        for name in names:
            (tmp_path / f"-SEP-m-SEP-tiny@0x01@0@{name}.data").write_bytes(b"x")
        return PROMPT.present(store_disk.chunks(tmp_path))

    assert there("aa", "bb", "cc") == 3
    assert there("aa", "cc") == 1
    assert there("bb", "cc") == 0
    assert there("aa@salt", "bb@salt") == 0


def test_weights_are_known_by_their_bytes(tmp_path: Path) -> None:
    assert store_contents.weights_of(str(tmp_path / "none")) is None
    (tmp_path / "config.json").write_text("{}")
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(bytes(8 << 20))
    before = store_contents.weights_of(str(tmp_path))
    assert store_contents.weights_of(str(tmp_path)) == before
    with weights.open("r+b") as file:
        file.seek(-5, 2)
        file.write(b"\1")
    assert store_contents.weights_of(str(tmp_path)) != before


def test_a_chunk_is_named_as_lmcache_names_it() -> None:
    """The names that LMCache 0.5.6 gave to the first two chunks of these tokens
    (TokenHasher(chunk_size=4).compute_chunk_hashes)."""
    names = STORES["lmcache"].chunk_names([1, 2, 3, 4, 5, 6, 7, 49_151, 9], 4)
    assert names == EXPECTED
    assert STORES["lmcache"].chunk_names([1, 2, 3], 4) == ()


def test_settings_are_found_however_they_are_written() -> None:
    wanted = ENGINES["vllm"].file_rules.value_flags
    argv = ["vllm", "serve", "m", "--kv_cache_dtype=fp8", "--dtype", "float16", "--port", "1"]
    argv += ["--enable-lora", "--hf-overrides.rope", "2"]
    assert flags.chosen(argv, "vllm", wanted) == {
        "--kv-cache-dtype": "fp8", "--dtype": "float16", "--enable-lora": "",
        "--hf-overrides.rope": "2",
    }  # fmt: skip
