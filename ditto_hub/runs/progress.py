"""How far a run is and how long it has still to go, read off its events; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ditto_hub.config import RunConfig
from ditto_hub.demos.prompting import TRIES_A_PROMPT
from ditto_hub.events import (
    BatchSampled,
    Event,
    RunStarted,
    StageFinished,
    StageStarted,
    StepTaken,
)
from ditto_hub.runs.folder import Run

# What a stage that has not run yet is guessed from, until one of its name has.
SETTLED = 3  # steps of a stage, of which the first is slow, that tell its pace against an estimate
LIKE = {"scoring": "sampling", "sft-long": "warm-start"}
TEACHING_ROWS = 16  # side by side at most: each has the demonstrations in its prompt


def before_rounds(config: RunConfig, demonstrations: int) -> list[tuple[str, int | None, int]]:
    """Return the stages up to the warm start; see `plan_of`."""
    start, rows = config.warm_start, config.sampling.batch_rows
    stages: list[tuple[str, int | None, int]] = []
    if start.distils and start.prompts:
        stages.append(("drafting", None, -(-start.prompts * TRIES_A_PROMPT // rows)))
    if start.distils:
        texts = (start.prompts + demonstrations) * start.draws
        stages.append(("teaching", None, max(1, -(-texts // min(TEACHING_ROWS, rows)))))
    return [*stages, ("warm-start", None, start.max_steps)]


def plan_of(config: RunConfig, demonstrations: int) -> list[tuple[str, int | None, int]]:
    """Return a run's stages in order as (name, round, most steps), without loading the algorithm.

    Args:
        config: the run's settings.
        demonstrations: how many there are, held-out ones included.
    """
    rows = config.sampling.batch_rows
    draw = max(1, -(-demonstrations * config.sampling.samples // rows))
    score = max(1, -(-demonstrations * config.selection.samples // rows))
    rounds, steps = config.update.rounds, config.update.steps
    stages = before_rounds(config, demonstrations)
    for t in range(rounds):
        stages += [("sampling", t, draw), ("update", t, steps)]
    stages.append(("scoring", rounds, score))
    if config.selection.sft_long:
        stages += [("sft-long", None, rounds * steps), ("scoring", None, score)]
    return stages


def expected_s(run: Run) -> dict[str, float]:
    """Return stage -> seconds of one of its steps, by the run's estimate; none without one."""
    seconds = run.record.estimate.get("seconds") or {}
    steps: Counter[str] = Counter()
    for name, _, count in plan_of(run.config, len(run.demos().train)):
        steps[name] += count
    return {name: seconds[name] / steps[name] for name in seconds if steps[name]}


@dataclass
class Progress:
    """Follow a run's events.

    Args:
        plan: the run's stages in order, as (name, most steps).
        expected: stage -> seconds of one of its steps, by an estimate; used, at the pace of the
            stages so far, for those that have not run yet.
    """

    plan: Sequence[tuple[str, int]] = ()
    done: int = 0
    stage: str = ""
    round: int | None = None
    step: int = 0
    total_steps: int = 1
    loss: float | None = None
    expected: Mapping[str, float] = field(default_factory=dict)
    _began: float = 0.0
    _now: float = 0.0
    _per_step: dict[str, list[float]] = field(default_factory=dict)

    def see(self, event: Event) -> None:
        """Take in the next event."""
        self._now = event.time
        if isinstance(event, RunStarted):
            self._began = event.time
        elif isinstance(event, StageStarted):
            self.done, self.stage, self.round = event.index, event.stage, event.round
            self.step, self.total_steps = 0, max(1, event.total_steps)
            self._began = event.time
        elif isinstance(event, StepTaken | BatchSampled):
            self.step = event.step or 0
            self.loss = event.loss if isinstance(event, StepTaken) else self.loss
        elif isinstance(event, StageFinished):
            steps = max(1, self.step)
            self._per_step.setdefault(event.stage, []).append(event.seconds / steps)
            self.done, self.step = self.done + 1, self.total_steps

    @property
    def fraction(self) -> float:
        """Share of the run's stages behind it, 0 to 1."""
        if not self.plan:
            return 0.0
        under_way = self.step / self.total_steps if self.done < len(self.plan) else 0.0
        finished = self.step >= self.total_steps
        return min(1.0, (self.done + (0.0 if finished else under_way)) / len(self.plan))

    def seconds_left(self) -> float | None:
        """Return the seconds to go at the pace so far; None while a kind of stage is unknown,
        where nothing was estimated."""
        total = 0.0
        for index, (name, steps) in enumerate(self.plan[self.done :]):
            known = self._per_step.get(name) or self._per_step.get(LIKE.get(name, ""))
            left = steps
            if index == 0 and name == self.stage and 0 < self.step < self.total_steps:
                left = steps - self.step
                if self.step >= SETTLED or name not in self.expected:
                    known = known or [(self._now - self._began) / self.step]
            if not known and name in self.expected:
                known = [self.expected[name] * self._slower()]
            if not known:
                return None
            total += left * sum(known) / len(known)
        return total

    def _slower(self) -> float:
        """Return how many times what was expected the steps took so far; 1 before the first."""
        took = {name: sum(paces) / len(paces) for name, paces in self._per_step.items()}
        if not took and SETTLED <= self.step < self.total_steps:
            took = {self.stage: (self._now - self._began) / self.step}
        both = [(took[name], self.expected[name]) for name in took if self.expected.get(name)]
        return sum(a for a, _ in both) / sum(b for _, b in both) if both else 1.0

    def words(self) -> str:
        """Return one line: stage, round, step, loss, time left."""
        where = self.stage + (f", round {self.round + 1}" if self.round is not None else "")
        line = f"{where}: {self.step}/{self.total_steps}"
        if self.loss is not None and self.stage in ("warm-start", "update", "sft-long"):
            line += f", loss {self.loss:.3f}"
        left = self.seconds_left()
        return line + (f", {clock(left)} left" if left is not None else "")


def clock(seconds: float) -> str:
    """Return seconds as 0:07, 12:30 or 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
