"""What is removed when its time has come: old runs, what is remembered of a page, free memory."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import threading
import time
from collections.abc import Callable

import gradio as gr
from gradio.state_holder import StateHolder

from ditto_hub.errors import DittoError
from ditto_hub.profiles import Profile
from ditto_hub.runs import Run

log = logging.getLogger(__name__)
SWEEP_EVERY_S = 900
FORGET_EVERY_S = 60
CLOSED_FOR_S = 3600  # as long as Gradio keeps a closed page's state, for one that comes back
CALLED_FOR_S = 300


def sweep(profile: Profile, now: float | None = None) -> list[str]:
    """Remove runs that nobody has worked on for the profile's hours, and return their ids."""
    before = (now or time.time()) - profile.keep_hours * 3600
    removed = []
    for run in Run.all():
        if run.record.updated < before:
            try:
                run.delete()
            except DittoError as error:  # under work, or a file that cannot go: next time
                log.info("run %s stays for now: %s", run.record.id, type(error).__name__)
            else:
                removed.append(run.record.id)
    return removed


def forget_sessions(page: gr.Blocks, now: float | None = None) -> int:
    """Drop what the server remembers of closed pages and of programs' calls; return how many.

    Gradio drops a closed page's states after an hour, but keeps half a megabyte a page, and the
    texts on its cards, until `state_session_capacity` others have come; every call of a program
    counts as one.

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
    return len(over)


def _is_over(holder: StateHolder, name: str, now: float) -> bool:
    """Tell whether nobody will come back to a session: its page is closed, or it never had one."""
    session, used = holder.session_data[name], holder.time_last_used.get(name)
    idle_s = now - used.timestamp() if used else 0.0
    if session.is_closed:
        return idle_s > CLOSED_FOR_S
    return not session.state_data and idle_s > CALLED_FOR_S  # a program's call has no states


def release_memory() -> None:
    """Give back what a run or a text took.

    Models stand in cycles, and Python's own collector comes late to an app that holds half a
    million objects; the C library then keeps what is free, where it can be told to let go.
    """
    gc.collect()
    with contextlib.suppress(OSError, AttributeError, TypeError):  # glibc alone has it
        ctypes.CDLL(None).malloc_trim(0)


def start_sweepers(page: gr.Blocks, profile: Profile) -> None:
    """Forget now and then for as long as the server runs; runs only where they expire."""
    _every(FORGET_EVERY_S, "forgetter", lambda: forget_sessions(page))
    if profile.name != "own":
        _every(SWEEP_EVERY_S, "sweeper", lambda: sweep(profile))


def _every(seconds: float, name: str, do: Callable[[], object]) -> None:
    """Do something again and again in a thread that ends with the server."""

    def now_and_then() -> None:
        while True:
            try:
                do()
            except (DittoError, OSError) as error:  # of the disk: the next time is another one
                log.warning("%s: %s", name, type(error).__name__)
            time.sleep(seconds)

    threading.Thread(target=now_and_then, name=name, daemon=True).start()
