"""The endpoint that a schedule is for, on the server at hand."""

from __future__ import annotations

from dataclasses import replace

from aot.scripts.traffic import plan
from aot.serving.client.endpoint import Endpoint


def worded(server: Endpoint, endpoint: str, folder: str | None = None) -> Endpoint:
    """`server`, asked at `endpoint`, for which the traffic is, unless another one was asked for.
    `folder`: the model's, whose tokenizer counts, and whose chat template makes the texts of
    prompts where texts are sent."""
    wording = server.wording.for_endpoint(endpoint)
    texts = wording.dialect.item is None
    tokenizer = plan.local_tokenizer(folder, plain=texts) if folder else None
    if tokenizer is None:
        return replace(server, wording=wording)
    server = replace(server, wording=wording, encode=tokenizer.encode)
    return replace(server, render=tokenizer.prompt_text, template=folder) if texts else server
