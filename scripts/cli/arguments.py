"""Arguments and options that several verbs share, and what a file argument may name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aot.configs.kernel.errors import UsageError

if TYPE_CHECKING:
    from aot.configs.loading.kinds import Kind
    from aot.configs.loading.presets import Shipped

YAML = (".yaml", ".yml")


def verbs() -> typer.Typer:
    """A module's verbs, with help as plain text."""
    return typer.Typer(
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def _file(wanted: Shipped) -> Callable[[typer.Context, Path | None], Path | None]:
    """A callback that finds the file an argument names: a path, or something shipped by name."""

    def resolve(context: typer.Context, given: Path | None) -> Path | None:
        if given is None or context.resilient_parsing:
            return given
        from aot.configs.loading.presets import file_of

        path = file_of(wanted, given)
        if wanted != "prompt":
            _refuse_other_kinds(path, wanted, f"aot {context.info_name}")
        return path

    return resolve


def _traffic(context: typer.Context, given: Path | None) -> Path | None:
    """The same for what may be a workload or another file of traffic."""
    if given is None or (given.suffix not in YAML and given.exists()):
        return given  # a folder, or a file of another kind: not for us to tell
    return _file("workload")(context, given)


def _refuse_other_kinds(path: Path, wanted: Kind, verb: str) -> None:
    """UsageError that says what a file is, where it is not what the verb takes."""
    from aot.configs.loading.kinds import NOUNS, kind_of, mistaken
    from aot.configs.loading.yaml_file import parse

    if path.suffix not in YAML:
        if wanted == "workload":
            return  # a schedule or a trace will do
        if (noun := _other_file(path)) is not None:
            raise UsageError(f"{path}: this is {noun}; {verb} takes {NOUNS[wanted]} (.yaml)")
        return
    kind = kind_of(parse(path).data)
    if kind not in (None, wanted):
        raise UsageError(f"{path}: {mistaken(kind, wanted, verb)}")


def _other_file(path: Path) -> str | None:
    """What a file or folder is that is no YAML; None where it cannot be told."""
    if (path / "manifest.json").exists():
        return "a run directory"
    if (path / "dynamic_templates").is_dir():
        return "a prompt folder"
    if path.is_dir():
        return "a folder"
    return {".jsonl": "a schedule or a request log", ".json": "a JSON file"}.get(path.suffix)


def _names(wanted: Shipped) -> Callable[[str], list[str]]:
    """Completion by the names of what is shipped; the shell adds its files itself."""

    def complete(incomplete: str) -> list[str]:
        from aot.configs.kernel.places import CONFIGS

        folder = CONFIGS / f"{wanted}s"
        names = sorted(
            {p.stem for p in folder.glob("*.yaml")} | {p.name for p in folder.glob("*/")}
        )
        return [name for name in names if name.startswith(incomplete)]

    return complete


def _argument(kind: Shipped, metavar: str, words: str, *, traffic: bool = False) -> Any:
    return typer.Argument(
        metavar=metavar,
        help=words,
        callback=_traffic if traffic else _file(kind),
        autocompletion=_names(kind),
    )


def _option(kind: Shipped, words: str, *, traffic: bool = False) -> Any:
    callback = _traffic if traffic else _file(kind)
    return typer.Option(help=words, callback=callback, autocompletion=_names(kind))


SHIPPED_ONE = "or the name of a shipped one"
ServerArgument = Annotated[
    Path, _argument("server", "SERVER", f"server .yaml, {SHIPPED_ONE} (aot configs list servers)")
]
OptionalServerArgument = Annotated[
    Path | None,
    _argument("server", "SERVER", f"server .yaml, {SHIPPED_ONE} (or --resume FOLDER)"),
]
ExperimentArgument = Annotated[
    Path | None,
    _argument("experiment", "EXPERIMENT", f"experiment .yaml, {SHIPPED_ONE} (or --resume FOLDER)"),
]
PromptArgument = Annotated[Path, _argument("prompt", "PROMPT_DIR", f"prompt folder, {SHIPPED_ONE}")]
LintArgument = Annotated[Path, _argument("prompt", "PROMPT_DIR|REQUESTS.jsonl", "what to look at")]
_WORKLOAD = f"workload .yaml ({SHIPPED_ONE})"
TrafficArgument = Annotated[
    Path,
    _argument("workload", "WORKLOAD|SCHEDULE", f"{_WORKLOAD}, or schedule .jsonl", traffic=True),
]
TraceArgument = Annotated[
    Path, _argument("workload", "WORKLOAD|TRACE", f"{_WORKLOAD}, or a trace file", traffic=True)
]
SeenArgument = Annotated[
    Path,
    _argument(
        "workload", "SCHEDULE|WORKLOAD|TRACE", f"schedule, {_WORKLOAD} or trace", traffic=True
    ),
]
ServerOption = Annotated[
    Path | None,
    _option("server", f"server .yaml ({SHIPPED_ONE}): does it fit, and what stays cached"),
]
WorkloadOption = Annotated[
    Path | None,
    _option(
        "workload", "take the static prefixes of this workload or schedule, counted", traffic=True
    ),
]
UrlOption = Annotated[str, typer.Option("--url", help="base URL, e.g. http://127.0.0.1:8000")]
ServedModelOption = Annotated[
    str | None, typer.Option("--model", help="model name; default: the one model served")
]
KeyOption = Annotated[
    str | None,
    typer.Option("--api-key-env", help="environment variable that holds the API key"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="one JSON value on standard output")]
RunsOption = Annotated[Path, typer.Option(help="where the folder of it all is made")]
ResumeOption = Annotated[
    Path | None, typer.Option(help="a folder of this verb: measure only what is missing in it")
]
