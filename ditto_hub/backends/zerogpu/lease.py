"""A lease from the inside: its clock, and what it does until the clock says stop.

Runs in the GPU worker, which may be killed at any moment: so it saves often, watches its own
clock, and ends early enough for the last save. What it yields are plain values.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ditto_hub import events as ev
from ditto_hub.backends.backtranslation import PromptRequest, write_prompts
from ditto_hub.backends.driver import Driver
from ditto_hub.backends.generation import Desk, WriteRequest, write_texts
from ditto_hub.backends.local import dress
from ditto_hub.errors import BackendError, DittoError, MemoryShortError, RunBusyError
from ditto_hub.runs.folder import Run
from ditto_hub.runs.progress import LIKE, Progress
from ditto_hub.words import text_to_json

log = logging.getLogger(__name__)

FIRST_S = 8.0  # until a lease's first step is done, before that has been measured
FINISH_S = 4.0  # to write the chosen adapter and its probe, and leave
SAVE_EVERY_S = 2.0  # a killed worker costs at most so many seconds of steps
FADES = 0.85  # a stretch that took long once is forgotten by and by
SPARE = 1.3  # a next step may take so many times the longest there was
STOP_FILE = ".stop"
OUT_OF_TIME = "lease"

Item = dict[str, Any]
Opened = tuple[Any, Any]
"""(model, tokenizer)."""

_born: list[float] = []


def _note_birth() -> None:
    _born[:] = [time.monotonic()]
    gc.freeze()  # a collection would touch, and so copy, all that came from the main process


# A fresh worker is charged from its fork on: it sets the GPU up before it gets here.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_birth)


def began() -> float:
    """Return when this lease began, on the monotonic clock: its worker's birth, or now."""
    return _born.pop() if _born else time.monotonic()


@dataclass
class Pace:
    """Hold how long things take in a run's leases, in seconds.

    Args:
        first: from a lease's beginning until the base model is ready.
        save: longest save of the state.
        leave: from a lease's last event until its GPU is given back.
        longest: place -> longest work between two checkpoints of late; a place is a stage, or
            STAGE/end for what comes after its last step.
        total: place -> seconds of all such work.
        count: place -> how often.
        expected: place -> seconds of one such stretch by the run's estimate, where it has one.
    """

    first: float = 0.0
    save: float = 0.0
    leave: float = 0.0
    longest: dict[str, float] = field(default_factory=dict)
    total: dict[str, float] = field(default_factory=dict)
    count: dict[str, int] = field(default_factory=dict)
    expected: dict[str, float] = field(default_factory=dict)

    def add(self, place: str, seconds: float) -> None:
        """Take in one stretch of work."""
        self.longest[place] = max(FADES * self.longest.get(place, 0.0), seconds)
        self.total[place] = self.total.get(place, 0.0) + seconds
        self.count[place] = self.count.get(place, 0) + 1

    def next_s(self, place: str) -> float:
        """Return how long the next stretch may take.

        Of a new place, what the estimate says, by as much more as the places seen took more than
        it says of them; without one, the longest of any.
        """
        known = self.longest.get(place) or self.longest.get(like(place))
        if known:
            return known
        slower = [self.longest[p] / e for p, e in self.expected.items() if self.longest.get(p)]
        expected = self.expected.get(place, 0.0) * max([1.0, *slower])
        return max(expected, *self.longest.values(), 0.0)

    def mean_s(self, place: str) -> float | None:
        """Return the mean of a place, or of the one it is like; None where nothing is known."""
        for name in (place, like(place)):
            if self.count.get(name):
                return self.total[name] / self.count[name]
        return None

    def least_s(self) -> float:
        """Return the shortest lease that does some work and saves it."""
        step = max(self.longest.values(), default=1.0)
        return (self.first or FIRST_S) + SPARE * step + self.spare_s(0)

    def spare_s(self, usable_s: float) -> float:
        """Return what a lease keeps for the last save and for leaving the GPU."""
        return 2 * self.save + 1.5 * self.leave + max(1.0, 0.04 * usable_s)


def like(place: str) -> str:
    """Return the place whose pace stands in for one that has not been seen yet."""
    stage, slash, end = place.partition("/")
    return LIKE.get(stage, stage) + slash + end


class LeaseClock:
    """Tell at each checkpoint whether there is time for more.

    Args:
        usable_s: seconds this lease may take.
        began_at: on the monotonic clock.
        pace: known from earlier leases; it is kept up.
        stages: names of the run's stages, in order.
        stop: asked first, for a reason from outside.
    """

    def __init__(
        self,
        usable_s: float,
        began_at: float,
        pace: Pace,
        stages: Sequence[str] = (),
        stop: Callable[[], str] = lambda: "",
    ) -> None:
        self.usable_s = usable_s
        self.began_at = began_at
        self.pace = pace
        self.stages = stages
        self.stop = stop
        self._index = 0
        self._behind, self._ahead = "", ""  # what was done last, and what comes next
        self._since = began_at

    def left_s(self) -> float:
        """Return the seconds that are left."""
        return self.began_at + self.usable_s - time.monotonic()

    def fits(self, seconds: float) -> bool:
        """Tell whether work of that length, a save and the leaving fit."""
        return self.left_s() >= SPARE * seconds + self.pace.spare_s(self.usable_s)

    def see(self, event: ev.Event) -> None:
        """Take in where the run is."""
        if isinstance(event, ev.RunStarted):
            self._since = time.monotonic()
            self.pace.first = max(self.pace.first, self._since - self.began_at)
        elif isinstance(event, ev.StageStarted):
            self._index = event.index
        elif isinstance(event, ev.StageFinished):
            self._behind = f"{event.stage}/end"
            self._ahead = (*self.stages[self._index + 1 :], "")[0]
        elif isinstance(event, ev.StepTaken | ev.BatchSampled):
            if isinstance(event, ev.StepTaken):
                ended = event.step == event.total_steps
            else:
                ended = event.rows == event.total_rows
            self._behind = event.stage
            self._ahead = event.stage + ("/end" if ended else "")

    def __call__(self) -> str:
        """Return why to stop at this checkpoint, or nothing."""
        now = time.monotonic()
        self.pace.add(self._behind, now - self._since)
        self._since = now
        why = self.stop()
        if why:
            return why
        return "" if self.fits(self.pace.next_s(self._ahead)) else OUT_OF_TIME


def remaining_s(run: Run, pace: Pace) -> float | None:
    """Return the seconds that a run's work left would take in one lease, with a fifth to spare.

    None while the pace of a stage to come is not known.
    """
    from ditto_hub.ditto.loop import plan, total_steps

    demos = len(run.demos())
    stages = [(name, total_steps(run.config, name, demos)) for name, _ in plan(run.config)]
    progress = Progress(stages)
    for event in run.events():
        progress.see(event)
    seconds = 0.0
    for index, (name, steps) in enumerate(stages[progress.done :]):
        left = steps - progress.step if index == 0 and name == progress.stage else steps
        step, end = pace.mean_s(name), pace.mean_s(f"{name}/end")
        if step is None:
            return None
        seconds += max(0, left) * step + (end or 0.0)
    return 1.2 * seconds + FINISH_S + pace.least_s()


def asked_to_stop(folder: Path) -> str:
    """Return why somebody outside this process wants a run to stop, or nothing."""
    if (folder / ".cancel").exists():
        return "cancel"
    with contextlib.suppress(OSError):
        return (folder / STOP_FILE).read_text(encoding="utf-8") or "stopped"
    return ""


def work_items(order: Mapping[str, Any], open_base: Callable[[], Opened]) -> Iterator[Item]:
    """Work on a run until its end, or until this lease's time is nearly over.

    Args:
        order: of task work; plain values.
        open_base: gives the base model, clean.

    Yields:
        {born}; then {event, pace} each; {busy}, or {error: [type, what, remedy]}, at the end where
        it did not end well.
    """
    from ditto_hub.ditto.loop import plan

    born = began()
    yield {"born": born}
    folder = Path(order["folder"])
    pace = Pace(**order["pace"])
    run = Run.load(folder)
    stages = [name for name, _ in plan(run.config)]
    clock = LeaseClock(order["usable_s"], born, pace, stages, lambda: asked_to_stop(folder))
    with contextlib.ExitStack() as leaving:

        def open_policy(run: Run) -> Any:
            policy = dress(run, *open_base())
            leaving.callback(policy.unload)
            return policy

        driver = Driver(run, open_policy, clock, SAVE_EVERY_S)
        driver.opening = (ev.LeaseStarted(**{k: order[k] for k in STARTED}),)
        try:
            with contextlib.closing(driver.events()) as events:  # type: ignore[type-var]
                for event in events:
                    pace.save = max(pace.save, driver.save_s)
                    clock.see(event)
                    yield {"event": event.to_json(), "pace": asdict(pace)}
        except RunBusyError:
            yield {"busy": True}
        except Exception as error:  # the worker's boundary: the main process raises it anew
            yield {"error": in_plain(error)}


STARTED = ("number", "declared_s", "asked_s")


def write_items(order: Mapping[str, Any], open_base: Callable[[], Opened]) -> Iterator[Item]:
    """Write texts until all are there, or until this lease's time is nearly over.

    Args:
        order: of task write, or of task prompts; plain values.
        open_base: gives the base model, clean.

    Yields:
        {born}; then {texts: [[number, texts], ...]} each; {error} where something failed.
    """
    from ditto_hub.engine.choice import open_engine

    born = began()
    yield {"born": born}
    desk = Desk(**order["desk"])
    clock = LeaseClock(order["usable_s"], born, Pace())
    with contextlib.ExitStack() as leaving:
        try:
            model, tokenizer = open_base()
            policy = open_engine(model, tokenizer, desk.lora(), 0, desk.base_model)
            leaving.callback(policy.unload)
            since = time.monotonic()
            for batch in _written(policy, desk, order):
                yield {"texts": [[number, texts] for number, texts in batch]}
                now = time.monotonic()
                if not clock.fits(now - since):
                    break
                since = now
        except Exception as error:  # the worker's boundary: the main process raises it anew
            yield {"error": in_plain(error)}


def _written(
    policy: Any, desk: Desk, order: Mapping[str, Any]
) -> Iterator[list[tuple[int, list[str]]]]:
    rows: Sequence[Mapping[str, Any]] = order["requests"]
    if order["task"] == "prompts":
        return write_prompts(policy, desk.base_model, [PromptRequest(**row) for row in rows])
    return write_texts(policy, desk, [WriteRequest(**row) for row in rows])


def in_plain(error: Exception) -> list[Any]:
    """Return an error as [type, what, remedy]; of one that is not ours, no more than its type."""
    if not isinstance(error, DittoError):
        log.exception("a lease failed")
        kind = type(error).__name__
        error = (
            MemoryShortError("backends.lease_memory")
            if "OutOfMemory" in kind
            else BackendError("backends.lease_failed", kind=kind)
        )
    return [type(error).__name__, text_to_json(error.happened), text_to_json(error.todo)]
