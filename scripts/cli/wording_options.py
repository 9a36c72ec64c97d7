"""Options that say how requests to a server are worded, for every verb that sends some."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer

from aot.scripts.cli.choices import EndpointName

OPTIONS: dict[str, Any] = {
    "endpoint": Annotated[
        EndpointName | None,
        typer.Option(
            help="kind of endpoint; default: what the traffic is for, else chat. generate: SGLang's"
        ),
    ],
    "profile": Annotated[
        str | None,
        typer.Option(
            help="a kind of server that wants something else: openai, azure, litellm, ollama, "
            "llama.cpp, tgi (aot configs list profiles)"
        ),
    ],
    "path": Annotated[
        str | None,
        typer.Option(help="path of requests behind the base URL; {model} in it is the model"),
    ],
    "header": Annotated[
        list[str] | None,
        typer.Option(help="'Name: value', sent with every request; $NAME in it is a variable"),
    ],
    "body": Annotated[
        list[str] | None, typer.Option(help="NAME=JSON, a field put into every request")
    ],
    "omit": Annotated[
        list[str] | None, typer.Option(help="a field left out, e.g. ignore_eos, cache_salt")
    ],
    "rename": Annotated[
        list[str] | None, typer.Option(help="OLD=NEW, e.g. max_tokens=max_completion_tokens")
    ],
}


def takes_wording(verb: Callable[..., None]) -> Callable[..., None]:
    """The verb with these options; it is given the Wording that they make, as `wording`."""

    @wraps(verb)
    def command(**given: Any) -> None:
        from aot.configs.loading.wording import of_options

        mine = {name: given.pop(name) for name in OPTIONS}
        many = {name: mine.pop(name) or () for name in ("header", "body", "omit", "rename")}
        wording = of_options(
            **mine, headers=many["header"], fields=many["body"], omit=many["omit"],
            rename=many["rename"],
        )  # fmt: skip
        verb(**given, wording=wording)

    # What the verb is given is imported only when it runs: showing help is to be quick.
    signature = inspect.signature(verb, eval_str=True, locals={"Wording": object})
    kept = [p for name, p in signature.parameters.items() if name != "wording"]
    kind = inspect.Parameter.KEYWORD_ONLY
    mine = [inspect.Parameter(n, kind, default=None, annotation=a) for n, a in OPTIONS.items()]
    kept = [p.replace(kind=kind) for p in kept]
    command.__signature__ = signature.replace(parameters=[*kept, *mine])  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in [*kept, *mine]}
    return command
