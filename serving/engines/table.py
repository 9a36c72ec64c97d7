"""The table of engines, and what a server file may say to each."""

from __future__ import annotations

from typing import TypeVar

from aot.configs.kernel.errors import UsageError
from aot.configs.loading.load import did_you_mean
from aot.configs.schema.beside import RouterConfig
from aot.configs.schema.remote_server import RemoteConfig
from aot.configs.schema.server import ServerConfig
from aot.serving.engines.engine import Engine
from aot.serving.engines.sglang import SGLang
from aot.serving.engines.vllm import VLLM

OPENAI = Engine()
ENGINES: dict[str, Engine] = {"vllm": VLLM(), "sglang": SGLang(), "openai": OPENAI}
Server = TypeVar("Server", ServerConfig, RemoteConfig)


def engine(name: str) -> Engine:
    """The engine called `name`; UsageError with the known ones otherwise."""
    if name not in ENGINES:
        known = ", ".join(sorted(ENGINES))
        raise UsageError(f"unknown engine '{name}'{did_you_mean(name, ENGINES)}; known: {known}")
    return ENGINES[name]


def accepted(server: Server) -> Server:
    """A server file with the defaults that are its engine's to say.

    Raises UsageError for an engine that is not known, or not launched.
    """
    known = engine(server.engine)
    if isinstance(server, RemoteConfig):
        if server.tenant_salts and not known.has_salts:
            raise UsageError(
                f"tenant_salts: an {known.name} server takes no cache salts; remove it"
            )
        return server
    if known.packaging is None:
        raise UsageError(
            f"engine: {known.name} is any server that runs already, so there is nothing to launch: "
            "add 'runtime: remote' and its 'url'"
        )
    router = server.router
    if router is None and server.replicas > 1:
        router = RouterConfig()
    if router is not None and "name" not in router.model_fields_set:
        router = router.model_copy(update={"name": known.default_router})
    return server if router is server.router else server.model_copy(update={"router": router})
