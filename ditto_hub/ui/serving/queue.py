"""The line of runs that wait for this machine, and the one it works on.

One training at a time; a thread of the server works on it, whether a page listens or not. The
next is the one whose visitor has had the fewest starts, then the one that has waited longest, so
nobody who sends five runs goes before somebody who sends one. The pages read the run folders.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from ditto_hub.errors import DittoError, RunError
from ditto_hub.events import Event
from ditto_hub.runs.folder import Run
from ditto_hub.tokens import Token
from ditto_hub.ui.serving.background import Boundary, watch
from ditto_hub.ui.serving.cleanup import release_memory

log = logging.getLogger(__name__)
Work = Callable[[Run, str, Token | str, Callable[[], str]], Iterator[Event]]


@dataclass(frozen=True)
class Waiting:
    """Hold a run's place in the line.

    Args:
        run: to work on.
        owner: whose it is; decides what is fair.
        token: of the Hub, to read a private base model; in memory alone, and only while it waits
            and works.
    """

    run: Run
    owner: str
    token: Token | str = field(repr=False)

    @property
    def id(self) -> str:
        """The run's id."""
        return self.run.record.id


class Workshop:
    """Work on runs, one after the other.

    Args:
        work: yields a run's events as it works on it, asking its last argument whether to stop.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._change = threading.Condition()
        self._line: list[Waiting] = []
        self._served: Counter[str] = Counter()
        self._leased: Counter[str] = Counter()
        self._now: Waiting | None = None
        self._then: dict[str, Callable[[], None]] = {}
        self._stop = ""
        self._thread: threading.Thread | None = None
        self._boundary = Boundary("the line of runs")
        watch("workshop", lambda: self._thread is None or self._thread.is_alive())

    def put(self, run: Run, owner: str, token: Token | str) -> None:
        """Put a run into the line; one that is there already keeps its place.

        Raises:
            RunError: the run is finished.
        """
        if run.record.status == "finished":
            raise RunError("ui.nothing_to_resume", run_id=run.record.id)
        with self._change:
            if self.place(run.record.id) is None:
                self._line.append(Waiting(run, owner, token))
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._loop, name="workshop", daemon=True)
                self._thread.start()
            self._change.notify_all()

    def place(self, run_id: str) -> int | None:
        """Return how many go before a run, 0 for the one under work, None for one not in line."""
        with self._change:
            if self._leased[run_id] or (self._now is not None and self._now.id == run_id):
                return 0
            ahead = int(self._now is not None)
            for index, waiting in enumerate(self._ordered()):
                if waiting.id == run_id:
                    return index + ahead
            return None

    def under_work(self) -> list[str]:
        """Return the ids of all runs that are worked on or wait, whoever's they are."""
        with self._change:
            now = [] if self._now is None else [self._now.id]
            return [*now, *self._leased, *(waiting.id for waiting in self._line)]

    def take_out(self, run_id: str, why: str = "cancel") -> bool:
        """Let go of a run: out of the line, or told to stop at its next checkpoint.

        Args:
            why: "cancel", or the reason it pauses for.

        Returns:
            Whether it was there.
        """
        with self._change:
            if self._now is not None and self._now.id == run_id:
                self._stop = why
                return True
            before = len(self._line)
            self._line = [w for w in self._line if w.id != run_id]
            return len(self._line) < before

    def afterwards(self, run_id: str, do: Callable[[], None]) -> None:
        """Do something to a run when the work on it has ended; what is asked last is what is done.

        Args:
            do: may raise a DittoError, which changes nothing.
        """
        with self._change:
            if self._now is not None and self._now.id == run_id:
                self._then[run_id] = do

    def aside(self, run_id: str, work: Callable[[], Iterator[Event]]) -> None:
        """Follow what works on a run elsewhere, on a thread of its own; one at a time for a run.

        Args:
            work: yields the run's events until that has ended.
        """
        with self._change:
            if self._leased[run_id]:
                return
            self._leased[run_id] += 1

        def follow() -> None:
            with self._let_go(run_id):
                for _ in work():
                    pass

        threading.Thread(target=follow, name=f"aside-{run_id}", daemon=True).start()

    @contextlib.contextmanager
    def _let_go(self, run_id: str) -> Iterator[None]:
        try:
            yield
        except DittoError as error:  # the run's record and events say so to its owner
            log.warning("run %s is not watched any more: %s", run_id, type(error).__name__)
        except Exception:  # the boundary of the thread
            log.exception("run %s is not watched any more", run_id)
        finally:
            with self._change:
                self._leased[run_id] -= 1
                self._leased += Counter()  # drops what is down to zero
                self._change.notify_all()

    @contextlib.contextmanager
    def at_work(self, run_id: str) -> Iterator[None]:
        """Count a run as worked on while a page leases a GPU for it."""
        with self._change:
            self._leased[run_id] += 1
        try:
            yield
        finally:
            with self._change:
                self._leased[run_id] -= 1
                self._leased += Counter()  # drops what is down to zero
                self._change.notify_all()

    def wait_for(self, run_id: str, timeout_s: float) -> bool:
        """Wait until nothing works on a run, and tell whether that came about in time."""
        with self._change:
            return self._change.wait_for(
                lambda: not self._leased[run_id] and getattr(self._now, "id", "") != run_id,
                timeout_s,
            )

    def close(self, timeout_s: float = 10.0) -> None:
        """Pause what is under work and empty the line, for the server's end."""
        with self._change:
            self._line.clear()
            self._stop = "server-stopped"
            self._change.wait_for(lambda: self._now is None, timeout_s)

    def _ordered(self) -> list[Waiting]:
        """Return the line as it will be served: visitors in turn, each one's runs in order."""
        turns: Counter[str] = Counter(self._served)
        keyed = []
        for order, waiting in enumerate(self._line):
            keyed.append((turns[waiting.owner], order, waiting))
            turns[waiting.owner] += 1
        return [waiting for _, _, waiting in sorted(keyed, key=lambda k: k[:2])]

    def _loop(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: bool(self._line))
                self._now = self._ordered()[0]
                self._line.remove(self._now)
                self._served[self._now.owner] += 1
                self._stop = ""
                mine = self._now
            self._drive(mine)
            self._boundary.run(release_memory)
            with self._change:
                self._now = None
                if then := self._then.pop(mine.id, None):
                    self._boundary.run(partial(_quietly, then))
                if not self._line:
                    self._served.clear()  # an idle machine owes nobody anything
                self._change.notify_all()

    def _drive(self, mine: Waiting) -> None:
        try:
            for _ in self._work(mine.run, mine.owner, mine.token, lambda: self._stop):
                pass
        except DittoError as error:  # the run's record and events say so to its owner
            log.warning("run %s stopped: %s", mine.id, type(error).__name__)
        except Exception:  # the thread serves everybody and outlives any run
            log.exception("run %s failed", mine.id)


def _quietly(do: Callable[[], None]) -> None:
    """Do what may fail in known ways that change nothing."""
    with contextlib.suppress(DittoError):
        do()
