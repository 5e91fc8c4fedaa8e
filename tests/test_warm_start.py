"""The warm start: what it trains on, when it stops, and what it keeps when it goes wrong."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import tiny_config, tiny_demos, tiny_policy

from ditto_hub.demos.demonstrations import DemoSet
from ditto_hub.ditto.optimizer import Stepper, StepResult
from ditto_hub.ditto.rollout import Rollout
from ditto_hub.ditto.state import Checkpoint, Work
from ditto_hub.ditto.warm_start import (
    held_out_loss,
    mean_loss,
    sft_long,
    stop_reason,
    warm_start,
)
from ditto_hub.errors import RunError
from ditto_hub.events import StepTaken

Tiny = Callable[[str], Path]
ROWS = [Rollout(0, -1, (5, 6, 7), (8, 9)), Rollout(1, -1, (5,), (6, 7, 8, 9))]


def work_on(tiny: Tiny, *settings: str, demos: DemoSet | None = None) -> Work:
    config = tiny_config(*settings)
    work = Work(tiny_policy(tiny("llama3"), config), demos or tiny_demos(), config)
    work.begin()
    return work


def run(work: Work) -> tuple[list[StepTaken], str]:
    """Run the warm start; return its steps and why it stopped."""
    return drain(warm_start(work))


def drain(stage: Any) -> tuple[list[StepTaken], str]:
    steps: list[StepTaken] = []
    while True:
        try:
            item = next(stage)
        except StopIteration as end:
            return steps, end.value
        if isinstance(item, StepTaken):
            steps.append(item)
        else:
            assert isinstance(item, Checkpoint)


# ---- what it trains on -----------------------------------------------------------------------


@pytest.mark.parametrize(("on_prompt", "starts"), [(False, [3, 1]), (True, [1, 1])])
def test_what_counts(on_prompt: bool, starts: list[int]) -> None:
    """Completion tokens, end of turn included, are trained on; prompt tokens only when asked.

    A sequence's first token follows nothing, so it never counts.
    """
    rows = [replace(r.row, prompt_counts=on_prompt) for r in ROWS]
    assert [row.start for row in rows] == starts
    assert [row.tokens for row in rows] == [5 - start for start in starts]


def test_first_loss_is_the_mean_over_completion_tokens(tiny: Tiny) -> None:
    """The first step's loss is the mean NLL of all completion tokens of its batch."""
    work = work_on(tiny)
    expected = mean_loss(work.policy, work.demo_rows)
    steps, _ = run(work)
    assert steps[0].loss == pytest.approx(expected, rel=1e-5)


def test_prompt_changes_the_weights(tiny: Tiny) -> None:
    """Training on the prompt too leads to another pi_0."""
    works = [work_on(tiny, f"warm_start.train_on_prompt={v}") for v in ("false", "true")]
    for work in works:
        run(work)
    one, two = (w.pi_0 for w in works)
    assert any(not torch.equal(one[k], two[k]) for k in one)


def test_loss_falls(tiny: Tiny) -> None:
    """The warm start learns the demonstrations."""
    work = work_on(tiny, "warm_start.max_steps=12", "warm_start.learning_rate=0.02")
    before = mean_loss(work.policy, work.demo_rows)
    run(work)
    assert mean_loss(work.policy, work.demo_rows) < before - 0.1


def test_demonstrations_are_scored_under_pi_0(tiny: Tiny) -> None:
    """After the warm start each demonstration carries its log-probability under pi_0."""
    work = work_on(tiny)
    run(work)
    scores = work.policy.log_probs([r.row for r in work.demo_rows])
    assert [r.reference_log_prob for r in work.demo_rows] == pytest.approx(scores, rel=1e-6)


def test_held_out_is_not_trained_on(tiny: Tiny) -> None:
    """A held-out demonstration is no row that training could draw."""
    work = work_on(tiny, demos=tiny_demos(4, held_out=1))
    assert [r.text for r in work.demo_rows] == [d.completion for d in work.train]
    assert len(work.held_out_rows) == 1


# ---- when it stops ---------------------------------------------------------------------------


def test_never_takes_every_step(tiny: Tiny) -> None:
    """stop=never takes all steps, whatever the loss."""
    work = work_on(tiny, "warm_start.max_steps=5", "warm_start.stop_loss=100")
    steps, reason = run(work)
    assert ([s.step for s in steps], reason) == ([1, 2, 3, 4, 5], "")


@pytest.mark.parametrize("unit", ["token", "byte"])
def test_stops_on_loss(tiny: Tiny, unit: str) -> None:
    """stop=loss ends once a pass over the demonstrations has a loss below the threshold."""
    work = work_on(
        tiny,
        "warm_start.stop=loss",
        "warm_start.stop_loss=100",
        f"warm_start.stop_unit={unit}",
        "warm_start.max_steps=9",
        "warm_start.batch_size=1",
        demos=tiny_demos(3),
    )
    steps, reason = run(work)
    assert len(steps) == 3  # three demonstrations, one a step
    assert str(reason).endswith(f"per {unit}")


@pytest.mark.parametrize(
    ("threshold", "stops"), [(5.99, False), (6.01, True)], ids=["above", "below"]
)
def test_threshold_a_token(tiny: Tiny, threshold: float, stops: bool) -> None:
    """A threshold a token is compared with the mean of the last pass's losses."""
    work = work_on(tiny, "warm_start.stop=loss", "warm_start.stop_unit=token",
                   f"warm_start.stop_loss={threshold}", "warm_start.batch_size=1")  # fmt: skip
    work.progress.losses = [99.0, 5.0, 7.0]
    assert bool(stop_reason(work)) is stops


def test_threshold_a_byte(tiny: Tiny) -> None:
    """A threshold a byte counts the same nats over the completions' UTF-8 bytes."""
    work = work_on(tiny, "warm_start.stop=loss", "warm_start.stop_unit=byte")
    work.progress.losses = [6.0]
    tokens = sum(len(r.completion_ids) for r in work.demo_rows)
    size = sum(len(d.completion.encode()) for d in work.train)
    for shift, stops in ((-0.001, False), (0.001, True)):
        threshold = 6.0 * tokens / size + shift
        work.config = work.config.with_value("warm_start.stop_loss", threshold)
        assert bool(stop_reason(work)) is stops


def test_held_out_falls_back_to_loss(tiny: Tiny) -> None:
    """stop=held-out with nothing held out stops on the training loss instead."""
    work = work_on(tiny, "warm_start.stop=held-out", "warm_start.stop_loss=100")
    steps, reason = run(work)
    assert len(steps) == 1
    assert "training loss" in str(reason)


def test_held_out_patience(tiny: Tiny) -> None:
    """With held-out loss that never improves, it stops after as many steps as patience says."""
    work = work_on(
        tiny,
        "warm_start.stop=held-out",
        "warm_start.patience=3",
        "warm_start.max_steps=9",
        "warm_start.learning_rate=0",
        demos=tiny_demos(4, held_out=1),
    )
    steps, reason = run(work)
    assert len(steps) == 3
    assert str(reason) == "no better held-out loss in 3 steps"


def test_held_out_restores_the_best(tiny: Tiny) -> None:
    """pi_0 is the step with the lowest held-out loss, not the last one."""
    work = work_on(
        tiny,
        "warm_start.stop=held-out",
        "warm_start.patience=4",
        "warm_start.max_steps=40",
        "warm_start.learning_rate=0.05",
        demos=tiny_demos(4, held_out=1),
    )
    first = held_out_loss(work)
    steps, _ = run(work)
    seen = [first, *(s.metrics["held_out_loss"] for s in steps)]
    assert min(seen) < seen[-1]
    assert held_out_loss(work) == pytest.approx(min(seen), rel=1e-6)


def test_held_out_that_only_rises_keeps_the_base(tiny: Tiny) -> None:
    """When no step improves on the untouched model, pi_0 is the untouched model."""
    work = work_on(
        tiny,
        "warm_start.stop=held-out",
        "warm_start.patience=2",
        "warm_start.learning_rate=1",
        "lora.alpha=64",
        demos=tiny_demos(4, held_out=1),
    )
    before = held_out_loss(work)
    steps, _ = run(work)
    assert all(s.metrics["held_out_loss"] > before for s in steps)
    assert held_out_loss(work) == pytest.approx(before, rel=1e-6)


# ---- when it goes wrong ----------------------------------------------------------------------


def spoil(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Let the weights be no numbers after step `at` (from 1), as a rate far too high makes them."""
    inner = Stepper.step

    def step(self: Stepper, *args: Any, **options: Any) -> StepResult:
        result = inner(self, *args, **options)
        if self.step_count == at:
            with torch.no_grad():
                for parameter in self.parameters:
                    parameter.fill_(math.nan)
        return result

    monkeypatch.setattr(Stepper, "step", step)


@pytest.mark.parametrize("held_out", [0, 1], ids=["by loss", "by held-out"])
def test_keeps_the_last_sound_weights(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, held_out: int
) -> None:
    """When the loss stops being a number, pi_0 is weights that still gave one."""
    stop = "held-out" if held_out else "loss"
    work = work_on(
        tiny,
        "warm_start.max_steps=9",
        f"warm_start.stop={stop}",
        "warm_start.stop_loss=0",
        demos=tiny_demos(4, held_out=held_out),
    )
    spoil(monkeypatch, at=3)
    steps, reason = run(work)
    assert len(steps) == 3
    assert str(reason) == "the loss stopped being a number"
    assert all(torch.isfinite(v).all() for v in work.pi_0.values())
    assert math.isfinite(mean_loss(work.policy, work.demo_rows))


@pytest.mark.parametrize("held_out", [0, 1], ids=["by loss", "by held-out"])
def test_last_step_that_breaks_is_noticed(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, held_out: int
) -> None:
    """Weights that the very last step broke are not kept either."""
    stop = "held-out" if held_out else "never"
    work = work_on(
        tiny,
        "warm_start.max_steps=3",
        f"warm_start.stop={stop}",
        demos=tiny_demos(4, held_out=held_out),
    )
    spoil(monkeypatch, at=3)
    run(work)
    assert all(torch.isfinite(v).all() for v in work.pi_0.values())


def test_first_step_that_is_no_number_fails_the_run(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loss that is no number from the start is a RunError that says what to check."""
    work = work_on(tiny)
    with torch.no_grad():
        for parameter in work.policy.parameters():
            parameter.fill_(math.nan)
    with pytest.raises(RunError, match="first training step is not a number"):
        run(work)


# ---- sft-long --------------------------------------------------------------------------------


def test_sft_long_continues_pi_0(tiny: Tiny) -> None:
    """sft-long starts from pi_0, wherever the policy is, for as many steps as DITTO updates."""
    work = work_on(tiny, "warm_start.max_steps=3", "update.rounds=2", "update.steps=2")
    run(work)
    expected = mean_loss(work.policy, work.demo_rows)
    with torch.no_grad():
        for parameter in work.policy.parameters():
            parameter.add_(1.0)
    work.progress.step = 0
    steps, reason = drain(sft_long(work))
    assert ([s.step for s in steps], reason) == ([1, 2, 3, 4], "")
    assert steps[0].loss == pytest.approx(expected, rel=1e-5)  # both demonstrations in a batch


def test_sft_long_that_breaks_is_no_failure(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """sft-long that breaks, even at once, ends with a reason and sound weights; the run goes on."""
    work = work_on(tiny)
    run(work)
    work.progress.step = 0
    broken = StepResult(math.nan, 0.1, math.nan, sound=False)
    monkeypatch.setattr(Stepper, "step", lambda *_, **__: broken)
    steps, reason = drain(sft_long(work))
    assert (steps, str(reason)) == ([], "the loss stopped being a number")
    assert all(torch.isfinite(v).all() for v in work.policy.snapshot().values())
