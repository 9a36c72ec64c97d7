"""Compiled prompts on the real vLLM: what was predicted is cached, to the token, and its own events
name the blocks by the hashes that were computed here."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from support.live import QUICK, aot, served

from aot.configs.kernel.places import CONFIGS
from aot.scripts.prompts import warming
from aot.serving.cache.residency import Residency
from aot.serving.client import kv_events
from aot.serving.client.endpoint import Endpoint, connect
from aot.serving.engines.vllm import replay_endpoint
from aot.serving.hosted import apis
from aot.serving.hosted.api import Account, Static
from aot.serving.local import models
from aot.workloads.prompts import compiled
from aot.workloads.prompts.compiled import Compiled

pytestmark = pytest.mark.engine
PROMPTS = sorted(p for p in (CONFIGS / "prompts").iterdir() if p.is_dir())
PAIR = [p for p in PROMPTS if p.name in ("support-bot", "warranty-desk")]
"""Two that together fit into 100 blocks of 32."""
WIDE = [p for p in PROMPTS if p.name in ("support-bot", "farm-agent", "ticket-labels")]
OTHERS = [p for p in PROMPTS if p.name in ("farm-agent", "rag-desk", "story-writer")]
MODEL = "smollm2-135m"
TURNS = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}"
    "{% else %}{{ m.content }}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
DATED = (
    "{% if date_string is not defined %}{% set date_string = '26 Jul 2024' %}{% endif %}"
    "{{ '<|im_start|>system\nToday: ' + date_string + '<|im_end|>\n' }}" + TURNS
)
BROUGHT = (
    "{% for m in messages %}[{{ m.role | upper }}] {{ m.content | trim }}\n{% endfor %}"
    "{% if add_generation_prompt %}[ASSISTANT]{% endif %}"
)
WITH_TOOLS = (
    "{% if tools %}{{ '<|im_start|>system\n' }}"
    "{{ tools | tojson(ensure_ascii=False, separators=(',', ':')) }}{{ '<|im_end|>\n' }}{% endif %}"
    + TURNS
)


def compile_all(files: Path, *options: str, folders: Sequence[Path]) -> list[Compiled]:
    found = []
    for number, folder in enumerate(folders):
        path = files / f"compiled-{number}.json"
        done = aot("compile", folder, "-o", path, *options, cwd=files)
        assert done.returncode == 0, done.stderr
        found.append(compiled.read(path))
    return found


def check_exactly(prompts: list[Compiled], endpoint: Endpoint) -> None:
    """The first sending of a probe hits nothing of it; the other probe hits what was predicted."""
    for prompt in prompts:
        if prompt.template_arguments:
            given = {"chat_template_kwargs": prompt.template_arguments}
            endpoint = endpoint.with_fields(given)
        first, second = (
            endpoint.chat(prompt.chat(which), 1, prompt.cache_salt, tuple(prompt.tools))
            for which in (0, 1)
        )
        assert first.cached_tokens == 0
        assert (
            second.cached_tokens == prompt.cached_tokens == prompt.full_blocks * prompt.block_tokens
        )


def resident(prompts: list[Compiled], endpoint: str) -> list[int]:
    """Blocks of each that are there without a gap, by the server's own events."""
    residency = Residency()
    residency.remember(kv_events.replay(replay_endpoint(endpoint)))
    assert residency.certain
    return [residency.of(warming.chain(p)).leading for p in prompts]


def test_predicted_is_cached_with_blocks_of_128(files: Path) -> None:
    """With a chat template that writes a date, pinned by an argument."""
    folder = with_template(files, "dated", DATED)
    text = (files / "quick.yaml").read_text().replace("block_tokens: 32", "block_tokens: 128")
    text = text.replace("model: smollm2-135m", "model: ./dated")
    text = text.replace(QUICK, f"{QUICK}, --trust-request-chat-template")
    (files / "wide.yaml").write_text(text)
    pinned = ("--template-arg", "date_string=27 Nov 2026")
    with served(files, "wide") as url:
        prompts = compile_all(files, "--server", url, *pinned, folders=WIDE)
        check_exactly(prompts, connect(url, None, None))
        by_request(files, connect(url, None, None))
        ask_by_both_apis(files, url)
    assert all(p.block_tokens == 128 for p in prompts)
    local = compile_all(files, "--model", folder, "--block-tokens", "128", *pinned, folders=WIDE)
    assert [p.static_token_ids for p in local] == [p.static_token_ids for p in prompts]
    assert [p.tokenizer_sha256 for p in local] == [p.tokenizer_sha256 for p in prompts]


def ask_by_both_apis(files: Path, url: str) -> None:
    """Anthropic's API on vLLM: written at first, read then, and by the OpenAI API too."""
    folder = CONFIGS / "prompts" / "support-bot"
    done = aot(
        "compile", folder, "--server", url, "--var", "tenant=Other", "-o", "o.json", cwd=files
    )
    assert done.returncode == 0, done.stderr
    made = compiled.read(files / "o.json")
    static = Static(made.messages, tuple(made.tools), made.cache_key)
    account = Account(url, MODEL, None)
    client = apis.client("anthropic", account)
    first, second = (
        client.ask(static, [{"role": "user", "content": q}], 2).usage for q in ("Why?", "How much?")
    )
    assert first.cached_tokens == 0
    assert (first.written_tokens or 0) >= made.cached_tokens
    assert second.cached_tokens == made.cached_tokens
    other = apis.client("openai", account)
    again = other.ask(static, [{"role": "user", "content": "When?"}], 2).usage
    assert again.cached_tokens == made.cached_tokens
    done = aot(
        "ask", "o.json", "Who?", "--api", "anthropic", "--url", url, "--model", MODEL, cwd=files
    )
    assert done.returncode == 0, done.stderr
    assert f"cached {made.cached_tokens}" in done.stderr


def by_request(files: Path, endpoint: Endpoint) -> None:
    """A third template, that requests bring along."""
    folder = with_template(files, "brought", BROUGHT)
    options = ("--model", str(folder), "--block-tokens", "128")
    prompts = compile_all(files, *options, folders=WIDE[:1])
    check_exactly(prompts, endpoint.with_fields({"chat_template": BROUGHT}))


def with_template(files: Path, name: str, template: str) -> Path:
    """The model's folder with another chat template."""
    folder = files / name
    folder.mkdir()
    for path in Path(models.resolve(MODEL, files)).iterdir():
        if path.name != "chat_template.jinja":
            (folder / path.name).symlink_to(path)
    (folder / "chat_template.jinja").write_text(template)
    return folder


def test_predicted_is_cached_salted_resident_evicted_and_kept(files: Path) -> None:
    """With a chat template that writes tools in a form of its own."""
    events = f"ipc://{files}/kv.sock"
    more = f"kv_events: {events}\nargs: [--num-gpu-blocks-override, 100, {QUICK}]\n"
    folder = with_template(files, "tools", WITH_TOOLS)
    text = (files / "vllm.yaml").read_text().replace("context_tokens: 4096", "context_tokens: 2560")
    text = text.replace("model: smollm2-135m", "model: ./tools")
    (files / "small.yaml").write_text(text + more)
    with served(files, "small") as url:
        endpoint = connect(url, None, None)
        for salt in ((), ("--salt", "tenant-b")):
            check_exactly(compile_all(files, "--server", url, *salt, folders=OTHERS), endpoint)
        plain = compile_all(files, "--model", str(folder), "--block-tokens", "32", folders=PAIR)
        assert resident(plain, events) == [0] * len(plain)
        check_exactly(plain, endpoint)
        assert resident(plain, events) == [p.full_blocks for p in plain]

        salted = compile_all(files, "--server", url, "--salt", "tenant-a", folders=PAIR)
        assert resident(salted[:1], events) == [0]  # another cache, by its name
        check_exactly(salted, endpoint)
        assert resident(salted[-1:], events) == [salted[-1].full_blocks]

        # 100 blocks do not hold both: the older one lost its tail, as its next request shows.
        (left,) = resident(plain[:1], events)
        assert left < plain[0].full_blocks
        usage = endpoint.chat(plain[0].chat(1), 1)
        assert usage.cached_tokens == left * 32

        watched(files, url, events, salted[0])
        done = aot("warm", files / "compiled-0.json", "--url", url, cwd=files)
        assert done.returncode == 0, done.stderr + done.stdout
        (files / "other.json").write_text(
            json.dumps(json.loads(plain[0].to_text()) | {"block_tokens": 64})
        )
        done = aot("warm", "other.json", "--url", url, cwd=files)
        assert done.returncode == 1
        assert "was compiled for blocks of 64 tokens" in done.stderr


def watched(files: Path, url: str, events: str, prompt: Compiled) -> None:
    """`aot warm --watch --events` warms what was evicted, and ends when told to."""
    command = [
        sys.executable,
        "-P",
        "-m",
        "aot.scripts.cli",
        "warm",
        str(files / "compiled-0.json"),
    ]
    command += ["--url", url, "--watch", "--events", events]
    process = subprocess.Popen(command, cwd=files, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert "1 of 1 resident, 1 filled" in process.stdout.readline()
    assert resident([prompt], events) == [prompt.full_blocks]
    process.terminate()
    process.stdout.close()
    assert process.wait(20) == 143
