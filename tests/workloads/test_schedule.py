from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from scipy import stats

from aot.configs.kernel.errors import UsageError
from aot.configs.kernel.places import CONFIGS
from aot.configs.schema.draws import ConstantArrivals, PoissonArrivals
from aot.scripts.traffic import plan
from aot.workloads.plan import arrivals, draws, static_texts
from aot.workloads.prompts import folder as prompts
from aot.workloads.requests import schedule as schedule_file


def test_the_same_seed_gives_the_same_bytes_on_any_machine(workload: Path) -> None:
    """The digest was made once, elsewhere: a change of it is a change of everybody's traffic."""
    workload.write_text(workload.read_text().replace("constant", "poisson"))
    text = "".join(schedule_file.lines(plan.schedule_of(workload)))
    assert hashlib.sha256(text.encode()).hexdigest() == (
        "96f41e3c0e05af7941e720c4468f4f2ab6881301fd9cc23399d35a3e90e8ec01"
    )


def test_another_seed_gives_other_traffic(workload: Path) -> None:
    first = plan.schedule_of(workload)
    workload.write_text(workload.read_text().replace("seed: 3", "seed: 4"))
    assert plan.schedule_of(workload).requests != first.requests


def test_a_schedule_survives_its_file(workload: Path, tmp_path: Path) -> None:
    made = plan.schedule_of(workload)
    digest = schedule_file.write(made, tmp_path / "s.jsonl")
    assert schedule_file.read(tmp_path / "s.jsonl") == made
    assert schedule_file.digest(tmp_path / "s.jsonl") == digest


def test_line_separators_that_json_leaves_alone_survive(workload: Path, tmp_path: Path) -> None:
    prompt = workload.parent / "prompt" / "system_prompt.txt"
    prompt.write_text("You\u2028help\u2029{{ tenant }}\u0085.", encoding="utf-8")
    made = plan.schedule_of(workload)
    schedule_file.write(made, tmp_path / "s.jsonl")
    assert schedule_file.read(tmp_path / "s.jsonl") == made


def test_one_knob_leaves_the_other_draws_alone(workload: Path) -> None:
    before = plan.schedule_of(workload)
    workload.write_text(workload.read_text().replace("rate_per_s: 40", "rate_per_s: 80"))
    after = plan.schedule_of(workload)
    assert [r.messages for r in before.requests] == [r.messages for r in after.requests]
    assert [r.at_s for r in before.requests] != [r.at_s for r in after.requests]


def test_prefixes_differ_early_and_probes_are_no_request(workload: Path) -> None:
    made = plan.schedule_of(CONFIGS / "workloads" / "support-bot.yaml")
    systems = [p.messages[0]["content"] for p in made.prefixes.values()]
    assert len({s[:60] for s in systems}) == 8
    probes = {p[0]["content"] for prefix in made.prefixes.values() for p in prefix.probes}
    assert probes.isdisjoint(r.messages[0]["content"] for r in made.requests)
    questions = {r.messages[0]["content"] for r in made.requests}
    assert len(questions) == len(made.requests) == 400


def test_poisson_gaps_are_exponential() -> None:
    times = arrivals.offsets(
        PoissonArrivals(kind="poisson", rate_per_s=5), 4000, random.Random("a")
    )
    gaps = [b - a for a, b in pairwise(times)]
    assert times[0] == 0
    assert stats.kstest(gaps, stats.expon(scale=1 / 5).cdf).pvalue > 0.01


def test_constant_gaps_are_constant() -> None:
    times = arrivals.offsets(ConstantArrivals(kind="constant", rate_per_s=4), 5, random.Random(0))
    assert times == [0, 0.25, 0.5, 0.75, 1.0]


def test_popularity_is_zipf() -> None:
    draw = draws.zipf(3, 1.0, random.Random("z"))
    drawn = Counter(draw() for _ in range(60_000))
    expected = [60_000 * w / (1 + 1 / 2 + 1 / 3) for w in (1, 1 / 2, 1 / 3)]
    assert stats.chisquare([drawn[k] for k in range(3)], expected).pvalue > 0.01
    even = draws.zipf(4, 0.0, random.Random(1))
    assert {even() for _ in range(500)} == {0, 1, 2, 3}
    assert sorted(even.several(4)) == [0, 1, 2, 3]


def test_tenant_names_never_repeat() -> None:
    assert len({static_texts.tenant_name(n) for n in range(35)}) == 35


def edited(workload: Path, tmp_path: Path, line: int, **fields: object) -> Path:
    """A schedule file with some fields of one line (from 1) replaced; None removes one."""
    path = tmp_path / "s.jsonl"
    schedule_file.write(plan.schedule_of(workload), path)
    rows = [json.loads(row) for row in path.read_text().splitlines()]
    for key, value in fields.items():
        rows[line - 1].pop(key)
        if value is not None:
            rows[line - 1][key] = value
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("line", "fields", "words"),
    [
        (1, {"format": "aot-schedule/9"}, r":1: format is 'aot-schedule/9'.*aot schedule"),
        (1, {"mode": "ajar"}, ":1: mode is 'ajar'"),
        (1, {"requests": 99}, ":1: header announces 99 requests, found 8"),
        (1, {"seed": None}, ":1: field 'seed' is missing"),
        (2, {"probes": [[]]}, ":2: not enough values"),
        (6, {"at_s": 0.0}, r":6: at_s is 0\.0, before the request above"),
        (5, {"at_s": None}, ":5: field 'at_s' is missing"),
        (5, {"prefix": "nobody"}, ":5: prefix 'nobody' is not defined above"),
        (5, {"id": "r000000"}, ":5: id 'r000000' occurs twice"),
        (5, {"messages": [{"role": "king", "content": "x"}]}, ":5: a message needs a known role"),
    ],
)
def test_a_broken_schedule_names_line_and_field(
    workload: Path, tmp_path: Path, line: int, fields: dict[str, object], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        schedule_file.read(edited(workload, tmp_path, line, **fields))


def test_files_that_are_no_schedule(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    with pytest.raises(UsageError, match="no such file; make one with: aot schedule"):
        schedule_file.read(path)
    for text, words in [
        ("", "format is None"),
        ("{", ":1: not JSON"),
        ("[1]\n", "expected an object"),
    ]:
        path.write_text(text)
        with pytest.raises(UsageError, match=words):
            schedule_file.read(path)


def test_a_failed_write_leaves_the_old_file(workload: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written"):
        schedule_file.write(plan.schedule_of(workload), tmp_path / "no" / "folder" / "s.jsonl")


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        (
            "dynamic_templates/user_query.jinja2",
            "{% if %}",
            r"user_query\.jinja2:1: template syntax",
        ),
        (
            "dynamic_templates/user_query.jinja2",
            "{{ colour }}",
            "'colour' is undefined; .* plan, question",
        ),
        ("system_prompt.txt", "{{ shop }}", "'shop' is undefined; known: tenant; give it by --var"),
        ("dynamic_inputs/user_query.txt", "one\ntwo\n", "needs at least 3 inputs, has 2"),
        ("system_prompt.txt", None, r"system_prompt\.txt: no such file"),
    ],
)
def test_a_broken_prompt_folder_names_the_file(
    workload: Path, file: str, text: str | None, words: str
) -> None:
    path = workload.parent / "prompt" / file
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    with pytest.raises(UsageError, match=words):
        plan.schedule_of(workload)


def test_an_undecodable_prompt_file_is_named(workload: Path) -> None:
    (workload.parent / "prompt" / "system_prompt.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match=r"system_prompt\.txt: byte 0 is not UTF-8"):
        plan.schedule_of(workload)
    with pytest.raises(UsageError, match="no such prompt folder"):
        prompts.read(workload.parent / "nowhere")
