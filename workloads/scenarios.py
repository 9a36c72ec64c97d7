"""Scenarios: a workload file → a schedule. Everything random is decided here, before the clock."""

from __future__ import annotations

import random
from bisect import bisect
from itertools import accumulate
from pathlib import Path

from configs.errors import UsageError
from configs.schema import ClosedLoop, WorkloadConfig
from workloads import prompts
from workloads.arrivals import offsets
from workloads.prompts import PromptFolder
from workloads.request import Prefix, Request, Schedule

TENANT_NAMES = (
    "Northgate Garden Supply,Verdant Home,Brookside Tools,Kepler Outdoor,Old Mill Nursery,"
    "Sunrow Hardware,Pine & Petal,Meadowline,The Rain Shop,Castle Gardens"
).split(",")
TEMPLATE = "user_query"
PLANS = ("basic", "plus", "family", "estate")


def build(config: WorkloadConfig, name: str, folder: Path) -> Schedule:
    """The schedule of `config`, whose relative paths start at `folder`."""
    match config.scenario:
        case "support-bot":
            return support_bot(config, name, prompts.read(folder / config.prompt))


def support_bot(config: WorkloadConfig, name: str, folder: PromptFolder) -> Schedule:
    """Tenants with a long static prefix each; questions to them with Zipf popularity."""
    tenants = [tenant_name(i) for i in range(config.tenants.count)]
    inputs = _inputs(folder)
    prefixes = {t: _prefix(t, folder, inputs) for t in tenants}
    # One stream of randomness per decision: changing one knob leaves the other draws alone.
    times = offsets(config.arrivals, config.requests, _rng(config, "arrivals"))
    owners = zipf(len(tenants), config.tenants.zipf, config.requests, _rng(config, "tenants"))
    questions = _rng(config, "questions")
    requests = []
    for number, (at_s, owner) in enumerate(zip(times, owners, strict=True)):
        question = _pick(inputs[2:], questions)
        user = folder.user(TEMPLATE, _dynamic(question, questions))
        requests.append(Request(f"r{number:06d}", at_s, tenants[owner], tenants[owner], (user,)))
    users = config.load.users if isinstance(config.load, ClosedLoop) else 1
    return Schedule(
        name=name,
        seed=config.seed,
        mode=config.load.mode,
        users=users,
        max_tokens=config.output.max_tokens,
        ignore_eos=config.output.ignore_eos,
        timeout_s=config.request_timeout_s,
        prefixes=prefixes,
        requests=tuple(requests),
    )


def zipf(items: int, exponent: float, count: int, rng: random.Random) -> list[int]:
    """`count` draws of 0..items-1, item k with probability proportional to (k+1)**-exponent."""
    cumulative = list(accumulate((k + 1) ** -exponent for k in range(items)))
    return [bisect(cumulative, rng.random() * cumulative[-1]) for _ in range(count)]


def tenant_name(number: int) -> str:
    """A name for tenant `number`, distinct for every number and different in its first words."""
    name = TENANT_NAMES[number % len(TENANT_NAMES)]
    round_ = number // len(TENANT_NAMES)
    return f"{name} {round_ + 1}" if round_ else name


def _inputs(folder: PromptFolder) -> tuple[str, ...]:
    """The questions of the folder; two are kept for warming."""
    if TEMPLATE not in folder.templates:
        raise UsageError(f"{folder.folder}/dynamic_templates/{TEMPLATE}.jinja2: no such file")
    inputs = tuple(values["question"] for values in folder.inputs(TEMPLATE) if "question" in values)
    if len(inputs) < 3:
        raise UsageError(
            f"{folder.folder}/dynamic_inputs/{TEMPLATE}.txt: needs at least 3 inputs, has "
            f"{len(inputs)} (two are kept for warming, so that no measured request is in the cache "
            "beforehand)"
        )
    return inputs


def _prefix(tenant: str, folder: PromptFolder, inputs: tuple[str, ...]) -> Prefix:
    first, second = (
        (folder.user(TEMPLATE, values),)
        for values in (
            {"question": q, "plan": "basic", "valves": str(v), "ticket": f"P-{v:05d}"}
            for v, q in enumerate(inputs[:2], 2)
        )
    )
    return Prefix(tenant, (folder.system({"tenant": tenant}),), (first, second), folder.tools)


def _dynamic(question: str, rng: random.Random) -> dict[str, str]:
    return {
        "question": question,
        "plan": _pick(PLANS, rng),
        "valves": str(2 + int(rng.random() * 7)),
        "ticket": f"T-{int(rng.random() * 1_000_000):06d}",
    }


def _pick(items: tuple[str, ...], rng: random.Random) -> str:
    return items[int(rng.random() * len(items))]


def _rng(config: WorkloadConfig, purpose: str) -> random.Random:
    # Seeding with a string hashes it with SHA-512: the same on every machine.
    return random.Random(f"{config.seed}/{purpose}")
