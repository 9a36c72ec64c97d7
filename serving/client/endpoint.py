"""Talk to a running OpenAI-compatible server, outside the measured load.

The key comes from an environment variable, is sent as a bearer token and is never stored, logged
or shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import requests

from aot.configs.caches import of_model
from aot.configs.dialects.dialect import Render, joined
from aot.configs.dialects.wording import USUAL, Wording
from aot.configs.kernel import network
from aot.configs.kernel.errors import EndpointError, UsageError
from aot.configs.kernel.routing import routing_key
from aot.configs.kernel.secrecy import held_in
from aot.serving.client.chat import TIMEOUT_S, Chat, Message, Tools, Usage
from aot.serving.client.refusals import refused, unreachable
from aot.serving.engines.engine import Engine, Page
from aot.serving.metrics.counters import Metrics, parse


def session(url: str) -> requests.Session:
    """An HTTP session that goes the way that the environment names (configs/kernel/network.py)."""
    http = requests.Session()
    http.trust_env = False
    if url.startswith("https://"):
        network.trusting()  # says what is wrong with a file, which requests would not
        http.verify = network.certificates() or True
    if proxy := network.proxy(url):
        http.proxies = dict.fromkeys(("http", "https"), proxy.with_login)
    return http


LOOK_S = 20.0
"""How long a page of the server itself may take: SGLang answers some behind its queue."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server by its base URL (without /v1), the model name to ask for, and where the key is."""

    base_url: str
    model: str
    api_key_env: str | None = None
    replicas: tuple[str, ...] = ()
    """Behind a router: the base URLs of the engines, which are asked for all but completions."""
    keeps_owners: bool = False
    """Whether the router sends requests with one static prefix to one replica."""
    key_header: str | None = None
    """Header in which a router looks for the key of a request's static prefix."""
    tenant_salts: bool = False
    """Whether clients give every static prefix a cache salt of its own."""
    wording: Wording = USUAL
    render: Render = joined
    """Makes the text of a prompt, where `wording` is for an endpoint that takes texts."""
    template: str | None = None
    """The model folder by whose files `render` does it, if it does."""
    encode: Callable[..., list[int] | None] | None = None
    """Counts tokens without the server, where the model's tokenizer is at hand."""
    model_folder: str | None = None
    """Where its model is on this machine; None: asked for."""
    args: tuple[str, ...] = ()
    """What it was started with, where it was by us."""

    def each(self) -> list[Endpoint]:
        """The engines, one by one; the server itself where there is no router."""
        if not self.replicas:
            return [self]
        return [
            Endpoint(
                url,
                self.model,
                self.api_key_env,
                wording=self.wording,
                render=self.render,
                encode=self.encode,
                model_folder=self.model_folder,
                args=self.args,
            )
            for url in self.replicas
        ]

    @property
    def key(self) -> str | None:
        """The API key; UsageError when the named variable is not set, or empty."""
        return held_in(self.api_key_env, "--api-key-env") if self.api_key_env else None

    def models(self) -> list[str]:
        """Names under /v1/models."""
        answer = self._get("/v1/models")
        try:
            names = [str(row["id"]) for row in answer.json()["data"]]
            "".join(names).encode()  # half a surrogate is no name that can be asked for
            return names
        except (ValueError, KeyError, TypeError):
            raise EndpointError(
                f"{self.base_url}/v1/models did not answer as an OpenAI-compatible server does"
            ) from None

    def answers(self) -> bool:
        """Whether there is a server that lets us in, though it may have no list of models."""
        try:
            return self._request("GET", "/v1/models").status_code not in (401, 403)
        except EndpointError:
            return False

    def rows(self) -> list[dict[str, Any]]:
        """What /v1/models says of each model; empty where it is silent."""
        rows = self.info("/v1/models").get("data")
        return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []

    def adapters(self) -> frozenset[str]:
        """Names that are adapters of another model: vLLM lists them with the one that they are
        of."""
        return frozenset(str(row.get("id")) for row in self.rows() if row.get("parent"))

    def context_tokens(self) -> int | None:
        """The longest prompt plus output that the model takes; None where that is not said."""
        lengths = [r.get("max_model_len") for r in self.rows() if r.get("id") == self.model]
        return lengths[0] if lengths and isinstance(lengths[0], int) and lengths[0] > 0 else None

    def metrics_text(self, timeout_s: float = LOOK_S) -> str | None:
        """The Prometheus page of one engine, or None where it has none."""
        try:
            answer = self._get("/metrics", timeout_s)
        except EndpointError:
            return None
        return answer.text

    def metrics(self, timeout_s: float = LOOK_S) -> Metrics:
        """The parsed page of one engine; empty where it has none."""
        text = self.metrics_text(timeout_s)
        try:
            return parse(text) if text else {}
        except ValueError:
            return {}

    def info(self, path: str | None) -> dict[str, Any]:
        """The JSON object at `path`, or at the next of several with a | between them; empty where
        there is none or it is not ours to read."""
        for one in path.split("|") if path else ():
            try:
                data = self._get(one).json()
            except (EndpointError, ValueError):
                continue
            if isinstance(data, dict):
                return data
        return {}

    def page(self, engine: Engine) -> Page:
        """What the server says of itself, where `engine` says it; the first of several engines."""
        first = self.each()[0]
        model = of_model.read(Path(folder)) if (folder := first.folder()) else {}
        return Page(first.metrics(), first.info(engine.info_path), model, self.args)

    def folder(self) -> str | None:
        """The folder of the model: as it is known here, or as a server of this machine calls it."""
        if self.model_folder or not network.is_loopback(self.base_url):
            return self.model_folder
        rows = self.info("/v1/models").get("data")
        known = [r for r in rows if isinstance(r, dict)] if isinstance(rows, list) else []
        roots = [r.get("root") for r in known if r.get("id") == self.model]
        return str(roots[0]) if roots and isinstance(roots[0], str) else None

    def tokenize(
        self, messages: list[Message], tools: Tools = (), arguments: Mapping[str, Any] | None = None
    ) -> list[int] | None:
        """Token ids of the rendered chat, by the tokenizer at hand, else by the server itself; None
        where it cannot."""
        if self.encode is not None:
            return self.encode(messages, tools, arguments or {})
        body: dict[str, Any] = {"model": self.model}
        if self.wording.dialect.item is None:
            body["prompt"] = self.render(messages, tools)
        else:
            body |= {"messages": messages} | ({"tools": tools} if tools else {})
            body |= {"chat_template_kwargs": arguments} if arguments else {}
        try:
            answer = self.each()[0]._request("POST", "/tokenize", TIMEOUT_S, json=body)
            tokens = answer.json()["tokens"]
        except (EndpointError, ValueError, KeyError, TypeError):
            return None
        known = isinstance(tokens, list) and all(type(t) is int for t in tokens)
        return tokens if known and answer.status_code == 200 else None

    def with_fields(self, fields: Mapping[str, Any]) -> Endpoint:
        """The same with more fields in every body."""
        own = replace(self.wording, fields={**self.wording.fields, **fields})
        return replace(self, wording=own)

    def detokenize(self, ids: Sequence[int]) -> str | None:
        """The text of token ids, by the server; None where it cannot."""
        body = {"model": self.model, "tokens": list(ids)}
        try:
            answer = self.each()[0]._request("POST", "/detokenize", TIMEOUT_S, json=body)
            said = answer.json()
            text = said.get("prompt", said.get("text"))  # vLLM's key, SGLang's
        except (EndpointError, ValueError, AttributeError):
            return None
        return text if isinstance(text, str) and answer.status_code == 200 else None

    def post(self, path: str) -> tuple[int, str]:
        """Status and body of an empty POST."""
        answer = self._request("POST", path, TIMEOUT_S)
        return answer.status_code, answer.text

    def chat(
        self,
        messages: list[Message],
        max_tokens: int,
        salt: str | None = None,
        tools: Tools = (),
        prefix: str | None = None,
    ) -> Usage:
        """One answer, not streamed. `salt` names a cache of its own for what shares it; `prefix` is
        the static prefix that a router may know it by.

        Raises EndpointError with the server's own words.
        """
        with self.connection() as chat:
            return chat.ask(
                messages, max_tokens, tools=tools, salt=salt, headers=self._key_of(prefix)
            ).usage

    def connection(self) -> Chat:
        """For questions one after the other."""
        return Chat(
            self.base_url, self.model, self.key, self.api_key_env, self.wording, self.render
        )

    def _get(self, path: str, timeout_s: float = LOOK_S) -> requests.Response:
        answer = self._request("GET", path, timeout_s)
        if answer.status_code != 200:
            raise refused(
                self.base_url, answer.status_code, answer.text, self.api_key_env, self.model
            )
        return answer

    def _request(
        self, method: str, path: str, timeout_s: float = LOOK_S, **options: Any
    ) -> requests.Response:
        try:
            with session(self.base_url) as http:
                return http.request(
                    method,
                    self.base_url + path,
                    headers=self._headers(),
                    timeout=timeout_s,
                    **options,
                )
        except requests.RequestException as error:
            raise unreachable(self.base_url, error) from None

    def _key_of(self, prefix: str | None) -> dict[str, str]:
        return {self.key_header: routing_key(prefix)} if self.key_header and prefix else {}

    def _headers(self) -> dict[str, str]:
        return self.wording.sent_headers(self.base_url, self.key, "--api-key-env")


def connect(
    base_url: str, model: str | None, api_key_env: str | None, wording: Wording = USUAL
) -> Endpoint:
    """An endpoint that is known to answer. Without `model`, the one model it serves, whatever
    adapters of it there are; with one, it need not have a list of them.

    Raises EndpointError (unreachable, refused, model not served) or UsageError (several models).
    """
    base_url = network.base_url(base_url, "--url")
    asked = Endpoint(base_url, model or "", api_key_env, wording=wording)
    try:
        served = asked.models()
    except EndpointError:
        if model is None or not asked.answers():
            raise
        return asked
    if model is None:
        adapters = asked.adapters()
        served = [name for name in served if name not in adapters] or served
        if len(served) != 1:
            raise UsageError(f"--model: {base_url} serves {', '.join(served)}; name one of them")
        return replace(asked, model=served[0])
    if not {model, f"{model}:latest"} & set(served):  # the second is how Ollama lists the first
        raise UsageError(f"--model: {base_url} does not serve '{model}', but {', '.join(served)}")
    return asked
