"""What operators are given, held against real servers: metric names, and what tenants can see."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import requests
import yaml

from support.live import aot

METRIC = re.compile(r"\b(?:vllm|sglang):[a-z0-9_]+")
OPENING = 40
"""Tokens that all prompts share: the opening of the template, with its own system message."""
PROMPT_TOKENS = 200
"""Of an audit's prompts, at least."""
LATER = {
    "sglang:evicted_tokens_total",  # appears with the first eviction
    "sglang:num_retracted_requests_total",  # and this with the first retraction
}


def used(folder: Path, server: str) -> set[str]:
    """Every metric in the rules and in the dashboard of a server."""
    found: set[str] = set()
    for target in ("prometheus-rules", "grafana"):
        done = aot("render", f"{server}.yaml", "--target", target, cwd=folder)
        assert done.returncode == 0, done.stderr
        found |= set(METRIC.findall(json.dumps(list(yaml.safe_load_all(done.stdout)))))
    return found


def exported(url: str) -> set[str]:
    """Names of all samples on the page of a server."""
    text = requests.get(f"{url}/metrics", timeout=30).text
    return {line.split("{")[0].split(" ")[0] for line in text.splitlines() if line[:1] != "#"}


def audit(url: str, folder: Path, *options: str) -> tuple[int, Any, str]:
    path = folder / "audit.json"
    done = aot("audit", "isolation", url, "--json", path, *options, cwd=folder)
    return done.returncode, json.loads(path.read_text()), done.stdout + done.stderr


def check_what_tenants_see(files: Path, name: str, url: str) -> None:
    """Each other without salts, and not with them; and every metric that is asked for is there."""
    key = ("--api-key-env", "E2E_KEY") if name == "hooked" else ()
    # Short prompts: this is about what is seen, and a CPU takes seconds for each long one.
    key = (*key, "--tokens", str(PROMPT_TOKENS))
    code, facts, words = audit(url, files, "--trials", "12", *key)
    assert code == 1, words
    assert facts["verdict"] == "leak"
    for trial in facts["trials"]:  # the whole prompt was found, but for the last block
        assert trial["known"]["cached_tokens"] > PROMPT_TOKENS - 32
        assert trial["unknown"]["cached_tokens"] < OPENING
    # Counts are exact, so that the first trial decides.
    assert "more for the victim's prompt in 1 of 1 trials" in words
    code, facts, words = audit(url, files, "--salts", "--trials", "20", *key)
    # By time a fair coin is called a leak in 2 of 100 audits: here only what chance cannot do.
    faster = sum(t["known"]["seconds"] < t["unknown"]["seconds"] for t in facts["trials"])
    assert faster <= 17, words
    assert "more for the victim's prompt in 0 of 20 trials" in words
    assert (code == 0) == (facts["verdict"] == "isolated")
    assert all(t["known"]["cached_tokens"] < OPENING for t in facts["trials"])
    missing = used(files, name) - exported(url)
    assert missing <= LATER
