"""`aot doctor --server` from the command line; and the shipped presets, held against it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from support.command import Aot, check
from support.model_files import CONFIG, model_folder
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from aot.configs.kernel.errors import ConfigError
from aot.configs.kernel.places import CHECKOUT, CONFIGS
from aot.configs.loading.load import load_server
from aot.configs.schema.server import ServerConfig
from aot.scripts.doctor import sizing, sizing_table
from aot.serving.engines import table
from aot.serving.engines.flags import known
from aot.serving.engines.launch_plan import Site
from aot.serving.local.machine import Machine

PRESETS = sorted(
    path for path in (CONFIGS / "servers").glob("*.yaml") if "\ncard:" in path.read_text()
)


def server_file(folder: Path, text: str) -> Path:
    path = folder / "server.yaml"
    path.write_text(text)
    return path


def gpus(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    machine = Machine("cpu", frozenset(), 8, 64.0, lines, "Linux")
    monkeypatch.setattr(sizing, "this_machine", lambda: machine)


@pytest.mark.parametrize("path", PRESETS, ids=lambda p: p.stem)
def test_each_preset_fits_its_card_with_room_for_two_longest_prompts(path: Path) -> None:
    server = load_server(path)
    assert isinstance(server, ServerConfig)
    assert server.card is not None
    assert server.card in path.stem
    memory = sizing.size(path, server.card).memory
    assert memory.fits
    assert memory.cache_tokens >= 2 * memory.context_tokens
    site = Site(Path("/usr/bin"), server.model, 8000, "cuda")
    argv = table.engine(server.engine).plan(server, "aot", site).argv
    flags = {word.split("=")[0] for word in argv if word.startswith("--")}
    assert flags <= known(server.engine)


def test_the_presets_are_for_the_common_cards_and_models() -> None:
    names = " ".join(path.stem for path in PRESETS)
    for word in ("llama-3.1-8b", "qwen3-8b", "qwen3-32b", "gpt-oss-20b", "mistral"):
        assert word in names
    for word in ("l4", "a10g", "a100-80", "h100", "h200", "2xh100", "sglang"):
        assert word in names


def test_the_table_in_the_docs_is_what_the_doctor_says() -> None:
    text = (CHECKOUT / "docs" / "gpu-boxes.md").read_text()
    rows = dict(re.findall(r"^\| `([\w.-]+)` \| (.+) \|$", text, re.MULTILINE))
    assert sorted(rows) == sorted(path.stem for path in PRESETS)
    for path in PRESETS:
        assert rows[path.stem] == table_row(path), path.stem


def table_row(path: Path) -> str:
    found = sizing.size(path, None if not sizing.this_machine().gpus else load_card(path))
    memory = found.memory
    facts = sizing_table.facts(found, sizing_table.Traffic(8, 1024, 4096))
    return (
        f"{memory.weights_gib:.1f} + {memory.budget.reserve_gib:.1f} of "
        f"{memory.budget.usable_gib:.1f} | {memory.kv_bytes_per_token:,} | "
        f"{memory.cache_tokens:,} | {memory.context_tokens:,} | {facts['resident_prefixes']}"
    )


def load_card(path: Path) -> str | None:
    server = load_server(path)
    return server.card if isinstance(server, ServerConfig) else None


def test_a_file_that_fits_says_why(aot: Aot) -> None:
    done = aot("doctor", "--server", CONFIGS / "servers" / "qwen3-8b-l4.yaml", "--card", "l4")
    assert done.returncode == 0, done.stderr
    text = " ".join(done.stdout.split())
    assert "2 x 36 layers x 8 heads x 128, fp8" in text
    assert "73,728 B" in text
    assert "computed, not measured" in text
    assert text.endswith("it fits")


def test_one_that_does_not_fit_is_named_with_its_remedies(aot: Aot, tmp_path: Path) -> None:
    path = server_file(tmp_path, "model: Qwen/Qwen3-32B\ncard: l4\n")
    done = aot("doctor", "--server", path, "--card", "l4")
    assert done.returncode == 1
    assert "the model does not fit on l4 (22.0 GiB): 61.0 GiB of weights" in done.stdout
    assert "mended by  gpus: 8\n" in done.stdout
    done = aot("doctor", "--server", path, "--card", "h100", "--json")
    facts = json.loads(done.stdout)
    assert done.returncode == 3
    assert facts["fits"] is None
    assert facts["problem"].startswith("cannot say: the engine reserves")
    assert "gpus: 2" in facts["remedies"]
    path = server_file(tmp_path, "model: Qwen/Qwen3-32B\ncontext_tokens: 60000\n")
    done = aot("doctor", "--server", path, "--card", "h100", "--json")
    facts = json.loads(done.stdout)
    assert (done.returncode, facts["fits"]) == (1, False)
    assert facts["problem"].startswith("the longest prompt does not fit: the cache holds")


def test_the_gpu_that_is_here_counts_unless_another_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = server_file(tmp_path, "model: Qwen/Qwen3-8B\ncard: l4\ncontext_tokens: 4096\n")
    gpus(monkeypatch)
    assert sizing.size(path, None).memory.place.name == "l4"
    gpus(monkeypatch, "NVIDIA H100 80GB HBM3, 81559 MiB, 570.1")
    assert sizing.size(path, None).memory.place.name == "h100"
    assert sizing.size(path, "a10g").memory.place.name == "a10g"
    gpus(monkeypatch, "NVIDIA RTX 9090, 49152 MiB, 570.1")
    place = sizing.size(path, None).memory.place
    assert place.name == "NVIDIA RTX 9090"
    assert place.memory_gib == pytest.approx(0.97 * 48)
    gpus(monkeypatch, "NVIDIA A100-SXM4-80GB, 10240 MiB, 570.1")  # a part of one
    assert sizing.size(path, None).memory.place.memory_gib == pytest.approx(9.7)
    pair = server_file(tmp_path, "model: Qwen/Qwen3-8B\ngpus: 2\ncontext_tokens: 4096\n")
    gpus(monkeypatch, "NVIDIA H100 80GB HBM3, 81559 MiB, 570.1", "NVIDIA L4, 23034 MiB, 570.1")
    assert sizing.size(pair, None).memory.place.name == "l4"  # the smaller one decides


def test_a_gpu_that_does_not_say_its_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server = ServerConfig.model_validate({"model": "Qwen/Qwen3-8B"})
    for line in ("NVIDIA GB10, [N/A], 580.95", "odd", ""):
        gpus(monkeypatch, line)
        with pytest.raises(ConfigError, match="does not say how much memory the GPU has"):
            sizing.size(server_file(tmp_path, "model: Qwen/Qwen3-8B\n"), None)
        path = server_file(tmp_path, "model: Qwen/Qwen3-8B\ncard: h100\n")
        found = sizing.size(path, None)
        assert found.memory.place.name == "h100"
        assert any("the GPU here does not say what it has" in words for words in found.notes)
        sizing.refuse_too_large(server, "Qwen/Qwen3-8B")


def test_replicas_share_a_machine_and_routers_share_prefixes(
    aot: Aot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus(monkeypatch)  # 64 GiB
    text = "model: Qwen/Qwen3-8B\nenvironment: vllm-cpu\ncontext_tokens: 4096\ncache_gib: 4\n"
    assert sizing.size(server_file(tmp_path, text), None).memory.fits
    path = server_file(tmp_path, text + "replicas: 8\n")
    assert "1/8 of the memory" in str(sizing.size(path, None).problem)
    text = "model: Qwen/Qwen3-8B\ncontext_tokens: 4096\nreplicas: 2\nrouter: {name: smg, policy: "
    found = []
    for policy in ("round_robin", "cache_aware"):
        made = sizing.size(server_file(tmp_path, text + policy + "}\n"), "h100")
        traffic = sizing_table.Traffic(8, 1024, 4096)
        found.append(sizing_table.facts(made, traffic)["resident_prefixes"])
    assert found[1] == 2 * found[0]


def test_a_workload_says_what_runs(aot: Aot, tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model", {**CONFIG, "max_position_embeddings": 8192})
    tokenizer = Tokenizer(WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    template = "{% for m in messages %}{{ m.content }} a {% endfor %}"
    (folder / "chat_template.jinja").write_text(template)
    text = f"model: {folder}\nenvironment: vllm-cpu\nblock_tokens: 32\ncache_tokens: 4096\n"
    workload = CONFIGS / "workloads" / "support-bot.yaml"
    path = server_file(tmp_path, text)
    done = aot("doctor", "--server", path, "--workload", workload, "--json")
    facts = json.loads(done.stdout)
    assert len(facts["traffic"]["prefixes"]) > 1
    assert facts["traffic"]["request_tokens"] != 1024
    told = ("--running", "1", "--request-tokens", "7", "--json")
    done = aot("doctor", "--server", path, "--workload", workload, *told)
    assert json.loads(done.stdout)["traffic"]["request_tokens"] == 7


def test_a_launch_refuses_weights_that_have_no_room_here(monkeypatch: pytest.MonkeyPatch) -> None:
    server = ServerConfig.model_validate({"model": "Qwen/Qwen3-32B"})
    gpus(monkeypatch, "NVIDIA L4, 23034 MiB, 570.1")
    with pytest.raises(Exception, match=r"61.0 GiB of weights, and l4 has 22.0 GiB; .*aot doctor"):
        sizing.refuse_too_large(server, "Qwen/Qwen3-32B")
    sizing.refuse_too_large(server.model_copy(update={"gpus": 4}), "Qwen/Qwen3-32B")
    sizing.refuse_too_large(server, "nobody/knows-this")
    gpus(monkeypatch)  # nvidia-smi is not there: nothing is certain
    sizing.refuse_too_large(server, "Qwen/Qwen3-32B")


def test_notes_say_what_the_numbers_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(monkeypatch)
    text = "model: meta-llama/Llama-3.1-8B-Instruct\ncontext_tokens: 200000\n"
    path = server_file(tmp_path, text + "args: [--kv-cache-dtype, fp8]\n")
    notes = " ".join(sizing.size(path, "a100-80").notes)
    assert "a100-80 does not compute FP8" in notes
    assert "more than the model was made for (131,072)" in notes
    assert "is gated" in notes
    path = server_file(tmp_path, "model: openai/gpt-oss-20b\n")
    assert "12 of 24 layers keep 128 tokens only" in " ".join(sizing.size(path, "h100").notes)


@pytest.mark.parametrize(
    ("text", "arguments", "words"),
    [
        ("model: Qwen/Qwen3-8B\n", ["--card", "h10"], "unknown card 'h10', did you mean 'h100'?"),
        ("model: Qwen/Qwen3-8B\n", [], "no GPU here, and no key 'card'; name one: --card NAME"),
        ("model: Qwen/Qwen3-8B\nenvironment: vllm-cpu\n", ["--card", "l4"], "is for a CPU"),
        ("engine: vllm\nruntime: remote\nurl: http://h\n", [], "this server runs already"),
        (
            "model: Qwen/Qwen3-8B\nargs: [--kv-cache-dtype, int4]\n",
            ["--card", "l4"],
            "server.yaml: cannot say: --kv-cache-dtype int4: its size per token is not known",
        ),
        (
            "model: Qwen/Qwen3-8B\nargs: [--max-model-len, 100]\n",
            ["--card", "l4"],
            "--max-model-len does not belong there: use the key 'context_tokens'",
        ),
        (
            "model: Qwen/Qwen3-8B\nargs: [-tp, 2]\n",
            ["--card", "l4"],
            "-tp does not belong there: use the key 'gpus'",
        ),
        ("model: a/b/c\n", ["--card", "l4"], "neither a folder here nor an id of the hub"),
        (
            "model: Qwen/Qwen3-8B\n",
            ["--card", "l4", "--workload", CONFIGS / "workloads" / "eight-tenants.yaml"],
            "the tokenizer of Qwen/Qwen3-8B is not on this machine to count with; give "
            "--prefix-tokens N",
        ),
    ],
)
def test_bad_input_is_named(
    aot: Aot,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    arguments: list[object],
    words: str,
) -> None:
    gpus(monkeypatch)
    done = aot("doctor", "--server", server_file(tmp_path, text), *arguments)
    check(done, 3 if "cannot say" in words else 2, words)
    assert done.stdout == ""


def test_options_of_a_server_need_one(aot: Aot) -> None:
    check(aot("doctor", "--card", "l4"), 2, "all options of the doctor go with --server FILE")
