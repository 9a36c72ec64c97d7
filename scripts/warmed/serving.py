"""`aot serve`: a server that may have traffic when its prefixes are in its cache, and that is
started anew replica by replica when it is asked to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from aot.configs.kernel.ports import free_port
from aot.configs.schema.experiment import Arm
from aot.scripts.prompts import warming
from aot.scripts.run import launch
from aot.scripts.run.launch import LOOPBACK, Launcher
from aot.scripts.terminal import note
from aot.scripts.warmed.control import Control, listening
from aot.serving.client.endpoint import Endpoint
from aot.serving.engines.launch_plan import LaunchPlan
from aot.serving.local.admission.relay import relaying
from aot.serving.local.admission.rolling import Rollout, roll
from aot.serving.local.deployment import Deployment
from aot.workloads.prompts import compiled


@dataclass(frozen=True, slots=True)
class Serving:
    """What is up, where clients find it, and the ear for rollouts."""

    up: Deployment
    base_url: str
    control: Control


@contextmanager
def serving(
    launcher: Launcher, arm: Arm, log: Path, prefixes: Sequence[Path], drain_s: float
) -> Iterator[Serving]:
    """The server for as long as the block runs. With `prefixes` (compiled.json files, or folders
    of them) nobody gets an answer before all of them were found in the cache of every engine.

    Raises LaunchError, and CacheStateError for a prefix that is not found.
    """
    ready = _ready(launcher, prefixes)
    compiled.read_all(prefixes)  # before an engine is started for nothing
    with ExitStack() as stack:
        config = launcher.config
        if prefixes and config.front is None:
            port = config.port or free_port(config.host)
            hidden = (LOOPBACK, free_port(LOOPBACK))
            relay = stack.enter_context(relaying(config.host, port, hidden))
            up = stack.enter_context(launcher.at(*hidden).up(arm, log, ready))
            relay.open()
            url = replace(up.plan, host=config.host, port=port).base_url
        else:
            up = stack.enter_context(launcher.up(arm, log, ready))
            url, port = up.plan.base_url, up.plan.port
        again = _again(launcher, arm, up, prefixes, drain_s)
        yield Serving(up, url, stack.enter_context(listening(port, again, note)))


def _ready(
    launcher: Launcher, prefixes: Sequence[Path], report: Callable[[str], None] = note
) -> Callable[[str], None]:
    """Warms one engine; the files are read each time, so that edits are seen."""

    def ready(url: str) -> None:
        if not prefixes:
            return
        config = launcher.config
        endpoint = Endpoint(url, config.name_in_api, config.api_key_env)
        prompts = compiled.read_all(prefixes)
        report(f"{url}: in its cache: {warming.warmed(prompts, warming.place(endpoint))}")

    return ready


def _again(
    launcher: Launcher, arm: Arm, up: Deployment, prefixes: Sequence[Path], drain_s: float
) -> Callable[[Callable[[str], None]], None]:
    """What a rollout does: the server file and the prefixes are read anew."""

    def again(report: Callable[[str], None]) -> None:
        def both(words: str) -> None:
            note(words)
            report(words)

        latest = launch.prepare(launcher.path)
        compiled.read_all(prefixes)  # before a replica is taken out for nothing

        def plan(number: int, port: int) -> LaunchPlan:
            return latest.replica(arm, number, port, up.plans.store)

        if not prefixes:
            both("nothing is compiled in: replicas come back with empty caches (--warm COMPILED)")
        ready, timeout_s = _ready(latest, prefixes, both), latest.config.startup_timeout_s
        roll(up, Rollout(latest.engine, plan, ready, timeout_s, drain_s, both))

    return again
