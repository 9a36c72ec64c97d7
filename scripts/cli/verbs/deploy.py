"""The verbs that start a server, write what others start it with, and look at what it gives
away.
"""

from __future__ import annotations

import json
import secrets
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aot.configs.kernel.errors import ToolkitError, UsageError
from aot.configs.kernel.files import replacing
from aot.scripts.cli.arguments import ServerArgument, verbs
from aot.scripts.cli.choices import Chart, RenderedArm, ServedArm, TargetName
from aot.scripts.cli.warm_options import RenderWarm, ServeWarm
from aot.scripts.cli.wording_options import takes_wording
from aot.scripts.terminal import note, out, say, status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aot.analysis.checks.isolation import Isolation
    from aot.configs.dialects.wording import Wording
    from aot.scripts.run.launch import Launcher
    from aot.scripts.warmed.serving import Serving
    from aot.serving.cache.isolation import Trial

app = verbs()
audit_app = verbs()
app.add_typer(
    audit_app, name="audit", no_args_is_help=True, help="What a running server gives away."
)
LEAK, NOT_SETTLED = 1, 3


@app.command()
def serve(
    server: ServerArgument,
    arm: Annotated[
        ServedArm | None,
        typer.Option(help="default: store where the file has one, else aot", show_default=False),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="print the command and environment, start nothing")
    ] = False,
    log: Annotated[Path | None, typer.Option(help="engine log; default: a temporary file")] = None,
    warm: ServeWarm = None,
    drain: Annotated[
        float, typer.Option(min=0, help="seconds that a rollout waits for requests under way")
    ] = 120.0,
) -> None:
    """Start an engine in the foreground; Ctrl-C stops all of it.

    With --warm its port answers 503 until every prefix was found in the cache. Replicas behind a
    router are started anew one by one, by: aot rollout URL.
    """
    from aot.scripts.run import launch
    from aot.scripts.warmed.serving import serving

    launcher = launch.prepare(server)
    arm = arm or ("store" if launcher.config.store else "aot")
    if warm and arm == "jit":
        raise UsageError("--warm: under jit nothing stays in a cache; take another --arm")
    if dry_run:
        say(launcher.plans(arm).as_shell())
        return
    log = log or Path(tempfile.mkstemp(prefix="aot-serve-", suffix=".log")[1])
    with serving(launcher, arm, log, warm or [], drain) as served:
        _tell_served(served, launcher, log, bool(warm), arm)
        ended = served.up.wait(note, served.control.look)
        code = ended.wait()
    raise ToolkitError(f"a process of {server} ended by itself with exit code {code}: {ended.log}")


def _tell_served(served: Serving, launcher: Launcher, log: Path, warm: bool, arm: str) -> None:
    """How it is asked."""
    url, name, key_env = served.base_url, served.up.plan.served_name, launcher.config.api_key_env
    key = f' -H "Authorization: Bearer ${key_env}"' if key_env else ""
    body = json.dumps({"model": name, "messages": [{"role": "user", "content": "Hello"}]})
    say(f"base URL: {url}/v1\nmodel: {name}\nlog: {log}")
    if replicas := served.up.replica_urls:
        say(f"replicas: {' '.join(replicas)}")
    say(f"curl {url}/v1/chat/completions{key} -H 'Content-Type: application/json' -d '{body}'")
    if replicas:
        note(f"each started anew while the others serve: aot rollout {url}")
    if arm in ("aot", "store") and not warm:
        each = " ".join(f"--url {replica_url}" for replica_url in replicas or (url,))
        note(f"the cache is empty; compile prefixes into it: aot warm WORKLOAD {each}")


@app.command()
def rollout(
    url: Annotated[str, typer.Argument(help="base URL that 'aot serve' printed, on this machine")],
) -> None:
    """Start the replicas of an 'aot serve' anew, one by one, warmed before traffic.

    Each is taken out of the router, answers what it has, is started with the server file as it is
    now, gets the prefixes of --warm as they are now, and goes back when all of them were found in
    its cache. One that does not come back stays out and ends the rollout; the others serve on.
    Ctrl-C ends the watching, not the rollout: the one that serves goes on with it.
    """
    from urllib.parse import urlsplit

    from aot.configs.kernel.network import base_url
    from aot.scripts.warmed.control import ask

    port = urlsplit(base_url(url, "URL")).port
    if port is None:
        raise UsageError(f"{url}: has no port; give the URL that 'aot serve' printed")
    ask(port, say)
    say("all replicas were started anew")


@app.command()
def render(
    server: ServerArgument,
    target: Annotated[TargetName, typer.Option(help="for what")],
    arm: Annotated[
        RenderedArm | None,
        typer.Option(
            help="jit: no prefix cache; aot: pods are ready when what is compiled is in their "
            "caches; store: the same, and the file's store beside them. Default: store where the "
            "file has one, else aot",
            show_default=False,
        ),
    ] = None,
    warm: RenderWarm = None,
    monitoring: Annotated[
        bool,
        typer.Option(
            "--monitoring",
            help="k8s: PodMonitor, PrometheusRule and dashboard; compose: Prometheus and Grafana",
        ),
    ] = False,
    name: Annotated[str | None, typer.Option(help="of what is made; default: the file's")] = None,
    namespace: Annotated[
        str | None, typer.Option(help="k8s; default: the file's container.namespace")
    ] = None,
    chart: Annotated[Chart, typer.Option(help="of helm-values")] = "production-stack",
    ttft_slo: Annotated[
        float, typer.Option(help="prometheus-rules: seconds within which 99 % must see a token")
    ] = 1.0,
    in_cluster: Annotated[
        bool,
        typer.Option("--in-cluster", help="prometheus: find what --target k8s makes by its labels"),
    ] = False,
    runbooks: Annotated[
        str, typer.Option(help="prometheus-rules: where your people find docs/runbooks.md")
    ] = "docs/runbooks.md",
    output: Annotated[
        Path | None, typer.Option("-o", help="file; default: to the terminal")
    ] = None,
) -> None:
    """A server file for Compose, Kubernetes, Helm, Prometheus, Grafana.

    Keys are references to secrets, never values. What is rendered has the flags that a local start
    has: aot serve SERVER --dry-run.
    """
    from aot.scripts.render import asked, targets

    options = asked.Options(
        chart, ttft_slo, in_cluster, runbooks, tuple(warm or ()), monitoring, name, namespace
    )
    text = targets.render(server, target, arm, options)
    if output is None:
        out().file.write(text)
        return
    try:
        with replacing(output) as partial:
            partial.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"-o {output}: cannot be written: {error.strerror}") from None
    say(f"written: {output}")


@audit_app.callback()
def _group() -> None:
    """Keeps `isolation` a command of its own."""


@audit_app.command()
@takes_wording
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
    *,
    wording: Wording,
) -> None:
    """Whether one tenant can tell, by time or by cached tokens, what another one has sent.

    A victim sends secret prompts; a curious tenant sends the same, and others that nobody sent, and
    looks for a difference. Exit code 0: isolated, 1: it leaks, 3: not settled, take more trials.
    """
    from aot.analysis.checks.isolation import judge
    from aot.scripts.connecting import connect
    from aot.serving.cache.isolation import Tenant, run

    curious = connect(url, model, api_key_env, wording)
    hidden = connect(url, model, victim_key_env or api_key_env, wording)
    salt_of = (lambda: secrets.token_hex(16)) if salts else (lambda: None)
    victim, attacker = Tenant(hidden, salt_of()), Tenant(curious, salt_of())
    with status(f"auditing {curious.base_url}") as line:
        trial_records, stopped = _measured(run(victim, attacker, trials, tokens, line))
    if stopped:
        note(f"stopped after {len(trial_records)} of {trials} trials")
    audit = judge(trial_records)
    _tell(audit, salts)
    if json_file is not None:
        facts = {
            "verdict": audit.verdict,
            "salts": salts,
            "trials": [t.as_json() for t in trial_records],
        }
        with replacing(json_file) as partial:
            partial.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    if stopped:
        raise stopped
    raise typer.Exit({"leak": LEAK, "not settled": NOT_SETTLED}.get(audit.verdict, 0))


def _measured(trials: Iterator[Trial]) -> tuple[list[Trial], SystemExit | None]:
    """The trials up to the one that decides, since counts are exact; and what stopped them, if
    something did, once there was one."""
    kept: list[Trial] = []
    try:
        for trial in trials:
            kept.append(trial)
            if trial.shows_by_count:
                break
    except SystemExit as end:  # Ctrl-C: what was measured is kept
        if not kept:
            raise
        return kept, end
    return kept, None


def _tell(audit: Isolation, salts: bool) -> None:
    low, high = audit.ci95
    known_ms, unknown_ms = audit.known_p50_s * 1000, audit.unknown_p50_s * 1000
    say(
        f"time: the victim's prompt was answered faster in {audit.faster} of {audit.trials} trials "
        f"(95 % interval {low:.0%} to {high:.0%}, p = {audit.p:.2g}); medians "
        f"{known_ms:.0f} ms and {unknown_ms:.0f} ms: {audit.by_time}"
    )
    if audit.more_cached is None:
        say("cached tokens: not reported")
    else:
        say(
            f"cached tokens: more for the victim's prompt in {audit.more_cached} of {audit.trials} "
            f"trials; medians {audit.known_cached_p50:.0f} and {audit.unknown_cached_p50:.0f}: "
            f"{audit.by_count}"
        )
    say(f"verdict: {audit.verdict}")
    if audit.verdict == "leak" and not salts:
        note(
            "give each tenant a cache salt where tenants cannot set it themselves, in the gateway "
            "(in a workload file: tenants: {salts: true}); what that gives: aot audit isolation "
            "--salts"
        )
    elif audit.verdict == "leak":
        note("the server ignores cache salts, or what is in front of it removes them")
    elif audit.verdict == "not settled":
        note(f"nothing was proved either way; take more trials: --trials {audit.trials * 2}")
