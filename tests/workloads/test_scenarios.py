"""Scenarios: exact lengths, who shares what with whom, and that sessions keep their order."""

from __future__ import annotations

import hashlib
import random
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path
from statistics import mean, median, pstdev
from textwrap import dedent
from typing import Any

import pytest
from scipy import stats
from support.words_model import encode, merging

from aot.analysis.cache.reach import evaluate
from aot.configs.kernel.errors import ConfigError, UsageError
from aot.configs.kernel.places import CONFIGS
from aot.configs.loading.load import load_workload
from aot.configs.schema.draws import LogNormal, Uniform
from aot.configs.schema.workload import Agent
from aot.scripts.traffic import plan
from aot.workloads.plan import draws, scenarios
from aot.workloads.plan.lexicon import WORDS, Lexicon
from aot.workloads.requests import schedule as schedule_file
from aot.workloads.requests.request import Request, Schedule
from aot.workloads.traces.blocks import TokenBuilder

PROMPTS = CONFIGS / "prompts"
BODIES = {
    "support-bot": "prompt: {p}/support-bot\nstatic_tokens: 2500\n"
    "dynamic_tokens: {{median: 40, p90: 90}}\ntenants: {{count: 3, salts: true}}\n",
    "rag": "prompt: {p}/rag-desk\nstatic_tokens: 500\ntenants: {{count: 2}}\n"
    "documents: {{count: 20, tokens: {{low: 30, high: 60}}, per_request: 4}}\n",
    "few-shot": "prompt: {p}/ticket-labels\nstatic_tokens: 900\n",
    "multi-turn": "prompt: {p}/garden-chat\nstatic_tokens: 400\n",
    "agent": "prompt: {p}/farm-agent\nstatic_tokens: 900\nbranching: 0.3\n",
    "doc-qa": "prompt: {p}/handbook-qa\nstatic_tokens: 400\n"
    "documents: {{count: 5, tokens: 200, per_request: 1}}\n",
    "best-of-n": "prompt: {p}/story-writer\nstatic_tokens: 500\nn: 4\n",
    "unique": "dynamic_tokens: {{low: 40, high: 90}}\n",
}  # fmt: skip


def made(tmp_path: Path, name: str, more: str = "", requests: int = 60) -> Schedule:
    path = tmp_path / f"{name}.yaml"
    text = f"scenario: {name}\nrequests: {requests}\n" + BODIES[name].format(p=PROMPTS) + more
    path.write_text(text)
    return plan.schedule_of(path, encode)


@pytest.mark.parametrize("name", BODIES)
def test_every_planned_length_is_what_the_tokenizer_counts(tmp_path: Path, name: str) -> None:
    more = "turns: {answers: planned}\n" if name in ("multi-turn", "agent") else ""
    schedule = made(tmp_path, name, more)
    assert len(schedule.requests) == 60
    for request in schedule.requests:
        assert request.prompt_tokens == len(encode(*schedule.chat_of(request)))
    wanted = {"support-bot": 2500, "rag": 500, "few-shot": 900, "agent": 900, "multi-turn": 400}
    for prefix in schedule.prefixes.values():
        one, other = (encode(*schedule.probe(prefix, n)) for n in (0, 1))
        shared = next(i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
        assert shared == wanted.get(name, shared)


@pytest.mark.parametrize("name", BODIES)
def test_a_schedule_survives_its_file_and_comes_out_the_same_again(
    tmp_path: Path, name: str
) -> None:
    schedule = made(tmp_path, name)
    schedule_file.write(schedule, tmp_path / "s.jsonl")
    assert schedule_file.read(tmp_path / "s.jsonl") == schedule
    again = "".join(schedule_file.lines(made(tmp_path, name)))
    digest = hashlib.sha256((tmp_path / "s.jsonl").read_bytes()).hexdigest()
    assert hashlib.sha256(again.encode()).hexdigest() == digest


def reachable(schedule: Schedule) -> float:
    trace = TokenBuilder(1)
    for request in schedule.planned:
        trace.add(encode(*schedule.chat_of(request)))
    (found,) = evaluate(trace.build(), 1, ["lru"], [None])
    return found.hit_ratio


def test_what_can_be_found_is_what_each_scenario_is_for(tmp_path: Path) -> None:
    ratios = {}
    for name in BODIES:
        more = "turns: {answers: planned}\n" if name in ("multi-turn", "agent") else ""
        ratios[name] = reachable(made(tmp_path, name, more))
    assert ratios["unique"] < 0.06
    assert ratios["best-of-n"] > 0.6
    assert ratios["agent"] > 0.6
    assert ratios["multi-turn"] > 0.6
    assert ratios["few-shot"] > 0.6
    assert ratios["support-bot"] > 0.9


def test_unique_shares_nothing_but_the_frame(tmp_path: Path) -> None:
    schedule = made(tmp_path, "unique")
    first, *others = (encode(*schedule.chat_of(r)) for r in schedule.requests)
    for ids in others:
        assert ids[:2] == first[:2]  # <system>, Please
        assert ids[:6] != first[:6]


def test_shuffled_documents_cost_what_fixed_ones_do_not(tmp_path: Path) -> None:
    few = "documents: {count: 6, tokens: 40, per_request: 5, order: %s}\n"
    found = {}
    for order in ("fixed", "shuffled"):
        text = BODIES["rag"].split("documents")[0].format(p=PROMPTS) + few % order
        (tmp_path / "r.yaml").write_text(f"scenario: rag\nrequests: 80\n{text}")
        schedule = plan.schedule_of(tmp_path / "r.yaml", encode)
        sets = [Counter(r.messages[0]["content"].split("\n\n")[1:-1]) for r in schedule.requests]
        found[order] = (reachable(schedule), sets)
    assert found["fixed"][0] > found["shuffled"][0] + 0.02
    # The same passages for the same questions, in another order.
    assert found["fixed"][1] == found["shuffled"][1]


def test_turns_build_on_each_other_and_agents_branch(tmp_path: Path) -> None:
    for name, branching in (("multi-turn", False), ("agent", True)):
        schedule = made(tmp_path, name, requests=200)
        children: dict[str, int] = defaultdict(int)
        for request in schedule.requests:
            if request.after is not None:
                assert request.appends or branching  # an agent begins anew now and then
                before = schedule.by_id[request.after]
                assert before.prefix == request.prefix
                assert request.at_s == before.at_s
                children[request.after] += 1
        assert (max(children.values()) > 1) is branching
    chat = schedule.chat_of(schedule.by_id["r000001"], {"r000000": "Said."})
    assert [m["role"] for m in chat.messages] == ["system", "user", "assistant", "user"]
    assert chat.messages[2]["content"] == "Said."
    with pytest.raises(KeyError):
        schedule.chat_of(schedule.by_id["r000001"])


def test_an_agent_is_as_long_and_as_slow_as_published_coding_sessions(tmp_path: Path) -> None:
    """44 steps (p90 149), gaps of 10 s (p90 155), first prompts of 26.8k tokens, 1.9 % of steps
    that begin anew: of 220 sessions of callanjfox/kv-cache-tester."""
    config = load_workload(CONFIGS / "workloads" / "agent.yaml")
    assert isinstance(config, Agent)
    assert Agent.model_fields["turns"].default.count == config.turns.count
    rng = random.Random(5)

    def quantiles(distribution: Any) -> tuple[float, float]:
        drawn = sorted(draws.value(distribution, rng) for _ in range(20_000))
        return drawn[10_000], drawn[18_000]

    assert quantiles(config.turns.count) == pytest.approx((44, 149), rel=0.05)
    assert quantiles(config.turns.think_s) == pytest.approx((10, 155), rel=0.08)
    first, _ = quantiles(config.first_tokens)
    assert config.static_tokens + first == pytest.approx(26_800, rel=0.02)
    schedule = made(tmp_path, "agent", "compaction: 0.1\nfirst_tokens: 300\n", requests=400)
    turns = [r for r in schedule.requests if r.after is not None]
    anew = [r for r in turns if not r.appends]
    assert len(anew) / len(turns) == pytest.approx(0.1, abs=0.04)
    assert {r.prompt_tokens for r in anew} == {r.prompt_tokens for r in schedule.requests
                                               if r.after is None}  # fmt: skip


def test_siblings_of_best_of_n_are_equal_and_close(tmp_path: Path) -> None:
    schedule = made(tmp_path, "best-of-n")
    groups = defaultdict(list)
    for request in schedule.requests:
        groups[request.messages[0]["content"]].append(request.at_s)
    assert {len(times) for times in groups.values()} == {4}
    assert all(max(t) - min(t) <= 0.05 for t in groups.values())


def test_tenants_may_have_salts_of_their_own(tmp_path: Path) -> None:
    salts = {p.salt for p in made(tmp_path, "support-bot").prefixes.values()}
    assert len(salts) == 3
    assert None not in salts
    assert {p.salt for p in made(tmp_path, "rag").prefixes.values()} == {None}


def test_tenants_may_share_a_beginning(tmp_path: Path) -> None:
    text = BODIES["support-bot"].format(p=PROMPTS).replace("salts: true", "shared_tokens: 70")
    (tmp_path / "s.yaml").write_text(f"scenario: support-bot\nrequests: 9\n{text}")
    schedule = plan.schedule_of(tmp_path / "s.yaml", encode)
    first, *others = (encode(*schedule.probe(p, 0)) for p in schedule.prefixes.values())
    for ids in others:
        assert next(i for i, (a, b) in enumerate(zip(first, ids, strict=False)) if a != b) == 70
    for request in schedule.requests:
        assert request.prompt_tokens == len(encode(*schedule.chat_of(request)))


def test_lengths_follow_their_distribution() -> None:
    rng = draws.stream(1, "lengths")
    drawn = [draws.value(LogNormal(median=40, p90=150), rng) for _ in range(20_000)]
    assert median(drawn) == pytest.approx(40, rel=0.05)
    assert stats.scoreatpercentile(drawn, 90) == pytest.approx(150, rel=0.05)
    counts = Counter(draws.count(Uniform(low=3, high=6), rng) for _ in range(8000))
    assert set(counts) == {3, 4, 5, 6}
    assert stats.chisquare([counts[n] for n in (3, 4, 5, 6)]).pvalue > 0.001
    assert draws.count(7, rng) == 7


def test_words_are_distinct() -> None:
    assert len(set(WORDS)) == len(WORDS)
    assert len(Lexicon(encode).pool) == 512


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("scenario: chess\n", "w.yaml:1: scenario: 'chess' is none of support-bot, rag"),
        ("requests: 3\n", "key 'scenario' is required"),
        (
            "scenario: unique\nrequests: 3\ndynamic_tokens: {median: 9, p90: 5}\n",
            "w.yaml:3: key 'dynamic_tokens': median, p90 and max must ascend",
        ),
        (
            "scenario: unique\nrequests: 3\ndynamic_tokens: .nan\n",
            "w.yaml:3: key 'dynamic_tokens': input should be a finite number",
        ),
        (
            "scenario: unique\nrequests: 3\noutput: {max_tokens: 0}\n",
            "w.yaml:3: key 'output': max_tokens: at least 1",
        ),
        ("scenario: rag\nprompt: p\nrequests: 3\nturns: {}\n", "w.yaml:4: unknown key 'turns'"),
        (
            "scenario: rag\nprompt: p\nrequests: 3\ndocuments: {count: 2, per_request: 3}\n",
            "per_request is 3, but there are 2 only",
        ),
        (
            "scenario: unique\nrequests: 3\narrivals: {kind: gamma, rate_per_s: 1}\n",
            "key 'arrivals.cv' is required",
        ),
    ],
)
def test_wrong_workload_files(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "w.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_workload(path)
    assert words in str(caught.value)


def test_what_cannot_be_exact_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "few-shot.yaml"
    text = f"scenario: few-shot\nrequests: 3\nprompt: {PROMPTS}/ticket-labels\n"
    path.write_text(text)
    with pytest.raises(UsageError, match="texts of exact lengths need the model's tokenizer"):
        plan.schedule_of(path)
    with pytest.raises(UsageError, match="this tokenizer"):
        scenarios.build(load_workload(path), "few-shot", tmp_path, Lexicon(merging))
    path.write_text(text + "static_tokens: 2\n")
    with pytest.raises(UsageError, match=r"static_tokens: a chat of \d+ tokens is wanted"):
        plan.schedule_of(path, encode)


def test_every_shipped_workload_draws(tmp_path: Path) -> None:
    """With fewer and shorter requests, so that it is quick."""
    for path in (CONFIGS / "workloads").glob("*.yaml"):
        config = load_workload(path)
        small = {"requests": 12}
        if hasattr(config, "documents"):
            small["documents"] = config.documents.model_copy(update={"count": 8, "tokens": 60})  # type: ignore[assignment]
        fewer = config.model_copy(update=small)
        schedule = scenarios.build(fewer, path.stem, path.parent, Lexicon(encode))
        assert len(schedule.requests) == 12


def test_context_is_checked_with_the_longest_answers(tmp_path: Path) -> None:
    schedule = made(tmp_path, "multi-turn", dedent("""\
        turns: {count: 4}
        output: {max_tokens: 100}
        dynamic_tokens: 20
        """), requests=4)  # fmt: skip
    tokens = plan.count_tokens(schedule, encode)
    # 400 static + tail, three more turns of 20 words and their seams, four answers of 100.
    plan.check_context(schedule, tokens, 1000, encode)
    with pytest.raises(UsageError, match=r"r000003 needs \d+ tokens \(prompt and output\)"):
        plan.check_context(schedule, tokens, 860, encode)


def test_an_agent_waits_for_its_sub_tasks(tmp_path: Path) -> None:
    several = "turns: {answers: planned, count: 60}\nbranches: 2\n"
    waits = made(tmp_path, "agent", several)
    joining = [r for r in waits.requests if r.joins]
    assert joining
    for request in joining:
        parent = waits.by_id[request.after or ""]
        for name in request.joins:  # the ends of what was forked behind the same step
            steps, step = 0, waits.by_id[name]
            while step.id != parent.id:
                steps, step = steps + 1, waits.by_id[step.after or ""]
            assert 1 <= steps <= 3
    assert {len(r.joins) for r in joining} == {2}
    alone = made(tmp_path, "agent", several + "waits: false\n")
    assert not any(r.joins for r in alone.requests)
    assert [r.messages for r in alone.requests] == [r.messages for r in waits.requests]


def test_thinking_is_generated_and_in_no_later_prompt(tmp_path: Path) -> None:
    def chat(more: str) -> Schedule:
        turns = f"turns: {{count: 6, answers: planned{more}}}\noutput: {{max_tokens: 100}}\n"
        return made(tmp_path, "multi-turn", turns, 12)

    whole, dropped = chat(""), chat(", thinking: 0.75")
    assert [r.max_tokens for r in dropped.requests] == [r.max_tokens for r in whole.requests]
    for one, other in zip(whole.requests, dropped.requests, strict=True):
        before, turn = 0, one
        while turn.after is not None:
            before, turn = before + 1, whole.by_id[turn.after]
        assert one.prompt_tokens - other.prompt_tokens == 75 * before  # type: ignore[operator]
        assert other.prompt_tokens == len(encode(*dropped.chat_of(other)))
    with pytest.raises(ConfigError, match="answers: planned"):
        made(tmp_path, "multi-turn", "turns: {thinking: 0.5}\n")


MIXED = """\
scenario: mixture
requests: 80
parts:
  - {workload: steady.yaml, copies: 2}
  - {workload: bursty.yaml}
"""


def mixed(tmp_path: Path, text: str = MIXED, more: str = "", part: str = "") -> Schedule:
    rag = f"scenario: rag\nrequests: 90\n{BODIES['rag'].format(p=PROMPTS)}{part}"
    turns = f"scenario: multi-turn\nrequests: 400\n{BODIES['multi-turn'].format(p=PROMPTS)}"
    (tmp_path / "steady.yaml").write_text(f"{rag}arrivals: {{kind: poisson, rate_per_s: 1}}\n")
    (tmp_path / "bursty.yaml").write_text(
        f"{turns}arrivals: {{kind: gamma, rate_per_s: 1, cv: 3}}\noutput: {{max_tokens: 9}}\n"
    )
    (tmp_path / "mixed.yaml").write_text(text + more)
    return plan.schedule_of(tmp_path / "mixed.yaml", encode)


def test_a_mixture_has_the_first_of_all_of_its_parts(tmp_path: Path) -> None:
    made_up = mixed(tmp_path)
    times = [r.at_s for r in made_up.requests]
    assert times == sorted(times)
    assert len(times) == 80
    parts = Counter(r.id.split(".")[0] for r in made_up.requests)
    assert parts.keys() == {"steady-1", "steady-2", "bursty-1"}
    # Each has its own arrivals, from somewhere in its first gap on.
    alone = plan.schedule_of(tmp_path / "steady.yaml", encode)
    mine = [r for r in made_up.requests if r.id.startswith("steady-1.")]
    shift_s = mine[0].at_s - alone.requests[0].at_s
    assert 0 <= shift_s < 3
    assert [r.at_s - shift_s for r in mine] == pytest.approx(
        [r.at_s for r in alone.requests[: len(mine)]], abs=1e-5
    )
    talks = [r for r in made_up.requests if r.id.startswith("bursty-1.")]
    assert {made_up.output_tokens(r) for r in talks} == {9}
    one, other = ([r.at_s for r in made_up.requests if r.id.startswith(f"steady-{n}.")]
                  for n in (1, 2))  # fmt: skip
    assert one != other
    for request in made_up.requests:
        assert request.prefix in made_up.prefixes
        assert request.after is None or request.after in made_up.by_id
        assert request.prefix.split(".")[0] == request.id.split(".")[0]
    path = tmp_path / "s.jsonl"
    schedule_file.write(made_up, path)
    assert schedule_file.read(path) == made_up


@pytest.mark.parametrize(
    ("text", "more", "part", "words"),
    [
        (MIXED.replace("80", "900"), "", "", "has its last session after"),
        (MIXED, "", "load: {mode: closed}\n", "a closed loop has no arrivals"),
        (MIXED, "", "endpoint: completions\n", "endpoint is completions, and chat in the mixture"),
        (MIXED, "", "output: {ignore_eos: false}\n", "ignore_eos differs"),
        (MIXED, "arrivals: {kind: poisson, rate_per_s: 1}\n", "", "are those of the parts"),
        (MIXED.replace("bursty", "mixed"), "", "", "is a mixture itself"),
        (MIXED.replace("bursty", "nowhere"), "", "", "nowhere.yaml"),
        ("scenario: mixture\nrequests: 8\nparts: []\n", "", "", "parts"),
    ],
)
def test_parts_that_do_not_go_together_are_refused(
    tmp_path: Path, text: str, more: str, part: str, words: str
) -> None:
    with pytest.raises((ConfigError, UsageError), match=words):
        mixed(tmp_path, text, more, part)


def test_parts_with_the_same_seed_and_folder_are_drawn_apart(tmp_path: Path) -> None:
    twice = (
        f"scenario: mixture\nrequests: 60\nparts: [{', '.join(['{workload: steady.yaml}'] * 2)}]\n"
    )
    made_up = mixed(tmp_path, twice)
    parts = [[r for r in made_up.requests if r.id.startswith(f"steady-{n}.")] for n in (1, 2)]
    assert not {r.at_s for r in parts[0]} & {r.at_s for r in parts[1]}
    assert not {str(r.messages) for r in parts[0]} & {str(r.messages) for r in parts[1]}
    assert sum(r.at_s == 0 for r in made_up.requests) == 1  # not all parts at once


def test_clients_that_hang_up_are_drawn_as_given(tmp_path: Path) -> None:
    cancels = "cancels: {share: 0.25, after_s: {median: 4, p90: 20}, retried: 0.5}\n"
    schedule = made(tmp_path, "unique", cancels, requests=2000)
    ended = [r for r in schedule.requests if r.cancel_s is not None]
    assert len(ended) / 2000 == pytest.approx(0.25, abs=0.03)
    assert median(r.cancel_s for r in ended if r.cancel_s) == pytest.approx(4, rel=0.15)
    assert sum(r.retried for r in ended) / len(ended) == pytest.approx(0.5, abs=0.08)
    # One stream a decision: without them all else is as before.
    before = made(tmp_path, "unique", requests=2000).requests
    assert [r.messages for r in schedule.requests] == [r.messages for r in before]
    path = tmp_path / "s.jsonl"
    schedule_file.write(schedule, path)
    assert schedule_file.read(path).requests == schedule.requests


HABITS = (
    MIXED.replace("copies: 2", "copies: 12, zipf: 1.0, cv: {median: 1.2, p90: 4.7}, "
                  "length_factor: {median: 1, p90: 3}").replace("80", "1000")
    .replace("  - {workload: bursty.yaml}\n", "")
)  # fmt: skip


def test_clients_of_a_part_have_the_habits_that_are_given(tmp_path: Path) -> None:
    made_up = mixed(tmp_path, HABITS)
    of: dict[str, list[Request]] = defaultdict(list)
    for r in made_up.requests:
        of[r.id.split(".")[0]].append(r)
    harmonic = sum(1 / k for k in range(1, 13))
    # The busiest sends 1 / H(12) = 32 %, as far as its bursts let it within so short a time.
    shares = [len(of[f"steady-{k}"]) / 1000 for k in range(1, 13)]
    assert shares[0] == pytest.approx(1 / harmonic, rel=0.35)
    assert sum(shares[:4]) > 2 * sum(shares[6:])
    spreads = []
    for requests in (of[f"steady-{k}"] for k in range(1, 7)):
        gaps = [b.at_s - a.at_s for a, b in pairwise(requests)]
        spreads.append(pstdev(gaps) / mean(gaps))
    assert max(spreads) > 1.5 * min(spreads)
    lengths = [mean(made_up.output_tokens(r) for r in of[f"steady-{k}"]) for k in range(1, 7)]
    assert max(lengths) > 1.5 * min(lengths)


def test_habits_are_those_of_what_arrivals_can_have(tmp_path: Path) -> None:
    text = MIXED.replace("copies: 2", "copies: 2, cv: 2")
    ramp = "arrivals: {kind: ramp, from_per_s: 1, to_per_s: 2, ramp_s: 9}\n"
    mixed(tmp_path, text)
    steady = tmp_path / "steady.yaml"
    steady.write_text(
        steady.read_text().replace("arrivals: {kind: poisson, rate_per_s: 1}\n", ramp)
    )
    with pytest.raises(UsageError, match="arrivals of kind ramp have no cv; leave out cv"):
        plan.schedule_of(tmp_path / "mixed.yaml", encode)
