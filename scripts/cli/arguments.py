"""Arguments and options that several verbs share, and what a file argument may name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from aot.configs.kernel.errors import UsageError

if TYPE_CHECKING:
    from aot.configs.loading.kinds import Kind

    Named = Kind | Literal["prompt"]
    """What an argument can name that is shipped."""

YAML = (".yaml", ".yml")


def verbs() -> typer.Typer:
    """A module's verbs, with help as plain text."""
    return typer.Typer(
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def _file(wanted: Named) -> Callable[[typer.Context, Path | None], Path | None]:
    """A callback that finds the file an argument names: a path, or something shipped by name."""

    def resolve(context: typer.Context, given: Path | None) -> Path | None:
        if given is None or context.resilient_parsing:
            return given
        from aot.configs.loading.kinds import NOUNS, mistaken
        from aot.configs.loading.presets import file_of

        path, verb = file_of(wanted, given), f"aot {context.info_name}"
        if wanted == "prompt":
            kind = _kind(path) if path.is_file() and path.suffix in YAML else None
            if kind is not None or (path.suffix in YAML and context.info_name != "compile"):
                _refuse(path, verb, "a prompt folder or a log")
        elif path.suffix not in YAML:
            _refuse(path, verb, f"{NOUNS[wanted]} (.yaml)")
        elif (kind := _kind(path)) not in (None, wanted):
            raise UsageError(f"{path}: {mistaken(kind, wanted, verb)}")
        return path

    return resolve


def _files(wanted: Named) -> Callable[[typer.Context, list[Path] | None], list[Path]]:
    """The same for several."""

    def resolve(context: typer.Context, given: list[Path] | None) -> list[Path]:
        found = (_file(wanted)(context, path) for path in given or ())
        return [path for path in found if path is not None]

    return resolve


def _traffic(context: typer.Context, given: Path | None) -> Path | None:
    """The same for what may be a workload or another file of traffic."""
    if given is None or context.resilient_parsing:
        return given
    if given.suffix in YAML or not given.exists():
        from aot.configs.loading.presets import ENDINGS

        other = given.suffix in ENDINGS and given.suffix not in YAML
        return given if other else _file("workload")(context, given)
    if given.is_dir() and what_it_is(given) != "a folder":  # a trace may be a folder
        _refuse(given, f"aot {context.info_name}", "a workload, a schedule or a trace")
    return given


def _log(context: typer.Context, given: Path | None) -> Path | None:
    """A callback for logs: a path, or the name of a shipped one."""
    if given is None or given.exists() or context.resilient_parsing:
        return given
    from aot.configs.kernel.places import CONFIGS

    shipped = CONFIGS / "logs" / f"{given}.jsonl"
    return shipped if shipped.exists() else given


def _run_folder(context: typer.Context, given: Path | None) -> Path | None:
    """A callback for run directories: a file is named as what it is."""
    if given is not None and given.is_file() and not context.resilient_parsing:
        _refuse(given, f"aot {context.info_name}", "a run directory")
    return given


def _compiled(context: typer.Context, given: Path | None) -> Path | None:
    """A callback for compiled prompts."""
    if given is None or context.resilient_parsing:
        return given
    if given.is_dir() or given.suffix in YAML:
        _refuse(given, f"aot {context.info_name}", "a compiled prompt (made by aot compile)")
    return given


def _refuse(path: Path, verb: str, takes: str) -> None:
    """UsageError that says what `path` is, where that can be told."""
    if (kind := what_it_is(path)) is not None:
        raise UsageError(f"{path}: this is {kind}; {verb} takes {takes}")


def _kind(path: Path) -> Kind | None:
    from aot.configs.loading.kinds import kind_of
    from aot.configs.loading.yaml_file import parse

    return kind_of(parse(path).data)


def what_it_is(path: Path) -> str | None:
    """A file or folder in words; None where there is none, or it cannot be told."""
    if (path / "manifest.json").exists():
        return "a run directory"
    if (path / "dynamic_templates").is_dir():
        return "a prompt folder"
    if path.is_dir():
        return "a folder"
    if path.is_file() and path.suffix in YAML:
        from aot.configs.loading.kinds import NOUNS

        kind = _kind(path)
        return NOUNS[kind] if kind else "a YAML file"
    endings = {".jsonl": "a schedule or a request log", ".json": "a JSON file", ".html": "a page"}
    return endings.get(path.suffix) if path.is_file() else None


def _names(wanted: Named) -> Callable[[str], list[str]]:
    """Completion by the names of what is shipped; the shell adds its files itself."""

    def complete(incomplete: str) -> list[str]:
        from aot.configs.kernel.places import CONFIGS

        folder = CONFIGS / f"{wanted}s"
        names = sorted(
            {p.stem for p in folder.glob("*.yaml")} | {p.name for p in folder.glob("*/")}
        )
        return [name for name in names if name.startswith(incomplete)]

    return complete


def _argument(kind: Named, metavar: str, words: str, *, traffic: bool = False) -> Any:
    return typer.Argument(
        metavar=metavar,
        help=words,
        callback=_traffic if traffic else _file(kind),
        autocompletion=_names(kind),
    )


def _option(kind: Named, words: str, *, traffic: bool = False) -> Any:
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
TemplateArgOption = Annotated[
    list[str] | None,
    typer.Option(
        "--template-arg",
        help="NAME=VALUE of the chat template (date_string=..., enable_thinking=false); repeatable",
    ),
]


def template_arguments(given: list[str] | None) -> dict[str, Any]:
    """NAME=VALUE, where VALUE is JSON or a text. UsageError for what is neither."""
    made: dict[str, Any] = {}
    for text in given or ():
        name, sign, value = text.partition("=")
        if not (name.isidentifier() and sign):
            raise UsageError(f"--template-arg {text}: expected NAME=VALUE")
        try:
            made[name] = json.loads(value)
        except ValueError:
            made[name] = value
    return made


CompiledFromArgument = Annotated[
    Path,
    _argument("prompt", "PROMPT|LOG", f"prompt folder or file, {SHIPPED_ONE}, or a log"),
]
LintArguments = Annotated[
    list[Path],
    typer.Argument(
        metavar="PROMPT_DIR|REQUESTS.jsonl...",
        help="what to look at: prompt folders and logs",
        callback=_files("prompt"),
        autocompletion=_names("prompt"),
    ),
]
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
LogArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="LOG",
        help="requests as they were sent, or a trace; four-applications is a shipped one",
        callback=_log,
    ),
]
LogOption = Annotated[Path, typer.Option("--log", help="the log that it is in", callback=_log)]
ServerOption = Annotated[
    Path | None,
    _option("server", f"server .yaml ({SHIPPED_ONE}): does it fit, and what stays cached"),
]
IntoOption = Annotated[
    Path | None,
    _option("server", f"server .yaml ({SHIPPED_ONE}) whose store is filled with it"),
]
MeasuredLogOption = Annotated[
    Path | None,
    typer.Option(
        "--log",
        help="a log of requests instead of an experiment file (with --server or --url)",
        callback=_log,
    ),
]
LogServerOption = Annotated[
    Path | None, _option("server", f"of --log: server .yaml ({SHIPPED_ONE})")
]
OracleServerOption = Annotated[
    Path | None,
    _option("server", f"server .yaml ({SHIPPED_ONE}): its model, its blocks, its cache's rule"),
]
WorkloadOption = Annotated[
    Path | None,
    _option(
        "workload", "take the static prefixes of this workload or schedule, counted", traffic=True
    ),
]
RunArgument = Annotated[Path, typer.Argument(help="run directory", callback=_run_folder)]
CompiledArgument = Annotated[
    Path,
    typer.Argument(metavar="COMPILED", help="compiled prompt: the static part", callback=_compiled),
]
UrlOption = Annotated[str, typer.Option("--url", help="base URL, e.g. http://127.0.0.1:8000")]
ServedModelOption = Annotated[
    str | None, typer.Option("--model", help="model name; default: the one model served")
]
KeyOption = Annotated[
    str | None,
    typer.Option("--api-key-env", help="environment variable that holds the API key"),
]
TokenizerOption = Annotated[
    str | None,
    typer.Option(
        help="model recipe or folder with the model's tokenizer, for a server without /tokenize; "
        "its chat template makes the texts of prompts where an endpoint takes texts (else those of "
        "the messages go as they are)"
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="one JSON value on standard output")]
RunsOption = Annotated[Path, typer.Option(help="where the folder of it all is made")]
ResumeOption = Annotated[
    Path | None, typer.Option(help="a folder of this verb: measure only what is missing in it")
]
