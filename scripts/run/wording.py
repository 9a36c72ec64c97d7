"""The endpoint that a schedule is for, on the server at hand."""

from __future__ import annotations

from dataclasses import replace

from aot.scripts.traffic import plan
from aot.serving.client.endpoint import Endpoint
from aot.workloads.requests.request import Schedule


def worded(server: Endpoint, schedule: Schedule, folder: str | None = None) -> Endpoint:
    """`server`, asked at the endpoint that `schedule` is for. `folder`: the model's, whose chat
    template makes the texts of prompts where texts are sent."""
    wording = server.wording.for_endpoint(schedule.endpoint)
    tokenizer = None
    if wording.dialect.list_key is None and folder:
        tokenizer = plan.local_tokenizer(folder, plain=True)
    if tokenizer is None:
        return replace(server, wording=wording)
    return replace(server, wording=wording, render=tokenizer.prompt_text, template=folder)
