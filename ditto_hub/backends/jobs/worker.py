"""What a job does: drive a run as one's own machine would, and save its checkpoints in time."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ditto_hub import events as ev
from ditto_hub.backends.driver import Backend
from ditto_hub.errors import HubBusyError, HubError
from ditto_hub.runs.folder import Run
from ditto_hub.tokens import MACHINE

log = logging.getLogger(__name__)
PATIENCE_S = 900.0  # for the Hub, at a run's end: less than what training again would take
FIRST_WAIT_S, LONGEST_WAIT_S = 5.0, 60.0
ENDS = (ev.RunFinished, ev.RunPaused, ev.RunCancelled, ev.RunFailed)


@dataclass(frozen=True)
class Deadline:
    """Say when a job is ended by the platform.

    Args:
        at: seconds since the epoch; None for never.
        margin_s: what saving and leaving in good order may take.
    """

    at: float | None = None
    margin_s: float = 180.0

    def near(self) -> bool:
        """It is time to save and leave."""
        return self.at is not None and time.time() > self.at - self.margin_s


class JobWorker:
    """Drive a run, and save it away after each stage and every so often.

    A job may be killed between any two instructions, so what has not left it is lost. An event
    that ends the run is told only once the run has left: whoever reads it finds the result there.

    Args:
        run: restored, with this job in its record.
        save: keeps the run elsewhere; raises `HubError`.
        backend: that computes.
        deadline: of this job.
        save_every_s: longest time between two saves.
    """

    def __init__(
        self,
        run: Run,
        save: Callable[[Run], object],
        backend: Backend,
        deadline: Deadline,
        save_every_s: float,
    ) -> None:
        self.run = run
        self.save = save
        self.backend = backend
        self.deadline = deadline
        self.save_every_s = save_every_s
        self._saved = 0.0

    def events(self, should_stop: Callable[[], str]) -> Iterator[ev.Event]:
        """Yield the run's events.

        Raises:
            HubError: the end of the run could not be saved away.
            DittoError: whatever stopped it, after its event.
        """

        def stop() -> str:
            return should_stop() or ("timeout" if self.deadline.near() else "")

        due = True  # so that the repo soon tells which job works on the run
        for event in self.backend.drive(self.run, stop, token=MACHINE):  # of the job's secret
            if isinstance(event, ENDS):
                self._save_the_end()
            elif due or time.monotonic() - self._saved >= self.save_every_s:
                self._try_to_save()
            # the driver saves its state after a stage's last event, before the next one
            due = isinstance(event, ev.StageFinished)
            yield event

    def _save_the_end(self) -> None:
        """Save, and wait for a Hub that cannot be reached: what was paid for has to leave."""
        until = min(time.time() + PATIENCE_S, self.deadline.at or math.inf)
        wait_s = FIRST_WAIT_S
        while True:
            try:
                self.save(self.run)
            except HubBusyError as error:
                if time.time() + wait_s > until:
                    raise
                log.warning("the run could not be saved, again in %.0f s: %s", wait_s, error.what)
                time.sleep(wait_s)
                wait_s = min(2 * wait_s, LONGEST_WAIT_S)
            else:
                return

    def _try_to_save(self) -> None:
        """Save, or go on without: the next stage tries again."""
        self._saved = time.monotonic()
        try:
            self.save(self.run)
        except HubError as error:
            log.warning("the run could not be saved now: %s", error.what)
