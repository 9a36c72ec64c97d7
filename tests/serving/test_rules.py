"""Alert rules fire when they should and are quiet when they should be, by Prometheus' own tests."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from aot.serving.engines import table
from aot.serving.render.watching.rules import rules
from aot.serving.topology.routers import ROUTERS

pytestmark = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="needs promtool (apt: prometheus)"
)
ENGINES = ("vllm", "sglang")
LONG = 1000
DROPPED, STORM = "PrefixCacheHitRatioDropped", "PrefixCacheEvictionStorm"
PREEMPTED = "RequestsPreempted"
FAST, SLOWLY, ABSENT = "TTFTObjectiveBurnsFast", "TTFTObjectiveBurnsSlowly", "EngineMetricsAbsent"
PROD = 'namespace="shop",job="prod",model_name="m",instance="a"'
STAGE = 'namespace="shop",job="stage",model_name="m",instance="b"'


@dataclass
class Trial:
    """Series of one engine, and which alerts of which jobs fire at a minute."""

    minute: int
    firing: set[tuple[str, str]]
    looked_up: dict[str, str] = field(default_factory=dict)
    found: dict[str, str] = field(default_factory=dict)
    requests: dict[str, str] = field(default_factory=dict)
    in_time: dict[str, str] = field(default_factory=dict)
    more: dict[str, str] = field(default_factory=dict)


TRIALS = {
    "the hit ratio falls to nothing": Trial(
        1580, {(DROPPED, "prod")}, {PROD: "0+1000x1800"}, {PROD: "0+800x1500 1200000x300"}
    ),
    "it falls, and nobody came for an hour some hours before": Trial(
        1580, {(DROPPED, "prod")},
        {PROD: "0+1000x900 900000x60 900000+1000x870"},
        {PROD: "0+800x900 720000x60 720000+800x540 1152000x330"},
    ),
    "nobody comes any more": Trial(
        1580, set(), {PROD: "0+1000x1500 1500000x300"}, {PROD: "0+800x1500 1200000x300"}
    ),
    "it falls a little": Trial(
        1580, set(), {PROD: "0+1000x1800"}, {PROD: "0+800x1500 1200000+650x300"}
    ),
    "two requests a quarter of an hour, and neither is found": Trial(
        1580, set(), {PROD: "0+1000x1500 1500000+400x300"}, {PROD: "0+800x1500 1200000x300"}
    ),
    "a large neighbour of the same model is well": Trial(
        1580, {(DROPPED, "stage")},
        {PROD: "0+100000x1800", STAGE: "0+1000x1800"},
        {PROD: "0+80000x1800", STAGE: "0+800x1500 1200000x300"},
    ),
    "a deployment is new and cold": Trial(20, set(), {PROD: "0+1000x60"}, {PROD: "0x60"}),
    "every request is late": Trial(
        400, {(FAST, "prod"), (SLOWLY, "prod")},
        requests={PROD: "0+10x500"}, in_time={PROD: "0x500"},
    ),
    "one in ten is late": Trial(
        400, {(SLOWLY, "prod")}, requests={PROD: "0+10x500"}, in_time={PROD: "0+9x500"}
    ),
    "one in two hundred is late": Trial(
        400, set(), requests={PROD: "0+200x500"}, in_time={PROD: "0+199x500"}
    ),
    "two requests in an hour, one of them late": Trial(
        364, set(), requests={PROD: "0x360 1x3 2x100"}, in_time={PROD: "0x363 1x100"}
    ),
    "it was late, and nobody comes any more": Trial(
        400, set(), requests={PROD: "0+10x300 3000x200"}, in_time={PROD: "0x500"}
    ),
    "a neighbour is in time": Trial(
        400, {(FAST, "stage"), (SLOWLY, "stage")},
        requests={PROD: "0+1000x500", STAGE: "0+10x500"},
        in_time={PROD: "0+1000x500", STAGE: "0x500"},
    ),
    "it is gone": Trial(
        40, {(ABSENT, "prod")}, {PROD: "0+1000x30 stale"}, {PROD: "0+800x30 stale"}
    ),
    "one of two is gone": Trial(
        40, {(ABSENT, "stage")},
        {PROD: "0+1000x60", STAGE: "0+1000x30 stale"}, {PROD: "0+800x60", STAGE: "0+800x30 stale"},
    ),
    "there never was one": Trial(40, {(ABSENT, "")}),
}  # fmt: skip


def series(engine: str, trial: Trial) -> dict[str, str]:
    """What the engine would have shown."""
    made: dict[str, str] = {}
    ttft = f"{engine}:time_to_first_token_seconds"
    for labels in trial.looked_up:
        looked_up, found = trial.looked_up[labels], trial.found[labels]
        if engine == "vllm":
            made[f"vllm:prefix_cache_queries_total{{{labels}}}"] = looked_up
            made[f"vllm:prefix_cache_hits_total{{{labels}}}"] = found
        else:
            name = "sglang:realtime_tokens_total"
            made[f'{name}{{{labels},mode="prefill_cache"}}'] = found
            made[f'{name}{{{labels},mode="prefill_compute"}}'] = _less(looked_up, found)
    for labels in trial.requests:
        made[f"{ttft}_count{{{labels}}}"] = trial.requests[labels]
        made[f'{ttft}_bucket{{{labels},le="+Inf"}}'] = trial.requests[labels]
        made[f'{ttft}_bucket{{{labels},le="1.0"}}'] = trial.in_time[labels]
    if trial.requests:  # it is there
        for labels in trial.requests:
            made.update(series(engine, Trial(0, set(), {labels: "0x600"}, {labels: "0x600"})))
    return {**made, **trial.more}


def _values(text: str) -> list[float | None]:
    """promtool's own notation."""
    made: list[float | None] = []
    for word in text.split():
        if word == "stale":
            made.append(None)
            continue
        start, _, times = word.partition("x")
        first, _, step = start.partition("+")
        made += [float(first) + n * float(step or 0) for n in range(int(times or 0) + 1)]
    return made


def _less(all_of: str, part: str) -> str:
    pairs = zip(_values(all_of), _values(part), strict=False)
    return " ".join("stale" if a is None or b is None else f"{a - b:g}" for a, b in pairs)


def evaluated(
    folder: Path,
    files: list[str],
    step: str,
    shown: dict[str, str],
    query: tuple[str, int],
    expected: list[dict[str, Any]],
) -> subprocess.CompletedProcess[str]:
    """promtool's test of rule files in `folder`: an expression at a minute, over series."""
    expression, minute = query
    asked = {"expr": expression, "eval_time": f"{minute}m", "exp_samples": expected}
    trial = {
        "rule_files": files,
        "evaluation_interval": step,
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": k, "values": v} for k, v in shown.items()],
                "promql_expr_test": [asked],
            }
        ],
    }
    (folder / "test.yml").write_text(yaml.safe_dump(trial))
    return subprocess.run(
        ["promtool", "test", "rules", "test.yml"], cwd=folder, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


def fired(engine: str, series: dict[str, str], minute: int, folder: Path) -> set[tuple[str, str]]:
    """(alert, job) that fire, by promtool with the alerts' own series."""
    names = table.engine(engine).watched
    assert names is not None
    made = rules(engine, names, 1.0, ROUTERS["vllm-router"], "runbooks.md")
    step = "5m" if minute > LONG else "1m"  # a day of quarter minutes takes promtool seconds
    for group in made["groups"]:
        group["interval"] = step
    (folder / "rules.yml").write_text(yaml.safe_dump(made))
    query = ('count by (alertname, job) (ALERTS{alertstate="firing"})', minute)
    never = [{"labels": '{never="expected"}', "value": 1}]
    done = evaluated(folder, ["rules.yml"], step, series, query, never)
    said = done.stdout + done.stderr
    assert "got:" in said, said
    got = said.split("got:")[1]
    return {
        (labels["alertname"], labels.get("job", ""))
        for part in got.split("{")[1:]
        for labels in [_labels(part.split("}")[0])]
        if "alertname" in labels
    }


def _labels(text: str) -> dict[str, str]:
    pairs = (item.split("=", 1) for item in text.split(", ") if "=" in item)
    return {name: value.strip('"') for name, value in pairs}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", TRIALS)
def test_alerts_fire_when_they_should(name: str, engine: str, tmp_path: Path) -> None:
    trial = TRIALS[name]
    assert fired(engine, series(engine, trial), trial.minute, tmp_path) == trial.firing


@pytest.mark.parametrize(
    ("from_store", "firing"),
    [("0x1500 0+800x300", set()), ("0+100x1500 150000x300", {(DROPPED, "prod")})],
    ids=["it gives what the device had", "it gives nothing, either"],
)
def test_what_a_store_gives_is_found(
    from_store: str, firing: set[tuple[str, str]], tmp_path: Path
) -> None:
    """An engine that was started anew beside a store has all of it from there."""
    device = Trial(0, set(), {PROD: "0+1000x1800"}, {PROD: "0+800x1500 1200000x300"})
    made = series("vllm", device)
    made[f"vllm:external_prefix_cache_hits_total{{{PROD}}}"] = from_store
    assert fired("vllm", made, 1580, tmp_path) == firing


def test_an_sglang_that_never_hits_has_a_ratio_of_nothing(tmp_path: Path) -> None:
    """It counts no zeros: after a restart whose traffic finds nothing it has no counter of hits."""
    name = "sglang:realtime_tokens_total"
    made = {
        f'{name}{{{PROD},mode="prefill_cache"}}': "0+800x1500 stale",
        f'{name}{{{PROD},mode="prefill_compute"}}': "0+200x1500 0+1000x300",
    }
    assert fired("sglang", made, 1580, tmp_path) == {(DROPPED, "prod")}


def test_an_idle_sglang_that_was_started_anew_is_there(tmp_path: Path) -> None:
    """Without a request it has gauges only."""
    made = {
        f'sglang:realtime_tokens_total{{{PROD},mode="prefill_compute"}}': "0+1000x30 stale",
        f"sglang:num_queue_reqs{{{PROD}}}": "0x60",
    }
    assert fired("sglang", made, 45, tmp_path) == set()


def test_rules_of_two_deployments_leave_each_other_alone(tmp_path: Path) -> None:
    """Each with an objective of its own, and both in one Prometheus."""
    names = table.engine("vllm").watched
    assert names is not None
    for job, slo_s in (("prod", 5.0), ("stage", 1.0)):
        of = f'namespace="shop",job="{job}"'
        made = rules("vllm", names, slo_s, None, "runbooks.md", of)
        for group in made["groups"]:
            group["name"] += f"-{job}"
            group["interval"] = "1m"
        (tmp_path / f"{job}.yml").write_text(yaml.safe_dump(made))
    shown = {}
    for labels in (PROD, STAGE):  # both answer within two seconds
        ttft = "vllm:time_to_first_token_seconds"
        shown[f"{ttft}_count{{{labels}}}"] = "0+10x500"
        shown[f'{ttft}_bucket{{{labels},le="1.0"}}'] = "0x500"
        shown[f'{ttft}_bucket{{{labels},le="5.0"}}'] = "0+10x500"
        shown[f"vllm:prefix_cache_queries_total{{{labels}}}"] = "0x500"
    query, expected = (
        ('count by (job) (ALERTS{alertstate="firing"})', 400),
        [{"labels": '{job="stage"}', "value": 2}],
    )
    done = evaluated(tmp_path, ["prod.yml", "stage.yml"], "1m", shown, query, expected)
    assert done.returncode == 0, done.stdout + done.stderr


IDLE = "vllm:kv_block_idle_before_evict_seconds_bucket"
TEN_S, TEN_MIN, ALL = (f'{IDLE}{{{PROD},le="{le}"}}' for le in ("10.0", "600.0", "+Inf"))
HERE = f"vllm:prefix_cache_queries_total{{{PROD}}}"
THERE = f'sglang:realtime_tokens_total{{{PROD},mode="prefill_cache"}}'
PRESSED: dict[str, tuple[str, set[tuple[str, str]], dict[str, str]]] = {
    "blocks are evicted after ten idle seconds": (
        "vllm", {(STORM, "prod")},
        {HERE: "0x60", TEN_S: "0+50x60", ALL: "0+50x60"},
    ),
    "blocks are evicted after ten idle minutes": (
        "vllm", set(),
        {HERE: "0x60", TEN_S: "0x60", TEN_MIN: "0+50x60",
         ALL: "0+50x60"},
    ),
    "two blocks in half an hour, of one in a hundred": (
        "vllm", set(),
        {HERE: "0x60", TEN_S: "0x20 1x9 2x31", ALL: "0x20 1x9 2x31"},
    ),
    "a router does not see two prompts": (
        "vllm", set(),
        {HERE: "0x60",
         f'{ROUTERS["vllm-router"].undecided_metric.split("{")[0]}'
         f'{{{PROD},outcome="missing_tokens"}}': "0x28 1x2 2x30"},
    ),
    "blocks were evicted, and are not any more": (
        "vllm", set(),
        {HERE: "0x60", TEN_S: "500x60", ALL: "500x60"},
    ),
    "a cache of 10,000 tokens loses 1,000 a second": (
        "sglang", {(STORM, "prod")},
        {THERE: "0x60", f"sglang:max_total_num_tokens{{{PROD}}}": "10000x60",
         f"sglang:evicted_tokens_total{{{PROD}}}": "0+60000x60"},
    ),
    "a cache of 10,000 tokens loses 20 a second": (
        "sglang", set(),
        {THERE: "0x60", f"sglang:max_total_num_tokens{{{PROD}}}": "10000x60",
         f"sglang:evicted_tokens_total{{{PROD}}}": "0+1200x60"},
    ),
    "one request in ten is preempted": (
        "vllm", {(PREEMPTED, "prod")},
        {HERE: "0x60", f"vllm:num_preemptions_total{{{PROD}}}": "0+10x60",
         f"vllm:time_to_first_token_seconds_count{{{PROD}}}": "0+100x60"},
    ),
    "one request in ten is retracted": (
        "sglang", {(PREEMPTED, "prod")},
        {THERE: "0x60", f"sglang:num_retracted_requests_total{{{PROD}}}": "0+10x60",
         f"sglang:time_to_first_token_seconds_count{{{PROD}}}": "0+100x60"},
    ),
    "one request of all was preempted": (
        "vllm", set(),
        {HERE: "0x60", f"vllm:num_preemptions_total{{{PROD}}}": "0x20 1x40",
         f"vllm:time_to_first_token_seconds_count{{{PROD}}}": "0+1x60"},
    ),
    "prompts cannot be compiled into a cache": (
        "vllm", {("WarmingFailed", "prod")},
        {HERE: "0x60", f"aot_gate_failed{{{PROD}}}": "0x5 1x55"},
    ),
    "they could not, and can": (
        "vllm", set(),
        {HERE: "0x60", f"aot_gate_failed{{{PROD}}}": "1x20 0x40"},
    ),
    "a router does not see prompts": (
        "vllm", {("RouterHasNoAffinity", "prod")},
        {HERE: "0x60",
         f'{ROUTERS["vllm-router"].undecided_metric.split("{")[0]}'
         f'{{{PROD},outcome="missing_tokens"}}': "0+10x60"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PRESSED)
def test_alerts_of_a_full_cache(name: str, tmp_path: Path) -> None:
    engine, firing, shown = PRESSED[name]
    assert fired(engine, shown, 40, tmp_path) == firing


def test_both_engines_in_one_prometheus_have_a_ratio_each(tmp_path: Path) -> None:
    made: dict[str, str] = {}
    for engine, found in zip(ENGINES, (800, 100), strict=True):
        names = table.engine(engine).watched
        assert names is not None
        text = yaml.safe_dump(rules(engine, names, 1.0, None, "runbooks.md"))
        (tmp_path / f"{engine}.yml").write_text(text)
        made |= series(engine, Trial(0, set(), {PROD: "0+1000x60"}, {PROD: f"0+{found}x60"}))
    ratio = "round(aot:prefix_cache_hit_ratio:rate5m, 0.001)"
    expected: list[dict[str, Any]] = [
        {"labels": f'{{namespace="shop",job="prod",model_name="m",engine="{e}"}}', "value": v}
        for e, v in (("vllm", 0.8), ("sglang", 0.1))
    ]
    files = [f"{e}.yml" for e in ENGINES]
    done = evaluated(tmp_path, files, "1m", made, (ratio, 30), expected)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_its_runbook() -> None:
    page = (Path(__file__).parents[2] / "docs" / "runbooks.md").read_text()
    headings = {line[3:].strip().lower() for line in page.splitlines() if line.startswith("## ")}
    for engine in ENGINES:
        names = table.engine(engine).watched
        assert names is not None
        made = rules(engine, names, 1.0, ROUTERS["vllm-router"], "docs/runbooks.md")
        for rule in made["groups"][1]["rules"]:
            assert rule["annotations"]["runbook_url"].split("#")[1] in headings
