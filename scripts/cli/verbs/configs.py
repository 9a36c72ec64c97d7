"""The verbs about shipped files: look at them, take one, start a project of one's own."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from aot.configs.kernel.errors import UsageError
from aot.scripts.cli.arguments import verbs
from aot.scripts.cli.choices import Shelf
from aot.scripts.terminal import out, say, table

if TYPE_CHECKING:
    from aot.configs.loading.presets import Shipped

app = verbs()
configs_app = verbs()
app.add_typer(
    configs_app,
    name="configs",
    no_args_is_help=True,
    help="The shipped servers, workloads, experiments and prompts.",
)
STARTERS = (
    (
        "servers/demo.yaml",
        "server.yaml",
        "# Your server. On a GPU: 'environment: vllm', your model, and no cache_gib; presets for\n"
        "# common cards: aot configs list servers. A running one: 'runtime: remote' and 'url'.\n",
    ),
    (
        "workloads/demo.yaml",
        "workload.yaml",
        "# Your traffic: requests, tenants, users. Other scenarios: aot configs list workloads.\n",
    ),
    (
        "experiments/demo.yaml",
        "experiment.yaml",
        "# Which server and traffic are measured. With 'repeats: 4' intervals say something.\n",
    ),
    ("prompts/support-bot", "prompt", ""),
)
"""What `init` writes: from what, as what, and what to change in it."""
BESIDE = {"server": "server.yaml", "workload": "workload.yaml", "prompt": "prompt"}
"""How these name each other."""
ShelfArgument = Annotated[Shelf, typer.Argument(help="which kind")]


def _names(context: typer.Context, incomplete: str) -> list[str]:
    from aot.configs.loading.presets import shipped_names

    shelf = context.params.get("shelf")
    names = shipped_names(_kind(shelf)) if shelf else []
    return [name for name in names if name.startswith(incomplete)]


NameArgument = Annotated[str, typer.Argument(help="its name", autocompletion=_names)]


@configs_app.command("list")
def list_(
    shelf: Annotated[Shelf | None, typer.Argument(help="only this kind")] = None,
) -> None:
    """What is shipped, by kind and name."""
    from aot.configs.loading.presets import shipped_file, shipped_names

    for each in [shelf] if shelf else get_args(Shelf):
        kind = _kind(each)
        names = shipped_names(kind)
        rows = [(name, _first_line(shipped_file(kind, name))) for name in names]
        table((each, ""), rows)


@configs_app.command()
def show(shelf: ShelfArgument, name: NameArgument) -> None:
    """Print a shipped file.

    Of a prompt all its files, each under its name.
    """
    path = _shipped(shelf, name)
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    for file in files:
        if file != path:
            say(f"--- {file.relative_to(path)}")
        out().file.write(file.read_text(encoding="utf-8"))


@configs_app.command()
def copy(
    shelf: ShelfArgument,
    name: NameArgument,
    to: Annotated[str | None, typer.Argument(help="file, or folder/; default: here")] = None,
) -> None:
    """Copy a shipped file to change it.

    What it names beside it is then named as what is shipped.
    """
    source = _shipped(shelf, name)
    into = to is not None and (to.endswith("/") or Path(to).is_dir())
    target = Path(to or "") / source.name if into or not to else Path(to)
    _write(source, target)
    say(f"written: {target}")


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="folder to make; must be empty or not there")],
) -> None:
    """Write a server, workload, experiment and prompt to start from.

    They are those of the demo, so they can be measured on a CPU as they are: aot demo
    FOLDER/experiment.yaml. Each file says what to change for a server and prompts of one's own.
    """
    from aot.configs.kernel.places import CONFIGS

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder}: is there already; name a folder that is empty or not there")
    for source, target, words in STARTERS:
        _write(CONFIGS / source, folder / target, words, BESIDE)
    say(f"written: {folder}/{{server,workload,experiment}}.yaml and {folder}/prompt/")
    say(f"install what they need, and measure them: aot demo {folder}/experiment.yaml")


def _write(source: Path, target: Path, words: str = "", beside: Mapping[str, str] = {}) -> None:
    """A copy of a file (`words` in front of it) or folder. What the original names beside it is
    named by `beside` (server, workload, prompt), else as what is shipped.

    UsageError where something is there.
    """
    if target.exists():
        raise UsageError(f"{target}: is there already; it is left as it is")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            text = source.read_text(encoding="utf-8")
            if words:  # which say what it is now
                text = words + re.sub(r"\A(#.*\n)+", "", text)
            target.write_text(_named(text, beside), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{target}: cannot be written: {error.strerror}") from None


def _named(text: str, beside: Mapping[str, str]) -> str:
    """`../servers/demo.yaml` → what `beside` has for a server, else `demo`."""

    def name(match: re.Match[str]) -> str:
        return beside.get(match["kind"], match["name"])

    return re.sub(r"\.\./(?P<kind>\w+)s/(?P<name>[\w.-]+?)(?:\.yaml)?(?=[\s,\]]|$)", name, text)


def _kind(shelf: Shelf) -> Shipped:
    from aot.configs.loading.presets import SHIPPED

    return next(kind for kind, folder in SHIPPED.items() if folder == shelf)


def _shipped(shelf: Shelf, name: str) -> Path:
    """The path of what is shipped under a name. UsageError, with the nearest, for another name."""
    from aot.configs.loading.load import did_you_mean
    from aot.configs.loading.presets import shipped_file, shipped_names

    kind = _kind(shelf)
    known = shipped_names(kind)
    if name not in known:
        raise UsageError(
            f"no {kind} called '{name}' is shipped{did_you_mean(name, known)}; known: "
            f"{', '.join(known)}"
        )
    return shipped_file(kind, name)


def _first_line(path: Path) -> str:
    file = path / "system_prompt.txt" if path.is_dir() else path
    line = file.read_text(encoding="utf-8").split("\n", 1)[0]
    return textwrap.shorten(line.removeprefix("#").strip(), 52, placeholder=" …")
