"""What a run has told so far, folded from its events; read from the run folder as it grows.

A page never holds a run's progress: it asks again, so that a reload, another device or a second
tab shows the same. Pure but for `Tail`, which reads what was appended since it last looked.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections import OrderedDict
from dataclasses import dataclass, field

from ditto_hub import events as ev
from ditto_hub.config import RunConfig
from ditto_hub.runs.folder import Run
from ditto_hub.runs.progress import Progress, expected_s, plan_of
from ditto_hub.words import Text

StepKey = tuple[int, int]  # round and step


@dataclass
class Story:
    """Hold what is shown of a run.

    Args:
        config: the run's settings; they give the plan of stages.
        stages: (stage, round) -> seconds, of those that have ended.
        warm: step -> (loss, held-out loss or None).
        updates: (round, step) -> loss and metrics.
        scores: candidate -> its scores, "degenerate" in words among them.
        kept: name of the candidate that became the adapter.
        notices: words of what a person should know.
        ended: how the last stretch of work ended: paused, cancelled, failed, finished or "".
        reason: of that, in words or as a code.
        lease: what was last told of a GPU lease, where there are any.
        seen: events so far.
    """

    config: RunConfig
    progress: Progress = field(default_factory=Progress)
    demonstrations: int = 0
    held_out: int = 0
    stages: dict[tuple[str, int | None], float] = field(default_factory=dict)
    warm: dict[int, tuple[float, float | None]] = field(default_factory=dict)
    updates: dict[StepKey, dict[str, float]] = field(default_factory=dict)
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    degenerate: dict[str, Text] = field(default_factory=dict)
    kept: str = ""
    notices: list[Text] = field(default_factory=list)
    ended: str = ""
    reason: Text = ""
    lease: ev.Event | None = None
    seen: int = 0

    def see(self, event: ev.Event) -> None:
        """Take in the next event."""
        self.seen += 1
        self.progress.see(event)
        if isinstance(event, ev.RunStarted):
            self.demonstrations, self.held_out = event.demonstrations, event.held_out
            self.progress.plan = [(n, steps) for n, _, steps in self.plan]
            self.ended = self.reason = ""
        elif isinstance(event, ev.StepTaken):
            self._step(event)
        elif isinstance(event, ev.StageFinished):
            self.stages[event.stage, event.round] = event.seconds
        elif isinstance(event, ev.CandidateScored):
            self.scores[event.name] = dict(event.scores)
            self.degenerate[event.name] = event.degenerate
        elif isinstance(event, ev.CandidateChosen):
            self.kept = event.name
        elif isinstance(event, ev.LeaseStarted | ev.LeaseEnded | ev.LeaseRefused):
            self.lease = event
        elif isinstance(event, ev.Noticed):
            self.notices.append(event.message)
        else:
            self._end(event)

    @property
    def plan(self) -> list[tuple[str, int | None, int]]:
        """The stages of the whole run: name, round, most steps."""
        return plan_of(self.config, self.demonstrations + self.held_out)

    def _step(self, event: ev.StepTaken) -> None:
        step = event.step or 0
        if event.stage == "warm-start":
            self.warm[step] = (event.loss, event.metrics.get("held_out_loss"))
        elif event.stage == "update":
            self.updates[event.round or 0, step] = {"loss": event.loss, **event.metrics}

    def _end(self, event: ev.Event) -> None:
        if isinstance(event, ev.RunPaused):
            self.ended, self.reason = "paused", event.reason
        elif isinstance(event, ev.RunCancelled):
            self.ended = "cancelled"
        elif isinstance(event, ev.RunFailed):
            self.ended, self.reason = "failed", event.message
        elif isinstance(event, ev.RunFinished):
            self.ended, self.kept, self.reason = "finished", event.chosen, event.stopped_early


class Tail:
    """Follow a run folder's events, reading each byte once.

    Args:
        run: whose events.
    """

    def __init__(self, run: Run) -> None:
        self.path = run.folder / "events.jsonl"
        self.story = Story(run.config, Progress(expected=expected_s(run)))
        self._offset = 0
        self._lock = threading.Lock()

    def look(self) -> Story:
        """Return the story up to the last whole line."""
        with self._lock:
            if not self.path.is_file():
                return self.story
            with self.path.open("rb") as file:
                file.seek(self._offset)
                new = file.read()
            whole = new[: new.rfind(b"\n") + 1]
            self._offset += len(whole)
            for line in whole.splitlines():
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    self.story.see(ev.from_json(json.loads(line)))
            return self.story


class Tails:
    """Keep the tails of the runs that were looked at last.

    Args:
        most: how many.
    """

    def __init__(self, most: int = 64) -> None:
        self._most = most
        self._tails: OrderedDict[str, Tail] = OrderedDict()
        self._lock = threading.Lock()

    def story(self, run: Run) -> Story:
        """Return a run's story as it stands now; the caller has asked whose run it is."""
        with self._lock:
            tail = self._tails.setdefault(run.record.id, Tail(run))
            self._tails.move_to_end(run.record.id)
            while len(self._tails) > self._most:
                self._tails.popitem(last=False)
        return tail.look()
