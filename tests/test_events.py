"""Events: frozen, plain, numbered records that never carry a user's text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, fields
from typing import Any, get_type_hints

import pytest

from ditto_hub import events as ev
from ditto_hub.events import Event, event_types, from_json
from ditto_hub.words import Message

HERE: dict[str, Any] = {
    "run_id": "r1",
    "seq": 7,
    "time": 1.5,
    "stage": "update",
    "round": 2,
    "step": 3,
}
ALL = [
    ev.RunStarted(**HERE, base_model="pocket", demonstrations=4, held_out=1, total_stages=9),
    ev.StageStarted(**HERE, index=2, total_steps=10),
    ev.StepTaken(
        **HERE,
        total_steps=10,
        loss=0.6931471805599453,
        learning_rate=1e-6,
        grad_norm=0.25,
        metrics={"accuracy": 0.5, "pairs_online": 17.0},
    ),
    ev.BatchSampled(**HERE, rows=4, total_rows=8, tokens=120),
    ev.RoundSampled(
        **HERE,
        rows=8,
        kept=6,
        copies_of_demonstration=1,
        copies_of_each_other=1,
        unfinished=2,
        mean_tokens=15.5,
    ),
    ev.OrderMeasured(**HERE, rewards={"demonstrations": 0.1, "round-0": -0.1}, ordered=1.0),
    ev.CandidateScored(**HERE, name="round-1", scores={"kl": 0.1}, degenerate="too long"),
    ev.CandidateChosen(**HERE, name="round-1", rule="mixture", reason="the best mixture"),
    ev.StageFinished(**HERE, seconds=1.25, reason="no better"),
    ev.Noticed(**HERE, code="halved-batch", message="The batch was halved."),
    ev.GraphsRecorded(**HERE, recorded=2, replayed=347, fallback="the host was asked"),
    ev.RunPaused(**HERE, reason="closed"),
    ev.RunCancelled(**HERE),
    ev.RunFailed(**HERE, error="RunError", message="It broke."),
    ev.RunFinished(**HERE, chosen="round-1", seconds=9.5, stopped_early=""),
    ev.LeaseStarted(**HERE, number=2, declared_s=60, asked_s=90),
    ev.LeaseEnded(**HERE, number=2, used_s=57.5, goes_on=True, reason="time"),
    ev.LeaseRefused(**HERE, reason="quota", asked_s=90, left_s=41, kept_s=30, retry_at=2.5),
]
every = pytest.mark.parametrize("event", ALL, ids=lambda event: type(event).__name__)
# Words an event may carry: names of ours, and sentences that this package writes.
WORDS = {
    "RunStarted": {"base_model"},
    "CandidateScored": {"name", "degenerate"},
    "CandidateChosen": {"name", "rule", "reason"},
    "StageFinished": {"reason"},
    "Noticed": {"code", "message"},
    "GraphsRecorded": {"fallback"},
    "RunPaused": {"reason"},
    "RunFailed": {"error", "message"},
    "RunFinished": {"chosen", "stopped_early"},
    "LeaseEnded": {"reason"},
    "LeaseRefused": {"reason", "left_s", "retry_at"},
}


def test_every_type_is_tried() -> None:
    """The table of this test holds each type of event that there is."""
    assert {type(e).__name__ for e in ALL} == set(event_types())


@every
def test_round_trip(event: Event) -> None:
    """An event survives a line of JSON, numbers to the last digit."""
    assert from_json(json.loads(json.dumps(event.to_json()))) == event


@every
def test_line_says_version_and_type_first(event: Event) -> None:
    """A line begins with the version and the type, then what every event has."""
    keys = list(event.to_json())
    assert keys[:8] == ["v", "type", "run_id", "seq", "time", "stage", "round", "step"]


@every
def test_frozen(event: Event) -> None:
    """An event cannot be changed once it has happened."""
    with pytest.raises(FrozenInstanceError):
        event.seq = 8  # type: ignore[misc]


@every
def test_documented(event: Event) -> None:
    """Each type says in a docstring what happened."""
    assert (type(event).__doc__ or "").strip().endswith(".")


@pytest.mark.parametrize("name", event_types())
def test_no_field_for_text(name: str) -> None:
    """A type's fields are numbers and flags, save the words of ours in the table above."""
    kind = event_types()[name]
    hints = get_type_hints(kind)
    own = {f.name for f in fields(kind)} - {f.name for f in fields(Event)}
    words = {n for n in own if hints[n] not in (int, float, bool, Mapping[str, float])}
    assert words == WORDS.get(name, set())


def test_newer_fields_are_left_out() -> None:
    """A line of a newer program is read as far as this one knows it."""
    data = {**ev.RunPaused(reason="closed").to_json(), "v": 2, "colour": "blue"}
    assert from_json(data) == ev.RunPaused(reason="closed")


def test_unknown_type() -> None:
    """A type that this program does not know is a KeyError, for the reader to pass over."""
    with pytest.raises(KeyError):
        from_json({"type": "CoffeeMade"})


def test_numbers_that_json_cannot_hold_are_left_out() -> None:
    """A NaN score is missing from an event's JSON, which any strict reader takes."""
    event = ev.CandidateScored(name="sft", scores={"kl": float("nan"), "ordered": 1.0})
    assert json.loads(json.dumps(event.to_json(), allow_nan=False))["scores"] == {"ordered": 1.0}


def test_a_message_in_an_event_is_read_back() -> None:
    """A failure's message keeps its code and values through JSON, for a reader's language."""
    said = Message("runs.no_run.what", run="abc")
    event = ev.RunFailed(**HERE, error="RunError", message=said)
    assert ev.from_json(json.loads(json.dumps(event.to_json()))) == event
