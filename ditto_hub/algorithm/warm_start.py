"""Supervised fine-tuning on the demonstrations: pi_0, and its continuation `sft-long`.

TRL's SFTTrainer brings the loss; the stop rule is ours. The paper stops "near loss 1.00", a number
of one tokenizer, counted over prompt tokens; here the held-out demonstration's loss decides or,
without one, the training loss per completion byte, which no tokenizer changes.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from ditto_hub.algorithm.decoding import pad_rows
from ditto_hub.algorithm.policy import Policy
from ditto_hub.algorithm.rollout import Rollout, row_seed
from ditto_hub.algorithm.state import Checkpoint, Work
from ditto_hub.algorithm.steps import Stepper, epoch_batches, schedule, trainer_arguments
from ditto_hub.errors import RunError
from ditto_hub.events import Event, StepTaken

NO_NUMBER = "the loss stopped being a number"


def sft_trainer(policy: Policy) -> Any:
    """Return a trainer whose `training_step` gives the mean NLL of a batch's labels."""
    rows = Dataset.from_list([{"input_ids": [0, 0], "labels": [0, 0]}])  # never trained on
    args = SFTConfig(**trainer_arguments(policy, 1), dataset_kwargs={"skip_prepare_dataset": True})
    unused = torch.optim.SGD(policy.parameters(), lr=0.0)  # the Stepper's own is used
    with policy.own_head():
        trainer = SFTTrainer(
            model=policy.model,
            args=args,
            train_dataset=rows,
            processing_class=deepcopy(policy.tokenizer),  # TRL sets its pad token
            optimizers=(unused, None),
        )
    trainer.current_gradient_accumulation_steps = 1
    return trainer


def sft_batch(
    rows: Sequence[Rollout], pad_id: int, train_on_prompt: bool
) -> dict[str, torch.Tensor]:
    """Return input_ids, attention_mask and labels, each (B, L); -100 is not trained on."""
    ids, mask = pad_rows([(*r.prompt_ids, *r.completion_ids) for r in rows], pad_id)
    labels = ids.masked_fill(mask == 0, -100)
    if not train_on_prompt:
        for k, row in enumerate(rows):
            labels[k, : len(row.prompt_ids)] = -100
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def warm_start(work: Work, t: int | None = None) -> Generator[Event | Checkpoint, None, str]:
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
    if watch and progress.best_loss is None:
        progress.best_loss, work.best = held_out_loss(work), policy.snapshot()
    reason = stop_reason(work)
    while progress.step < total and not reason:
        before = {} if watch else policy.snapshot()
        event = _train_step(work, stepper, total)
        if event is None:
            if progress.step == 0:
                raise RunError(
                    "The loss of the first training step is not a number.",
                    "Lower warm_start.learning_rate, or check the base model's dtype and weights.",
                )
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
    work.pi_0 = policy.snapshot()
    work.progress.rows = score_under_reference(work, work.progress.rows)
    return reason


def watches_held_out(work: Work) -> bool:
    """Tell whether a held-out demonstration decides when the warm start stops."""
    return work.config.warm_start.stop == "held-out" and bool(work.held_out_rows)


def stop_reason(work: Work) -> str:
    """Return why the warm start should stop now, or nothing.

    The threshold is compared with the mean loss of one pass over the demonstrations, not of one
    batch, and counts completion bytes unless `stop_unit` says tokens.
    """
    settings, progress = work.config.warm_start, work.progress
    if watches_held_out(work):
        stale = progress.step - progress.best_step
        return f"no better held-out loss in {stale} steps" if stale >= settings.patience else ""
    demos = work.demo_rows
    window = -(-len(demos) // min(settings.batch_size, len(demos)))
    if settings.stop == "never" or len(progress.losses) < window:
        return ""
    loss = sum(progress.losses[-window:]) / window
    if settings.stop_unit == "byte":
        tokens = sum(len(r.completion_ids) for r in demos)
        loss *= tokens / sum(len(r.text.encode()) for r in demos)
    return f"training loss {loss:.3f} a {settings.stop_unit}" if loss < settings.stop_loss else ""


def sft_long(work: Work, t: int | None = None) -> Generator[Event | Checkpoint, None, str]:
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
            return NO_NUMBER
        yield event
        yield work.checkpoint()
    work.drop_stepper()
    work.soften()
    return ""


def score_under_reference(work: Work, rows: Sequence[Rollout]) -> list[Rollout]:
    """Return the rows with their log-probability under the reference (nats, summed)."""
    pairs = [(r.prompt_ids, r.completion_ids) for r in rows]
    with work.policy.as_adapter(work.reference):
        scores = work.policy.log_probs(pairs, work.config.update.token_budget)
    return [replace(r, reference_log_prob=s) for r, s in zip(rows, scores, strict=True)]


def held_out_loss(work: Work) -> float:
    """Return the loss of the held-out demonstrations, nats a completion token."""
    return mean_loss(work.policy, work.held_out_rows)


def mean_loss(policy: Policy, rows: Sequence[Rollout]) -> float:
    """Return the mean loss of rows under the policy, nats a completion token."""
    scores = policy.log_probs([(r.prompt_ids, r.completion_ids) for r in rows])
    return -sum(scores) / sum(len(r.completion_ids) for r in rows)


def _stepper(work: Work, shape: str, warmup_ratio: float, total: int, name: str) -> Stepper:
    return Stepper(
        work.policy,
        optimizer="adamw",
        learning_rate=work.config.warm_start.learning_rate,
        schedule=schedule(shape, warmup_ratio, total),
        max_grad_norm=work.config.update.max_grad_norm,
        seed=row_seed(work.config.seed, name),
        token_budget=work.config.update.token_budget,
    )


def _train_step(work: Work, stepper: Stepper, total: int) -> StepTaken | None:
    """Take one supervised step; None where its loss was no number."""
    settings, progress = work.config.warm_start, work.progress
    demos = work.demo_rows
    chosen = epoch_batches(len(demos), settings.batch_size, progress.step, stepper.seed)
    batch = sft_batch(
        [demos[i] for i in chosen], work.policy.format.pad_id, settings.train_on_prompt
    )
    result = stepper.step(work.trainer("sft", sft_trainer), batch)
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
