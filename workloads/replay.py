"""Drive Locust headless as a subprocess: its monkey-patching must not reach pandas or Popen here.

Records are on disk line by line, so a crash or Ctrl-C keeps what was answered.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from configs.errors import ToolkitError
from configs.salts import Salts

LOCUSTFILE = Path(__file__).parent / "locustfile.py"
POLL_S = 0.2
STOP_S = 10.0


@dataclass(frozen=True, slots=True)
class Replay:
    """One replay: which schedule, against what, into which folder."""

    schedule: Path
    base_url: str
    model: str
    users: int
    folder: Path
    arm: str = "auto"
    repeat: int = 1
    api_key_env: str | None = None
    salts: Salts | None = None

    @property
    def records(self) -> Path:
        return self.folder / "records"

    @property
    def log(self) -> Path:
        return self.folder / "load.log"


def run(replay: Replay, progress: Callable[[int], None]) -> None:
    """Replay to the end; `progress` gets the number of finished requests.

    Raises ToolkitError when Locust itself fails (a failed request is a record, not a failure).
    """
    replay.folder.mkdir(parents=True, exist_ok=True)
    env = {**os.environ, "AOT_DIE_WITH_PARENT": "1"}
    with replay.log.open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            _command(replay),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=env,
            start_new_session=True,
        )
        count = _Progress(replay.records)
        try:
            while process.poll() is None:
                progress(count.finished())
                time.sleep(POLL_S)
        finally:
            _end(process)
    progress(count.finished())
    if process.returncode != 0:
        tail = "\n".join(replay.log.read_text(encoding="utf-8").splitlines()[-8:])
        raise ToolkitError(
            f"the load generator failed with exit code {process.returncode}; the end of "
            f"{replay.log}:\n{tail}"
        )


class _Progress:
    """Counts the records as they are written, reading each byte once."""

    def __init__(self, records: Path) -> None:
        self._records = records
        self._offsets: dict[Path, int] = {}
        self._lines = 0

    def finished(self) -> int:
        """Requests recorded so far."""
        for file in self._records.glob("requests-*.jsonl"):
            with file.open("rb") as handle:
                handle.seek(self._offsets.get(file, 0))
                data = handle.read()
            self._offsets[file] = self._offsets.get(file, 0) + len(data)
            self._lines += data.count(b"\n")
        headers = len(self._offsets)
        return max(0, self._lines - headers)


def _command(replay: Replay) -> list[str]:
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless"]
    command += ["-u", str(replay.users), "-r", str(replay.users), "--host", replay.base_url]
    command += ["--schedule", str(replay.schedule), "--model", replay.model]
    command += ["--records", str(replay.records), "--arm", replay.arm]
    command += ["--repeat", str(replay.repeat), "--loglevel", "WARNING", "--only-summary"]
    command += ["--exit-code-on-error", "0"]
    if replay.salts:
        command += ["--salt-nonce", replay.salts.nonce, "--salt-per", replay.salts.kind]
    if replay.api_key_env:
        command += ["--api-key-env", replay.api_key_env]
    return command


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
