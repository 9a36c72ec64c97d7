"""What an experiment measures: a server that is launched here, or one that runs already."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from aot.configs.schema.experiment import Arm
from aot.serving.client.endpoint import Endpoint
from aot.serving.engines.engine import Engine


@dataclass(frozen=True, slots=True)
class Up:
    """A server that answers. `command`: how it was started; None where it was not by us."""

    endpoint: Endpoint
    command: str | None
    alive: Callable[[], bool]
    """Whether it can still answer anything."""
    replicas_alive: Callable[[], list[bool]] = list
    """Replica by replica; empty where that is not known."""
    store_state: Callable[[], dict[str, bool | int] | None] = lambda: None
    """Whether the KV store answers ('alive') and chunks its disk did not take ('lost_writes'); None
    without one of ours."""
    store_page: Callable[[], str | None] = lambda: None
    """The store's own /metrics; None where there is none."""


class Target(Protocol):
    """One server of an experiment, checked and ready to be measured."""

    @property
    def name(self) -> str:
        """What the report calls it: the stem of its file."""
        ...

    @property
    def path(self) -> Path: ...

    @property
    def engine(self) -> Engine: ...

    @property
    def remote(self) -> bool:
        """Whether somebody else runs it: then it is neither restarted nor reconfigured."""
        ...

    def lacks_store(self, arms: Sequence[str]) -> str | None:
        """Why it cannot be measured under these `arms`, which go through a KV store, in words."""
        ...

    def lacks_salts(self, endpoint: str) -> str | None:
        """Why requests to it can have no cache salt of their own, at the kind of `endpoint` that
        the traffic is for, in words; None where they can."""
        ...

    def outlives(self, arm: Arm) -> bool:
        """Whether its cache has a tier under `arm` that a fresh process may find filled."""
        ...

    @property
    def model_name(self) -> str:
        """The model's name in the API."""
        ...

    @property
    def tokenizer_folder(self) -> str | None:
        """Where the model's own tokenizer may be; None where only the server has it."""
        ...

    @property
    def context_tokens(self) -> int | None: ...

    @property
    def block_tokens(self) -> int | None:
        """The block size that the file asks for; None: the engine's own."""
        ...

    @property
    def versions(self) -> dict[str, str]: ...

    def resolved(self) -> dict[str, Any]:
        """The server file with all defaults filled in and no secret."""
        ...

    def serving(self, arm: Arm, log: Path) -> AbstractContextManager[Up]:
        """The server under `arm`, for as long as the block runs."""
        ...
