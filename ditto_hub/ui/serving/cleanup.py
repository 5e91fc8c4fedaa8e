"""What is removed when its time has come: old runs, what is remembered of a page, free memory."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import gradio as gr
from gradio.state_holder import StateHolder

from ditto_hub.cost.profiles import Profile
from ditto_hub.errors import DittoError
from ditto_hub.runs.folder import Run, home
from ditto_hub.runs.record import RunRecord
from ditto_hub.ui.serving.background import Boundary, every
from ditto_hub.ui.serving.uploads import sweep_uploads

log = logging.getLogger(__name__)
SWEEP_EVERY_S = 900
FORGET_EVERY_S = 60
FORGET_SESSIONS_EVERY_S = 5  # a program calls several times a second, each time as a new session
CLOSED_FOR_S = 3600  # as long as Gradio keeps a closed page's state, for one that comes back
CALLED_FOR_S = 5  # a session without states is made anew where it is still needed
one_run = Boundary("removing a run")  # whatever is wrong with it, the others are removed


def sweep(profile: Profile, now: float | None = None) -> list[str]:
    """Remove runs that nobody has worked on for the profile's hours, and return their ids.

    A folder whose record cannot be read goes by its own age.
    """
    before = (now or time.time()) - profile.keep_hours * 3600
    removed: list[str] = []

    def remove(run: Run) -> None:
        try:
            run.delete()
        except DittoError as error:  # under work, or a file that cannot go: next time
            log.info("run %s stays for now: %s", run.record.id, type(error).__name__)
        else:
            removed.append(run.record.id)

    found = Run.all()
    for run in [*found, *_unreadable({run.folder for run in found})]:
        if run.record.updated < before:
            one_run.run(partial(remove, run))
    return removed


def _unreadable(readable: set[Path]) -> list[Run]:
    """Return the folders among the runs that hold no run that can be read."""
    rest = [p for p in (home() / "runs").glob("*/") if p not in readable and not p.is_symlink()]
    return [
        Run(p, RunRecord(p.name, {}, {}, updated=p.stat().st_mtime)) for p in rest if p.is_dir()
    ]


def forget_sessions(page: gr.Blocks, now: float | None = None) -> int:
    """Drop what the server remembers of closed pages and of programs' calls; return how many.

    Gradio drops a closed page's states after an hour, but keeps half a megabyte a page until
    `state_session_capacity` others have come; every call of a program counts as one. It also keeps
    the last value of every input, which is what a person wrote, for links to a page as it stands,
    which we do not offer: those values go at once.

    Args:
        page: the app; before it is launched there is nothing to drop.
        now: seconds since the epoch.
    """
    holder: StateHolder | None = getattr(page, "state_holder", None)
    if holder is None:
        return 0
    with holder.lock:
        over = [
            name for name in list(holder.session_data) if _is_over(holder, name, now or time.time())
        ]
        for name in over:
            holder.session_data.pop(name, None)
            holder.time_last_used.pop(name, None)
    for session in list(holder.session_data.values()):
        for config in list(session.config_values.values()):
            config.get("props", {}).pop("value", None)
    return len(over)


def _is_over(holder: StateHolder, name: str, now: float) -> bool:
    """Tell whether nobody will come back to a session: its page is closed, or it never had one."""
    session, used = holder.session_data[name], holder.time_last_used.get(name)
    idle_s = now - used.timestamp() if used else 0.0
    if session.is_closed:
        return idle_s > CLOSED_FOR_S
    return not session.state_data and idle_s > CALLED_FOR_S  # a program's call has no states


@dataclass
class Collector:
    """Give back what runs and texts took, for a small share of the time.

    A collection holds up everybody for as long as it takes, and a visitor who has many short texts
    written asks for one after each.

    Args:
        collect: gives back what is free.
        share: of the time that may go into it; what comes sooner waits, and is done once.
    """

    collect: Callable[[], object]
    share: float = 0.05
    _next: float = 0.0
    _waiting: threading.Timer | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _boundary: Boundary = field(default_factory=lambda: Boundary("collecting memory"))

    def ask(self) -> None:
        """Collect now, or as soon as it is due."""
        with self._lock:
            if self._waiting:
                return
            left = self._next - time.monotonic()
            if left > 0:
                self._waiting = threading.Timer(left, self._later)
                self._waiting.daemon = True
                self._waiting.start()
                return
            self._now()

    def _later(self) -> None:
        with self._lock:
            self._waiting = None
            self._boundary.run(self._now)

    def _now(self) -> None:
        started = time.monotonic()
        try:
            self.collect()
        finally:
            ended = time.monotonic()
            self._next = ended + (ended - started) / self.share


def collect() -> None:
    """Collect, and give free memory back to the system.

    Models stand in cycles, and Python's own collector comes late to an app that holds half a
    million objects; the C library then keeps what is free, where it can be told to let go.
    """
    gc.collect()
    with contextlib.suppress(OSError, AttributeError, TypeError):  # glibc alone has it
        ctypes.CDLL(None).malloc_trim(0)


release_memory = Collector(collect).ask


def start_sweepers(page: gr.Blocks, profile: Profile) -> None:
    """Forget now and then for as long as the server runs; runs only where they expire."""
    every(FORGET_SESSIONS_EVERY_S, "forgetter", lambda: forget_sessions(page))
    if profile.name != "own":
        every(SWEEP_EVERY_S, "sweeper", lambda: sweep(profile))
        every(FORGET_EVERY_S, "upload sweeper", sweep_uploads)
