"""All that can happen in a run, as frozen records of ids, numbers and codes, never of text.

The loop yields them; the driver stamps `run_id`, `seq` and `time`; the command line, the app, the
run record and the card read them. Prompts and completions are read from the folder by its owner.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, TypeVar, cast

from annotated_types import Ge

from ditto_hub.validation import Count, Moment, Name, Told, validated
from ditto_hub.words import Message

VERSION = 1
T = TypeVar("T")


def run_to_end(steps: Generator[Any, None, T]) -> T:
    """Take all steps, and return what they come to."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return cast("T", end.value)


def finite(numbers: Mapping[str, float]) -> dict[str, float]:
    """Return the numbers that JSON can hold, leaving out NaN and infinities."""
    return {name: value for name, value in numbers.items() if math.isfinite(value)}


def _plain(value: Any) -> Any:
    if isinstance(value, Message):
        return value.to_json()
    return finite(value) if isinstance(value, Mapping) else value


@dataclass(frozen=True, kw_only=True)
class Event:
    """Hold what every event has.

    Args:
        run_id: id of the run; empty until the driver stamps it.
        seq: place in the run's stream, from 0; goes on after a resume.
        time: seconds since the epoch when it was stamped.
        stage: drafting, teaching, warm-start, sampling, update, sft-long, scoring, or empty
            outside a stage.
        round: t of Algorithm 1, from 0; None outside the rounds.
        step: optimiser step or batch within the stage, from 1; None where it does not apply.
    """

    run_id: Name = ""
    seq: Annotated[int, Ge(-1)] = -1
    time: Moment = 0.0
    stage: Name = ""
    round: Count | None = None
    step: Count | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types, `v` and `type` first; a number that is none is left out."""
        plain = {one.name: _plain(getattr(self, one.name)) for one in fields(self)}
        return {"v": VERSION, "type": type(self).__name__, **plain}


@dataclass(frozen=True, kw_only=True)
class RunStarted(Event):
    """A run begins, or goes on when `resumed`."""

    base_model: str
    demonstrations: int
    held_out: int
    total_stages: int
    resumed: bool = False


@dataclass(frozen=True, kw_only=True)
class StageStarted(Event):
    """A stage begins; `total_steps` is the most it can take."""

    index: int
    total_steps: int


@dataclass(frozen=True, kw_only=True)
class StepTaken(Event):
    """An optimiser step was taken; `metrics` are means over its batch.

    In an update: chosen and rejected log-probability (nats a completion), their implicit rewards
    (beta times the log-ratio to the reference), `accuracy` (share of pairs ordered rightly) and the
    count of each kind of comparison. In a warm start: `held_out_loss` where one is held out.
    """

    total_steps: int
    loss: float
    learning_rate: float
    grad_norm: float
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class BatchSampled(Event):
    """A batch of completions was drawn; `tokens` counts its new tokens."""

    rows: int
    total_rows: int
    tokens: int


@dataclass(frozen=True, kw_only=True)
class RoundSampled(Event):
    """All samples of a round are there; `kept` of `rows` are not near-duplicates."""

    rows: int
    kept: int
    copies_of_demonstration: int
    copies_of_each_other: int
    unfinished: int
    mean_tokens: float


@dataclass(frozen=True, kw_only=True)
class OrderMeasured(Event):
    """Mean implicit reward of the demonstrations and each round's samples, as eq. 2 orders them.

    `rewards` maps demonstrations, round-0, round-1, ... to nats times beta; `ordered` is the share
    of neighbouring pairs in that chain that are in the right order. Of each earlier round `rows`
    samples were scored, 0 for all.
    """

    rewards: Mapping[str, float]
    ordered: float
    rows: int = 0


@dataclass(frozen=True, kw_only=True)
class CandidateScored(Event):
    """A candidate was scored; `scores` are those of ditto/selection.py."""

    name: str
    scores: Mapping[str, float]
    degenerate: Told = ""


@dataclass(frozen=True, kw_only=True)
class CandidateChosen(Event):
    """A candidate became the adapter, by `rule`."""

    name: str
    rule: str
    reason: Told


@dataclass(frozen=True, kw_only=True)
class StageFinished(Event):
    """A stage ended after `seconds` of this process's work; `reason` where it ended early."""

    seconds: float
    reason: Told = ""


@dataclass(frozen=True, kw_only=True)
class Noticed(Event):
    """Something a person should know that stops nothing; `code` is stable, `message` is words."""

    code: str
    message: Told


@dataclass(frozen=True, kw_only=True)
class GraphsRecorded(Event):
    """A GPU decoded with CUDA graphs; `fallback` says why it went on without them."""

    recorded: int
    replayed: int
    fallback: str = ""


@dataclass(frozen=True, kw_only=True)
class RunPaused(Event):
    """The run is saved and can be resumed."""

    reason: Told


@dataclass(frozen=True, kw_only=True)
class RunCancelled(Event):
    """The run was cancelled; what it had is kept and it can be resumed."""


@dataclass(frozen=True, kw_only=True)
class RunFailed(Event):
    """The run stopped on an error; what it had is kept and it can be resumed."""

    error: str
    message: Told


@dataclass(frozen=True, kw_only=True)
class RunFinished(Event):
    """The run is done and `adapter/` is there; `stopped_early` says why rounds are missing."""

    chosen: str
    seconds: float
    stopped_early: Told = ""


@dataclass(frozen=True, kw_only=True)
class LeaseStarted(Event):
    """A lease of a GPU began; the seconds are those declared and those the quota was asked for."""

    number: int
    declared_s: int
    asked_s: int


@dataclass(frozen=True, kw_only=True)
class LeaseEnded(Event):
    """A lease of a GPU ended after `used_s`; `goes_on` asks for another one at once.

    `reason` is one of time, finished, stopped, cancelled, closed, failed.
    """

    number: int
    used_s: float
    goes_on: bool
    reason: str


@dataclass(frozen=True, kw_only=True)
class LeaseRefused(Event):
    """No lease was given, or the one there was has been taken away; the run is paused.

    Args:
        reason: quota, runs, anonymous, kept, duration, queue, expired, no-gpu, credits, aborted
            or busy: `lease_words.lease_line` has a text for each.
        asked_s: what the quota was asked for, factors counted in.
        left_s: seconds of quota that are left, where somebody told or the ledger knows.
        kept_s: part of them that is kept back for trying the result.
        retry_at: seconds since the epoch from which it is worth trying again, where known.
        goes_on: whether to try again at once, in a new event.
    """

    reason: str
    asked_s: int
    left_s: int | None = None
    kept_s: int = 0
    retry_at: float | None = None
    goes_on: bool = False


def event_types() -> dict[str, type[Event]]:
    """Return type name -> class of every event there is."""
    return {c.__name__: c for c in Event.__subclasses__()}


def from_json(data: Mapping[str, Any]) -> Event:
    """Build an event from `Event.to_json`'s form; fields of a newer version are left out.

    Raises:
        KeyError: the type is unknown.
        ValueError: it is no event, or a field is missing or wrong.
    """
    if not isinstance(data, Mapping) or not isinstance(data.get("type"), str):
        raise ValueError("it is no event")
    return validated(event_types()[data["type"]], data)
