"""A KV store beside the engine, from the command line: what is started, and what is refused."""

from __future__ import annotations

import socket
from pathlib import Path
from textwrap import dedent

import pytest
from support.command import Aot, check
from support.compiled import prompt as compiled_prompt
from support.word_level import word_level

from aot.scripts.prompts.compiling import fingerprint_of
from aot.serving.local import store_contents, store_disk
from aot.serving.local.store_contents import Contents, Filling, StoredPrompt
from aot.workloads.prompts import compiled


def edited(server: Path, store: str, more: str = "") -> None:
    kept = [x for x in server.read_text().splitlines() if not x.startswith("store:")]
    server.write_text("\n".join([*kept, *([f"store: {store}"] if store else []), more]) + "\n")


def test_the_store_comes_first_and_the_engine_finds_it(aot: Aot, fake_store: Path) -> None:
    store, engine = aot("serve", fake_store, "--dry-run").stdout.splitlines()
    assert "-m lmcache.cli.main server --host 127.0.0.1 --port" in store
    assert "--http-host 127.0.0.1" in store
    assert "--chunk-size 64" in store
    assert f'"base_path": "{fake_store.parent}/kept"' in store
    port = store.split("--port ")[1].split()[0]
    assert f'"lmcache.mp.port": {port}' in engine
    assert "--disable-hybrid-kv-cache-manager" in engine
    assert "PYTHONPATH=" in engine


@pytest.mark.parametrize("arm", ["jit", "auto", "aot"])
def test_other_arms_are_without_it(aot: Aot, fake_store: Path, arm: str) -> None:
    done = aot("serve", fake_store, "--arm", arm, "--dry-run")
    assert done.stdout.count("\n") == 1
    assert "kv-transfer" not in done.stdout


@pytest.mark.parametrize(
    ("store", "more", "words"),
    [
        ("{chunk_tokens: 100}", "", "store.chunk_tokens: 100 is no multiple of the engine's block "
         "of 32 tokens; take 96"),
        ("{chunk_tokens: 64}", "args: [--kv-transfer-config, '{}']",
         "store: args has a connector already"),
        ("{chunk_tokens: 64}", "args: [--kv_transfer, '{}']",
         "store: args has a connector already"),
        ("{chunk_tokens: 64}", "runtime: docker", "it is had from an engine of this machine"),
        ("{address: '127.0.0.1:1', chunk_tokens: 64}", "",
         "store.address: nothing answers at 127.0.0.1:1"),
        ("{address: '127.0.0.1:9', memory_gib: 2}", "", "the store at 127.0.0.1:9 runs"),
        ("{address: nowhere}", "", "store.address"),
        ("{kind: redis}", "", "store.kind"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_anything_starts(
    aot: Aot, fake_store: Path, store: str, more: str, words: str
) -> None:
    edited(fake_store, store, more)
    check(aot("serve", fake_store, "--dry-run"), 2, "server.yaml", words)
    assert not (fake_store.parent / "kept").exists()


def test_a_store_that_runs_is_found_and_not_started(aot: Aot, fake_store: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as there:
        port = there.getsockname()[1]
        edited(fake_store, f"{{address: '127.0.0.1:{port}', chunk_tokens: 64}}")
        done = aot("serve", fake_store, "--dry-run")
    (engine,) = done.stdout.splitlines()
    assert f'"lmcache.mp.port": {port}' in engine


def test_packages_that_are_not_installed_name_the_command(aot: Aot, fake_store: Path) -> None:
    marker = next((fake_store.parent / "home/.engines/lmcache").iterdir())
    marker.unlink()
    check(aot("serve", fake_store, "--dry-run"), 1, "run: aot store install lmcache")


def test_another_engine_has_none(aot: Aot, fake_sglang: Path) -> None:
    fake_sglang.write_text(fake_sglang.read_text() + "store: {}\n")
    check(aot("serve", fake_sglang, "--dry-run"), 2, "store: it is vLLM's")


@pytest.mark.parametrize(
    ("store", "arms", "words"),
    [
        ("", "[auto, store]", "store cannot be measured on"),
        ("", "[restarted]", "its file has no 'store'"),
        ("{chunk_tokens: 64}", "[restarted]", "its store has no 'disk'"),
    ],
)
def test_arms_that_need_a_store_say_so(
    aot: Aot, fake_store: Path, workload: Path, store: str, arms: str, words: str
) -> None:
    edited(fake_store, store)
    experiment = fake_store.parent / "experiment.yaml"
    experiment.write_text(
        dedent(f"""\
        name: e
        server: {fake_store.name}
        workload: {workload}
        arms: {arms}
        """)
    )
    check(aot("run", experiment), 2, "experiment.yaml", "arms", words)
    assert not (fake_store.parent / "runs").exists()


def test_the_disk_of_a_store_is_shown_verified_and_pruned(aot: Aot, tmp_path: Path) -> None:
    disk, here = tmp_path / "kv", tmp_path / "model"
    disk.mkdir()
    here.mkdir()
    mine = str(here).replace("/", "-SEP-")
    for name in (f"{mine}@0x1@0@aa.data", f"{mine}@0x1@0@bb@5a17.data", "-SEP-gone@0x1@0@cc.data"):
        (disk / name).write_bytes(b"x" * 100)
    check(aot("store", "verify", "kv"), 3)
    shown = aot("store", "list", "kv")
    assert "nobody: there is no such folder" in shown.stdout
    done = aot("store", "prune", "kv")
    check(done, 0)
    assert "removed 1 chunks" in done.stdout
    assert len(list(disk.glob("*.data"))) == 2
    store_disk.seal(disk)
    check(aot("store", "verify", "kv"), 0)
    (disk / f"{mine}@0x1@0@aa.data").write_bytes(b"y" * 100)
    damaged = aot("store", "verify", "kv")
    assert (damaged.returncode, "1 damaged" in damaged.stdout) == (1, True)
    check(aot("store", "list", "nowhere"), 2, "nowhere: no such folder")


def test_a_cache_that_outlives_its_process_needs_salts(
    aot: Aot, fake_sglang: Path, workload: Path
) -> None:
    """Said before anything starts."""
    fake_sglang.write_text(fake_sglang.read_text() + "args: [--enable-lmcache]\n")
    workload.write_text(workload.read_text() + "endpoint: messages\n")
    experiment = fake_sglang.parent / "experiment.yaml"
    lines = f"name: e\nserver: {fake_sglang.name}\nworkload: {workload}\n"
    experiment.write_text(lines + "arms: [auto]\n")
    words = "only fresh cache salts would make it empty: SGLang takes no cache salt"
    check(aot("run", experiment), 2, "experiment.yaml", "arms", words)
    assert not (fake_sglang.parent / "runs").exists()


@pytest.mark.parametrize(
    ("store", "options", "words"),
    [
        ("", [], "has no 'store'"),
        ("{chunk_tokens: 64}", [], "has a store without a 'disk'"),
        ("{disk: kept, chunk_tokens: 64}", ["--model", "m"], "leave the others out"),
        ("{disk: kept, chunk_tokens: 64}", ["--check"], "leave the others out"),
    ],
)
def test_what_nothing_can_be_compiled_into_is_refused(
    aot: Aot, fake_store: Path, workload: Path, store: str, options: list[str], words: str
) -> None:
    edited(fake_store, store)
    prompt = workload.parent / "prompt"
    check(aot("compile", prompt, "--into", fake_store, *options), 2, words)
    assert not (prompt / "compiled.json").exists()
    assert not (fake_store.parent / "kept").exists()


class Filled:
    """A disk that was filled with one compiled prompt of three chunks."""

    def __init__(self, server: Path) -> None:
        self.server, self.disk = server, server.parent / "kept"
        self.model = server.parent / "model"
        self.model.mkdir()
        (self.model / "config.json").write_text("{}")
        word_level(self.model)
        kept = [x for x in server.read_text().splitlines() if not x.startswith("model:")]
        server.write_text("\n".join([*kept, f"model: {self.model}"]) + "\n")
        self.disk.mkdir()
        tokenizer = fingerprint_of(str(self.model))
        assert tokenizer
        prompt = StoredPrompt(
            "faq", "c0ffee", str(self.model), tokenizer, None, 64, ("aa", "bb", "cc")
        )
        weights = store_contents.weights_of(str(self.model))
        filling = Filling(str(self.model), weights, {"--dtype": "float32"}, 64)
        store_contents.write(self.disk, Contents().with_model(filling).with_prompt(prompt))
        for name in prompt.chunks:
            self.chunk(name).write_bytes(b"x")

    def chunk(self, name: str) -> Path:
        return self.disk / f"{str(self.model).replace('/', '-SEP-')}@0x1@0@{name}.data"


def test_a_compiled_prompt_in_a_store_is_there_partly_there_or_stale(
    aot: Aot, fake_store: Path
) -> None:
    filled = Filled(fake_store)
    shown = aot("store", "list", fake_store)
    check(shown, 0)
    assert "c0ffee" in shown.stdout
    assert "3 of 3" in shown.stdout

    filled.chunk("bb").unlink()
    partly = aot("store", "list", filled.disk)
    assert (partly.returncode, "1 of 3  partly" in partly.stdout) == (3, True)
    filled.chunk("bb").write_bytes(b"x")

    edited(fake_store, "{disk: kept, chunk_tokens: 128}")
    assert "another chunk size: 64, now 128" in aot("store", "list", fake_store).stdout
    edited(fake_store, "{disk: kept, chunk_tokens: 64}")

    settings = filled.model / "tokenizer_config.json"
    was = settings.read_text()
    settings.write_text(was.replace("{{ m.role }}", "{{ m.role }} :"))
    assert "another tokenizer or chat template" in aot("store", "list", fake_store).stdout
    settings.write_text(was)

    (filled.model / "config.json").write_text('{"rope_theta": 2}')
    assert "other weights, or another config.json" in aot("store", "list", fake_store).stdout
    check(aot("serve", fake_store, "--dry-run"), 2, "would be taken for this server's")

    check(aot("store", "prune", filled.disk, "--model", str(filled.model)), 0)
    check(aot("serve", fake_store, "--dry-run"), 0)
    assert "no prompt was compiled into it" in aot("store", "list", fake_store).stdout


def test_prompts_of_one_model_are_not_looked_for_among_those_of_two(
    aot: Aot, fake_store: Path
) -> None:
    filled = Filled(fake_store)
    other = Filling("/m/other", None, {}, 64)
    store_contents.write(filled.disk, store_contents.read(filled.disk).with_model(other))
    mine = compiled_prompt("mine", list(range(64)))
    compiled.write(mine, fake_store.parent / "mine.json")
    check(aot("store", "list", filled.disk, "mine.json"), 2, "filled by 2 models")
    shown = aot("store", "list", fake_store, "mine.json")
    assert (shown.returncode, "0 of 1  not there" in shown.stdout) == (3, False)
    assert "stale: another tokenizer" in shown.stdout
