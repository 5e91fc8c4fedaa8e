"""The update: steps of the optimiser, schedules, and a round of preference steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from pair_rows import PAIRS, ROWS, Tiny, gap, noise, ours, policy_at, scored
from tiny_runs import tiny_config, tiny_demos, tiny_policy

from ditto_hub.config import RunConfig, Update
from ditto_hub.ditto.losses import PreferenceLoss, supervised
from ditto_hub.ditto.optimizer import Stepper, epoch_batches, schedule
from ditto_hub.ditto.rollout import Rollout
from ditto_hub.ditto.state import Work
from ditto_hub.ditto.update import update_round
from ditto_hub.ditto.warm_start import score_under_reference
from ditto_hub.engine.fast import FastEngine
from ditto_hub.events import StepTaken

# ---- passes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("tokens", [1, 10, 30, 60])
@pytest.mark.parametrize("loss", ["sigmoid", "ipo"])
def test_chunks_change_nothing(tiny: Tiny, tokens: int, loss: str) -> None:
    """Whatever the budget, down to a row at a time, loss and gradients are those of one pass."""
    policy = policy_at(tiny, weights=1)
    rows = scored(policy, noise(policy.snapshot(), 0.1, 2))
    update = Update(loss=loss, sft_weight=0.3)
    whole, whole_grads = ours(policy, update, rows)
    policy.token_budget = tokens
    cut, cut_grads = ours(policy, update, rows)
    assert cut == pytest.approx(whole, rel=1e-6)
    assert gap(cut_grads, whole_grads) < 1e-5


def test_budget_bounds_a_pass_with_gradients(tiny: Tiny) -> None:
    """No forward pass that keeps its graph has more tokens than the budget."""
    policy = policy_at(tiny, weights=1)
    sizes = []
    hook = policy.model.get_input_embeddings().register_forward_hook(
        lambda _, given, __: sizes.append(given[0].numel()) if torch.is_grad_enabled() else None
    )
    rows = scored(policy, policy.snapshot())
    policy.token_budget = 30
    ours(policy, Update(), rows)
    hook.remove()
    assert max(sizes) <= 30
    assert len(sizes) > 1


def test_each_different_row_runs_once(tiny: Tiny) -> None:
    """A batch of seven pairs over six rows is a pass of two prompts and one of six completions."""
    policy = policy_at(tiny, weights=1)
    rows = scored(policy, policy.snapshot())
    shapes = []
    hook = policy.model.get_input_embeddings().register_forward_hook(
        lambda _, given, __: shapes.append(tuple(given[0].shape))
    )
    ours(policy, Update(), rows)
    hook.remove()
    assert shapes == [(2, 3), (6, 10)]  # the prompt's last token runs with the completion


# ---- steps -----------------------------------------------------------------------------------


def test_a_step_raises_the_margin(tiny: Tiny) -> None:
    """Steps on the pairs raise winners over losers."""
    policy = policy_at(tiny, weights=1)
    rows = scored(policy, policy.snapshot())
    first, *_, last = steps(policy, rows, n=5, learning_rate=0.02)
    assert last < first - 0.01


def steps(
    policy: FastEngine,
    rows: Sequence[Rollout],
    n: int = 3,
    update: Update | None = None,
    **options: Any,
) -> list[float]:
    """Take some update steps and return their losses."""
    update = update or Update()
    given = {"optimizer": "adamw", "learning_rate": 0.01, "max_grad_norm": 1.0, "seed": 0}
    stepper = Stepper(policy, schedule=schedule("constant", 0, n), **(given | options))
    loss = PreferenceLoss(rows, PAIRS, update)
    return [stepper.step(loss.rows, loss).loss for _ in range(n)]


def test_dropout_is_off_in_updates_only(tiny: Tiny) -> None:
    """The adapter's dropout changes a supervised step from one seed to another, no update step."""
    policy = policy_at(tiny, weights=1, dropout=0.5)
    rows = scored(policy, policy.snapshot())
    update = [ours(policy, Update(), rows)[0] for _ in range(2)]
    demos = [r.row for r in ROWS[:2]]
    warm = [float(policy.backward(demos, lambda s: supervised(s, 7), seed)) for seed in (1, 2)]
    assert update[0] == update[1] == pytest.approx(math.log(2), rel=1e-4)
    assert warm[0] != warm[1]


# ---- optimisers and schedules ----------------------------------------------------------------


def moved(policy: FastEngine, **options: Any) -> torch.Tensor:
    """Return how far one step moves each weight."""
    before = [p.detach().clone() for p in policy.parameters()]
    steps(policy, scored(policy, policy.snapshot()), n=1, **options)
    after = policy.parameters()
    return torch.cat([(a - b).abs().flatten() for a, b in zip(after, before, strict=True)])


def test_first_step_of_adamw(tiny: Tiny) -> None:
    """AdamW's first step moves every weight by the learning rate, and decays none."""
    size = moved(policy_at(tiny, weights=1), optimizer="adamw", learning_rate=1e-3)
    assert float(size.detach().median()) == pytest.approx(1e-3, rel=1e-2)


def test_first_step_of_rmsprop(tiny: Tiny) -> None:
    """RMSprop's first step, without bias correction, is ten times AdamW's."""
    size = moved(policy_at(tiny, weights=1), optimizer="rmsprop", learning_rate=1e-3)
    assert float(size.detach().median()) == pytest.approx(1e-2, rel=1e-2)


def test_clip(tiny: Tiny) -> None:
    """The gradient is clipped to the norm given, and not at all at 0."""
    policy = policy_at(tiny, weights=1)
    rows = scored(policy, policy.snapshot())
    loss = PreferenceLoss(rows, PAIRS, Update())
    norms = {}
    for clip in (0.0, 1e-3):
        stepper = Stepper(
            policy,
            optimizer="adamw",
            learning_rate=0.0,
            schedule=schedule("constant", 0, 1),
            max_grad_norm=clip,
            seed=0,
        )
        told = stepper.step(loss.rows, loss).grad_norm
        norms[clip] = (
            told,
            float(torch.cat([p.grad.flatten() for p in stepper.parameters]).norm()),
        )
    assert norms[0.0][0] == pytest.approx(norms[0.0][1])
    assert norms[1e-3] == pytest.approx((norms[0.0][0], 1e-3), rel=1e-3)


@pytest.mark.parametrize("optimizer", ["adamw", "rmsprop"])
def test_optimiser_goes_on_from_its_state(tiny: Tiny, optimizer: str) -> None:
    """Steps before and after a saved state are, bit for bit, the steps of one optimiser."""
    policy = policy_at(tiny, weights=1)
    rows = scored(policy, policy.snapshot())
    begin = policy.snapshot()
    loss = PreferenceLoss(rows, PAIRS, Update())

    def stepper() -> Stepper:
        shape = schedule("linear", 0.5, 6)
        return Stepper(
            policy,
            optimizer=optimizer,
            learning_rate=0.01,
            schedule=shape,
            max_grad_norm=1.0,
            seed=3,
        )

    whole = stepper()
    for _ in range(4):
        whole.step(loss.rows, loss)
    expected = policy.snapshot()
    policy.restore(begin)
    first = stepper()
    for _ in range(2):
        first.step(loss.rows, loss)
    second = stepper()
    second.load_state(first.state())
    for _ in range(2):
        second.step(loss.rows, loss)
    assert all(torch.equal(expected[k], v) for k, v in policy.snapshot().items())


@pytest.mark.parametrize("bad", [math.nan, math.inf, 60.0])
def test_an_unsound_step_is_not_taken(tiny: Tiny, bad: float) -> None:
    """Where the loss is no number, or above the limit, not one weight moves."""
    policy = policy_at(tiny, weights=1)
    before = policy.snapshot()

    def loss(scores: torch.Tensor) -> torch.Tensor:
        return scores.sum() * 0 + bad

    stepper = Stepper(
        policy,
        optimizer="adamw",
        learning_rate=0.1,
        schedule=schedule("constant", 0, 1),
        max_grad_norm=1.0,
        seed=0,
    )
    assert not stepper.step([r.row for r in ROWS], loss, explode=50.0).sound
    assert all(torch.equal(before[k], v) for k, v in policy.snapshot().items())


@pytest.mark.parametrize(
    ("shape", "warmup", "expected"),
    [
        ("constant", 0, [1, 1, 1, 1]),
        ("constant", 0.5, [0.5, 1, 1, 1]),
        ("constant", 0.25, [1, 1, 1, 1]),
        ("constant", 1, [0.25, 0.5, 0.75, 1]),
        ("linear", 0, [1, 0.75, 0.5, 0.25]),
        ("linear", 0.5, [0.5, 1, 1, 0.5]),
        ("cosine", 0, [1, 0.853553, 0.5, 0.146447]),
    ],
)
def test_schedule(shape: str, warmup: float, expected: list[float]) -> None:
    """The rate rises linearly over the warm-up, then holds or falls; it never starts at 0."""
    factor = schedule(shape, warmup, 4)
    assert [factor(step) for step in range(4)] == pytest.approx(expected, abs=1e-6)


def test_epochs() -> None:
    """Every row comes once an epoch, epochs differ, and a batch may reach into the next."""
    drawn = [i for step in range(15) for i in epoch_batches(5, 2, step, seed=1)]
    epochs = [drawn[i : i + 5] for i in range(0, 30, 5)]
    assert all(sorted(epoch) == [0, 1, 2, 3, 4] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_batch_larger_than_the_set() -> None:
    """With fewer rows than a batch has places, each row comes once."""
    assert sorted(epoch_batches(3, 8, 0, seed=1)) == [0, 1, 2]


# ---- a round ---------------------------------------------------------------------------------


def work_with_samples(tiny: Tiny, config: RunConfig) -> Work:
    """Return a work that has drawn one sample a demonstration and not updated yet."""
    work = Work(tiny_policy(tiny("llama3"), config), tiny_demos(), config)
    work.begin()
    work.pi_0 = work.policy.snapshot()
    samples = [replace(r, round=0, completion_ids=(97, 98, 99)) for r in work.demo_rows]
    work.progress.rows = score_under_reference(work, [*work.progress.rows, *samples])
    return work


def test_round_tells_of_its_steps(tiny: Tiny) -> None:
    """A round yields its K steps with losses, rewards and the count of each kind of pair."""
    work = work_with_samples(tiny, tiny_config("update.steps=3", "update.beta=0.1"))
    events = [e for e in update_round(work, 0) if isinstance(e, StepTaken)]
    assert [e.step for e in events] == [1, 2, 3]
    assert events[0].loss == pytest.approx(math.log(2), rel=1e-4)
    assert {e.metrics["pairs_online"] for e in events} == {4.0}
    assert events[-1].metrics["chosen_reward"] > events[-1].metrics["rejected_reward"]


def test_round_trains_without_dropout(tiny: Tiny) -> None:
    """Where policy equals reference a round starts from log 2, whatever the adapter's dropout."""
    work = work_with_samples(tiny, tiny_config("lora.dropout=0.5"))
    work.pi_0 = noise(work.pi_0, 0.3, seed=1)
    work.policy.restore(work.pi_0)
    work.progress.rows = score_under_reference(work, work.progress.rows)
    first = next(e for e in update_round(work, 0) if isinstance(e, StepTaken))
    assert first.loss == pytest.approx(math.log(2), rel=1e-4)


def test_only_copies_end_the_rounds(tiny: Tiny) -> None:
    """When every sample is a copy there is nothing to compare, and the rounds end, saying so."""
    work = work_with_samples(tiny, tiny_config())
    work.progress.rows = [
        replace(r, copy_of="demonstration") if r.round == 0 else r for r in work.progress.rows
    ]
    assert list(update_round(work, 0)) == []
    assert "copy" in str(work.progress.stopped_early)
