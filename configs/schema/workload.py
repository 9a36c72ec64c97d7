"""The shape of configs/workloads/NAME.yaml: the traffic, from which a schedule is drawn.

One model for each scenario, so that a knob that a scenario has not got is an error. Defaults come
from published statistics; docs/traffic.md names the source of each.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from aot.configs.dialects.table import EndpointName
from aot.configs.schema.draws import Arrivals, Distribution, LogNormal, PoissonArrivals
from aot.configs.schema.patience import Cancels, Limits, Slo
from aot.configs.schema.strict import PathText, StrictModel


class OpenLoop(StrictModel):
    """Send each request at its planned time, whether or not earlier ones are answered. Turns of a
    session wait for the one before."""

    mode: Literal["open"]


class ClosedLoop(StrictModel):
    """users take one session after the other, waiting for each answer; think_s between two."""

    mode: Literal["closed"]
    users: int = Field(1, ge=1)
    think_s: float = Field(0, ge=0)


Load = Annotated[OpenLoop | ClosedLoop, Field(discriminator="mode")]


class Tenants(StrictModel):
    """How many tenants, each with a static prefix of its own, and how skewed their traffic is."""

    count: int = Field(3, ge=1)
    zipf: float = Field(1.0, ge=0, description="popularity of tenant k is proportional to k**-zipf")
    salts: bool = Field(False, description="each tenant's cache apart by a cache salt of its own")
    shared_tokens: int = Field(
        0, ge=0, description="leading static tokens that all tenants have in common"
    )


class Output(StrictModel):
    """What each request generates; the same for all arms, so that they do the same work."""

    max_tokens: Distribution = 16
    ignore_eos: bool = True

    @model_validator(mode="after")
    def _something(self) -> Self:
        if isinstance(self.max_tokens, int | float) and self.max_tokens < 1:
            raise ValueError("max_tokens: at least 1, a request that generates nothing has no TTFT")
        return self


class Documents(StrictModel):
    """A pool of documents that requests draw from."""

    count: int = Field(200, ge=1)
    tokens: Distribution = 255
    per_request: int = Field(6, ge=1)
    zipf: float = Field(0.8, ge=0)
    order: Literal["fixed", "shuffled", "popularity"] = Field(
        "fixed", description="fixed: by number; shuffled: as retrieved, anew for each request"
    )

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if self.per_request > self.count:
            raise ValueError(f"per_request is {self.per_request}, but there are {self.count} only")
        return self


class Traffic(StrictModel):
    """What every scenario has."""

    seed: int = Field(1, ge=0)
    requests: int = Field(ge=1)
    arrivals: Arrivals = PoissonArrivals(kind="poisson", rate_per_s=1.0)
    load: Load = OpenLoop(mode="open")
    output: Output = Output()
    endpoint: EndpointName = Field("chat", description="kind of endpoint that requests go to")
    request_timeout_s: float = Field(
        300, gt=0, description="longest wait for a first text, and from one text to the next"
    )
    limits: Limits | None = Field(None, description="limits of single parts of a request")
    cancels: Cancels | None = Field(None, description="clients that do not wait for their answer")
    slo: Slo | None = Field(None, description="limits for goodput; changes no request")


class Prompted(Traffic):
    """What has a static part."""

    prompt: PathText = Field(description="prompt folder, relative to this file")


class SupportBot(Prompted):
    """Tenants with a long system prompt each; single questions."""

    scenario: Literal["support-bot"]
    tenants: Tenants = Tenants()
    static_tokens: int | None = Field(
        None, ge=0, description="default: the folder's text as it is; 0: no static part, a control"
    )
    dynamic_tokens: Distribution | None = Field(None, description="default: the folder's inputs")


class Rag(Prompted):
    """Passages from a shared pool before each question."""

    scenario: Literal["rag"]
    tenants: Tenants = Tenants(count=3, zipf=1.0)
    static_tokens: int = Field(1000, ge=0)
    documents: Documents = Documents()
    dynamic_tokens: Distribution = LogNormal(median=10, p90=60, max=400)


class FewShot(Prompted):
    """Classification: tasks with long examples, tiny inputs, tiny outputs."""

    scenario: Literal["few-shot"]
    tenants: Tenants = Tenants(count=20, zipf=1.2)
    static_tokens: int = Field(2500, ge=0)
    dynamic_tokens: Distribution = LogNormal(median=60, p90=250, max=1000)
    output: Output = Output(max_tokens=4)


class Turns(StrictModel):
    """Sessions of several requests, each with all before it in front of it."""

    count: Distribution = LogNormal(median=3, p90=8, max=15)
    think_s: Distribution = LogNormal(median=123, p90=483)
    answers: Literal["real", "planned"] = Field(
        "real", description="what stands in the history: the server's own answers, or made-up ones"
    )
    thinking: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of a made-up answer that is thinking, which later turns do not have",
    )

    @model_validator(mode="after")
    def _thinks_in_made_up_answers(self) -> Self:
        if self.thinking and self.answers == "real":
            raise ValueError("thinking is of made-up answers: 'answers: planned'")
        return self


class MultiTurn(Prompted):
    """Chats whose history grows. `requests` counts turns."""

    scenario: Literal["multi-turn"]
    tenants: Tenants = Tenants(count=1)
    static_tokens: int = Field(900, ge=1)
    dynamic_tokens: Distribution = LogNormal(median=50, p90=120, max=1000)
    turns: Turns = Turns()
    output: Output = Output(max_tokens=LogNormal(median=300, p90=600, max=2000))


class Agent(Prompted):
    """Tool loops: large tool schemas, a context that is appended to and now and then begun anew,
    steps of which some branch. `requests` counts steps.

    The defaults are those of 220 published coding sessions (callanjfox/kv-cache-tester): first
    prompt 26.8k tokens, 44 steps (p90 149), gaps of 10 s (p90 155), 1.9 % of steps that drop more
    than a tenth of the context.
    """

    scenario: Literal["agent"]
    tenants: Tenants = Tenants(count=1)
    static_tokens: int = Field(15_000, ge=1, description="tool schemas and instructions")
    first_tokens: Distribution | None = Field(
        None,
        description="what the first step, or one that begins anew, has behind the static part; "
        "default: as every step. In the sessions {median: 11800, p90: 30000}",
    )
    dynamic_tokens: Distribution = LogNormal(median=650, p90=3500, max=16_000)
    turns: Turns = Turns(
        count=LogNormal(median=44, p90=149, max=600), think_s=LogNormal(median=10, p90=155)
    )
    branching: float = Field(0.05, ge=0, le=1, description="share of steps that fork sub-tasks")
    branches: Distribution = Field(1, description="sub-tasks that one step forks, side by side")
    waits: bool = Field(True, description="whether the next step waits until sub-tasks are over")
    compaction: float = Field(
        0.019, ge=0, le=1, description="share of steps that begin the context anew, with a summary"
    )
    output: Output = Output(max_tokens=LogNormal(median=220, p90=900, max=4000))


class DocQa(Prompted):
    """Many questions on each of some long documents."""

    scenario: Literal["doc-qa"]
    static_tokens: int = Field(300, ge=1)
    documents: Documents = Documents(
        count=200, tokens=LogNormal(median=15_000, p90=28_000, max=32_000), per_request=1
    )
    dynamic_tokens: Distribution = LogNormal(median=30, p90=80, max=400)
    output: Output = Output(max_tokens=LogNormal(median=100, p90=150, max=400))


class BestOfN(Prompted):
    """The same prompt n times at once, then the next one. `requests` counts all of them."""

    scenario: Literal["best-of-n"]
    n: int = Field(8, ge=2)
    static_tokens: int = Field(300, ge=1)
    dynamic_tokens: Distribution = LogNormal(median=700, p90=1200, max=4000)
    output: Output = Output(max_tokens=150)


class Unique(Traffic):
    """Nothing is shared: the control, in which caching must not help and must not hurt."""

    scenario: Literal["unique"]
    dynamic_tokens: Distribution = LogNormal(median=1000, p90=2000, max=8000)


class Part(StrictModel):
    """A workload of its own in a mixture."""

    workload: PathText = Field(
        description="workload .yaml, relative to this file, or a shipped one"
    )
    copies: int = Field(1, ge=1, le=1000, description="so many clients like this, drawn apart")
    zipf: float = Field(
        0, ge=0, description="rate of copy k is proportional to k**-zipf; the mean is the file's"
    )
    cv: Distribution | None = Field(
        None, description="of each copy's gaps: their coefficient of variation, drawn"
    )
    length_factor: Distribution = Field(
        1.0, description="by which each copy's inputs and answers are longer, drawn"
    )

    @property
    def has_no_habits(self) -> bool:
        """Whether all copies are alike but for what is drawn."""
        return not self.zipf and self.cv is None and self.length_factor == 1.0


class Mixture(Traffic):
    """Several workloads at once, each with its own arrivals, lengths and prompts. `requests` counts
    the first of all of them; each part must have enough for that."""

    scenario: Literal["mixture"]
    parts: list[Part] = Field(min_length=1)

    @model_validator(mode="after")
    def _has_no_arrivals_of_its_own(self) -> Self:
        if set(self.model_fields_set) & {"arrivals", "load", "cancels"}:
            raise ValueError("arrivals, load and cancels are those of the parts")
        if "max_tokens" in self.output.model_fields_set:
            raise ValueError("output.max_tokens is that of the parts")
        return self


WorkloadConfig = SupportBot | Rag | FewShot | MultiTurn | Agent | DocQa | BestOfN | Unique | Mixture
SCENARIOS: dict[str, type[Traffic]] = {
    "support-bot": SupportBot,
    "rag": Rag,
    "few-shot": FewShot,
    "multi-turn": MultiTurn,
    "agent": Agent,
    "doc-qa": DocQa,
    "best-of-n": BestOfN,
    "unique": Unique,
    "mixture": Mixture,
}
