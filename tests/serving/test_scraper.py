"""One engine that hangs does not hold up what is known of the others."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path

from support import stub

from aot.serving.client import scraper
from aot.serving.client.endpoint import Endpoint
from aot.serving.client.scraper import Scraper
from aot.serving.engines.table import engine

PAGE = "# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running 1\n"


def test_a_hung_replica_starves_nobody(tmp_path: Path) -> None:
    out = tmp_path / "server.jsonl"
    with (
        socket.create_server(("127.0.0.1", 0)) as hung,  # accepts, never answers
        stub.serving(pages={"/metrics": PAGE}) as server,
    ):
        urls = (f"http://127.0.0.1:{hung.getsockname()[1]}", server.base_url)
        endpoint = Endpoint(server.base_url, "m", replicas=urls)
        with Scraper(endpoint, engine("vllm"), out):
            time.sleep(3.5 * scraper.EVERY_S)
            began = time.monotonic()
        left_s = time.monotonic() - began
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert {row["replica"] for row in rows} == {1}
    assert len(rows) >= 3
    assert left_s < 2 * scraper.ANSWER_S
