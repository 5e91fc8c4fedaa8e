"""Leases from the outside: ask for one, read what it yields, keep the books.

A lease is one call of a platform's generator inside one event of the app. It gets paths and plain
values; what it makes lies in the run's folder. Nothing here computes.
"""

from __future__ import annotations

import contextlib
import functools
import json
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ditto_hub import errors
from ditto_hub import events as ev
from ditto_hub.backends.backtranslation import PromptRequest
from ditto_hub.backends.generation import Desk, WriteRequest
from ditto_hub.backends.zerogpu.lease import (
    OUT_OF_TIME,
    STOP_FILE,
    Item,
    Pace,
    remaining_s,
)
from ditto_hub.backends.zerogpu.ledger import Ledger
from ditto_hub.backends.zerogpu.marks import alone, halve_rows, mend, note, saved_at
from ditto_hub.backends.zerogpu.refusals import Ask, Refusal, Terms, plan_ask
from ditto_hub.errors import BackendError, LeaseError, RunBusyError, RunError
from ditto_hub.runs.folder import Run
from ditto_hub.runs.lease_words import Around, lease_line
from ditto_hub.runs.progress import expected_s
from ditto_hub.tokens import Token
from ditto_hub.words import text_from_json

WRITE_S = 30.0  # a lease that writes texts declares so much
PROMPT_S = 2.0  # and, where it writes prompts, at least so much for each
WRITE_LEAST_S = 10.0
SETBACKS = 2  # in a row, until no other lease is asked for by itself
OVERRUN = 0.9  # of its time, from which a lease was taken away because that was over
TRIES = 4  # of ever smaller leases, in one event
BOOK = "state/leases.json"

ENDS = (ev.RunFinished, ev.RunPaused, ev.RunCancelled)

Refused = ev.LeaseRefused


@dataclass(frozen=True)
class Platform:
    """Say how to get a GPU.

    Args:
        lease: gets an order, yields plain values; raises where there is no GPU.
        asked_factor: seconds of quota that admission asks for each declared one.
        charged_factor: seconds of quota that a second of use costs.
        refusal_of: what an error of `lease` means, or None where it is no refusal.
    """

    lease: Callable[[dict[str, Any]], Iterator[Item]]
    asked_factor: Callable[[], float]
    charged_factor: Callable[[], float]
    refusal_of: Callable[[Exception], Refusal | None]


@dataclass
class Book:
    """Keep a run's leases over the processes that ask for them.

    Args:
        number: leases so far.
        setbacks: leases taken away in a row without a save.
        refused: passing refusals in a row.
        pace: how long things take.
    """

    number: int = 0
    setbacks: int = 0
    refused: int = 0
    pace: Pace = field(default_factory=Pace)

    @classmethod
    def of(cls, run: Run) -> Book:
        """Read a run's book, or begin one."""
        try:
            data = json.loads((run.folder / BOOK).read_text(encoding="utf-8"))
            return cls(**{**data, "pace": Pace(**data["pace"])})
        except (OSError, ValueError, TypeError, KeyError):
            return cls()

    def keep(self, run: Run) -> None:
        """Write it down, unless the run is finished and its state gone."""
        if run.record.status != "finished":
            run.write(BOOK, json.dumps(asdict(self)).encode())


@dataclass
class Use:
    """Follow one lease.

    Args:
        ask: what was asked for.
        saved: the run's state before it.
        born: when its worker was born, on the monotonic clock; None where there was none.
    """

    ask: Ask
    saved: tuple[int, int] = (0, 0)
    born: float | None = None
    last: ev.Event | None = None
    last_at: float = 0.0
    error: list[Any] | None = None
    busy: bool = False

    def used_s(self) -> float:
        """Return the seconds since its worker's birth."""
        return 0.0 if self.born is None else time.monotonic() - self.born

    def take(self, item: Item) -> None:
        """Take in what a lease yields beside events and texts."""
        self.born = float(item["born"]) if "born" in item else self.born
        self.error = item.get("error") or self.error
        self.busy = self.busy or bool(item.get("busy"))

    def raise_error(self) -> None:
        """Raise anew what was raised inside the lease, if anything was."""
        if self.error:
            kind, what, remedy = self.error
            raise getattr(errors, kind, BackendError)(text_from_json(what), text_from_json(remedy))


class LeaseBackend:
    """Work on runs one lease at a time: each `drive` is one.

    Args:
        platform: whose GPU.
        ledger: of the visitor whose quota is used.
        cap_s: seconds a lease may declare.
        kept_s: seconds of quota kept back for trying the result.
        weights: folder where the base model was fetched to; empty where its id says where it is.
    """

    def __init__(
        self,
        platform: Platform,
        ledger: Ledger,
        cap_s: int,
        kept_s: float = 0.0,
        weights: str = "",
    ) -> None:
        self.platform = platform
        self.ledger = ledger
        self.cap_s = cap_s
        self.kept_s = kept_s
        self.weights = weights

    # ---- working on a run ------------------------------------------------------------------------

    def drive(
        self, run: Run, should_stop: Callable[[], str] = lambda: "", *, token: Token | str
    ) -> Iterator[ev.Event]:
        """Work on a run for one lease; see `Backend.drive`.

        The last event says whether another lease should follow. A refusal is an event too.
        """
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(alone(run))
            except RunBusyError:
                yield Refused(run_id=run.record.id, reason="busy", asked_s=0)
                return
            if run.record.status == "finished":
                raise RunError("backends.nothing_to_resume", run_id=run.record.id)
            yield from self._drive(run, should_stop)

    def _drive(self, run: Run, should_stop: Callable[[], str]) -> Iterator[ev.Event]:
        book = Book.of(run)
        book.pace.expected = expected_s(run)
        plan = self._plan(run, book, probe=True)
        for tries in range(TRIES):
            if isinstance(plan, Refused):
                break
            refused = yield from self._lease(run, book, plan, should_stop)
            if refused is None:
                return
            last = tries == TRIES - 1
            plan = refused if last else smaller(refused, lambda: self._plan(run, book, False))
        assert isinstance(plan, Refused)
        yield note(run, plan)

    def _plan(self, run: Run, book: Book, probe: bool) -> Ask | Refused:
        need = None if book.setbacks else remaining_s(run, book.pace)
        least = book.pace.least_s()
        terms = Terms(self.cap_s, least, need, self.platform.asked_factor(), self.kept_s)
        return plan_ask(terms, self.ledger.standing(), probe)

    def _lease(
        self, run: Run, book: Book, ask: Ask, should_stop: Callable[[], str]
    ) -> Generator[ev.Event, None, Refused | None]:
        """Take one lease; return the refusal where there was none, or where it was taken away."""
        use, refusal = Use(ask, saved_at(run)), None
        order = self._order(run, book, ask)
        try:
            with contextlib.closing(self.platform.lease(order)) as items:  # type: ignore[type-var]
                yield from self._follow(run, book, use, items, should_stop)
        except GeneratorExit:
            self._settle(run, book, use)
            note(run, ended(book, use, "closed"))
            raise
        except Exception as error:  # the platform's; what is no refusal is raised again
            refusal = self.platform.refusal_of(error)
            if refusal is None:
                self._settle(run, book, use)
                mend(run, "interrupted")
                raise
        self._settle(run, book, use)
        ended_well = isinstance(use.last, ENDS)  # whatever became of its worker then
        if refusal is not None and not ended_well:
            return self._refused(run, book, use, refusal)
        if use.busy:
            return Refused(reason="busy", asked_s=ask.asked_s)
        yield note(run, ended(book, use))
        use.raise_error()
        return None

    def _order(self, run: Run, book: Book, ask: Ask) -> dict[str, Any]:
        return {
            "task": "work",
            "folder": str(run.folder),
            "number": book.number + 1,
            "base_model": {k: run.record.base_model.get(k) for k in ("id", "revision")},
            "weights": self.weights,
            "pace": asdict(book.pace),
            **asdict(ask),
        }

    def _follow(
        self, run: Run, book: Book, use: Use, items: Iterator[Item], stop: Callable[[], str]
    ) -> Iterator[ev.Event]:
        for item in items:
            use.take(item)
            if "born" in item:
                book.number, book.refused = book.number + 1, 0
                self.ledger.grant(use.ask.asked_s)
            if "event" not in item:
                continue
            book.pace = Pace(**item["pace"])
            use.last, use.last_at = ev.from_json(item["event"]), time.monotonic()
            if isinstance(use.last, ev.RunFinished):
                run.record = Run.load(run.folder).record
            yield use.last
            why = stop()
            if why:
                run.write(STOP_FILE, why.encode())

    def _settle(self, run: Run, book: Book, use: Use) -> None:
        """Charge what was used, and keep the book."""
        (run.folder / STOP_FILE).unlink(missing_ok=True)
        run.record = Run.load(run.folder).record
        if use.born is not None:
            self.ledger.charge(use.used_s() * self.platform.charged_factor())
            if isinstance(use.last, ENDS):
                book.pace.leave = max(book.pace.leave, time.monotonic() - use.last_at)
            book.setbacks = 0 if saved_at(run) != use.saved else book.setbacks + 1
        book.keep(run)

    def _refused(self, run: Run, book: Book, use: Use, refusal: Refusal) -> Refused:
        event = self._believe(use.ask, refusal)
        if refusal.reason == "aborted":
            book.setbacks += use.born is None  # else it is counted already
            book.keep(run)
            mend(run, "aborted")
            if use.used_s() >= OVERRUN * use.ask.usable_s and halve_rows(run):
                book.setbacks = 0
                book.keep(run)
            return replace(event, goes_on=book.setbacks < SETBACKS)
        if refusal.reason in ("expired", "queue"):
            book.refused += 1
            book.keep(run)
            return replace(event, goes_on=book.refused < SETBACKS)
        return event

    def _believe(self, ask: Ask, refusal: Refusal) -> Refused:
        """Take over in the ledger what a refusal tells, and return it as an event."""
        if refusal.left_s is not None:
            self.ledger.correct(refusal.left_s, refusal.wait_s)
        if refusal.reason == "duration":
            self.ledger.forbid(ask.declared_s)
        wait = refusal.wait_s
        return Refused(
            reason=refusal.reason,
            asked_s=ask.asked_s,
            left_s=refusal.left_s,
            retry_at=None if wait is None else self.ledger.clock() + wait,
        )

    # ---- writing ---------------------------------------------------------------------------------

    def write(
        self, desk: Desk, requests: Sequence[WriteRequest] | Sequence[PromptRequest]
    ) -> list[list[str]]:
        """Write texts, or prompts for texts, in one short lease.

        Returns:
            The texts of each request; none for one that the lease had no time for.

        Raises:
            LeaseError: no lease was given, or it was taken away.
            DittoError: what the writing itself raised.
        """
        texts: list[list[str]] = [[] for _ in requests]
        for number, written in self.stream(desk, requests):
            texts[number] = written
        return texts

    def stream(
        self, desk: Desk, requests: Sequence[WriteRequest] | Sequence[PromptRequest]
    ) -> Iterator[tuple[int, list[str]]]:
        """Do what `write` does, and yield each request's number and texts as they come."""
        prompts = sum(isinstance(request, PromptRequest) for request in requests)
        order = {
            "task": "prompts" if prompts else "write",
            "desk": desk.to_json(),
            "requests": [request.to_json() for request in requests],
            "base_model": dict(desk.base_model),
            "weights": desk.weights,
        }
        need = prompts_s(prompts) if prompts else WRITE_S
        terms = Terms(self.cap_s, WRITE_LEAST_S, need, self.platform.asked_factor())
        plan = plan_ask(terms, self.ledger.standing())
        for tries in range(TRIES):
            if isinstance(plan, Refused):
                break
            refusal = yield from self._write({**order, **asdict(plan)}, plan)
            if refusal is None:
                return
            refused, last = self._believe(plan, refusal), tries == TRIES - 1
            again = functools.partial(plan_ask, terms, self.ledger.standing(), False)
            plan = refused if last else smaller(refused, again)
        assert isinstance(plan, Refused)
        raise LeaseError(lease_line(plan, Around(writing=True)), refusal=plan)

    def _write(
        self, order: dict[str, Any], ask: Ask
    ) -> Generator[tuple[int, list[str]], None, Refusal | None]:
        use = Use(ask)
        try:
            for item in self.platform.lease(order):
                use.take(item)
                if "born" in item:
                    self.ledger.grant(ask.asked_s)
                yield from item.get("texts", ())
        except Exception as error:  # the platform's; what is no refusal is raised again
            refusal = self.platform.refusal_of(error)
            if refusal is None:
                raise
            return refusal
        finally:
            if use.born is not None:
                self.ledger.charge(use.used_s() * self.platform.charged_factor())
        use.raise_error()
        return None


def prompts_s(count: int) -> float:
    """Return the seconds that a lease declares to write so many prompts."""
    return max(WRITE_S, WRITE_LEAST_S + PROMPT_S * count)


def smaller(refused: Refused, plan: Callable[[], Ask | Refused]) -> Ask | Refused:
    """Return a smaller lease to ask for after a refusal that told something, or the last word."""
    if refused.reason != "duration" and (refused.reason != "quota" or refused.left_s is None):
        return refused
    again = plan()
    if isinstance(again, Ask):
        return again
    kept = again.kept_s if again.reason == "kept" else 0
    reason = "kept" if kept else refused.reason
    return replace(refused, reason=reason, kept_s=kept)


def ended(book: Book, use: Use, reason: str = "") -> ev.LeaseEnded:
    """Return the event that ends a lease."""
    if not reason and use.error:
        reason = "failed"
    elif not reason and isinstance(use.last, ev.RunPaused):
        reason = "time" if use.last.reason == OUT_OF_TIME else "stopped"
    elif not reason:
        reason = "cancelled" if isinstance(use.last, ev.RunCancelled) else "finished"
    used, on = round(use.used_s(), 2), reason == "time"
    return ev.LeaseEnded(number=book.number, used_s=used, goes_on=on, reason=reason)
