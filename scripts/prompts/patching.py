"""What can be mended in a prompt folder without changing what it says, as a patch for `git apply`:
line ends, white space at the end of lines, forms of Unicode, characters that nobody sees."""

from __future__ import annotations

import difflib
import re
import unicodedata
from pathlib import Path

from aot.configs.kernel.errors import UsageError
from aot.configs.kernel.files import replacing
from aot.scripts.prompts.linting import from_root
from aot.workloads.prompts import folder as prompts

_UNSEEN = re.compile("[\u200b\u2060\u00ad]")
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_END = re.compile(r"[^\S\n]+$", re.M)


def mended(text: str) -> str:
    """The text in one form: LF, NFC, no byte-order mark, nothing at the end of lines."""
    plain = text.removeprefix("\ufeff").replace("\r\n", "\n")
    return unicodedata.normalize("NFC", _END.sub("", _UNSEEN.sub("", plain)))


def write(folder: Path, out: Path) -> list[str]:
    """The patch of a folder at `out`; the files that it changes. Nothing is written where none is
    changed. UsageError where `out` lies in the folder, and would be a part of the prompt."""
    if out.resolve().is_relative_to(folder.resolve()):
        raise UsageError(f"--fix {out}: lies in the prompt folder; put the patch elsewhere")
    read = prompts.read(folder)
    paths = [path for _, path in read.files] + list(read.templates.values())
    patches, changed = [], []
    for path in paths:
        old = prompts.text_of(path)
        if (new := mended(old)) != old:
            changed.append(from_root(path))
            patches.append(_patch(old, new, changed[-1]))
    if changed:
        with replacing(out) as partial:
            partial.write_text("".join(patches), encoding="utf-8", newline="")
    return changed


def _patch(old: str, new: str, name: str) -> str:
    first, second = (_LINE.findall(text) for text in (old, new))
    lines = difflib.unified_diff(first, second, f"a/{name}", f"b/{name}", n=1)
    without_end = "\n\\ No newline at end of file\n"
    return "".join(line if line.endswith("\n") else line + without_end for line in lines)
