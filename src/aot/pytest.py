"""A pytest plugin: is the beginning of an application's prompts the same across turns, users, days?

    def test_prompts_share_their_beginning(prompt_recorder):
        for user in ("Ann", "Bob"):
            my_app.ask("Where is my order?", user=user)   # through the openai or anthropic SDK
        prompt_recorder.assert_stable()

Nothing is sent: the recorder answers "ok" (`prompt_recorder.answer`). For days, move the clock with
a library such as time-machine between the calls.
"""

from __future__ import annotations

import pytest

from aot.scripts.prompts.recording import Recorder


@pytest.fixture
def prompt_recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """Records what the openai and anthropic SDKs send in this test, and answers in the server's
    place."""
    recorder = Recorder()
    recorder.install(monkeypatch.setattr)
    return recorder
