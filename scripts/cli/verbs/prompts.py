"""The verb that compiles a prompt folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aot.configs.kernel.errors import ToolkitError, UsageError
from aot.scripts.cli.arguments import KeyOption, PromptArgument, verbs
from aot.scripts.terminal import note, say, status, table

if TYPE_CHECKING:
    from aot.workloads.prompts.compiled import Compiled

app = verbs()


@app.command("compile")
def compile_command(
    prompt_dir: PromptArgument,
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
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="default: PROMPT_DIR/compiled.json")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="write nothing; exit 1 when the file is stale")
    ] = False,
    api_key_env: KeyOption = None,
) -> None:
    """Find the static prefix of a prompt folder; write compiled.json.

    The folder is rendered with several dynamic inputs through the model's own chat template; the
    longest common token prefix is what is static. Give --model (no server needed), --server, or
    both. Against an older compiled.json it says what changed and how many blocks that costs.
    """
    from aot.scripts.connecting import connect
    from aot.scripts.prompts.compiling import compile_prompt
    from aot.workloads.prompts import changes, compiled
    from aot.workloads.prompts import folder as prompts

    if model is None and server is None:
        raise UsageError("give --model PATH (its tokenizer) or --server URL, or both")
    path = output or prompt_dir / "compiled.json"
    if path.is_dir():
        raise UsageError(
            f"-o {path}: is a folder; name the file to write, e.g. {path}/compiled.json"
        )
    if path.exists() and not compiled.is_compiled(path):
        raise UsageError(f"-o {path}: exists and is no compiled prompt; it is left as it is")
    old = compiled.read(path) if path.exists() or check else None
    with status(f"compiling {prompt_dir}"):
        endpoint = connect(server, served_model, api_key_env) if server else None
        variables = dict(_pair(v) for v in var or [])
        prompt = compile_prompt(prompt_dir, variables, model, endpoint, block_tokens, salt)
    for ignored in prompts.ignored(prompt_dir):
        note(f"warning: {ignored} is not part of the prompt: only *.txt and *.md in context/ are")
    change = changes.compare(old, prompt) if old else None
    if check:
        if change:
            raise ToolkitError(f"{path} is stale: {change.describe()}; compile again")
        say(f"{path}: up to date")
        return
    compiled.write(prompt, path)
    _show(prompt)
    if change:
        note(f"{change.describe()}")
    say(f"{path}: cache key {prompt.cache_key[:16]}…")


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
