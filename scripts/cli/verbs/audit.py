"""`aot audit`: what a running server gives away."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aot.configs.kernel.errors import UsageError
from aot.configs.kernel.files import replacing
from aot.scripts.cli.arguments import verbs
from aot.scripts.terminal import note, say, status

if TYPE_CHECKING:
    from aot.analysis.checks.isolation import Isolation

app = verbs()
audit_app = verbs()
app.add_typer(
    audit_app, name="audit", no_args_is_help=True, help="What a running server gives away."
)
LEAK, NOT_SETTLED = 1, 3


@audit_app.callback()
def _group() -> None:
    """Keeps `isolation` a command of its own."""


@audit_app.command()
def isolation(
    url: Annotated[
        str, typer.Argument(help="base URL of the server, or of what is in front of it")
    ],
    salts: Annotated[
        bool,
        typer.Option(
            "--salts/--no-salts",
            help="give each of the two tenants a cache salt, as a gateway would; without them this "
            "shows what tenants see who send none",
        ),
    ] = False,
    model: Annotated[str | None, typer.Option(help="model name; default: the one served")] = None,
    api_key_env: Annotated[
        str | None, typer.Option(help="variable with the API key of the curious tenant")
    ] = None,
    victim_key_env: Annotated[
        str | None,
        typer.Option(help="variable with the other tenant's key; default: the same key"),
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="40 settle it")] = 40,
    tokens: Annotated[
        int, typer.Option(min=96, help="tokens of each prompt, at least; more show more")
    ] = 600,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="write every trial and the verdict here")
    ] = None,
) -> None:
    """Whether one tenant can tell, by time or by cached tokens, what another one has sent.

    A victim sends secret prompts; a curious tenant sends the same, and others that nobody sent, and
    looks for a difference. Exit code 0: isolated, 1: it leaks, 3: not settled, take more trials.
    """
    from aot.analysis.checks.isolation import judge
    from aot.serving.cache.isolation import Tenant, run
    from aot.serving.client.endpoint import connect

    curious = connect(url, model, api_key_env)
    hidden = connect(url, model, victim_key_env or api_key_env)
    salt_of = (lambda: secrets.token_hex(16)) if salts else (lambda: None)
    victim, attacker = Tenant(hidden, salt_of()), Tenant(curious, salt_of())
    with status(f"auditing {curious.base_url}") as line:
        found = run(victim, attacker, trials, tokens, line)
    result = judge(found)
    _tell(result, salts)
    if json_file is not None:
        facts = {"verdict": result.verdict, "salts": salts, "trials": [t.as_json() for t in found]}
        try:
            with replacing(json_file) as partial:
                partial.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise UsageError(f"--json {json_file}: cannot be written: {error.strerror}") from None
    raise typer.Exit({"leak": LEAK, "not settled": NOT_SETTLED}.get(result.verdict, 0))


def _tell(found: Isolation, salts: bool) -> None:
    low, high = found.ci95
    known_ms, unknown_ms = found.known_p50_s * 1000, found.unknown_p50_s * 1000
    say(
        f"time: the victim's prompt was answered faster in {found.faster} of {found.trials} trials "
        f"(95 % interval {low:.0%} to {high:.0%}, p = {found.p:.2g}); medians "
        f"{known_ms:.0f} ms and {unknown_ms:.0f} ms: {found.by_time}"
    )
    if found.more_cached is None:
        say("cached tokens: not reported")
    else:
        say(
            f"cached tokens: more for the victim's prompt in {found.more_cached} of {found.trials} "
            f"trials; medians {found.known_cached_p50:.0f} and {found.unknown_cached_p50:.0f}: "
            f"{found.by_count}"
        )
    say(f"verdict: {found.verdict}")
    if found.verdict == "leak" and not salts:
        note(
            "give each tenant a cache salt where tenants cannot set it themselves, in the gateway "
            "(in a workload file: tenants: {salts: true}); what that gives: aot audit isolation "
            "--salts"
        )
    elif found.verdict == "leak":
        note("the server ignores cache salts, or what is in front of it removes them")
    elif found.verdict == "not settled":
        note(f"nothing was proved either way; take more trials: --trials {found.trials * 2}")
