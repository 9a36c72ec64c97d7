"""compile, lint, savings and warm as a user meets them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from support.command import Aot, check
from support.stub import serving


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "mine"
    (made / "dynamic_templates").mkdir(parents=True)
    (made / "system_prompt.txt").write_text("be kind hello you be kind hello you\n")
    (made / "dynamic_templates" / "ask.jinja2").write_text("{{ q }}")
    (made / "dynamic_inputs").mkdir()
    (made / "dynamic_inputs" / "ask.txt").write_text("hello\nyou\nkind\n")
    return made


def compiled(aot: Aot, folder: Path, *more: object):  # type: ignore[no-untyped-def]
    return aot("compile", folder, "--model", folder.parent, "--block-tokens", 4, *more)


def test_compile_writes_shows_and_checks(aot: Aot, folder: Path, model: Path) -> None:
    done = compiled(aot, folder)
    check(done, 0)
    assert "static " in done.stdout
    assert "compiled.json: cache key" in done.stdout
    check(compiled(aot, folder, "--check"), 0)
    (folder / "system_prompt.txt").write_text("be kind hello you hello kind hello you\n")
    before = (folder / "compiled.json").read_bytes()
    text = check(compiled(aot, folder, "--check"), 1, "compiled.json is stale: first change in")
    assert "system_prompt.txt, line 1" in text
    assert "must be rebuilt; compile again" in text
    assert (folder / "compiled.json").read_bytes() == before
    done = compiled(aot, folder)
    assert "must be rebuilt" in done.stderr
    check(compiled(aot, folder, "--check"), 0)


def test_another_name_or_dynamic_part_makes_nothing_stale(
    aot: Aot, folder: Path, model: Path
) -> None:
    check(compiled(aot, folder), 0)
    renamed = folder.rename(folder.parent / "yours")
    (renamed / "dynamic_inputs" / "ask.txt").write_text("you\nhello\nkind\nbe\n")
    done = compiled(aot, renamed, "--check")
    check(done, 0)
    assert "up to date" in done.stdout
    assert "its name, or dynamic templates and inputs, changed" in done.stderr


def test_another_path_to_the_same_model_makes_nothing_stale(
    aot: Aot, folder: Path, model: Path, tmp_path: Path
) -> None:
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(b"x" * 9)
    check(compiled(aot, folder), 0)
    other = tmp_path / "snapshots" / "4f2c9ab"
    other.mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        (other / name).write_bytes((model / name).read_bytes())
    again = ("compile", folder, "--model", other, "--block-tokens", 4, "--check")
    check(aot(*again), 0)
    (other / "model.safetensors").write_bytes(b"x" * 10)  # other weights
    check(aot(*again), 1, "the model changed")


def test_arguments_of_the_chat_template_are_kept(aot: Aot, folder: Path, model: Path) -> None:
    config = json.loads((model / "tokenizer_config.json").read_text())
    dated = (
        "{% if date_string is not defined %}{% set date_string = strftime_now('%d') %}{% endif %}"
        "{{ date_string }}{% for m in messages %}{{ m.content }} {% endfor %}"
    )
    config["chat_template"] = dated
    (model / "tokenizer_config.json").write_text(json.dumps(config))
    done = compiled(aot, folder)
    check(done, 0)
    assert (
        "writes today's date: tomorrow this prefix is another; pin it: --template-arg date_string"
        in (done.stderr)
    )
    done = compiled(aot, folder, "--template-arg", "date_string=be kind")
    check(done, 0)
    assert "today's date" not in done.stderr
    made = json.loads((folder / "compiled.json").read_text())
    assert made["template_arguments"] == {"date_string": "be kind"}
    check(compiled(aot, folder, "--check", "--template-arg", "date_string=be kind"), 0)
    words = "the arguments of the chat template changed"
    check(compiled(aot, folder, "--check", "--template-arg", "date_string=you"), 1, words)
    check(compiled(aot, folder, "--template-arg", "x"), 2, "--template-arg x: expected NAME=VALUE")


def test_a_failed_compile_leaves_what_was_there(aot: Aot, folder: Path, model: Path) -> None:
    check(compiled(aot, folder), 0)
    before = (folder / "compiled.json").read_bytes()
    (folder / "system_prompt.txt").write_text("{{ nobody }}")
    check(compiled(aot, folder), 2, "system_prompt.txt: 'nobody' is undefined")
    assert (folder / "compiled.json").read_bytes() == before
    assert not list(folder.glob(".*partial"))


def test_wrong_ways_to_compile(aot: Aot, folder: Path, model: Path) -> None:
    check(aot("compile", folder), 2, "give --model PATH (its tokenizer) or --server URL")
    check(
        aot("compile", "nope", "--model", model),
        2,
        "nope: no such file, and no prompt of that name is shipped",
    )
    check(
        aot("compile", folder, "--model", folder), 2, "no tokenizer.json with a chat template there"
    )
    check(compiled(aot, folder, "--var", "x"), 2, "--var x: expected NAME=VALUE")
    check(compiled(aot, folder, "--check"), 2, "no such file; make it with: aot compile")
    check(compiled(aot, folder, "-o", folder), 2, "is a folder; name the file to write")
    other = folder / "variables.yaml"
    other.write_text("a: b\n")
    check(compiled(aot, folder, "-o", other), 2, "exists and is no compiled prompt")
    assert other.read_text() == "a: b\n"
    check(compiled(aot, folder, "-o", "no/such/c.json"), 2, "no/such/c.json: cannot be written")
    check(aot("compile", folder, "--server", "http://127.0.0.1:9"), 1, "is not reachable")
    with serving() as stub:
        check(
            aot("compile", folder, "--server", stub.base_url), 2, "does not report its block size"
        )
        done = aot("compile", folder, "--server", stub.base_url, "--block-tokens", 4)
        check(done, 1, "has no usable /tokenize; count with the model's own tokenizer: --model")
        done = aot("compile", folder, "--server", stub.base_url, "--served-model", "other")
        check(done, 2, "does not serve 'other', but golden")


def test_compile_says_what_it_leaves_out_and_what_cannot_be_cached(
    aot: Aot, folder: Path, model: Path
) -> None:
    (folder / "context").mkdir()
    (folder / "context" / "manual.pdf").write_bytes(b"%PDF")
    done = aot("compile", folder, "--model", folder.parent, "--block-tokens", 500)
    check(done, 0)
    assert "context/manual.pdf is not part of the prompt: only *.txt and *.md" in done.stderr
    assert "fills not one block of 500 tokens: nothing of it can be cached" in done.stderr


def test_savings_shows_the_articles_example(aot: Aot, folder: Path, model: Path) -> None:
    check(compiled(aot, folder), 0)
    path = folder / "compiled.json"
    made = json.loads(path.read_text()) | {"static_tokens": 2000, "rounding_tokens": 16}
    path.write_text(json.dumps(made))
    done = aot("savings", path, "--requests-per-day", 10000, "--provider", "anthropic")
    check(done, 0)
    assert "2,000 static tokens × 10,000 requests a day = 20,000,000 tokens a day" in done.stdout
    assert "less 16 tokens of rounding a request = 19,840,000 tokens a day" in done.stdout
    assert "break-even within one TTL: from request 2 on" in done.stdout
    assert "advice: compile ahead of time" in done.stdout
    check(aot("savings", path, "--requests-per-day", 9, "--provider", "x"), 2, "'x' is not one")
    done = aot("savings", path, "--requests-per-day", 9, "--provider", "openai", "--model", "y")
    check(done, 2, "'y' is not in configs/pricing/openai.yaml: gpt-5,")
    check(aot("savings", path, "--requests-per-day", 9, "--run", "."), 2, "no measured run")


@pytest.mark.parametrize("form", ["text", "json", "sarif", "github"])
def test_lint_in_every_form(aot: Aot, folder: Path, form: str) -> None:
    text = "be kind\nCurrent time: 2026-03-01T09:15:22Z\n" + "hello you " * 1500
    (folder / "system_prompt.txt").write_text(text)
    done = aot("lint", folder, "--format", form, "--price", "2")
    check(done, 1, "1 finding(s) of level error")
    if form == "json":
        (found,) = json.loads(done.stdout)["findings"]
        place = (found["rule"], found["file"], found["line"])
        assert place == ("volatile-time", f"{folder.name}/system_prompt.txt", 2)
        assert found["money_per_1000"] == pytest.approx(found["tokens_per_request"] * 2 / 1000)
    elif form == "sarif":
        (run,) = json.loads(done.stdout)["runs"]
        (result,) = run["results"]
        place = result["locations"][0]["physicalLocation"]
        assert (result["ruleId"], place["region"]["startLine"]) == ("volatile-time", 2)
    elif form == "github":
        place = f"file={folder.name}/system_prompt.txt,line=2,title=volatile-time"
        assert done.stdout.startswith(f"::error {place}::")
    else:
        assert "system_prompt.txt:2: error: volatile-time: 'Current time: 2026" in done.stdout
        assert "per 1,000 requests" in done.stdout


def test_places_begin_at_the_root_of_the_repository(aot: Aot, folder: Path) -> None:
    odd = folder.rename(folder.parent / "a, b:c 50%")
    (odd / "system_prompt.txt").write_text("Current time: 12:30:01\n" + "hello you " * 1500)
    (folder.parent / ".git").mkdir()
    done = aot("lint", odd, "--format", "github")
    assert done.stdout.startswith("::error file=a%2C b%3Ac 50%25/system_prompt.txt,line=1,")
    done = aot("lint", odd, "--format", "sarif")
    (result,) = json.loads(done.stdout)["runs"][0]["results"]
    place = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert place == "a%2C%20b%3Ac%2050%25/system_prompt.txt"


def test_what_is_known_is_left_out(aot: Aot, folder: Path, tmp_path: Path) -> None:
    path = folder / "system_prompt.txt"
    clock = "Current time: 12:30:01\n" + "hello you " * 1500
    path.write_text(clock)
    check(aot("lint", folder, folder, "--fail-on", "never"), 0)
    done = aot("lint", folder, "--write-baseline", "known.json")
    check(done, 0)
    assert "1 findings that are known" in done.stderr
    path.write_text("A line more.\n" + clock)
    done = aot("lint", folder, "--baseline", "known.json")
    check(done, 0)
    assert done.stdout == "nothing else found\n"
    path.write_text(f"Request ID: 48213\n{clock}")
    check(aot("lint", folder, "--baseline", "known.json"), 1, "1 finding(s) of level error")
    check(aot("lint", folder, "--ignore", "volatile-time", "--ignore", "volatile-id"), 0)
    path.write_text("{# aot: ignore volatile-time #}\n" + clock)
    check(aot("lint", folder), 0)
    path.write_text("{# aot: ignore volatile-id #}\n" + clock)
    check(aot("lint", folder), 1)
    check(aot("lint", folder, "--baseline", "no.json"), 2, "no.json: no such file; write it with")
    (tmp_path / "bad.json").write_text("{}")
    check(aot("lint", folder, "--baseline", "bad.json"), 2, "is no baseline of aot lint")
    check(aot("lint", folder, "--ignore", "x"), 2, "--ignore: 'x' is no rule; they are cache-key")


def log_of(path: Path, count: int, system: str = "Rule {r} of the shop. ") -> Path:
    rules = "".join(system.format(r=r) for r in range(60))
    rows = [
        {"messages": [{"role": "system", "content": rules}, {"role": "user", "content": f"q{n}"}]}
        for n in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_log_is_held_against_the_server_that_it_goes_to(aot: Aot, tmp_path: Path) -> None:
    path = log_of(tmp_path / "log.jsonl", 20)
    done = aot("lint", path, "--format", "json")
    check(done, 0)
    facts = json.loads(done.stdout)
    assert facts["findings"] == []
    assert facts["hit_ratio"] > 0.9
    done = aot("lint", path, "--minimum-tokens", "4096", "--format", "json")
    check(done, 0)
    facts = json.loads(done.stdout)
    assert [f["rule"] for f in facts["findings"]] == ["short-prefix"]
    assert "the provider caches from 4096 tokens on" in facts["findings"][0]["detail"]
    assert facts["hit_ratio"] == 0
    done = aot("lint", path, "--block-tokens", "1024")
    assert "not one block of 1024 is full" in done.stdout
    with path.open("a") as file:
        file.write("{not json\n")
    done = aot("lint", path)
    check(done, 0)
    assert "1 bad lines left out, the first:" in done.stderr
    check(aot("lint", path, path), 0)


def test_a_log_is_mended_where_that_can_be_done(aot: Aot, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    call = {"type": "function", "function": {"name": "look_up", "arguments": '{"id": 7}'}}
    rows = []
    for n in range(12):
        talk, turn = divmod(n, 4)
        messages = [
            {"role": "system", "content": f"Now: 2026-03-01T09:{n:02}:11Z\n" + "Be kind. " * 400}
        ]
        for t in range(turn + 1):
            id_ = f"call_{n:04}{t:04}"  # made anew for every request
            messages += [
                {"role": "user", "content": f"Question {t} of talk {talk}"},
                {"role": "assistant", "content": None, "tool_calls": [{"id": id_, **call}]},
                {"role": "tool", "tool_call_id": id_, "content": f"row {t} of {talk} " * 40},
            ]
        rows.append(
            {
                "at_s": float(n),
                "session_id": f"t{talk}",
                "body": {"model": "m", "messages": messages},
            }
        )
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    done = aot("lint", path, "--fix", "mended.jsonl")
    check(done, 1, "finding(s) of level error")
    assert "mended.jsonl: mended: volatile-time, call-ids; 12 requests changed" in done.stderr
    check(aot("lint", "mended.jsonl"), 0)
    made = [json.loads(line) for line in (tmp_path / "mended.jsonl").read_text().splitlines()]
    assert [r["at_s"] for r in made] == [r["at_s"] for r in rows]
    assert made[1]["body"]["model"] == "m"
    assert made[1]["body"]["messages"][2]["tool_calls"][0]["id"] == "call_0"
    assert made[1]["body"]["messages"][3]["tool_call_id"] == "call_0"
    assert made[1]["body"]["messages"][2]["tool_calls"][0]["function"] == call["function"]
    check(aot("lint", path, "--fix", path), 2, "is the log itself; give another file")
    check(aot("lint", path, path, "--fix", "x.jsonl"), 2, "--fix: of one request log")


@pytest.mark.parametrize("end", ["\n", ""])
def test_a_folder_is_mended_by_a_patch(aot: Aot, folder: Path, tmp_path: Path, end: str) -> None:
    path = folder / "system_prompt.txt"
    said = "\ufeffBe kind.   \t\r\nCafe\u0301 \u200bhours.\n" + "Name the clause.\n" * 400
    path.write_text(said + "The end." + end, encoding="utf-8", newline="")
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    done = aot("lint", folder, "--fix", "mended.patch")
    assert "mends white space and Unicode forms in mine/system_prompt.txt" in done.stderr
    subprocess.run(["git", "apply", "mended.patch"], cwd=tmp_path, check=True)
    assert path.read_bytes().decode() == (
        "Be kind.\nCaf\u00e9 hours.\n" + "Name the clause.\n" * 400 + "The end." + end
    )
    check(aot("lint", folder), 0)
    done = aot("lint", folder, "--fix", "more.patch")
    assert "nothing that can be mended without changing" in done.stderr
    assert not (tmp_path / "more.patch").exists()
    check(aot("lint", folder, "--fix", folder / "p.txt"), 2, "lies in the prompt folder")


def test_what_the_logs_own_server_found_is_set_beside(aot: Aot, tmp_path: Path) -> None:
    path = log_of(tmp_path / "log.jsonl", 20)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    usage = {"prompt_tokens": 400, "prompt_tokens_details": {"cached_tokens": 100}}
    timed = [
        {"at_s": 400.0 * n, "body": r, "response": {"usage": usage}} for n, r in enumerate(rows)
    ]
    path.write_text("".join(json.dumps(r) + "\n" for r in timed))
    done = aot("lint", path)
    check(done, 0)
    assert "served-less: the log's own server found less" in done.stdout
    assert "its own server found 25.0% of them" in done.stderr
    assert "100% of it after more than 300 s of rest (expired)" in done.stdout


def test_lint_takes_prices_and_least_prefix_from_a_providers_table(aot: Aot, folder: Path) -> None:
    (folder / "system_prompt.txt").write_text("hello you " * 1600)
    done = aot("lint", folder, "--provider", "anthropic", "--price-model", "claude-haiku-4.5")
    check(done, 0)
    assert "the provider caches from 4096 on" in done.stdout
    text = "Current time: 12:30:01\n" + "hello you " * 1600
    (folder / "system_prompt.txt").write_text(text)
    for provider, missed in (("anthropic", 2.5 - 0.2), ("openai", None)):
        done = aot("lint", folder, "--provider", provider, "--format", "json")
        (found,) = json.loads(done.stdout)["findings"]
        if missed is not None:  # behind a marker it is written anew
            paid = found["tokens_per_request"] * 1000 / 1e6 * missed
            assert found["money_per_1000"] == pytest.approx(paid)
    check(
        aot("lint", folder, "--provider", "x"), 2, "'--provider'", "'x' is not one of 'anthropic',"
    )
    check(aot("lint", folder, "--price-model", "x"), 2, "--price-model: of which --provider?")


def test_wrong_ways_to_lint(aot: Aot, folder: Path, tmp_path: Path) -> None:
    check(
        aot("lint", folder, "--format", "xml"),
        2,
        "'xml' is not one of 'text', 'json', 'sarif', 'github'",
    )
    check(aot("lint", "nope.jsonl"), 2, "nope.jsonl: no such file")
    (tmp_path / "log.jsonl").write_text('{"x": 1}\n')
    check(aot("lint", "log.jsonl"), 2, "no request in it: log.jsonl:1: field 'messages' is missing")


def test_warming_needs_what_is_compiled(
    aot: Aot, folder: Path, model: Path, workload: Path
) -> None:
    check(compiled(aot, folder), 0)
    path = folder / "compiled.json"
    with serving(cached_tokens=96) as stub:
        check(aot("warm", workload, path, "--url", stub.base_url), 2, "cannot be warmed in one go")
        check(aot("warm", workload, "--watch", "--url", stub.base_url), 2, "need compiled prompts")
        url = ("--url", stub.base_url)
        check(
            aot("warm", path, *url, *url, "--events", "ipc:///x", "--watch"), 2, "is of one server"
        )
        done = aot("warm", path, *url, *url)
        check(done, 0)
        assert done.stdout.count(" hit") == 2  # once per replica
    with serving(cached_tokens=0) as stub:
        text = check(
            aot("warm", path, "--url", stub.base_url), 1, "1 of 1 static prefixes are not in"
        )
        assert "do all requests carry the same cache salt?" in text
