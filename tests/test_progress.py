"""How far a run is, read off its events."""

from __future__ import annotations

import pytest

from ditto_hub.events import BatchSampled, RunStarted, StageFinished, StageStarted, StepTaken
from ditto_hub.runs.progress import Progress, clock

PLAN = [("warm-start", 4), ("sampling", 1), ("update", 2), ("scoring", 1), ("sft-long", 2)]


def started() -> Progress:
    """Return the progress of a run that has just begun."""
    progress = Progress(PLAN)
    progress.see(RunStarted(base_model="x", demonstrations=2, held_out=0, total_stages=5, time=0.0))
    progress.see(StageStarted(stage="warm-start", index=0, total_steps=4, time=0.0))
    return progress


def step(stage: str, number: int, time: float) -> StepTaken:
    """Return a step."""
    numbers = {"loss": 1.5, "learning_rate": 0.1, "grad_norm": 1.0}
    return StepTaken(stage=stage, step=number, total_steps=4, time=time, **numbers)


def test_fraction_counts_stages_and_the_part_of_the_one_under_way() -> None:
    """After two of four steps of the first of five stages a tenth is done."""
    progress = started()
    progress.see(step("warm-start", 2, 2.0))
    assert progress.fraction == pytest.approx(0.1)
    assert "warm-start: 2/4, loss 1.500" in progress.words()


def test_time_left_is_unknown_until_each_kind_of_stage_has_a_pace() -> None:
    """No time is told while sampling or updates have never run."""
    progress = started()
    progress.see(step("warm-start", 2, 2.0))
    assert progress.seconds_left() is None


def test_an_estimate_says_the_time_left_before_any_pace_is_known() -> None:
    """Stages that have not run take what was expected, at the pace so far, by hand.

    Expected are 4 + 3 + 2 + 3 + 2 = 14 s; where the warm start takes twice as long as it should,
    each of the 10 s after it counts twice, but sft-long, which is like it, has its pace.
    """
    expected = {"warm-start": 1.0, "sampling": 3.0, "update": 1.0, "scoring": 3.0, "sft-long": 1.0}
    progress = started()
    progress.expected = expected
    assert progress.seconds_left() == pytest.approx(14.0)
    progress.see(step("warm-start", 1, 60.0))  # the first, which tells nothing
    assert progress.seconds_left() == pytest.approx(13.0)
    progress.see(step("warm-start", 3, 6.0))
    assert progress.seconds_left() == pytest.approx(2.0 + 2 * 10.0)
    progress.see(step("warm-start", 4, 8.0))
    progress.see(StageFinished(stage="warm-start", seconds=8.0, time=8.0))
    assert progress.seconds_left() == pytest.approx(2 * 10.0)


def test_time_left_adds_the_stages_to_come_at_the_pace_so_far() -> None:
    """Scoring is guessed from sampling and sft-long from the warm start, by hand: 3 + 2 = 5 s."""
    progress = started()
    progress.see(step("warm-start", 4, 4.0))
    progress.see(StageFinished(stage="warm-start", seconds=4.0, time=4.0))
    progress.see(StageStarted(stage="sampling", round=0, index=1, total_steps=1, time=4.0))
    progress.see(
        BatchSampled(stage="sampling", round=0, step=1, rows=2, total_rows=2, tokens=9, time=7.0)
    )
    progress.see(StageFinished(stage="sampling", round=0, seconds=3.0, time=7.0))
    progress.see(StageStarted(stage="update", round=0, index=2, total_steps=2, time=7.0))
    progress.see(step("update", 2, 8.0))
    progress.see(StageFinished(stage="update", round=0, seconds=1.0, time=8.0))
    assert progress.seconds_left() == pytest.approx(5.0)


@pytest.mark.parametrize(("seconds", "told"), [(7, "0:07"), (750, "12:30"), (3723, "1:02:03")])
def test_clock(seconds: float, told: str) -> None:
    """Seconds are told as a clock tells them."""
    assert clock(seconds) == told
