"""aot oracle and aot schedule as a user meets them."""

from __future__ import annotations

import csv
import gzip
import json
import random
from pathlib import Path

import pytest
from support.command import Aot, check
from support.traces import BAILIAN, MOONCAKE, OPENAI, SAMPLES, lines, ragpulse
from support.word_level import word_level
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from aot.scripts.traffic.oracle import fitted
from aot.workloads.logs.traced import Traced
from aot.workloads.plan.lexicon import WORDS
from aot.workloads.requests import schedule as schedule_file
from aot.workloads.requests.tokens import from_folder

TEMPLATE = (
    "{% for m in messages %}{{ m.role }} {{ m.content }} end {% endfor %}"
    "{% if add_generation_prompt %}assistant{% endif %}"
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A tokenizer of one token a word."""
    folder = tmp_path / "model"
    folder.mkdir()
    words = ["[UNK]", "system", "user", "assistant", "end", "Please", "Alpha", *WORDS]
    tokenizer = Tokenizer(WordLevel({w: n for n, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": TEMPLATE}))
    return folder


def mooncake(*blocks: list[int], gap_ms: int = 1000) -> str:
    return lines(
        *(
            MOONCAKE | {"timestamp": gap_ms * n, "input_length": 512 * len(b), "hash_ids": b}
            for n, b in enumerate(blocks)
        )
    )


def test_oracle_prints_the_agreed_json(aot: Aot, tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text(mooncake([1, 2], [3], [1, 2], [1]))
    done = aot(
        "oracle", "t.jsonl", "--format", "mooncake", "--policy", "leaf-lru", "--policy", "lru",
        "--policy", "opt", "--capacity", "2", "--capacity", "inf", "--json",
    )  # fmt: skip
    check(done, 0)
    found = json.loads(done.stdout)
    assert [(r["policy"], r["capacity_blocks"]) for r in found] == [
        ("leaf-lru", 2), ("leaf-lru", None), ("lru", 2), ("lru", None), ("opt", 2), ("opt", None),
    ]  # fmt: skip
    by = {(r["policy"], r["capacity_blocks"]): r for r in found}
    assert by["lru", None] == {
        "policy": "lru", "capacity_blocks": None, "block_size": 512, "hit_blocks": 3,
        "hit_tokens": 1536, "total_blocks": 6, "total_tokens": 3072, "hit_ratio": 0.5,
        "block_hit_ratio": 0.5,
    }  # fmt: skip
    assert by["opt", 2]["hit_blocks"] == 3
    assert by["leaf-lru", 2]["hit_blocks"] == 2
    assert by["lru", 2]["hit_blocks"] == 1


def test_oracle_as_a_table_a_curve_and_a_figure(aot: Aot, tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text(mooncake([1, 2], [3], [1, 2], [1]))
    done = aot("oracle", "t.jsonl", "--curve", "c.csv", "--figure", "f.svg")
    check(done, 0)
    assert "4 requests, 3,072 tokens, 6 blocks of 512; hit ratio by tokens" in done.stdout
    assert "lost to policy" in done.stdout
    rows = list(csv.DictReader((tmp_path / "c.csv").read_text().splitlines()))
    # [1] is used right before; [1, 2] needs room for all three.
    assert [(r["capacity_blocks"], r["hit_blocks"]) for r in rows] == [("2", "1"), ("3", "3")]
    assert (tmp_path / "f.svg").read_text().startswith("<?xml")
    assert not list(tmp_path.glob(".*partial"))


def test_oracle_prices_other_orders(aot: Aot, tmp_path: Path, model: Path) -> None:
    ragpulse(tmp_path)
    done = aot("oracle", "data", "--what-if", "--json")
    check(done, 0)
    found = {row["name"]: row for row in json.loads(done.stdout)}
    assert found["canary"]["gain_tokens"] == 0
    assert found["as logged"]["total_tokens"] == 150
    shared = " ".join(WORDS[:120])
    bodies = [
        {
            "messages": [
                {"role": "system", "content": f"{w} {n}\n\n{shared}"},
                {"role": "user", "content": w},
            ]
        }
        for n, w in enumerate(WORDS[200:240])
    ]
    (tmp_path / "log.jsonl").write_text(lines(*bodies))
    done = aot("oracle", "log.jsonl", "--what-if", "--json", "--model", model, "--block-size", 8)
    check(done, 0)
    found = {row["name"]: row for row in json.loads(done.stdout)}
    assert found["canary"]["gain_tokens"] == 0
    assert found["dynamic-first"]["gain_tokens"] == 39 * 120
    text = aot("oracle", "log.jsonl", "--what-if", "--model", model, "--block-size", 8).stdout
    assert "the order as logged costs 4,680 tokens" in text
    assert "mended by: dynamic-first" in text


def test_oracle_on_a_schedule_and_a_workload(aot: Aot, tmp_path: Path, model: Path) -> None:
    text = "scenario: unique\nrequests: 9\ndynamic_tokens: 60\n"
    (tmp_path / "w.yaml").write_text(text)
    check(aot("schedule", "w.yaml", "-o", "s.jsonl", "--model", model), 0)
    for what in ("w.yaml", "s.jsonl"):
        done = aot("oracle", what, "--model", model, "--json", "--capacity", "inf")
        check(done, 0)
        assert {r["hit_tokens"] for r in json.loads(done.stdout)} == {0}
        assert {r["total_tokens"] for r in json.loads(done.stdout)} == {540}
    check(aot("oracle", "s.jsonl"), 2, "name the model whose tokenizer counts: --model PATH")


def test_wrong_ways_to_ask_the_oracle(aot: Aot, tmp_path: Path) -> None:
    for name, text in SAMPLES.items():
        (tmp_path / name).write_text(text)
    check(aot("oracle", "nowhere"), 2, "nowhere: no such file")
    check(
        aot("oracle", "mooncake", "--policy", "magic"), 2, "'magic' is not one of 'lru', 'leaf-lru'"
    )
    check(aot("oracle", "mooncake", "--capacity", "0"), 2, "--capacity 0: expected a number of")
    check(
        aot("oracle", "mooncake", "--format", "csv"), 2, "'csv' is not one of 'mooncake', 'bailian'"
    )
    check(
        aot("oracle", "mooncake", "--block-size", "100", "--capacity", "3"), 2,
        "blocks of 100 tokens cannot be told from blocks of 512",
    )  # fmt: skip
    check(aot("oracle", "azure"), 2, "lengths and times only")
    check(aot("oracle", "mooncake", "--what-if"), 2, "names blocks of whole prompts, not their")
    check(aot("oracle", "mooncake", "--curve", "."), 2, "is a folder; name a file to write")
    (tmp_path / "bad.jsonl").write_text(SAMPLES["mooncake"] + "{}\n")
    check(aot("oracle", "bad.jsonl"), 2, "bad.jsonl:3: field 'timestamp' is missing (--skip-bad")
    done = aot("oracle", "bad.jsonl", "--skip-bad")
    check(done, 0)
    assert "1 bad lines left out, the first: bad.jsonl:3" in done.stderr


def test_a_trace_becomes_a_schedule_of_exact_lengths(aot: Aot, tmp_path: Path, model: Path) -> None:
    (tmp_path / "t.jsonl").write_text(mooncake([1, 2], [1, 3], [1, 2, 4], [7]))
    done = aot(
        "schedule", "t.jsonl", "-o", "s.jsonl", "--model", model, "--scale", "0.125", "--speed", 4
    )
    check(done, 0)
    made = schedule_file.read(tmp_path / "s.jsonl")
    assert [r.at_s for r in made.requests] == [0.0, 0.25, 0.5, 0.75]
    assert [r.prompt_tokens for r in made.requests] == [128, 128, 192, 64]
    tokenizer = from_folder(model)
    assert tokenizer is not None
    ids = [tokenizer.encode(*made.chat_of(r)) for r in made.requests]
    assert [len(i) for i in ids] == [128, 128, 192, 64]
    assert ids[0][:64] == ids[1][:64]
    assert ids[0][64:70] != ids[1][64:70]
    assert ids[0][:126] == ids[2][:126]  # up to the two tokens that end a chat
    before = (tmp_path / "s.jsonl").read_bytes()
    options = ("--model", model, "--scale", "0.125", "--speed", 4)
    check(aot("schedule", "t.jsonl", "-o", "s.jsonl", *options), 0)
    assert (tmp_path / "s.jsonl").read_bytes() == before


def test_windows_limits_rates_and_turns_of_traces(aot: Aot, tmp_path: Path, model: Path) -> None:
    (tmp_path / "t.jsonl").write_text(mooncake(*([n] for n in range(9))))
    options = ("-o", "s.jsonl", "--model", model)

    def made(name: str, *more: object) -> schedule_file.Schedule:
        scale = () if name == "g.json" else ("--scale", "0.1")
        check(aot("schedule", name, *more, *options, *scale), 0)
        return schedule_file.read(tmp_path / "s.jsonl")

    assert [r.at_s for r in made("t.jsonl", "--window", "2:5").requests] == [0.0, 1.0, 2.0]
    assert len(made("t.jsonl", "--limit", 4).requests) == 4
    assert made("t.jsonl", "--rate", 100).requests[-1].at_s < 2
    turns = [BAILIAN, BAILIAN | {"chat_id": 8, "parent_chat_id": 7, "timestamp": 9}]
    (tmp_path / "b.jsonl").write_text(lines(*turns))
    assert [r.after for r in made("b.jsonl").requests] == [None, "r000000"]
    (tmp_path / "g.json").write_text(SAMPLES["sharegpt"])
    chats = made("g.json", "--rate", 1, "--max-tokens", 7)
    assert [r.after for r in chats.requests] == [None, "r000000"]
    assert {r.max_tokens for r in chats.requests} <= {1, 7}
    (tmp_path / "a.csv").write_text(SAMPLES["azure"])
    assert made("a.csv").requests[0].prompt_tokens == 37


def test_traces_that_cannot_be_scheduled(aot: Aot, tmp_path: Path, model: Path) -> None:
    (tmp_path / "t.jsonl").write_text(mooncake([1], [2], gap_ms=-5))
    options = ("-o", "s.jsonl", "--model", model)
    check(
        aot("schedule", "t.jsonl", *options), 2,
        "t.jsonl:2: its time is before that of the request above it (--sort puts them in order)",
    )  # fmt: skip
    check(aot("schedule", "t.jsonl", *options, "--sort"), 0)
    (tmp_path / "s.jsonl").unlink()
    check(aot("schedule", "t.jsonl", "-o", "s.jsonl"), 2, "name the model whose tokenizer counts")
    check(aot("schedule", "t.jsonl", *options, "--scale", "0"), 2, "--scale 0.0: expected a number")
    check(aot("schedule", "t.jsonl", *options, "--window", "9:3"), 2, "FROM must be 0 or more and")
    check(aot("schedule", "t.jsonl", *options, "--window", "x"), 2, "expected FROM:TO in seconds")
    check(aot("schedule", "t.jsonl", *options, "--sort", "--window", "50:60"), 2, "in the window")
    (tmp_path / "o.jsonl").write_text(lines({"messages": OPENAI["body"]["messages"]}))  # type: ignore[index]
    check(aot("schedule", "o.jsonl", *options), 2, "have no times; say how they arrive: --rate N")
    (tmp_path / "e.jsonl").write_text("")
    check(aot("schedule", "e.jsonl", *options), 2, "its first line is empty: no trace")
    assert not (tmp_path / "s.jsonl").exists()


def test_rounding_of_scaled_blocks_does_not_add_up(aot: Aot, tmp_path: Path, model: Path) -> None:
    """Blocks of 1.5 words: what two prompts share in the trace they share in the schedule."""
    ids = list(range(40))
    rows = [BAILIAN | {"input_length": 640, "hash_ids": [*ids, 100 + n][:40]} for n in range(2)]
    rows.append(BAILIAN | {"input_length": 640, "hash_ids": [*ids[:30], *range(200, 210)]})
    (tmp_path / "b.jsonl").write_text(lines(*rows))
    scale = 1.5 / 16
    check(aot("schedule", "b.jsonl", "-o", "s.jsonl", "--model", model, "--scale", scale), 0)
    made = schedule_file.read(tmp_path / "s.jsonl")
    assert [r.prompt_tokens for r in made.requests] == [60, 60, 60]
    words = [r.messages[0]["content"].split() for r in made.requests]
    assert words[0] == words[1]
    shared = next(i for i, (a, b) in enumerate(zip(words[0], words[2], strict=True)) if a != b)
    assert shared + 1 == 45  # <user> before them: 30 blocks of 1.5


WRONG_LINES = [
    (MOONCAKE | {"input_length": 10**400}, "'input_length' is 1000"),
    (MOONCAKE | {"input_length": 1e300}, "expected an integer of 1 or more"),
    (MOONCAKE | {"input_length": True}, "'input_length' is True"),
    (MOONCAKE | {"timestamp": float("nan")}, "'timestamp' is nan, expected a number"),
    (MOONCAKE | {"timestamp": float("inf")}, "'timestamp' is inf, expected a number"),
    (MOONCAKE | {"hash_ids": []}, "'hash_ids' is no list of block ids"),
    (MOONCAKE | {"hash_ids": [1.5]}, "'hash_ids' has something else than numbers"),
]


@pytest.mark.parametrize(("row", "words"), WRONG_LINES)
def test_wrong_values_name_line_and_field(
    aot: Aot, tmp_path: Path, row: dict[str, object], words: str
) -> None:
    (tmp_path / "t.jsonl").write_text(lines(MOONCAKE, row))
    check(aot("oracle", "t.jsonl"), 2, "t.jsonl:2: field", words)
    done = aot("oracle", "t.jsonl", "--skip-bad", "--capacity", "9", "--json")
    check(done, 0)
    assert json.loads(done.stdout)[0]["total_blocks"] == 2


def test_broken_archives_depths_and_marks(aot: Aot, tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(random.Random(1).randbytes(20_000).hex().encode()))
    packed[9000:9200] = b"\xff" * 200
    (tmp_path / "g").write_bytes(packed)
    check(aot("oracle", "g", "--format", "mooncake"), 2, "g: cannot be read")
    (tmp_path / "deep").write_text("[" * 100_000 + "\n")
    check(aot("oracle", "deep", "--format", "mooncake"), 2, "deep:1: not JSON")
    (tmp_path / "bom").write_text("\ufeff" + SAMPLES["mooncake"])
    done = aot("oracle", "bom", "--json", "--capacity", "9")
    check(done, 0)
    assert json.loads(done.stdout)[0]["total_blocks"] == 4
    check(aot("oracle", "."), 2, "no file in it that could be a log")


def test_options_that_would_do_nothing_are_refused(aot: Aot, tmp_path: Path, model: Path) -> None:
    (tmp_path / "t.jsonl").write_text(mooncake([1]))
    (tmp_path / "w.yaml").write_text("scenario: unique\nrequests: 2\n")
    check(aot("oracle", "t.jsonl", "--what-if", "--capacity", "3"), 2, "goes with --block-size")
    check(
        aot("schedule", "w.yaml", "-o", "s", "--model", model, "--limit", 2), 2,
        "w.yaml is a workload: what is for traces goes into the file there",
    )  # fmt: skip
    check(aot("schedule", "w.yaml", "-o", "s.jsonl", "--model", model), 0)
    check(aot("schedule", "s.jsonl", "-o", "x", "--model", model), 2, "is a schedule already")
    url = ("--url", "http://127.0.0.1:9")
    check(aot("load", "s.jsonl", *url, "--worker", "x"), 2, "--worker x: expected HOST:PORT")
    check(aot("load", "s.jsonl", *url, "--listen", "h:0"), 2, "--listen h:0: expected HOST:PORT")
    check(
        aot("load", "s.jsonl", *url, "--master", 2, "--processes", 2), 2,
        "--processes, --master and --worker: one of them",
    )  # fmt: skip
    check(aot("load", "w.yaml", *url, "--master", 2), 2, "all machines need the same schedule")


def test_answers_take_as_long_as_in_a_run(aot: Aot, tmp_path: Path) -> None:
    """0.5 s, 1 ms a prompt token, 0.1 s an output token: of 100 and 5 that are 1.1 s."""
    arms = {"jit": {"tpot_s": {"p50": 0.1}}, "aot": {"tpot_s": {"p50": None}}}
    summary = {"prefill": {"fixed_s": 0.5, "s_per_token": 0.001}, "arms": arms}
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "summary.json").write_text(json.dumps(summary))
    assert fitted(tmp_path / "run").of(Traced(1, input_tokens=100, output_tokens=5)) == (
        pytest.approx(0.5 + 0.1 + 0.5)
    )
    (tmp_path / "t.jsonl").write_text(mooncake([1, 2], [1, 2, 3]))
    like = ("oracle", "t.jsonl", "--capacity", "9", "--policy", "in-flight", "--answers-like")
    check(aot(*like, "run"), 0)
    check(aot(*like, "run", "--answer-s", "2"), 2, "one of them says how long answers take")
    check(aot(*like, "t.jsonl"), 2, "no summary.json")
    for fit in (None, {"fixed_s": 0.5, "s_per_token": -0.002}, {"fixed_s": 1, "s_per_token": None}):
        (tmp_path / "run" / "summary.json").write_text(json.dumps({**summary, "prefill": fit}))
        check(aot(*like, "run"), 2, "has no fit of TTFT")


def test_rounded_times_are_spread_where_that_is_asked_for(
    aot: Aot, tmp_path: Path, model: Path
) -> None:
    rows = [{"timestamp": 3000 * (n // 5), "input_length": 600, "output_length": 2,
             "hash_ids": [n, n + 1]} for n in range(20)]  # fmt: skip
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    options = ("--model", model, "--scale", "0.02", "-o")
    check(aot("schedule", "t.jsonl", "--spread", *options, "s.jsonl"), 0)
    made = schedule_file.read(tmp_path / "s.jsonl")
    assert len({r.at_s for r in made.requests}) == 20
    assert made.changes == {"time: spread over the 3 s that times are rounded to": 20}
    check(aot("schedule", "t.jsonl", *options, "plain.jsonl"), 0)
    assert len({r.at_s for r in schedule_file.read(tmp_path / "plain.jsonl").requests}) == 4
    (tmp_path / "u.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows[:3]))
    check(aot("schedule", "u.jsonl", "--spread", *options, "no.jsonl"), 2, "are not rounded")
    assert not (tmp_path / "no.jsonl").exists()
    both = aot("schedule", "t.jsonl", "--spread", "--rate", 2, *options, "no.jsonl")
    check(both, 2, "which --rate replaces")
    assert not (tmp_path / "no.jsonl").exists()
    check(aot("schedule", "w.yaml", "--spread", *options, "no.jsonl"), 2)


def test_a_large_file_is_read_again_rather_than_held(
    aot: Aot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(4)
    prompts = [[*range(1, rng.randint(2, 4)), rng.randint(5, 20)] for _ in range(60)]
    (tmp_path / "t.jsonl").write_text(mooncake(*prompts) + "{}\n")
    options = ["oracle", "t.jsonl", "--json", "--skip-bad", "--capacity", "5", "--capacity", "9"]
    for policy in ("lru", "leaf-lru", "fifo", "lfu"):
        options += ["--policy", policy]
    held = aot(*options)
    check(held, 0)
    monkeypatch.setattr("aot.scripts.traffic.oracle.LARGE_BYTES", 100)
    streamed = aot(*options)
    check(streamed, 0)
    assert json.loads(streamed.stdout) == json.loads(held.stdout)
    assert "read once for each policy and capacity" in streamed.stderr
    assert "1 bad lines left out" in streamed.stderr


def test_a_capacity_may_be_memory_of_a_model_or_of_a_server_file(aot: Aot, tmp_path: Path) -> None:
    """Llama-3.1-8B has 131,072 B a token (bfloat16): 1 GiB are 16 blocks of 512 tokens."""
    (tmp_path / "t.jsonl").write_text(mooncake(*[[n, n + 1] for n in range(1, 40)]))
    llama = ("--model", "meta-llama/Llama-3.1-8B-Instruct")
    served = ("--server", "llama-3.1-8b-h100", "--block-tokens", "512")

    def blocks(*options: str) -> list[int]:
        done = aot("oracle", "t.jsonl", "--json", "--policy", "lru", *options)
        assert done.returncode == 0, done.stderr
        return [row["capacity_blocks"] for row in json.loads(done.stdout)]

    assert blocks("--capacity", "1GiB", "--capacity", "2.5 gib", *llama) == [16, 40]
    assert blocks("--capacity", "1GiB", *served) == [16]
    own = aot("oracle", "t.jsonl", *served)
    check(own, 0, "blocks: what the cache of llama-3.1-8b-h100")
    for options, words in (
        ([], "name it with --model, or a server file"),
        (["--model", "meta-llama/Unknown-1B"], "not known here"),
    ):
        check(aot("oracle", "t.jsonl", "--capacity", "1GiB", *options), 2, words)
    check(aot("oracle", "t.jsonl", "--capacity", "0.001GiB", *llama), 2, "less than a block")
    check(aot("oracle", "t.jsonl", "--capacity", "3GB"), 2, "memory as in 40GiB")


def test_the_oracle_asks_the_rule_of_the_model(aot: Aot, tmp_path: Path) -> None:
    """A window model finds a beginning from the third request on."""
    model = word_level(tmp_path)
    config = {"model_type": "x", "num_hidden_layers": 4, "sliding_window": 8,
              "max_position_embeddings": 4096,
              "layer_types": ["full_attention", "sliding_attention"] * 2}  # fmt: skip
    text = " ".join(["be kind"] * 20)
    rows = [{"messages": [{"role": "user", "content": f"{text} {w}"}]}
            for w in ("you " * 20, "hello " * 20)]  # fmt: skip
    log = tmp_path / "log.jsonl"
    log.write_text("".join(json.dumps(row) + "\n" for row in [*rows, *rows]))

    def hits(*options: str) -> list[int]:
        done = aot("oracle", log, "--model", model, "--block-size", 4, "--capacity", "inf",
                   "--policy", "leaf-lru", "--json", *options)  # fmt: skip
        assert done.returncode == 0, done.stderr
        return [row["hit_blocks"] for row in json.loads(done.stdout)]

    dense = hits()
    (model / "config.json").write_text(json.dumps(config))
    assert 0 < hits()[0] < dense[0]
    check(aot("oracle", log, "--model", model, "--policy", "opt"), 2, "leaf-lru only")
    (model / "config.json").write_text(json.dumps({**config, "layer_types": ["new"] * 4}))
    check(aot("oracle", log, "--model", model), 2, "layers whose cache is not known here")
