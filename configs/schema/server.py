"""The shape of server files; defaults live here and nowhere else."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from aot.configs.kernel.network import LOOPBACK
from aot.configs.schema.beside import RouterConfig, StoreConfig
from aot.configs.schema.container import ContainerConfig
from aot.configs.schema.recipe import EngineName
from aot.configs.schema.strict import Arguments, StrictModel
from aot.configs.schema.variables import Variables

PUBLIC_KEY = "AOT_API_KEY"
"""Variable with the key of a server that others can reach, unless its file names another."""


ENGINE_KEYS = (
    "cache_gib", "host_cache_gib", "schedule_policy", "hicache", "prefix_attention", "kv_events",
    "dev_mode", "store",
)  # fmt: skip
"""Keys of a server file that only some engines have a setting for; each engine says which."""


class HiCache(StrictModel):
    """SGLang's second cache tier in host memory, and a third one in storage. GPU only."""

    ratio: float | None = Field(None, gt=0, description="host pool / device pool")
    size_gb: int | None = Field(None, gt=0, description="host pool per rank; overrides ratio")
    write_policy: Literal["write_through", "write_back", "write_through_selective"] | None = None
    storage: str | None = Field(None, description="storage backend, e.g. file, mooncake, nixl")
    prefetch: Literal["best_effort", "wait_complete", "timeout"] | None = None


class ServerConfig(StrictModel):
    """configs/servers/NAME.yaml: one engine process. The caching mode comes from the arm."""

    engine: EngineName = "vllm"
    runtime: Literal["local", "docker", "remote"] = "local"  # "remote" is read as RemoteConfig
    container: ContainerConfig = Field(
        ContainerConfig(), description="for runtime: docker and aot render"
    )
    environment: str | None = Field(
        None,
        description="recipe name under configs/engines/, or 'current' for this Python; "
        "default: the recipe that is called like the engine",
    )
    model: str = Field(description="model recipe name, local folder, or hub id")
    served_name: str | None = Field(None, description="model name in the API; default: the model")
    host: str = Field(
        "127.0.0.1", description="another than loopback needs a key, and expose_unauthenticated"
    )
    port: int = Field(0, ge=0, le=65535, description="0 picks a free port")
    context_tokens: int | None = Field(None, gt=0, description="longest prompt plus output")
    block_tokens: int | None = Field(
        None, gt=0, description="KV block (vLLM) or page (SGLang) size; default: the engine's"
    )
    cache_gib: float | None = Field(None, gt=0, description="KV cache memory, vLLM")
    host_cache_gib: float | None = Field(
        None,
        gt=0,
        description="host memory that the cache goes on in, of all cards together: a tier beyond "
        "the device, which jit is without; needs a GPU",
    )
    cache_tokens: int | None = Field(
        None,
        gt=0,
        description="KV cache size; on vLLM whole blocks of it, and cache_gib must have the room",
    )
    schedule_policy: str | None = Field(None, description="SGLang: fcfs, lpm, ...")
    hicache: HiCache | None = Field(None, description="SGLang: cache tiers beyond the device")
    prefix_attention: bool = Field(
        False,
        description="SGLang on a CPU: attend from the new tokens only, by a hook of this toolkit; "
        "stock torch_native attention recomputes over the cached prefix",
    )
    kv_events: str | None = Field(
        None,
        description="vLLM: ZMQ endpoint to publish KV events on (no authentication), ipc:///PATH, "
        "or from containers tcp://127.0.0.1:PORT; block hashes are then reproducible (sha256_cbor)",
    )
    store: StoreConfig | None = Field(
        None, description="vLLM: a KV store that outlives the engine, for the arms store, restarted"
    )
    replicas: int = Field(
        1, ge=1, le=64, description="as many of this server, behind a router on host and port"
    )
    router: RouterConfig | None = Field(
        None, description="what stands in front of the replicas; default: the engine's own router"
    )
    gpus: int | None = Field(
        None, ge=1, description="cards of each replica: tensor parallelism; default: 1"
    )
    card: str | None = Field(
        None,
        description="the GPU that this file is for, a name in configs/cards/: for aot doctor "
        "--server, where there is no GPU to ask",
    )
    dtype: str = Field(
        "auto", description="'auto' follows the model, and on a CPU what the CPU computes fast"
    )
    args: Arguments = Field(default_factory=list, description="engine arguments, verbatim")
    env: Variables = Field(
        default_factory=dict,
        description="environment of the engine; a secret by reference: HF_TOKEN: {from_env: NAME}",
    )
    startup_timeout_s: float = Field(600, gt=0)
    api_key_env: str | None = Field(
        None,
        description="name of the environment variable that holds the server's API key; default: "
        "none on loopback, else AOT_API_KEY",
    )
    expose_unauthenticated: bool = Field(
        False,
        description="allow a host other than loopback although /metrics (and a router's own "
        "control pages) answer there without the key",
    )
    tenant_salts: bool = Field(
        False,
        description="send a cache salt of its own with every static prefix (a tenant each), as a "
        "gateway would that keeps tenants apart",
    )
    dev_mode: bool = Field(
        False,
        description="vLLM: open its cache-reset endpoint (unauthenticated; loopback only)",
    )

    @property
    def name_in_api(self) -> str:
        return self.served_name or self.model

    @property
    def cards(self) -> int:
        """GPUs of each replica, where there are any."""
        return self.gpus or 1

    @property
    def recipe(self) -> str:
        return self.environment or self.engine

    @property
    def front(self) -> RouterConfig | None:
        """The router, where there is one. Which one stands in front of replicas by default is the
        engine's to say: `serving.engines.table.accepted` fills it in."""
        return self.router

    @model_validator(mode="before")
    @classmethod
    def _a_key_where_others_can_reach_it(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("host", "127.0.0.1") not in LOOPBACK:
            return {"api_key_env": PUBLIC_KEY, **data}
        return data

    @model_validator(mode="after")
    def _nothing_open_by_accident(self) -> Self:
        if self.host in LOOPBACK or self.dev_mode:
            return self
        if not self.api_key_env:
            raise ValueError(
                f"host {self.host} can be reached by others, so the server needs a key: leave "
                f"api_key_env out (then it is in {PUBLIC_KEY}), or name another variable"
            )
        if not self.expose_unauthenticated:
            raise ValueError(
                f"on host {self.host} anybody who reaches it could read /metrics, which asks for "
                "no key: keep the host on loopback behind a proxy that lets only /v1 through, or "
                "say 'expose_unauthenticated: true'"
            )
        return self

    @model_validator(mode="after")
    def _events_are_for_nobody_else(self) -> Self:
        if self.kv_events and self.kv_events.startswith("tcp://"):
            host = self.kv_events.removeprefix("tcp://").rpartition(":")[0].strip("[]")
            if host not in LOOPBACK and not self.expose_unauthenticated:
                raise ValueError(
                    f"kv_events: anybody who reaches {self.kv_events} would read every prompt's "
                    "token ids and salts, those of the past, too (on the next port): use "
                    "ipc:///PATH (from containers tcp://127.0.0.1:PORT), or say "
                    "'expose_unauthenticated: true'"
                )
        return self

    @model_validator(mode="after")
    def _replicas_have_no_common_events(self) -> Self:
        if self.kv_events and self.replicas > 1:
            raise ValueError("kv_events is one endpoint, and every replica would need its own")
        return self

    @model_validator(mode="after")
    def _dev_mode_stays_on_loopback(self) -> Self:
        if self.dev_mode and self.host not in LOOPBACK:
            raise ValueError(
                f"dev_mode opens endpoints without a key, so host must be loopback, not {self.host}"
            )
        return self


def replay_endpoint(events: str) -> str:
    """Where the history of the events published on `events` (the key kv_events) can be had."""
    if events.startswith("tcp://"):
        head, _, port = events.rpartition(":")
        return f"{head}:{int(port) + 1}"
    return f"{events}.replay"
