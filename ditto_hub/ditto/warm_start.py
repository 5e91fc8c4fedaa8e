"""Supervised fine-tuning on the demonstrations: pi_0, and its continuation `sft-long`.

Where the objective is distillation both learn from the prompted model's texts (distillation.py).
The paper stops "near loss 1.00", a number
of one tokenizer, counted over prompt tokens; here the held-out demonstration's loss decides or,
without one, the training loss per completion byte, which no tokenizer changes.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import replace

from ditto_hub.ditto.losses import DistillationLoss, supervised
from ditto_hub.ditto.optimizer import Stepper, epoch_batches, schedule
from ditto_hub.ditto.rollout import Rollout, row_seed
from ditto_hub.ditto.state import Checkpoint, Work
from ditto_hub.engine.protocol import Engine, Row
from ditto_hub.errors import RunError
from ditto_hub.events import Event, StepTaken
from ditto_hub.words import Message, Text

NO_NUMBER = Message("ditto.loss_not_a_number")


def warm_start(work: Work, t: int | None = None) -> Generator[Event | Checkpoint, None, Text]:
    """Train pi_0 and freeze it as the reference; score the demonstrations under it.

    Returns:
        Why it stopped before its last step, or nothing.

    Raises:
        RunError: the loss is no number in the very first step.
    """
    settings, progress, policy = work.config.warm_start, work.progress, work.policy
    total, watch = settings.max_steps, watches_held_out(work)
    stepper = work.take_stepper(
        lambda: _stepper(work, settings.schedule, settings.warmup_ratio, total, "warm-start")
    )
    if work.held_out_rows and progress.step == 0:
        progress.base_loss = held_out_loss(work)
    if watch and progress.best_loss is None:
        progress.best_loss, work.best = progress.base_loss, policy.snapshot()
    reason = stop_reason(work)
    while progress.step < total and not reason:
        before = {} if watch else policy.snapshot()
        event = _train_step(work, stepper, total)
        if event is None:
            if progress.step == 0:
                raise RunError("ditto.first_loss_not_a_number")
            reason = NO_NUMBER
            break
        if not watch:
            work.best = before  # the last weights whose loss is known to be a number
        yield event
        if watch and event.metrics["held_out_loss"] < (progress.best_loss or 0.0):
            progress.best_loss = event.metrics["held_out_loss"]
            progress.best_step, work.best = progress.step, policy.snapshot()
        reason = stop_reason(work)
        yield work.checkpoint()
    if not watch and not math.isfinite(mean_loss(policy, work.demo_rows)):
        reason = NO_NUMBER
    if watch or reason == NO_NUMBER:
        policy.restore(work.best)
    work.best = {}
    work.drop_stepper()
    if not work.config.selection.sft_long:
        work.lessons = []
    work.pi_0 = policy.snapshot()
    work.progress.rows = score_under_reference(work, work.progress.rows)
    return reason


def watches_held_out(work: Work) -> bool:
    """Tell whether a held-out demonstration decides when the warm start stops."""
    return work.config.warm_start.stop == "held-out" and bool(work.held_out_rows)


def stop_reason(work: Work) -> Text:
    """Return why the warm start should stop now, or nothing.

    The threshold is compared with the mean loss of one pass over the demonstrations, not of one
    batch, and counts completion bytes unless `stop_unit` says tokens.
    """
    settings, progress = work.config.warm_start, work.progress
    if watches_held_out(work):
        stale = progress.step - progress.best_step
        if stale < settings.patience:
            return ""
        return Message("ditto.held_out_loss_stale", steps=stale)
    demos = work.demo_rows
    window = -(-len(demos) // min(settings.batch_size, len(demos)))
    if settings.stop == "never" or settings.distils or len(progress.losses) < window:
        return ""
    loss = sum(progress.losses[-window:]) / window
    if settings.stop_unit == "byte":
        tokens = sum(len(r.completion_ids) for r in demos)
        loss *= tokens / sum(len(r.text.encode()) for r in demos)
    if loss >= settings.stop_loss:
        return ""
    byte = settings.stop_unit == "byte"
    return Message("ditto.loss_reached_byte" if byte else "ditto.loss_reached_token", loss=loss)


def sft_long(work: Work, t: int | None = None) -> Generator[Event | Checkpoint, None, Text]:
    """Continue pi_0 for as many supervised steps as DITTO makes updates: the rival to beat.

    The optimiser starts anew, at the warm start's peak rate with a cosine decay; nothing stops it
    early, for selection may leave it.
    """
    progress, update = work.progress, work.config.update
    total = update.rounds * update.steps
    if progress.step == 0:
        work.drop_stepper()
        work.policy.restore(work.pi_0)
    stepper = work.take_stepper(lambda: _stepper(work, "cosine", 0.0, total, "sft-long"))
    while progress.step < total:
        event = _train_step(work, stepper, total)
        if event is None:
            work.drop_stepper()
            work.lessons = []
            return NO_NUMBER
        yield event
        yield work.checkpoint()
    work.drop_stepper()
    work.lessons = []
    work.scale()
    return ""


def score_under_reference(work: Work, rows: Sequence[Rollout]) -> list[Rollout]:
    """Return the rows with their log-probability under the reference (nats, summed)."""
    with work.policy.as_adapter(work.reference):
        scores = work.policy.log_probs([r.row for r in rows])
    return [replace(r, reference_log_prob=s) for r, s in zip(rows, scores, strict=True)]


def held_out_loss(work: Work) -> float:
    """Return the loss of the held-out demonstrations, nats a completion token."""
    return mean_loss(work.policy, work.held_out_rows)


def mean_loss(policy: Engine, rows: Sequence[Rollout]) -> float:
    """Return the mean loss of rows under the policy, nats a completion token."""
    scores = policy.log_probs([r.row for r in rows])
    return -sum(scores) / sum(len(r.completion_ids) for r in rows)


def _stepper(work: Work, shape: str, warmup_ratio: float, total: int, name: str) -> Stepper:
    return Stepper(
        work.policy,
        optimizer="adamw",
        learning_rate=work.config.warm_start.learning_rate,
        schedule=schedule(shape, warmup_ratio, total),
        max_grad_norm=work.config.update.max_grad_norm,
        seed=row_seed(work.config.seed, name),
    )


def _train_step(work: Work, stepper: Stepper, total: int) -> StepTaken | None:
    """Take one supervised step; None where its loss was no number."""
    progress = work.progress
    rows = _batch(work, stepper.seed)
    tokens = sum(row.tokens for row in rows)
    loss = DistillationLoss(rows) if work.config.warm_start.distils else None
    result = stepper.step(rows, loss or (lambda s: supervised(s, tokens)), dropout=True)
    if not result.sound:
        return None
    progress.step += 1
    progress.losses.append(result.loss)
    metrics = {}
    if work.held_out_rows:
        metrics["held_out_loss"] = held_out_loss(work)
    return StepTaken(
        step=progress.step,
        total_steps=total,
        loss=result.loss,
        learning_rate=result.learning_rate,
        grad_norm=result.grad_norm,
        metrics=metrics,
    )


def _batch(work: Work, seed: int) -> list[Row]:
    """Return the rows of the step under way: demonstrations, or the lessons of distillation."""
    settings, step = work.config.warm_start, work.progress.step
    if settings.distils:
        rows = [replace(row.row, expected=expected) for row, expected in work.lessons]
    else:
        rows = [replace(r.row, prompt_counts=settings.train_on_prompt) for r in work.demo_rows]
    return [rows[i] for i in epoch_batches(len(rows), settings.batch_size, step, seed)]
