"""Scenarios: exact lengths, who shares what with whom, and that sessions keep their order."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from pathlib import Path
from statistics import median
from textwrap import dedent

import pytest
from scipy import stats
from support.words_model import encode, merging

from aot.analysis.cache.reach import evaluate
from aot.configs.kernel.errors import ConfigError, UsageError
from aot.configs.kernel.places import CONFIGS
from aot.configs.loading.load import load_workload
from aot.configs.schema.draws import LogNormal, Uniform
from aot.scripts.traffic import plan
from aot.workloads.plan import draws, scenarios
from aot.workloads.plan.lexicon import WORDS, Lexicon
from aot.workloads.requests import schedule as schedule_file
from aot.workloads.requests.request import Schedule
from aot.workloads.traces.blocks import Builder

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
    trace = Builder(1, full_only=True)
    for request in schedule.planned:
        trace.add_tokens(encode(*schedule.chat_of(request)))
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
                assert request.appends
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
