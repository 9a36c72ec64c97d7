"""`aot tune`: the cache-relevant settings of a server, tried one after the other.

From the server file as it is, one setting at a time: its values are measured in the aot arm, and
the best one is kept where it is shown to be better than what was best before. In the end the best
and the file as it is are measured once more, so that a drift of the machine is no recommendation.
"""

from __future__ import annotations

from pathlib import Path

from aot.analysis import report
from aot.analysis.report import Evaluation
from aot.analysis.studies import tuning
from aot.configs.kernel.errors import LaunchError, ToolkitError, UsageError
from aot.configs.loading.load import load, load_workload
from aot.configs.loading.presets import file_of
from aot.configs.loading.settings import Changes, Value, full_name
from aot.configs.schema.experiment import ExperimentConfig
from aot.configs.schema.server import ServerConfig
from aot.scripts.run import launch
from aot.scripts.server_files import launched, read
from aot.scripts.study.study import Point, Study, create, write
from aot.scripts.study.sweep import values
from aot.scripts.terminal import note
from aot.serving.engines import table
from aot.serving.engines.engine import Tuning


def begin(
    server: Path, experiment_file: Path, objective: str, over: list[str], runs: Path
) -> Study:
    """A new tuning run, checked. Raises UsageError before anything starts."""
    tuning.objective(objective)
    config = launched(server, "tune")
    experiment = load(experiment_file, ExperimentConfig)
    if experiment.server is None:
        raise UsageError(f"{experiment_file}: tuning takes an experiment with one 'server'")
    workload = load_workload(file_of("workload", experiment.workload, experiment_file.parent))
    device = launch.of(server, config).device
    rules = _rules(config.engine)
    settings = [_asked(text) for text in over] or rules.usual(config, device)
    for name, _ in settings:
        if name in rules.flags:
            continue
        if any(name in e.tuning.flags for e in table.ENGINES.values() if e.tuning):
            raise UsageError(f"--over {name}: {config.engine} has no such setting")
        if not full_name(name, workload).startswith("server."):
            raise UsageError(f"--over {name}: that is not a setting of a server")
    options = {
        "server": str(server.resolve()),
        "engine": config.engine,
        "objective": objective,
        "settings": settings,
        "failed": {},
    }
    return create("tune", experiment_file, runs, options)


def _asked(text: str) -> tuple[str, list[Value]]:
    name, equals, rest = text.partition("=")
    if not equals:
        raise UsageError(f"--over {text}: expected SETTING=VALUE,VALUE, as in block_size=32,64")
    return name.strip(), values(rest, least=1)


def _rules(engine: str) -> Tuning:
    """What can be tuned on an engine. UsageError where that is not known."""
    rules = table.engine(engine).tuning
    if rules is None:
        raise UsageError(f"engine: what can be tuned on {engine} is not known here")
    return rules


def search(study: Study) -> None:
    """All settings, then the confirmation."""
    options = study.options
    objective = tuning.objective(options["objective"])
    best_changes: Changes = {}
    first = _measured(study, tuning.BASELINE, {})
    if first is None:
        raise LaunchError(f"{options['server']} does not start as it is; nothing to tune")
    if first.void:
        raise ToolkitError(
            f"{options['server']} as it is gives a void run, so nothing can be held against it; "
            f"see {first.run.folder}/report.md"
        )
    best = first
    for name, tried in options["settings"]:
        trials: list[tuple[Changes, Evaluation]] = []
        for value in tried:
            changes = {**best_changes, **_change(study, name, value, best_changes)}
            evaluation = _measured(study, f"{name}={value}", changes)
            if evaluation is not None and not evaluation.void:
                trials.append((changes, evaluation))
        better = [(tuning.gain(best, m, objective), m, c) for c, m in trials]
        shown = [(g.ratio or 0.0, m, c) for g, m, c in better if tuning.is_better(g)]
        if shown:
            _, best, best_changes = max(shown, key=lambda x: x[0])
            note(f"kept: {', '.join(f'{k}={v}' for k, v in best_changes.items())}")
    if best_changes:
        _measured(study, tuning.BEST_AGAIN, best_changes)
        _measured(study, tuning.BASELINE_AGAIN, {})


def _change(study: Study, name: str, value: Value, before: Changes) -> Changes:
    flags = _rules(study.options["engine"]).flags
    if name not in flags:
        point = study.points[tuning.BASELINE]
        workload = point.experiment.workload
        assert workload is not None  # tuning reads a workload file
        return {full_name(name, workload): value}
    own = before.get("server.args")
    args = list(own) if isinstance(own, list) else _own_args(study)
    flag = flags[name]
    negative = flag.replace("--", "--no-", 1)
    if isinstance(value, bool):
        kept = [a for a in args if a not in (flag, negative)]
        return {"server.args": [*kept, flag if value else negative]}
    if flag in args:
        at = args.index(flag)
        args = args[:at] + args[at + 2 :]
    return {"server.args": [*args, flag, str(value)]}


def _own_args(study: Study) -> list[str]:
    config = read(Path(study.options["server"]))
    return list(config.args) if isinstance(config, ServerConfig) else []


def _measured(study: Study, label: str, changes: Changes) -> Evaluation | None:
    """The point, measured; None where the engine does not run with these settings."""
    failed = study.options["failed"]
    if label in failed:
        note(f"{label}: {failed[label]}")
        return None
    all_changes: Changes = {
        **changes,
        "experiment.server": study.options["server"],
        "experiment.arms": ["aot"],
    }
    try:
        point = study.point(label, all_changes)
        note(f"{label}: {_words(changes)}")
        _measure(study, point)
    except (LaunchError, UsageError) as error:
        failed[label] = " ".join(str(error).split())[:300]
        write(study.folder, study.facts)
        note(f"{label}: left out: {failed[label]}")
        return None
    return report.evaluate(point.folder)


def _words(changes: Changes) -> str:
    return ", ".join(f"{k.removeprefix('server.')}={v}" for k, v in changes.items()) or "as it is"


def _measure(study: Study, point: Point) -> None:
    for repeat in range(1, point.experiment.config.repeats + 1):
        study.measure(point, repeat, point.experiment.targets[0], "aot")
