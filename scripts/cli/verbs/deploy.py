"""The verbs that start a server here, and that write what others start it with."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from aot.configs.kernel.errors import ToolkitError, UsageError
from aot.configs.kernel.files import replacing
from aot.scripts.cli.arguments import ServerArgument, verbs
from aot.scripts.cli.choices import ArmName, Chart, Target
from aot.scripts.terminal import note, out, say

app = verbs()


@app.command()
def serve(
    server: ServerArgument,
    arm: Annotated[ArmName, typer.Option(help="jit, auto or aot")] = ArmName.AOT,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="print the command and environment, start nothing")
    ] = False,
    log: Annotated[Path | None, typer.Option(help="engine log; default: a temporary file")] = None,
) -> None:
    """Start an engine in the foreground; Ctrl-C stops all of it."""
    from aot.scripts.run import launch

    launcher = launch.prepare(server)
    if dry_run:
        say(launcher.plans(arm.value).as_shell())
        return
    log = log or Path(tempfile.mkstemp(prefix="aot-serve-", suffix=".log")[1])
    with launcher.up(arm.value, log) as up:
        url, name = up.plan.base_url, up.plan.served_name
        key = (
            ' -H "Authorization: Bearer $' + launcher.config.api_key_env + '"'
            if (launcher.config.api_key_env)
            else ""
        )
        body = json.dumps({"model": name, "messages": [{"role": "user", "content": "Hello"}]})
        say(f"base URL: {url}/v1\nmodel: {name}\nlog: {log}")
        if up.replica_urls:
            say(f"replicas: {' '.join(up.replica_urls)}")
        say(
            f"curl {url}/v1/chat/completions{key} -H 'Content-Type: application/json' -d '{body}'",
        )
        if arm is ArmName.AOT:
            each = " ".join(f"--url {one}" for one in up.replica_urls or (url,))
            note(f"the cache is empty; compile prefixes into it: aot warm WORKLOAD {each}")
        ended = up.wait()
        code = ended.wait()
    raise ToolkitError(f"a process of {server} ended by itself with exit code {code}: {ended.log}")


@app.command()
def render(
    server: ServerArgument,
    target: Annotated[Target, typer.Option(help="for what")],
    arm: Annotated[ArmName, typer.Option(help="jit turns the prefix cache off")] = ArmName.AOT,
    chart: Annotated[Chart, typer.Option(help="of helm-values")] = Chart.PRODUCTION_STACK,
    ttft_slo: Annotated[
        float, typer.Option(help="prometheus-rules: seconds within which 99 % must see a token")
    ] = 1.0,
    in_cluster: Annotated[
        bool,
        typer.Option("--in-cluster", help="prometheus: find what --target k8s makes by its labels"),
    ] = False,
    output: Annotated[
        Path | None, typer.Option("-o", help="file; default: to the terminal")
    ] = None,
) -> None:
    """A server file for Compose, Kubernetes, Helm, Prometheus, Grafana.

    Keys are references to secrets, never values. What is rendered has the flags that a local start
    has: aot serve SERVER --dry-run.
    """
    from aot.scripts import render as rendering

    options = rendering.Options(chart.value, ttft_slo, in_cluster)
    text = rendering.render(server, target.value, arm.value, options)
    if output is None:
        out().file.write(text)
        return
    try:
        with replacing(output) as partial:
            partial.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"-o {output}: cannot be written: {error.strerror}") from None
    say(f"written: {output}")
