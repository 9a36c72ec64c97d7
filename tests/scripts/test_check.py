"""`aot check` and `aot explain` as a user meets them; on real engines in tests/engine."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from support import stub
from support.command import Aot, Done, check
from support.word_level import word_level

from aot.scripts.checkup.answer import Answer
from aot.scripts.checkup.of_log import of_log

RULES = "\n".join(f"Rule {n}: answer politely and quote clause {7 * n}." for n in range(60))
CONFIG = 'enable_prefix_caching="{on}",block_size="{block}",kv_cache_size_tokens="{room}"'
METRICS = """\
vllm:cache_config_info{{CONFIG}} 1.0
vllm:prefix_cache_queries_total 100000.0
vllm:prefix_cache_hits_total {hits}
vllm:prompt_tokens_total 100000.0
vllm:generation_tokens_total 5000.0
vllm:num_preemptions_total 0.0
vllm:num_requests_running 0.0
vllm:num_requests_waiting 0.0
vllm:request_success_total {requests}
"""


def page(**changes: object) -> dict[str, str]:
    usual = {"on": "True", "block": 16, "room": 100_000, "hits": 80_000.0, "requests": 100.0}
    text = METRICS.replace("CONFIG", CONFIG)
    return {"/metrics": text.format(**(usual | changes))}


def said(done: Done, *words: str) -> str:
    """What was shown, which has all `words`."""
    check(done, 0)
    for word in words:
        assert word in done.stdout, done.stdout
    return done.stdout


def row(number: int, **more: Any) -> dict[str, Any]:
    """A request of a log in which all is well."""
    messages = [
        {"role": "system", "content": RULES},
        {"role": "user", "content": f"Question {number * 7919}: what about parcel {number * 31}?"},
    ]
    body = {"model": "golden", "messages": messages, "max_tokens": 4}
    return {"timestamp": 1.7e9 + 5 * number, "body": body, **more}


def usage(prompt: int, cached: int) -> dict[str, Any]:
    details = {"cached_tokens": cached}
    return {"response": {"usage": {"prompt_tokens": prompt, "completion_tokens": 4,
                                   "prompt_tokens_details": details}}}  # fmt: skip


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def clocked(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rng = random.Random(1)
    for number, one in enumerate(rows):
        system = one["body"]["messages"][0]
        now = f"2026-11-20T09:{number:02d}:07.{rng.randrange(10**6):06d}Z"
        system["content"] = f"Current time: {now}\n{system['content']}"
    return rows


def test_a_log_alone_answers(aot: Aot, tmp_path: Path) -> None:
    log = written(
        tmp_path / "good.jsonl", [row(n, **usage(1000, 960 * (n > 0))) for n in range(12)]
    )
    done = aot("check", log, "--page", "page.html")
    text = said(done, "What breaks it?", "nothing found", "worth compiling")
    assert "12 requests in 12 sessions over 55 s, 12,000 tokens\n" in text
    assert "88.0% of the prompt tokens are found, by the usage in the log" in text
    assert f"Next: aot run --log {log} --server FILE" in text
    html = (tmp_path / "page.html").read_text()
    assert "<svg" in html
    assert "worth compiling" in html.lower()
    facts = json.loads(aot("check", log, "--json").stdout)
    assert facts["format"] == "aot-check/1"
    assert facts["found"]["hit_ratio"] == pytest.approx(0.88)
    assert facts["log"]["reachable_hit_ratio"] > 0.8
    assert sum(s["share"] for s in facts["shares"]) == pytest.approx(1.0)
    assert [n["share"] for n in facts["log"]["needed"]] == [0.5, 0.8, 0.9, 0.95, 0.99]
    assert facts["server"] is None is facts["capacity_tokens"]


def test_what_breaks_it_is_named_with_its_place_and_its_cost(aot: Aot, tmp_path: Path) -> None:
    log = written(tmp_path / "log.jsonl", clocked([row(n) for n in range(12)]))
    text = said(aot("check", log, "--price", 2.5), "volatile-time", "per 1,000 requests")
    assert "log.jsonl:2 messages[0].content" in text
    assert "the log does not say" in text
    assert "short-prefix" not in text  # which only follows from it
    facts = json.loads(aot("check", log, "--json").stdout)
    [broken] = [s for s in facts["shares"] if s["name"] == "broken by the prompts"]
    assert broken["share"] > 0.7
    assert facts["log"]["flaws"][0]["rule"] == "volatile-time"


def test_blocks_without_texts_have_a_curve_and_no_flaws(aot: Aot, tmp_path: Path) -> None:
    rows = [{"timestamp": 1000 * n, "input_length": 1024, "output_length": 5,
             "hash_ids": [1, 2 + n % 3]} for n in range(9)]  # fmt: skip
    log = written(tmp_path / "blocks.jsonl", rows)
    facts = json.loads(aot("check", log, "--json").stdout)
    assert facts["log"]["mended_hit_ratio"] is None
    assert facts["log"]["flaws"] == []
    assert facts["log"]["needed"]


def test_a_server_alone_answers(aot: Aot) -> None:
    with stub.serving(remembers=True, cached_tokens=96, pages=page()) as server:
        text = said(aot("check", "--url", server.base_url, "--seconds", 0), "nothing found")
        assert "prefix caching: on, blocks of 16, 100,000 tokens" in text
        assert "sent again: 0 96 96 96 96 96 of them cached" in text
        assert "80.0% of the prompt tokens are found, by the server's counters" in text
        sent = len(server.received)
        quiet = aot("check", "--url", server.base_url, "--seconds", 0, "--no-requests", "--json")
        assert json.loads(quiet.stdout)["server"]["repeats"] is None
        assert len(server.received) == sent


@pytest.mark.parametrize(
    ("name", "options", "changes"),
    [
        ("off", {"cached_tokens": 0}, {"on": "False"}),
        ("nothing-found", {"cached_tokens": 0}, {}),
        ("unreported", {"cached_tokens": None}, {}),
        ("below-a-block", {"remembers": True}, {"block": 512, "requests": 1000.0}),
        ("traffic-finds-nothing", {"remembers": True}, {"hits": 10.0}),
    ],
)
def test_what_is_wrong_with_a_server_is_named_first(
    aot: Aot, name: str, options: dict[str, Any], changes: dict[str, Any]
) -> None:
    with stub.serving(pages=page(**changes), **options) as server:
        done = aot("check", "--url", server.base_url, "--seconds", 0, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["faults"][0]["name"] == name


def test_a_log_and_its_server_tell_more_together(aot: Aot, tmp_path: Path) -> None:
    found = [row(n, **usage(1000, 0)) for n in range(12)]
    log = written(tmp_path / "log.jsonl", found)
    with stub.serving(remembers=True, pages=page()) as server:
        where = ("--url", server.base_url, "--seconds", 0)
        facts = json.loads(aot("check", log, *where, "--json").stdout)
        assert [f["name"] for f in facts["faults"]] == ["found-less"]
        assert facts["hit_ratio_at_capacity"] > 0.8
        assert facts["next"] == f"aot run --log {log} --url {server.base_url}"
        other = written(tmp_path / "other.jsonl", [row(n) for n in range(6)])
        text = other.read_text().replace('"golden"', '"another"')
        other.write_text(text)
        facts = json.loads(aot("check", other, *where, "--json").stdout)
        assert [f["name"] for f in facts["faults"]] == ["another-model"]
        bypassing = [row(n) for n in range(6)]
        for one in bypassing:
            one["body"]["prompt_logprobs"] = 1
        facts = json.loads(
            aot("check", written(tmp_path / "b.jsonl", bypassing), *where, "--json").stdout
        )
        assert facts["faults"][0]["name"] == "not-looked-up"
    small = page(room=256)
    with stub.serving(remembers=True, pages=small) as server:
        many = [row(n) for n in range(4)] * 2
        for number, one in enumerate(many):
            many[number] = {**one, "timestamp": 1.7e9 + number}
            tenant = {"role": "system", "content": f"Shop {number % 4}. {RULES}"}
            many[number]["body"] = {**one["body"], "messages": [tenant, one["body"]["messages"][1]]}
        facts = json.loads(
            aot("check", written(tmp_path / "s.jsonl", many), "--url", server.base_url,
                "--seconds", 0, "--json").stdout
        )  # fmt: skip
        assert "small-cache" in [f["name"] for f in facts["faults"]]


def test_a_cache_in_which_nothing_stays_is_too_small_and_no_prompt_is_blamed(
    tmp_path: Path,
) -> None:
    log = written(tmp_path / "log.jsonl", [row(n) for n in range(6)])
    known = of_log(log)
    answer = Answer(known, None, (), capacity_tokens=8)  # less than a block
    assert answer.at_capacity == 0
    shares = {share.name: share.share for share in answer.shares}
    assert shares["needs a larger cache"] == pytest.approx(known.reachable_hit_ratio)
    assert shares["broken by the prompts"] == pytest.approx(0, abs=1e-9)


def test_a_model_that_is_not_here_counts_nothing(aot: Aot, tmp_path: Path) -> None:
    log = written(tmp_path / "log.jsonl", [row(n) for n in range(4)])
    text = said(aot("check", log, "--server", "qwen3-8b-l4"), "(from characters)", "GiB")
    assert "the server's" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "a log, --url, or both"),
        (("none.jsonl",), "none.jsonl: no such file"),
        (("workload.yaml",), "is no log, but a workload"),
        (("empty.jsonl",), "empty.jsonl"),
        (("page.txt",), "page.txt: nothing in it is known as a request or as a trace"),
        (("log.jsonl", "--url", "nonsense"), "--url: 'nonsense' must start"),
        (("log.jsonl", "--server", "no-such"), "no-such: no such file"),
    ],
)
def test_what_cannot_be_checked_is_named(
    aot: Aot, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    written(tmp_path / "log.jsonl", [row(1)])
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "page.txt").write_text("Dear reader,\n")
    (tmp_path / "workload.yaml").write_text("scenario: rag\n")
    done = aot("check", *arguments, "--page", "p.html")
    check(done, 2, words)
    assert not (tmp_path / "p.html").exists()


def test_a_url_of_something_else_is_named(aot: Aot) -> None:
    with stub.serving(models=False) as server:
        done = aot("check", "--url", server.base_url)
        assert done.returncode == 1
        assert server.base_url in done.stderr
    done = aot("check", "--url", "http://127.0.0.1:9")
    check(done, 1, "is not reachable")


OTHER = " ".join(f"Something else entirely, number {n}." for n in range(400))
PROMPT, WHOLE = 700, 672
"""Of a request of `row`, about: tokens, and those that are static."""


def other(at_s: float, number: int = 0) -> dict[str, Any]:
    body = {"model": "golden", "messages": [{"role": "user", "content": f"{number} {OTHER}"}]}
    return {"timestamp": 1.7e9 + at_s, "body": body}


def served(number: int, cached: int, at_s: float | None = None, **more: Any) -> dict[str, Any]:
    made = row(number, **usage(PROMPT, cached))
    return made | ({} if at_s is None else {"timestamp": 1.7e9 + at_s}) | more


def salted(one: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {**one, "body": {**one["body"], **fields}}


SHORT = [{"role": "user", "content": "Hi there, how are you?"}]
CASES: dict[str, tuple[list[dict[str, Any]], tuple[str, ...]]] = {
    "first touch": ([other(0), served(1, 0)], ()),
    "edit": (clocked([served(n, 0) for n in range(2)]), ()),
    "salt": ([salted(served(n, 0), cache_salt=f"s{n}") for n in range(2)], ()),
    "adapter": ([salted(served(n, 0), lora_name=f"l{n}") for n in range(2)], ()),
    "model": ([salted(served(n, 0), model=f"m{n}") for n in range(2)], ()),
    "arguments": (
        [salted(served(n, 0), chat_template_kwargs={"thinking": bool(n)}) for n in range(2)], ()
    ),
    "below a block": (
        [{**other(n), "body": {"model": "golden", "messages": SHORT}} for n in range(2)],
        ("--block-tokens", "64"),
    ),
    "in flight": (
        [served(0, 0, 0.0, duration_s=3.0), served(1, 0, 1.0, duration_s=3.0)], ()
    ),
    "evicted": (
        [served(0, 0, 0.0), *(other(1 + n, n) for n in range(8)), served(1, 0, 20.0)],
        ("--capacity-tokens", "8000"),
    ),
    "expired": ([served(0, 0, 0.0), served(1, 0, 900.0)], ("--lifetime", "300")),
    "another replica": (
        [served(0, 0, 0.0, replica="a"), served(1, 0, 20.0, replica="b")], ()
    ),
    "evicted or another replica": ([served(0, 0, 0.0), served(1, 0, 20.0)], ()),
    "nothing missed": ([served(0, 0, 0.0), served(1, WHOLE, 20.0)], ()),
}  # fmt: skip


@pytest.mark.parametrize("cause", CASES)
def test_why_a_request_missed(aot: Aot, tmp_path: Path, cause: str) -> None:
    rows, options = CASES[cause]
    written(tmp_path / "log.jsonl", rows)
    done = aot("explain", len(rows), "--log", "log.jsonl", *options, "--json")
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert made["cause"] == cause
    assert made["line"] == len(rows)
    if cause == "edit":
        assert (made["rule"], made["path"]) == ("volatile-time", "messages[0].content")
    if cause == "evicted":
        assert "2023-11-14T22:13:2" in made["words"]  # when it was
    said(aot("explain", len(rows), "--log", "log.jsonl", *options), f"cause: {cause}", "do: ")


def test_a_request_is_found_by_its_id_and_counted_by_a_tokenizer(aot: Aot, tmp_path: Path) -> None:
    rows = [{**one, "request_id": f"r-{n}"} for n, one in enumerate(clocked([row(1), row(2)]))]
    written(tmp_path / "log.jsonl", rows)
    model = word_level(tmp_path)
    done = aot("explain", "r-1", "--log", "log.jsonl", "--tokenizer", model, "--json")
    made = json.loads(done.stdout)
    assert (made["line"], made["earlier_line"]) == (2, 1)
    assert isinstance(made["token"], int)
    for request, words in (("r-9", "no request has it"), ("99", "no request has it")):
        check(aot("explain", request, "--log", "log.jsonl"), 2, words, "number of a line")
    check(aot("explain", "1", "--log", "none.jsonl"), 2, "none.jsonl: no such file")
