"""A server file with 'runtime: remote': a server that somebody else runs, found and asked for what
it is. What cannot be done there is refused before anything is measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aot.configs.kernel.errors import ConfigError, EndpointError, UsageError
from aot.configs.loading.wording import of_config
from aot.configs.schema.experiment import Arm
from aot.configs.schema.remote_server import RemoteConfig
from aot.scripts.connecting import connect
from aot.scripts.run.target import Up
from aot.serving.client.detect import detect
from aot.serving.client.endpoint import Endpoint
from aot.serving.engines import table
from aot.serving.engines.engine import Engine
from aot.serving.local import models


@dataclass(frozen=True, slots=True)
class Remote:
    """A server that answered when it was looked for."""

    path: Path
    config: RemoteConfig
    engine: Engine
    endpoint: Endpoint
    tokenizer_folder: str | None
    versions: dict[str, str]

    remote = True
    context_tokens = None
    block_tokens = None

    @property
    def name(self) -> str:
        return self.path.stem

    def lacks_store(self, arms: Sequence[str]) -> str | None:
        del arms
        return "somebody else runs it, so it is not started with a store, nor again"

    def lacks_salts(self, endpoint: str) -> str | None:
        wording = self.endpoint.wording.for_endpoint(endpoint)
        if not wording.sends_salts:
            return "requests to it are sent without cache salts"
        return self.engine.lacks_salts(self.versions.get(self.engine.name), wording.dialect.name)

    @property
    def model_name(self) -> str:
        return self.endpoint.model

    def outlives(self, arm: Arm) -> bool:
        del arm
        return True

    def resolved(self) -> dict[str, Any]:
        return self.config.model_dump(mode="json")

    @contextmanager
    def serving(self, arm: Arm, log: Path) -> Iterator[Up]:
        del arm, log  # nothing is started: the arm is emulated by cache salts
        yield Up(self.endpoint, None, lambda: True, self._replicas_alive)

    def _replicas_alive(self) -> list[bool]:
        return [_answers(replica) for replica in self.endpoint.each() if self.endpoint.replicas]


def prepare(path: Path, config: RemoteConfig) -> Remote:
    """Find the server and check that it is what the file says.

    Raises EndpointError (unreachable, refused), ConfigError (another engine, model not served).
    """
    engine = table.engine(config.engine)
    try:
        wording = of_config(config.requests)
        if config.engine != "openai" and wording.profile is None:
            wording = replace(wording, profile=config.engine)  # known, whatever stands before it
        endpoint = connect(config.url, config.model, config.api_key_env, wording)
    except UsageError as error:
        # It speaks of options of the command line; here they are keys of a file.
        words = str(error).replace("--api-key-env", "api_key_env").replace("--", "")
        raise ConfigError(path, words) from None
    endpoint = replace(
        endpoint,
        replicas=tuple(config.replicas),
        keeps_owners=config.keeps_owners,
        key_header=config.key_header,
        tenant_salts=config.tenant_salts,
    )
    for replica in endpoint.each():
        _check_engine(path, config, replica, engine)
    version = engine.version(endpoint.page(engine))
    folder = models.resolve(config.tokenizer, path) if config.tokenizer else None
    versions = {engine.name: version} if version else {}
    return Remote(path, config, engine, endpoint, folder, versions)


def _check_engine(path: Path, config: RemoteConfig, endpoint: Endpoint, engine: Engine) -> None:
    """ConfigError for another engine than the file says; EndpointError where nothing answers."""
    endpoint.models()
    actual_engine = detect(endpoint)
    if actual_engine.name not in ("openai", engine.name) and engine.name != "openai":
        raise ConfigError(
            path,
            f"{endpoint.base_url} is {actual_engine.name} by its own pages",
            key=f"engine: {config.engine}",
        )


def _answers(endpoint: Endpoint) -> bool:
    try:
        return bool(endpoint.models())
    except EndpointError:
        return False
