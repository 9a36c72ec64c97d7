"""Scenarios whose requests stand alone: support-bot, few-shot, rag, doc-qa, best-of-n, unique."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random

from aot.configs.kernel.errors import UsageError
from aot.configs.schema.workload import (
    BestOfN,
    DocQa,
    FewShot,
    Rag,
    SupportBot,
    Tenants,
    Traffic,
    Unique,
)
from aot.workloads.plan import draws
from aot.workloads.plan.arrivals import offsets
from aot.workloads.plan.draws import stream
from aot.workloads.plan.lexicon import OPENING, Lexicon
from aot.workloads.plan.static_texts import StaticTexts, system, tenant_name, user
from aot.workloads.prompts.folder import PromptFolder
from aot.workloads.requests.request import Message, Prefix, Request

Parts = tuple[dict[str, Prefix], list[Request]]
TEMPLATE = "user_query"
PLANS = ("basic", "plus", "family", "estate")
SIBLING_GAP_S = 0.005
"""Between requests of a best-of-n group: all within 50 ms (docs/traffic.md)."""


def arrivals(config: Traffic, count: int) -> list[float]:
    return offsets(config.arrivals, count, stream(config.seed, "arrivals"))


def outputs(config: Traffic) -> Iterator[int]:
    """How much each request generates, without end."""
    rng = stream(config.seed, "outputs")
    while True:
        yield draws.count(config.output.max_tokens, rng)


def salt_of(tenants: Tenants, name: str) -> str | None:
    return f"tenant-{name}" if tenants.salts else None


def tenant_prefixes(tenants: Tenants, static_tokens: int, texts: StaticTexts) -> dict[str, Prefix]:
    """A static prefix for each tenant."""
    names = [tenant_name(i) for i in range(tenants.count)]
    return {
        n: texts.prefix(n, static_tokens, salt_of(tenants, n), tenants.shared_tokens) for n in names
    }


# ---------------------------------------------------------------- support-bot on the folder's text


def has_lengths(config: SupportBot) -> bool:
    """Whether texts of exact lengths were asked for."""
    return config.static_tokens is not None or config.dynamic_tokens is not None


def support_bot(config: SupportBot, folder: PromptFolder) -> Parts:
    """Tenants with a long static prefix each; the folder's questions, with Zipf popularity."""
    tenants = [tenant_name(i) for i in range(config.tenants.count)]
    inputs = _inputs(folder)
    prefixes = {t: _folder_prefix(t, folder, inputs, salt_of(config.tenants, t)) for t in tenants}
    owner = draws.zipf(len(tenants), config.tenants.zipf, stream(config.seed, "tenants"))
    questions, limits = stream(config.seed, "questions"), outputs(config)
    requests = []
    for number, at_s in enumerate(arrivals(config, config.requests)):
        tenant = tenants[owner()]
        question = _pick(inputs[2:], questions)
        values = {
            "question": question,
            "plan": _pick(PLANS, questions),
            "valves": str(2 + int(questions.random() * 7)),
            "ticket": f"T-{int(questions.random() * 1_000_000):06d}",
        }
        asked = folder.user(TEMPLATE, values)
        requests.append(_request(number, at_s, tenant, (asked,), next(limits), None))
    return prefixes, requests


def _inputs(folder: PromptFolder) -> tuple[str, ...]:
    """The questions of the folder; two are kept for warming."""
    if TEMPLATE not in folder.templates:
        raise UsageError(f"{folder.folder}/dynamic_templates/{TEMPLATE}.jinja2: no such file")
    inputs = tuple(values["question"] for values in folder.inputs(TEMPLATE) if "question" in values)
    if len(inputs) < 3:
        raise UsageError(
            f"{folder.folder}/dynamic_inputs/{TEMPLATE}.txt: needs at least 3 inputs, has "
            f"{len(inputs)} (two are kept for warming, so that no measured request is in the cache "
            "beforehand)"
        )
    return inputs


def _folder_prefix(
    tenant: str, folder: PromptFolder, inputs: tuple[str, ...], salt: str | None
) -> Prefix:
    first, second = (
        (folder.user(TEMPLATE, values),)
        for values in (
            {"question": q, "plan": "basic", "valves": str(v), "ticket": f"P-{v:05d}"}
            for v, q in enumerate(inputs[:2], 2)
        )
    )
    messages = (folder.system({"tenant": tenant}),)
    return Prefix(tenant, messages, (first, second), folder.tools, salt)


def _pick(items: tuple[str, ...], rng: Random) -> str:
    return items[int(rng.random() * len(items))]


def _request(
    number: int,
    at_s: float,
    prefix: str,
    messages: tuple[Message, ...],
    max_tokens: int,
    prompt_tokens: int | None,
) -> Request:
    return Request(
        f"r{number:06d}", at_s, prefix, prefix, messages, max_tokens, prompt_tokens=prompt_tokens
    )


# ---------------------------------------------------------------- exact lengths

Ask = Callable[[int], tuple[str, int]]
"""The user's text of request number n, and its tokens."""


def _tenant_traffic(
    config: SupportBot | FewShot | Rag, texts: StaticTexts, static_tokens: int, ask: Ask
) -> Parts:
    names = [tenant_name(i) for i in range(config.tenants.count)]
    prefixes = tenant_prefixes(config.tenants, static_tokens, texts)
    owner = draws.zipf(len(names), config.tenants.zipf, stream(config.seed, "tenants"))
    limits = outputs(config)
    base = texts.base_tokens(static_tokens)
    requests = []
    for number, at_s in enumerate(arrivals(config, config.requests)):
        text, tokens = ask(number)
        name = names[owner()]
        requests.append(_request(number, at_s, name, (user(text),), next(limits), base + tokens))
    return prefixes, requests


def _asking(config: SupportBot | FewShot | Rag | DocQa | BestOfN, lexicon: Lexicon) -> Ask:
    """Texts of as many tokens as `dynamic_tokens` says."""
    lengths, words = stream(config.seed, "lengths"), stream(config.seed, "words")
    wanted = config.dynamic_tokens if config.dynamic_tokens is not None else 40.0

    def ask(_: int) -> tuple[str, int]:
        count = draws.count(wanted, lengths)
        return OPENING + lexicon.words(count - 1, words), count

    return ask


def exact_support_bot(config: SupportBot, texts: StaticTexts) -> Parts:
    """Tenants × a system prompt of `static_tokens`; questions of `dynamic_tokens`."""
    static = config.static_tokens
    if static is None:
        chat = [texts.folder.system({"tenant": tenant_name(0)}), user(OPENING)]
        static = texts.lexicon.tokens(chat) - texts.tail_tokens + 64
    return _tenant_traffic(config, texts, static, _asking(config, texts.lexicon))


def few_shot(config: FewShot, texts: StaticTexts) -> Parts:
    """Tasks with long examples and tiny inputs."""
    return _tenant_traffic(config, texts, config.static_tokens, _asking(config, texts.lexicon))


def rag(config: Rag, texts: StaticTexts) -> Parts:
    """Passages of a shared pool, then the question."""
    lexicon, pool = texts.lexicon, config.documents
    header = "\n\nPassage"
    sizes, content = stream(config.seed, "passage lengths"), stream(config.seed, "passages")
    lengths = [draws.count(pool.tokens, sizes) for _ in range(pool.count)]
    passages = [lexicon.words(n, content) for n in lengths]
    # What the seams cost, in this tokenizer: between words, and before the question.
    plain = lexicon.tokens([user(OPENING + " the the")])
    seam = lexicon.tokens([user(f"{OPENING} the{header} the")]) - plain
    ending = "\n\nQuestion:"
    seam_question = lexicon.tokens([user(f"{OPENING} the{ending} the")]) - plain
    retrieved = draws.zipf(pool.count, pool.zipf, stream(config.seed, "retrieval"))
    order = stream(config.seed, "order")
    asked = _asking(config, lexicon)

    def ask(number: int) -> tuple[str, int]:
        picks = retrieved.several(pool.per_request)
        # By number is by popularity, too: passage k is the k-th most used.
        picks = draws.shuffled(picks, order) if pool.order == "shuffled" else sorted(picks)
        question, tokens = asked(number)
        question = question.removeprefix(OPENING)
        text = "".join(header + passages[n] for n in picks)
        total = 1 + sum(lengths[n] + seam for n in picks) + seam_question + tokens - 1
        return OPENING + text + ending + question, total

    return _tenant_traffic(config, texts, config.static_tokens, ask)


def doc_qa(config: DocQa, texts: StaticTexts) -> Parts:
    """Each document is a static prefix; many questions on the popular ones."""
    pool, lexicon = config.documents, texts.lexicon
    sizes = stream(config.seed, "document lengths")
    prefixes, base = {}, {}
    for number in range(pool.count):
        name = f"Document {number + 1:04d}"
        base[name] = config.static_tokens + draws.count(pool.tokens, sizes)
        prefixes[name] = texts.prefix(name, base[name])
    names = list(prefixes)
    chosen = draws.zipf(pool.count, pool.zipf, stream(config.seed, "documents"))
    ask, limits = _asking(config, lexicon), outputs(config)
    requests = []
    for number, at_s in enumerate(arrivals(config, config.requests)):
        name = names[chosen()]
        text, tokens = ask(number)
        planned = base[name] + texts.tail_tokens - 1 + tokens
        requests.append(_request(number, at_s, name, (user(text),), next(limits), planned))
    return prefixes, requests


def best_of_n(config: BestOfN, texts: StaticTexts) -> Parts:
    """Groups of n equal prompts."""
    prefix = texts.prefix("instructions", config.static_tokens)
    groups = -(-config.requests // config.n)
    ask, limits = _asking(config, texts.lexicon), outputs(config)
    requests: list[Request] = []
    for number, at_s in enumerate(arrivals(config, groups)):
        text, tokens = ask(number)
        planned = config.static_tokens + texts.tail_tokens - 1 + tokens
        limit = next(limits)
        for sibling in range(min(config.n, config.requests - number * config.n)):
            when = round(at_s + sibling * SIBLING_GAP_S, 6)
            requests.append(_request(0, when, prefix.id, (user(text),), limit, planned))
    requests.sort(key=lambda r: r.at_s)
    return {prefix.id: prefix}, _numbered(requests)


def _numbered(requests: list[Request]) -> list[Request]:
    return [replace(r, id=f"r{n:06d}") for n, r in enumerate(requests)]


def unique(config: Unique, lexicon: Lexicon) -> Parts:
    """Prompts that differ from their first word on, the system message included: a model's template
    may put one in front that all would share."""
    words, lengths = stream(config.seed, "words"), stream(config.seed, "lengths")
    limits = outputs(config)

    def messages(count: int) -> tuple[Message, ...]:
        first = lexicon.words(4, words)
        return (system(OPENING + first), user(OPENING + lexicon.words(count, words)))

    base = lexicon.tokens(list(messages(0)))
    probes = (messages(8), messages(8))
    prefix = Prefix("nothing shared", (), probes)
    requests = []
    for number, at_s in enumerate(arrivals(config, config.requests)):
        count = max(0, draws.count(config.dynamic_tokens, lengths) - base)
        requests.append(
            _request(number, at_s, prefix.id, messages(count), next(limits), base + count)
        )
    return {prefix.id: prefix}, requests
