"""compile, lint, savings, warm and residency as a user meets them."""

from __future__ import annotations

import json
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
        assert (found["rule"], found["file"], found["line"]) == (
            "volatile-time",
            "system_prompt.txt",
            2,
        )
        assert found["money_per_1000"] == pytest.approx(found["tokens_per_request"] * 2 / 1000)
    elif form == "sarif":
        (run,) = json.loads(done.stdout)["runs"]
        (result,) = run["results"]
        place = result["locations"][0]["physicalLocation"]
        assert (result["ruleId"], place["region"]["startLine"]) == ("volatile-time", 2)
    elif form == "github":
        assert done.stdout.startswith("::error file=system_prompt.txt,line=2,title=volatile-time::")
    else:
        assert "system_prompt.txt:2: error: volatile-time: 'Current time: 2026" in done.stdout
        assert "per 1,000 requests" in done.stdout


def test_lint_takes_prices_and_least_prefix_from_a_providers_table(aot: Aot, folder: Path) -> None:
    (folder / "system_prompt.txt").write_text("hello you " * 1600)
    done = aot("lint", folder, "--provider", "anthropic", "--price-model", "claude-haiku-4.5")
    check(done, 0)
    assert "the provider caches from 4096 on" in done.stdout
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
    check(aot("lint", "log.jsonl"), 2, "log.jsonl:1: field 'messages' is missing")


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


def test_residency_needs_events(aot: Aot, folder: Path, model: Path, workload: Path) -> None:
    check(compiled(aot, folder), 0)
    path = folder / "compiled.json"
    check(aot("residency", workload, "--events", "ipc:///x"), 2, "not a compiled prompt")
    check(aot("residency", path, "--events", "nonsense"), 2, "--events nonsense")
