"""The verbs that measure: one experiment, or the demo with all that it needs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aot.configs.kernel.errors import ToolkitError, UsageError
from aot.scripts.cli.arguments import ExperimentArgument, verbs
from aot.scripts.terminal import note, say, status

app = verbs()
DEMO = {"demo": "vllm-cpu", "demo-sglang": "sglang-cpu"}
"""The shipped demo experiments, and the engine that each needs."""
DEMO_MODEL = "smollm2-135m"


@app.command()
def demo(
    sglang: Annotated[bool, typer.Option("--sglang", help="on SGLang instead of vLLM")] = False,
    runs: Annotated[Path, typer.Option(help="where the run directory is made")] = Path("runs"),
) -> None:
    """Install what the demo needs, measure it, and write its report.

    A real engine and real weights (SmolLM2-135M), on this machine's CPU; about 5 GB of disk under
    AOT_HOME. What is there already is not installed again.
    """
    from aot.configs.loading.presets import file_of
    from aot.serving.local import environments, models

    name = "demo-sglang" if sglang else "demo"
    with status(f"engine {DEMO[name]}") as line:
        engine = environments.install(DEMO[name], line)
    say(f"{engine.name}: installed in {engine.folder}")
    with status(f"model {DEMO_MODEL}") as line:
        say(f"{DEMO_MODEL}: {models.fetch(DEMO_MODEL, None, line)}")
    run(file_of("experiment", Path(name)), runs)


@app.command()
def run(
    experiment: ExperimentArgument = None,
    runs: Annotated[Path, typer.Option(help="where the run directory is made")] = Path("runs"),
    resume: Annotated[
        Path | None, typer.Option(help="run directory: measure only what is missing in it")
    ] = None,
) -> None:
    """Measure a server under every arm on one schedule, and report it."""
    from aot.scripts.run import experiment as root
    from aot.scripts.run.concluding import conclude, write_report

    if (experiment is None) == (resume is None):
        raise UsageError("give either an experiment file or --resume RUN_DIR")
    if resume is not None:
        made, folder = root.reopen(resume), resume
    else:
        assert experiment is not None
        made = root.prepare(experiment)
        folder = root.new_folder(runs, made.config.name)
        root.create(made, folder)
    note(f"run directory: {folder}")
    try:
        root.measure(made, folder)
    except (ToolkitError, SystemExit):
        # What was measured is kept and reported, whatever stopped the rest.
        write_report(folder)
        note(f"not finished; measure the rest with: aot run --resume {folder}")
        raise
    conclude(folder)
