"""What a store keeps on disk: read by name, sealed when it ends, and checked before it starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from aot.configs.kernel.errors import UsageError
from aot.serving.local import store_disk

NAMES = ("-SEP-m-SEP-tiny@0x01@0@aa.data", "-SEP-m-SEP-tiny@0x01@0@bb@5a17.data")


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    folder = tmp_path / "kv"
    folder.mkdir()
    for number, name in enumerate(NAMES):
        (folder / name).write_bytes(bytes([number]) * 1000)
    return folder


def test_a_file_says_whose_it_is(disk: Path) -> None:
    first, second = store_disk.chunks(disk)
    assert (first.model, first.salt, first.size_bytes) == ("/m/tiny", None, 1000)
    assert (second.model, second.salt) == ("/m/tiny", "5a17")


def test_what_was_sealed_is_whole(disk: Path) -> None:
    assert store_disk.check(disk).has_sums is False
    store_disk.seal(disk)
    checked = store_disk.check(disk)
    assert (len(checked.whole), checked.damaged, checked.unknown) == (2, (), ())
    assert checked.unusable == ()


@pytest.mark.parametrize("how", ["flipped", "cut"])
def test_what_was_damaged_is_put_aside_and_the_rest_is_kept(disk: Path, how: str) -> None:
    store_disk.seal(disk)
    data = bytes([9]) * 1000 if how == "flipped" else b"\0" * 10
    (disk / NAMES[0]).write_bytes(data)
    checked = store_disk.check(disk)
    assert [c.path.name for c in checked.damaged] == [NAMES[0]]
    aside = store_disk.put_aside(disk, checked.unusable)
    assert (aside / NAMES[0]).read_bytes() == data  # nothing is lost
    assert [c.path.name for c in store_disk.chunks(disk)] == [NAMES[1]]


def test_what_a_store_wrote_before_it_was_cut_off_is_not_trusted(disk: Path) -> None:
    store_disk.seal(disk)
    (disk / NAMES[0].replace("aa", "cc")).write_bytes(b"torn")
    checked = store_disk.check(disk)
    assert len(checked.unknown) == 1
    assert checked.unusable == checked.unknown


def test_without_sums_everything_is_taken_as_it_is(disk: Path) -> None:
    checked = store_disk.check(disk)
    assert len(checked.unknown) == 2
    assert checked.unusable == ()
    (disk / store_disk.SUMS).write_text("{")  # cut off: as none
    assert store_disk.check(disk).has_sums is False


def test_sums_of_unchanged_files_are_not_computed_again(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_disk.seal(disk)
    monkeypatch.setattr(store_disk, "_sum", lambda path: pytest.fail(f"{path} was read again"))
    store_disk.seal(disk)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="kv: no such folder"):
        store_disk.chunks(tmp_path / "kv")
    store_disk.seal(tmp_path / "kv")  # nothing was kept


def test_pruning_does_not_vouch_for_what_is_left(disk: Path) -> None:
    store_disk.seal(disk)
    (disk / NAMES[0]).write_bytes(b"damaged")
    store_disk.forget(disk, [store_disk.chunks(disk)[1]])
    checked = store_disk.check(disk)
    assert (len(checked.damaged), checked.whole, checked.unknown) == (1, (), ())
