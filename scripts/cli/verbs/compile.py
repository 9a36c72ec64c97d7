"""The verb that compiles prompts: those of a folder, and those that are found in traffic."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aot.configs.kernel.errors import ToolkitError, UsageError
from aot.scripts.cli.arguments import (
    CompiledFromArgument,
    IntoOption,
    KeyOption,
    TemplateArgOption,
    template_arguments,
    verbs,
)
from aot.scripts.terminal import note, say, status, table

if TYPE_CHECKING:
    from aot.serving.client.endpoint import Endpoint
    from aot.workloads.prompts.compiled import Compiled

app = verbs()


@app.command("compile")
def compile_command(
    prompt_dir: CompiledFromArgument,
    model: Annotated[
        str | None,
        typer.Option("--model", help="model folder or recipe name: its tokenizer counts"),
    ] = None,
    server: Annotated[
        str | None, typer.Option("--server", help="URL of a running server: its block size counts")
    ] = None,
    served_model: Annotated[
        str | None, typer.Option(help="model name on the server; default: the one served")
    ] = None,
    block_tokens: Annotated[
        int | None, typer.Option(min=1, help="block size; default: the server's, else 16")
    ] = None,
    salt: Annotated[
        str | None, typer.Option(help="cache salt that the requests will carry")
    ] = None,
    var: Annotated[
        list[str] | None, typer.Option("--var", help="NAME=VALUE for a static text; repeatable")
    ] = None,
    template_arg: TemplateArgOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", help="default: PROMPT_DIR/compiled.json; of a log a new folder"
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="write nothing; exit 1 when the file is stale")
    ] = False,
    into: IntoOption = None,
    api_key_env: KeyOption = None,
) -> None:
    """Find the static prefix of a prompt, or those of a log.

    A prompt is a folder (aot init makes one), a messages JSON, one request body of any endpoint, a
    LangChain or promptfoo file, a .prompty, a Jinja template, or a plain system.md.

    The folder is rendered with several dynamic inputs through the model's own chat template; the
    longest common token prefix is what is static. Give --model (no server needed), --server, or
    both. Against an older compiled.json it says what changed and how many blocks that costs.

    Of a log the static parts are found in it: what prompts of two or more sessions begin with. Each
    is a compiled prompt in the folder -o, the one that spares most tokens first.

    --into SERVER compiles it into the store of a server file: the server is started with it, the
    prefix is prefilled and verified, and all of it ended; whatever starts on that store later finds
    it there (aot store list SERVER).
    """
    if into and (model or server or served_model or block_tokens or check):
        raise UsageError("--into takes model and blocks from its server file: leave the others out")
    if not into and model is None and server is None:
        raise UsageError("give --model PATH (its tokenizer) or --server URL, or both")
    arguments = template_arguments(template_arg)
    target = _For(model, server, served_model, api_key_env, block_tokens, arguments)
    if not _is_log(prompt_dir):
        variables = dict(_pair(v) for v in var or [])
        _compile_folder(prompt_dir, target, variables, salt, output, check, into)
    elif into or check or salt or var or arguments:
        raise UsageError(
            "--into, --check, --salt, --var and --template-arg are for a prompt folder, not for a "
            "log, whose requests have their own"
        )
    else:
        _compile_log(prompt_dir, target, output)


def _is_log(path: Path) -> bool:
    """A file, or a folder of files of which none is a prompt's."""
    prompt = ("system_prompt.txt", "dynamic_templates", "context", "tools.json")
    from aot.workloads.prompts import kept

    if kept.is_kept(path):
        return False
    return path.is_file() or (
        path.is_dir()
        and any(path.glob("*.json*"))
        and not any((path / name).exists() for name in prompt)
    )


@dataclass(frozen=True, slots=True)
class _For:
    """Whose tokens and blocks count."""

    model: str | None
    url: str | None
    served_model: str | None
    key_env: str | None
    block_tokens: int | None
    arguments: dict[str, Any]
    """Of the chat template."""

    def endpoint(self) -> Endpoint | None:
        """The server, if there is one."""
        from aot.scripts.connecting import connect

        return connect(self.url, self.served_model, self.key_env) if self.url else None


def _compile_folder(
    prompt_dir: Path,
    target: _For,
    variables: dict[str, str],
    salt: str | None,
    output: Path | None,
    check: bool,
    into: Path | None,
) -> None:
    from aot.scripts.prompts.compiling import compile_prompt
    from aot.workloads.prompts import changes, compiled
    from aot.workloads.prompts import folder as prompts

    path = _output(output, prompt_dir)
    old = compiled.read(path) if path.exists() or check else None
    if into:
        prompt = _into(prompt_dir, variables, into, salt)
    else:
        with status(f"compiling {prompt_dir}"):
            prompt = compile_prompt(
                prompt_dir, variables, target.model, target.endpoint(), target.block_tokens, salt,
                target.arguments,
            )  # fmt: skip
    _say_date(target)
    for ignored in prompts.ignored(prompt_dir) if prompt_dir.is_dir() else ():
        note(f"warning: {ignored} is not part of the prompt: only *.txt and *.md in context/ are")
    change = changes.compare(old, prompt) if old else None
    if check and change and change.is_stale:
        raise ToolkitError(f"{path} is stale: {change.describe()}; compile again")
    if check:
        say(f"{path}: up to date")
        if change:
            note(f"{change.describe()}; compile again to renew what else it says")
        return
    compiled.write(prompt, path)
    _show(prompt)
    if change:
        note(f"{change.describe()}")
    say(f"{path}: cache key {prompt.cache_key[:16]}…")


def _say_date(target: _For) -> None:
    """A template that writes the date makes another prefix of it every day."""
    if target.model is None:
        return
    from aot.scripts.prompts.compiling import tokenizer_of

    name = tokenizer_of(target.model).with_arguments(target.arguments).dated_by()
    if name is None:
        return
    pin = f"pin it: --template-arg {name}='26 Jul 2026'" if name else "and no argument pins it"
    note(
        f"warning: the chat template writes today's date: tomorrow this prefix is another; {pin}"
        f"{', and send the same in chat_template_kwargs with every request' if name else ''}"
    )


def _compile_log(log: Path, target: _For, output: Path | None) -> None:
    from aot.scripts.traffic import compiling_log

    if output is None:
        raise UsageError(f"{log} has several static parts: name a new folder for them: -o FOLDER")
    compiling_log.check_place(output)
    with status(f"finding and compiling what is static in {log}"):
        found = compiling_log.compile_log(log, target.model, target.endpoint(), target.block_tokens)
        paths = compiling_log.write(found, output)
    rows = [
        (path.name, f"{w.compiled.static_tokens:,}", f"{w.requests:,}", f"{w.spared_tokens:,}")
        for path, w in zip(paths, found, strict=True)
    ]
    headers = ("compiled", "static tokens", "requests", "spared tokens")
    table(headers, rows, right=headers[1:])
    note(f"warm them: aot warm {output} --url URL, or aot serve SERVER --warm {output}")


def _output(given: Path | None, prompt_dir: Path) -> Path:
    """Where it is written; UsageError for what is no place for it."""
    from aot.workloads.prompts import compiled

    beside = prompt_dir if prompt_dir.is_dir() else prompt_dir.parent
    path = given or beside / "compiled.json"
    if path.is_dir():
        raise UsageError(
            f"-o {path}: is a folder; name the file to write, e.g. {path}/compiled.json"
        )
    if path.exists() and not compiled.is_compiled(path):
        raise UsageError(f"-o {path}: exists and is no compiled prompt; it is left as it is")
    return path


def _into(prompt_dir: Path, variables: dict[str, str], server: Path, salt: str | None) -> Compiled:
    from aot.scripts import filling

    launcher = filling.launcher_of(server)
    stored = filling.compile_into(prompt_dir, variables, launcher, salt)
    note(
        f"prefilled in {stored.warmed.prefill_s:.1f} s, {stored.warmed.cached_tokens} tokens found "
        f"again; {stored.chunks} chunks in {stored.disk}"
    )
    return stored.prompt


def _pair(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not (name and sign):
        raise UsageError(f"--var {text}: expected NAME=VALUE")
    return name, value


def _show(prompt: Compiled) -> None:
    rows = []
    for s in prompt.segments:
        shown = "not shown by the chat template" if s.tokens is None else ""
        rows.append((s.name, "-" if s.tokens is None else str(s.tokens), shown))
    for t in prompt.templates:
        d = t.dynamic_tokens
        rows.append((t.file, f"{d.min}–{d.max}", f"dynamic, {t.inputs} inputs, median {d.median}"))
    table(("segment", "tokens", ""), rows, right=("tokens",))
    say(
        f"static {prompt.static_tokens} tokens = {prompt.full_blocks} blocks of "
        f"{prompt.block_tokens} + {prompt.rounding_tokens} lost to rounding; dynamic "
        f"{prompt.dynamic_tokens.median} (median)"
    )
    if prompt.full_blocks == 0:
        note(
            f"warning: the static part fills not one block of {prompt.block_tokens} tokens: "
            "nothing of it can be cached"
        )
