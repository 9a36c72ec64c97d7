"""Arguments and options that several verbs share, and what a file argument may name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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


ServerArgument = Annotated[
    Path,
    typer.Argument(
        metavar="SERVER",
        help="server .yaml, or the name of a shipped one (aot configs list servers)",
        callback=_file("server"),
        autocompletion=_names("server"),
    ),
]
OptionalServerArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="SERVER",
        help="server .yaml, or the name of a shipped one (or --resume FOLDER)",
        callback=_file("server"),
        autocompletion=_names("server"),
    ),
]
ExperimentArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="EXPERIMENT",
        help="experiment .yaml, or the name of a shipped one (or --resume FOLDER)",
        callback=_file("experiment"),
        autocompletion=_names("experiment"),
    ),
]
PromptArgument = Annotated[
    Path,
    typer.Argument(
        metavar="PROMPT_DIR",
        help="prompt folder, or the name of a shipped one",
        callback=_file("prompt"),
        autocompletion=_names("prompt"),
    ),
]
LintArgument = Annotated[
    Path,
    typer.Argument(
        metavar="PROMPT_DIR|REQUESTS.jsonl",
        help="what to look at",
        callback=_file("prompt"),
        autocompletion=_names("prompt"),
    ),
]
TrafficArgument = Annotated[
    Path,
    typer.Argument(
        metavar="WORKLOAD|SCHEDULE",
        help="workload .yaml (or the name of a shipped one), or schedule .jsonl",
        callback=_traffic,
        autocompletion=_names("workload"),
    ),
]
TraceArgument = Annotated[
    Path,
    typer.Argument(
        metavar="WORKLOAD|TRACE",
        help="workload .yaml (or the name of a shipped one), or a trace file",
        callback=_traffic,
        autocompletion=_names("workload"),
    ),
]
SeenArgument = Annotated[
    Path,
    typer.Argument(
        metavar="SCHEDULE|WORKLOAD|TRACE",
        help="schedule, workload or trace",
        callback=_traffic,
        autocompletion=_names("workload"),
    ),
]
ServerOption = Annotated[
    Path | None,
    typer.Option(
        help="server .yaml (or the name of a shipped one): does it fit, and what stays cached",
        callback=_file("server"),
        autocompletion=_names("server"),
    ),
]
WorkloadOption = Annotated[
    Path | None,
    typer.Option(
        help="take the static prefixes of this workload or schedule, counted",
        callback=_traffic,
        autocompletion=_names("workload"),
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
