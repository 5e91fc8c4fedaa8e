"""Which events go past Gradio's queue, and how many of the costly ones work and wait.

Gradio's queue has one bound for all events of all visitors: who fills it keeps everybody's page
from opening. So nothing waits there. Light events go past it, and costly ones wait in a line of
their kind, which takes only so many of one page and of one address and serves addresses in turn.

A page is known by its session and an address as the server sees it; both are easily had, so they
decide what is fair and never what is allowed.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import gradio as gr
from gradio.context import LocalContext

from ditto_hub.errors import BackendError, describe
from ditto_hub.ui.i18n.words import locale_of
from ditto_hub.words import say

Kind = Literal["light", "check", "upload", "hub", "model", "publish", "lease", "queued"]
THREADS = 96  # that Gradio works with: more than all lines take, so light events always find one


@dataclass(frozen=True)
class Policy:
    """Say what a kind of event may take. A bound of 0 is none.

    Args:
        queued: whether it goes through Gradio's queue: what streams or shows progress has to.
        at_once: events that work at a time.
        waiting: events that may wait.
        a_page: events of one page that work or wait.
        an_address: events of one address that work or wait.
    """

    queued: bool = True
    at_once: int = 0
    waiting: int = 0
    a_page: int = 0
    an_address: int = 0


POLICIES: dict[Kind, Policy] = {
    "light": Policy(queued=False),  # reads a folder or a form, in milliseconds
    "check": Policy(at_once=1, waiting=15, a_page=2, an_address=10),  # compares texts: a core
    "upload": Policy(at_once=2, waiting=6, a_page=1, an_address=4),  # reads a file: seconds
    "hub": Policy(at_once=8, waiting=8, a_page=2, an_address=8),  # asks the Hub and waits for it
    "model": Policy(at_once=1, waiting=12, a_page=3, an_address=8),  # loads a model: minutes
    "publish": Policy(at_once=4, waiting=4, a_page=1, an_address=4),  # uploads: minutes
    "queued": Policy(),  # Gradio's own queue: a long answer that no line need bound
    "lease": Policy(),  # ZeroGPU has a line of its own, and charges each visitor's quota
}


def options(kind: Kind) -> dict[str, Any]:
    """Return what a listener of Gradio's takes for a kind of event."""
    policy = POLICIES[kind]
    return {"concurrency_limit": None} if policy.queued else {"queue": False}


def admitted(kind: Kind, handler: Callable[..., Any]) -> Callable[..., Any]:
    """Return a handler that works when it is its turn in the line of its kind.

    It raises `gr.Error`, in the visitor's language, where the line takes no more.
    """
    if not POLICIES[kind].at_once:
        return handler
    line = LINES[kind]
    if inspect.isgeneratorfunction(handler):

        @functools.wraps(handler)
        def stream(*given: Any, **named: Any) -> Iterator[Any]:
            with _turn(line):
                yield from handler(*given, **named)

        return stream

    @functools.wraps(handler)
    def answer(*given: Any, **named: Any) -> Any:
        with _turn(line):
            return handler(*given, **named)

    return answer


@dataclass(frozen=True, eq=False)
class Ticket:
    """Hold a place in a line."""

    page: str
    address: str


class Line:
    """Let events of one kind work in turn.

    Args:
        policy: with its bounds.
        quiet_s: seconds that an event waits before its visitor is told so.
    """

    def __init__(self, policy: Policy, quiet_s: float = 2.0) -> None:
        self.policy = policy
        self.quiet_s = quiet_s
        self._change = threading.Condition()
        self._waiting: list[Ticket] = []
        self._working: list[Ticket] = []
        self._served: Counter[str] = Counter()

    @contextlib.contextmanager
    def turn(
        self, page: str, address: str, told: Callable[[int], None] = lambda before: None
    ) -> Iterator[None]:
        """Wait for a turn and hold it for the block.

        Args:
            page: whose event it is.
            address: from which it came.
            told: is called with the number of events before this one, where it has to wait long.

        Raises:
            BackendError: the line, or this visitor's part of it, is full.
        """
        ticket = self._join(page, address)
        try:
            if not self._waited(ticket, self.quiet_s):
                if before := self.before(ticket):
                    told(before)
                self._waited(ticket)
            yield
        finally:
            self._leave(ticket)

    def _waited(self, ticket: Ticket, seconds: float | None = None) -> bool:
        with self._change:
            return self._change.wait_for(lambda: ticket in self._working, seconds)

    def before(self, ticket: Ticket) -> int:
        """Return how many events work or wait before one; 0 for one whose turn it is."""
        with self._change:
            if ticket in self._working:
                return 0
            return len(self._working) + self._ordered().index(ticket)

    def _join(self, page: str, address: str) -> Ticket:
        policy, ticket = self.policy, Ticket(page, address)
        with self._change:
            there = [*self._waiting, *self._working]
            mine = sum(other.page == page for other in there)
            if mine >= policy.a_page:
                raise BackendError("ui.line_yours", n=mine)
            near = sum(other.address == address for other in there)
            if near >= policy.an_address or len(there) >= policy.at_once + policy.waiting:
                raise BackendError("ui.line_full")
            self._waiting.append(ticket)
            self._let_in()
        return ticket

    def _leave(self, ticket: Ticket) -> None:
        with self._change:
            for tickets in (self._waiting, self._working):
                if ticket in tickets:
                    tickets.remove(ticket)
            self._let_in()

    def _let_in(self) -> None:
        while self._waiting and len(self._working) < self.policy.at_once:
            ticket = self._ordered()[0]
            self._waiting.remove(ticket)
            self._working.append(ticket)
            self._served[ticket.address] += 1
        if not self._working:
            self._served.clear()  # an idle line owes nobody anything
        self._change.notify_all()

    def _ordered(self) -> list[Ticket]:
        """Return who waits as they will be served: addresses in turn, each one's in order."""
        turns, keyed = Counter(self._served), []
        for order, ticket in enumerate(self._waiting):
            keyed.append((turns[ticket.address], order, ticket))
            turns[ticket.address] += 1
        return [ticket for _, _, ticket in sorted(keyed, key=lambda entry: entry[:2])]


LINES = {kind: Line(policy) for kind, policy in POLICIES.items() if policy.at_once}


@contextlib.contextmanager
def _turn(line: Line) -> Iterator[None]:
    """Wait for the turn of the event that this thread works on, and say so on its page."""
    request = LocalContext.request.get(None)
    page = str(getattr(request, "session_hash", None) or "")
    client = getattr(request, "client", None)
    locale = locale_of(request)

    def told(before: int) -> None:
        gr.Info(say("line.before" if before > 1 else "line.next", locale, n=before))

    address = str(client.host if client else "")
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(line.turn(page, address, told))
        except BackendError as error:
            raise gr.Error(
                " ".join(describe(error, locale, page=True)), print_exception=False
            ) from error
        yield
