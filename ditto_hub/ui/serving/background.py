"""Threads of the server that outlive any error, and whether each is alive."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

log = logging.getLogger(__name__)
SWITCH_S = 0.00005
GRACE_S = 120.0  # a turn that takes this much longer than four usual ones is stuck
_watched: dict[str, Callable[[], bool]] = {}


def share_interpreter() -> None:
    """Have threads take turns often, so that a run goes on while visitors have their pages made.

    Each of a small model's operations lets the interpreter go and asks for it again; with Python's
    own 5 ms a turn, a run of half a second took 40 s beside a busy visitor (LAB.md, 2026-11-27).
    """
    sys.setswitchinterval(SWITCH_S)


@dataclass
class Boundary:
    """Run something that may fail in any way, and say each kind of failure once.

    Args:
        name: of what is run, for the log.
    """

    name: str
    said: set[str] = field(default_factory=set)

    def run(self, do: Callable[[], object]) -> bool:
        """Do it, and tell whether it went well."""
        try:
            do()
        except Exception as error:  # the boundary of a thread that serves everybody
            kind = type(error).__name__
            if kind not in self.said:
                self.said.add(kind)
                log.exception("%s failed; it goes on, and this is said once", self.name)
            return False
        return True


def watch(name: str, alive: Callable[[], bool]) -> None:
    """Make something's being alive part of the server's status."""
    _watched[name] = alive


def status() -> dict[str, bool]:
    """Return name -> whether it is alive, of all that is watched."""
    return {name: alive() for name, alive in sorted(_watched.items())}


def every(
    seconds: float, name: str, do: Callable[[], object], end: threading.Event | None = None
) -> threading.Thread:
    """Do something again and again, on a thread that ends with the server and with nothing else.

    Args:
        seconds: between two turns.
        name: in the log and the status.
        do: may fail in any way.
        end: set by whoever wants it to end before the server does.
    """
    over = end or threading.Event()
    boundary = Boundary(name)
    turned = [time.monotonic()]

    def now_and_then() -> None:
        while not over.is_set():
            boundary.run(do)
            turned[0] = time.monotonic()
            over.wait(seconds)

    thread = threading.Thread(target=now_and_then, name=name, daemon=True)

    def alive() -> bool:
        return thread.is_alive() and time.monotonic() - turned[0] < 4 * seconds + GRACE_S

    watch(name, alive)
    thread.start()
    return thread
