"""Sends the requests of a schedule when they are due, and keeps a record of each.

Open loop: at the planned times, whatever the answers do; turns of a session when the one before is
answered and its think time is over. Closed loop: each user takes one session after the other.
"""

from __future__ import annotations

import gc
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import gevent
from gevent.event import Event

from aot.configs.dialects.dialect import BrokenAnswerError
from aot.workloads.requests.limits import CancelledError, LateError
from aot.workloads.requests.request import Request, Schedule
from aot.workloads.wire.answer import HTTPParseError
from aot.workloads.wire.bodies import Bodies
from aot.workloads.wire.connection import Wire
from aot.workloads.wire.exchange import exchange
from aot.workloads.wire.record import CANCELLED, Record

LAG_EVERY_S = 0.05
LIMIT_REACHED = "max_output_tokens"
"""What /v1/responses says of an answer that is as long as was asked for; how long that is, is its
own business (SGLang 0.5.23: two tokens fewer)."""


def calm() -> None:
    """No long garbage collections from here on: while one runs, what arrives is not stamped. What
    is there stays; `watch_lag` collects what is young, often and little at a time."""
    gc.collect()
    gc.freeze()
    gc.disable()


@dataclass(slots=True)
class Dispatcher:
    """`keep` gets every record as soon as it is complete."""

    schedule: Schedule
    wires: Mapping[str | None, Wire]
    """By kind of endpoint; None: what the schedule is for."""
    bodies: Bodies
    arm: str
    repeat: int
    keep: Callable[[Record], None]
    requests: Iterable[Request] | None = None
    """Those that are sent from here: whole sessions; default all."""
    roots: deque[Request] = field(default_factory=deque)
    left: int = 0
    """Requests without a record so far."""
    in_flight: int = 0
    max_in_flight: int = 0
    lags_s: list[float] = field(default_factory=list)
    """How late the event loop woke a sleeper, every 50 ms."""
    _followers: dict[str, list[Request]] = field(default_factory=dict)
    _answers: dict[str, str] = field(default_factory=dict)
    _ended: dict[str, Event] = field(default_factory=dict)
    """Of requests that others wait for beside the turn before."""

    def __post_init__(self) -> None:
        mine = list(self.schedule.requests if self.requests is None else self.requests)
        followers: dict[str, list[Request]] = defaultdict(list)
        for request in mine:
            if request.after is None:
                self.roots.append(request)
            else:
                followers[request.after].append(request)
        self._followers = dict(followers)
        self._ended = {name: Event() for request in mine for name in request.joins}
        self.left = len(mine)

    def clock(self) -> float:
        """Seconds since the start of the replay."""
        return self.wires[None].clock()

    def watch_lag(self) -> None:
        """Note how late the event loop is, until all is done."""
        while self.left:
            due = self.clock() + LAG_EVERY_S
            gevent.sleep(LAG_EVERY_S)
            self.lags_s.append(self.clock() - due)
            gc.collect(0)

    def pace(self, request: Request) -> None:
        """Open loop: wait until the request is due, then let it go beside the others."""
        self._wait_until(request.at_s)
        gevent.spawn(self.run_session, request, request.at_s)

    def run_session(self, request: Request, due_s: float | None) -> None:
        """Send a request and then all that build on it, each when it is due."""
        branches = []
        while True:  # turn by turn: a session may have thousands
            record = self.send(request, due_s)
            followers = self._followers.get(request.id, ())
            if not followers:
                break
            if record.error is not None and not _was_cancelled(record):
                self._give_up(followers, record)
                break
            answered_s = self.clock()
            branches += [gevent.spawn(self._follow, f, answered_s) for f in followers[1:]]
            request = followers[0]
            due_s = self._wait_for(request, answered_s)
        gevent.joinall(branches)

    def _follow(self, request: Request, answered_s: float) -> None:
        self.run_session(request, self._wait_for(request, answered_s))

    def _wait_for(self, request: Request, answered_s: float) -> float | None:
        """Until a turn is due; when that was, in an open loop."""
        if request.joins:
            gevent.wait([self._ended[name] for name in request.joins])
            answered_s = self.clock()
        due_s = max(answered_s + request.think_s, request.at_s if self._is_open else 0.0)
        self._wait_until(due_s)
        return due_s if self._is_open else None

    @property
    def _is_open(self) -> bool:
        return self.schedule.mode == "open"

    def _wait_until(self, due_s: float) -> None:
        while (left_s := due_s - self.clock()) > 0:
            gevent.sleep(left_s)

    def _give_up(self, requests: Sequence[Request], before: Record) -> None:
        """The turns behind a failed one cannot be sent: each is a record that says so."""
        left = list(requests)
        while left:
            request = left.pop(0)
            record = self._record(request, None)
            record.sent_s = None
            record.error = f"not sent: the turn before ({before.id}) failed"
            self._done(record)
            left += self._followers.get(request.id, ())

    def send(self, request: Request, due_s: float | None) -> Record:
        """Send one request now, and again where its client hangs up and retries; its record, kept:
        of what was sent last."""
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        record = self._record(request, due_s)
        self._attempt(request, record, request.cancel_s)
        if record.cancelled_s is not None and request.retried:
            cancelled_s, record = record.cancelled_s, self._record(request, due_s)
            self._attempt(request, record, None)
            record.cancelled_s = cancelled_s
        self.in_flight -= 1
        self._done(record)
        return record

    def _attempt(self, request: Request, record: Record, cancel_s: float | None) -> None:
        try:
            self._exchange(request, record, cancel_s)
        except (LateError, BrokenAnswerError) as error:
            record.error = str(error)
        except HTTPParseError as error:
            record.error = f"the server does not speak HTTP/1: {error.args[0]}"
        except OSError as error:
            record.error = f"{type(error).__name__}: {error}".strip(": ")
        except Exception as error:  # a fault of ours must not make a request vanish
            record.error = f"fault of the load generator: {error!r}"

    def _exchange(self, request: Request, record: Record, cancel_s: float | None) -> None:
        body = self.bodies.of(request, self._answers)
        headers, wire = self.bodies.headers(request), self.wires[request.endpoint]
        try:
            exchange(wire, body, record, headers, cancel_s)
            record.error = record.error or self._cut_short(request, record)
        except CancelledError:
            record.error = f"{CANCELLED} after {cancel_s:g} s, as planned"
            record.cancelled_s = self.clock()
        # A chat goes on after an answer that its client cancelled, with what came of it.
        if any(f.appends for f in self._followers.get(request.id, ())):
            self._answers[request.id] = record.answer or ""
        else:
            record.answer = None

    def _cut_short(self, request: Request, record: Record) -> str | None:
        """What is wrong with an answer that is shorter than what was asked for, where the server
        was told to go on to the end."""
        asked, told = self.schedule.output_tokens(request), record.output_tokens
        if not (self.schedule.ignore_eos and self.bodies.sends_ignore_eos):
            return None
        if told is None or told >= asked or record.finish_reason == LIMIT_REACHED:
            return None
        return (
            f"the answer stopped after {told} of {asked} tokens ({record.finish_reason}), though "
            "ignore_eos was sent; a server without it needs output: {ignore_eos: false}"
        )

    def _record(self, request: Request, due_s: float | None) -> Record:
        return Record(
            id=request.id,
            arm=self.arm,
            repeat=self.repeat,
            tenant=request.tenant,
            prefix=request.prefix,
            planned_s=due_s,
            sent_s=self.clock(),
        )

    def _done(self, record: Record) -> None:
        self.left -= 1
        self.keep(record)
        if record.id in self._ended:
            self._ended[record.id].set()


def _was_cancelled(record: Record) -> bool:
    """Whether all that is wrong with a request is that its client hung up, as planned."""
    return record.cancelled_s is not None and (record.error or "").startswith(CANCELLED)
