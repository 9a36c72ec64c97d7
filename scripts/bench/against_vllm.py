"""Does the toolkit add anything to what it measures? Its median TTFT beside `vllm bench serve`'s.

One server, the same prompts, all of them in the cache; the two clients take turns (A B B A ...),
so that a drift of the machine hits both. The engine leaves one core to the clients and its own
front end: with its threads on every core, TTFT swings by half from turn to turn whoever measures.
Prints each client's median TTFT and, as the last line, one JSON object with their ratio.

usage: .venv/bin/python scripts/bench/against_vllm.py [--requests 20] [--rounds 6]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

from aot.configs.kernel.places import CONFIGS
from aot.scripts.run import launch
from aot.scripts.run.launch import Launcher
from aot.scripts.terminal import note
from aot.scripts.traffic import plan
from aot.serving.local.deployment import Deployment
from aot.workloads.load import replay
from aot.workloads.requests import schedule as schedule_file
from aot.workloads.requests.request import Prefix, Schedule
from aot.workloads.wire.record_lines import read_all


def flat_schedule(requests: int, max_tokens: int) -> Schedule:
    """The demo's prompts as single user messages, the only form that vLLM's client sends."""
    schedule = plan.schedule_of(CONFIGS / "workloads" / "support-bot.yaml")
    user = {"role": "user", "content": "x"}
    prefix = Prefix("none", (), ((user,), (user,)))
    flat = [
        replace(
            r,
            prefix="none",
            messages=(
                {
                    "role": "user",
                    "content": "\n".join(m["content"] for m in schedule.chat_of(r).messages),
                },
            ),
        )
        for r in schedule.requests
        if r.tenant == schedule.requests[0].tenant
    ][:requests]
    return replace(
        schedule,
        mode="closed",
        users=1,
        max_tokens=max_tokens,
        prefixes={"none": prefix},
        requests=tuple(flat),
    )


def ours(server: Deployment, schedule: Path, folder: Path) -> list[float]:
    """TTFT of each request by this toolkit, seconds."""
    job = replay.Replay(schedule, server.plan.base_url, server.plan.served_name, 1, folder)
    replay.run(job, lambda _: None)
    return [r.first_token_s - r.sent_s for r in read_all(job.records / "requests-0.jsonl")]


def theirs(
    launcher: Launcher, server: Deployment, prompts: Path, schedule: Schedule, out: Path
) -> list[float]:
    """TTFT of each request by vLLM's own benchmark client, seconds."""
    command = [str(launcher.environment.bin_dir / "vllm"), "bench", "serve"]
    command += ["--backend", "openai-chat", "--endpoint", "/v1/chat/completions"]
    command += ["--base-url", server.plan.base_url, "--model", server.plan.served_name]
    command += ["--tokenizer", launcher.model, "--dataset-name", "custom"]
    command += ["--dataset-path", str(prompts), "--skip-chat-template", "--disable-shuffle"]
    command += ["--num-prompts", str(len(schedule.requests)), "--max-concurrency", "1"]
    command += ["--custom-output-len", str(schedule.max_tokens), "--ignore-eos"]
    command += ["--save-result", "--save-detailed", "--result-filename", str(out)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    ttfts: list[float] = json.loads(out.read_text(encoding="utf-8"))["ttfts"]
    return ttfts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=6, help="turns of each client")
    options = parser.parse_args()
    schedule = flat_schedule(options.requests, max_tokens=4)
    launcher = launch.prepare(Path(__file__).with_name("server.yaml"))
    with tempfile.TemporaryDirectory() as name, launcher.up("aot", Path(name) / "log") as server:
        folder = Path(name)
        schedule_file.write(schedule, folder / "schedule.jsonl")
        prompts = folder / "prompts.jsonl"
        rows = [{"prompt": r.messages[0]["content"]} for r in schedule.requests]
        prompts.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        ours(server, folder / "schedule.jsonl", folder / "warm-up")
        toolkit: list[float] = []
        vllm: list[float] = []
        for turn in range(options.rounds):
            for client in ("toolkit", "vllm") if turn % 2 == 0 else ("vllm", "toolkit"):
                if client == "toolkit":
                    ttfts = ours(server, folder / "schedule.jsonl", folder / f"ours-{turn}")
                    toolkit += ttfts
                else:
                    ttfts = theirs(launcher, server, prompts, schedule, folder / f"{turn}.json")
                    vllm += ttfts
                note(f"{client:8} median TTFT {statistics.median(ttfts) * 1000:.1f} ms")
    medians = statistics.median(toolkit), statistics.median(vllm)
    result = {
        "toolkit_ttft_p50_s": medians[0],
        "vllm_bench_ttft_p50_s": medians[1],
        "ratio": medians[0] / medians[1],
        "requests_each": len(toolkit),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
