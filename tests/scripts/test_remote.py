"""Servers that somebody else runs: what can be measured there, and what is refused by name.

The stub answers for faults and for what is sent; that salts really keep caches apart is tested on
the real engines (tests/engine)."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from support.command import Aot, check
from support.stub import serving

from aot.configs.kernel.salts import Salts
from aot.scripts.traffic import plan
from aot.workloads.wire.bodies import Bodies

SGLANG = {
    "/metrics": 'sglang:page_size 1.0\nsglang:prompt_tokens_total{is_streaming="true"} 5\n',
    "/server_info": '{"disable_radix_cache": false, "page_size": 1, "version": "0.5.23"}',
}


@pytest.fixture
def closed(workload: Path) -> Path:
    text = workload.read_text().replace("{mode: open}", "{mode: closed, users: 2}")
    workload.write_text(text)
    return workload


def experiment(tmp_path: Path, url: str, engine: str, arms: str = "[auto]", more: str = "") -> Path:
    server = f"engine: {engine}\nruntime: remote\nurl: {url}\n"
    (tmp_path / "theirs.yaml").write_text(server)
    path = tmp_path / "experiment.yaml"
    path.write_text(
        dedent(f"""\
        name: far
        server: theirs.yaml
        workload: small.yaml
        arms: {arms}
        """) + more
    )  # fmt: skip
    return path


def only_run(tmp_path: Path) -> Path:
    (run,) = (tmp_path / "runs").iterdir()
    return run


def summary(tmp_path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((only_run(tmp_path) / "summary.json").read_text())
    return found


def test_an_endpoint_without_cached_tokens_reads_not_reported(
    aot: Aot, closed: Path, tmp_path: Path
) -> None:
    with serving(gap_s=0.001, cached_tokens=None) as stub:
        done = aot("run", experiment(tmp_path, stub.base_url, "openai"))
        check(done, 0)
    cache = summary(tmp_path)["arms"]["auto"]["cache"]
    assert cache["client_hit_ratio"] is None
    assert cache["cached_tokens"] is None
    text = (only_run(tmp_path) / "report.md").read_text()
    assert "| hit ratio, client | not reported |" in text
    assert "the server reports no cached tokens per request" in text
    assert "what was in the cache before cannot be known" in text
    assert not any("cache_salt" in body for body in stub.received)


def test_jit_has_a_salt_for_each_request(aot: Aot, closed: Path, tmp_path: Path) -> None:
    with serving(gap_s=0.001, cached_tokens=0, pages=SGLANG) as stub:
        check(aot("run", experiment(tmp_path, stub.base_url, "sglang", "[jit]")), 0)
    salts = [body["cache_salt"] for body in stub.received if body.get("stream")]
    assert len(set(salts)) == len(salts) == 8
    assert all(len(s) == 32 and s.isalnum() for s in salts)
    proof = json.loads((only_run(tmp_path) / "phases" / "r1-jit" / "proof.json").read_text())
    assert (proof["salts"], proof["reset"]) == ("request", "fresh cache salts on a running server")
    assert "jit is emulated" in (only_run(tmp_path) / "report.md").read_text()


def test_salts_that_do_not_keep_apart_void_jit(aot: Aot, closed: Path, tmp_path: Path) -> None:
    """A server that ignores cache_salt: the canary hits, so jit is refused."""
    with serving(gap_s=0.001, cached_tokens=96, pages=SGLANG) as stub:
        done = aot("run", experiment(tmp_path, stub.base_url, "sglang", "[jit]"))
        check(done, 1, "a prompt never sent before hit 96 cached tokens: not empty")
    assert not list(tmp_path.rglob("requests-*.jsonl"))


def test_a_server_that_reports_nothing_cannot_have_jit_verified(
    aot: Aot, closed: Path, tmp_path: Path
) -> None:
    with serving(gap_s=0.001, cached_tokens=None, pages=SGLANG) as stub:
        done = aot("run", experiment(tmp_path, stub.base_url, "sglang", "[jit]"))
        check(done, 1, "does not report cached tokens per request")


@pytest.mark.parametrize(
    ("engine", "arms", "more", "words"),
    [
        ("openai", "[jit, auto]", "", "arms: jit cannot be measured on"),
        ("sglang", "[auto]", "cache_reset: restart\n", "cache_reset: "),
        ("sglang", "[auto]", "cache_reset: endpoint\n", "it is neither restarted nor emptied"),
        ("vllm", "[auto]", "", "engine: vllm: http"),
    ],
)
def test_what_cannot_be_done_there_is_said(
    aot: Aot, closed: Path, tmp_path: Path, engine: str, arms: str, more: str, words: str
) -> None:
    with serving(pages=SGLANG) as stub:
        done = aot("run", experiment(tmp_path, stub.base_url, engine, arms, more))
    check(done, 2, words)
    assert not (tmp_path / "runs").exists()


def test_a_server_that_is_not_there(aot: Aot, closed: Path, tmp_path: Path) -> None:
    done = aot("run", experiment(tmp_path, "http://127.0.0.1:9", "vllm"))
    check(done, 1, "http://127.0.0.1:9 is not reachable; is the server running?")
    assert not (tmp_path / "runs").exists()


def test_a_remote_server_is_not_started(aot: Aot, closed: Path, tmp_path: Path) -> None:
    experiment(tmp_path, "http://127.0.0.1:9", "vllm")
    check(aot("serve", "theirs.yaml"), 2, "theirs.yaml: runtime: this server runs already")


def test_a_model_that_is_not_served(aot: Aot, closed: Path, tmp_path: Path) -> None:
    with serving(pages=SGLANG) as stub:
        path = experiment(tmp_path, stub.base_url, "sglang")
        (tmp_path / "theirs.yaml").write_text(
            (tmp_path / "theirs.yaml").read_text() + "model: other\n"
        )
        check(aot("run", path), 2, "theirs.yaml", "does not serve 'other', but golden")


def test_a_key_that_is_not_set_is_named_as_the_file_calls_it(
    aot: Aot, closed: Path, tmp_path: Path
) -> None:
    path = experiment(tmp_path, "http://127.0.0.1:9", "vllm")
    server = tmp_path / "theirs.yaml"
    server.write_text(server.read_text() + "api_key_env: NO_SUCH_KEY\n")
    check(aot("run", path), 2, "theirs.yaml: api_key_env: environment variable NO_SUCH_KEY is not")


def test_load_into_one_folder_is_of_one_engine(aot: Aot, closed: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"remembers": True, "cached_tokens": 119, "pages": SGLANG}
    with serving(gap_s=0.001, **options) as stub:
        check(aot("load", closed, "--url", stub.base_url, "-o", "run"), 0)
    with serving(gap_s=0.001) as stub:
        done = aot("load", closed, "--url", stub.base_url, "-o", "run")
        check(done, 2, "holds arms of sglang, and this server is openai")
    facts = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert facts["servers"]["server"]["versions"] == {"sglang": "0.5.23"}


def test_tenant_salts_of_the_server_file_are_of_static_prefixes(workload: Path) -> None:
    schedule = plan.schedule_of(workload)
    prefixes = {r.id: r.prefix for r in schedule.requests}
    for salts in (None, Salts("nonce", "phase")):
        bodies = Bodies(schedule, "m", salts, tenant_salts=True)
        sent = {r.id: json.loads(bodies.of(r, {}))["cache_salt"] for r in schedule.requests}
        pairs = {(prefixes[id_], salt) for id_, salt in sent.items()}
        assert len(pairs) == len({p for p, _ in pairs}) == len({s for _, s in pairs}) >= 2
        warmed = {p.id: p.salt for p in plan.static_prefixes(schedule, {}, salts, True)}
        assert dict(pairs).items() <= warmed.items()


def test_engines_behind_a_running_router_are_proved_and_counted_one_by_one(
    aot: Aot, closed: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"gap_s": 0.001, "cached_tokens": 0, "pages": SGLANG}
    with serving(**options) as router, serving(**options) as one, serving(**options) as two:
        path = experiment(tmp_path, router.base_url, "sglang", "[jit]")
        theirs = tmp_path / "theirs.yaml"
        replicas = f"replicas: ['{one.base_url}', '{two.base_url}/v1']\n"
        theirs.write_text(theirs.read_text() + replicas + "key_header: X-Tenant\n")
        done = aot("run", path)
        check(done, 0)
        assert one.received
        assert two.received  # each was proved
        salted = [body for body in router.received if not body.get("stream")]
        assert len({body["cache_salt"] for body in salted}) == 5  # do they reach the engines?
    phase = only_run(tmp_path) / "phases" / "r1-jit"
    assert (phase / "metrics-after-1.txt").exists()
    assert json.loads((phase / "replicas.json").read_text()) == {"alive": [True, True]}


def test_an_engine_behind_the_router_that_does_not_answer_is_named(
    aot: Aot, closed: Path, tmp_path: Path
) -> None:
    with serving(cached_tokens=0, pages=SGLANG) as router:
        path = experiment(tmp_path, router.base_url, "sglang")
        theirs = tmp_path / "theirs.yaml"
        theirs.write_text(theirs.read_text() + "replicas: ['http://127.0.0.1:9']\n")
        check(aot("run", path), 1, "http://127.0.0.1:9 is not reachable")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("engine", "more", "words"),
    [
        ("vllm", "replicas: 2\n", "base URLs of the engines behind url, as a list"),
        ("vllm", "replicas: [gpu-1]\n", "must start with http:// or https://"),
        ("vllm", "keeps_owners: true\n", "keeps_owners says how a router works: give its replicas"),
        ("openai", "tenant_salts: true\n", "an openai server takes no cache salts; remove it"),
    ],
)
def test_keys_of_routers_and_salts_that_cannot_stand(
    aot: Aot, closed: Path, tmp_path: Path, engine: str, more: str, words: str
) -> None:
    path = experiment(tmp_path, "http://127.0.0.1:9", engine)
    theirs = tmp_path / "theirs.yaml"
    theirs.write_text(theirs.read_text() + more)
    check(aot("run", path), 2, "theirs.yaml", words)
