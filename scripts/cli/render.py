"""`aot render`: a server file as files for those who deploy and watch it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aot.configs.kernel.errors import UsageError
from aot.configs.kernel.files import replacing
from aot.scripts.cli.traffic import arm_named
from aot.scripts.terminal import out, say


def render(
    server: Annotated[Path, typer.Argument(help="server .yaml")],
    target: Annotated[
        str,
        typer.Option(help="compose, k8s, helm-values, prometheus, prometheus-rules or grafana"),
    ],
    arm: Annotated[str, typer.Option(help="jit turns the prefix cache off")] = "aot",
    chart: Annotated[
        str, typer.Option(help="helm-values: production-stack or llm-d")
    ] = "production-stack",
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
    """A server file for Docker Compose, Kubernetes, Helm, Prometheus or Grafana.

    Keys are references to secrets, never values. What is rendered has the flags that a local start
    has: aot serve SERVER --dry-run.
    """
    from aot.scripts import render as rendering

    options = rendering.Options(chart, ttft_slo, in_cluster)
    text = rendering.render(server, target, arm_named(arm), options)
    if output is None:
        out.file.write(text)
        return
    try:
        with replacing(output) as partial:
            partial.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"-o {output}: cannot be written: {error.strerror}") from None
    say(f"written: {output}")
