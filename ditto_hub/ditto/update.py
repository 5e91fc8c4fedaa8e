"""K preference steps a round on comparisons whose reference scores are stored with their rows.

A batch of 24 comparisons over 7 demonstrations holds about 31 different sequences, not 48. Each
runs once and its log-probability is gathered to the pairs it is in.
"""

from __future__ import annotations

import random
from collections.abc import Generator, Sequence
from itertools import islice

from ditto_hub.config import Update
from ditto_hub.ditto.losses import METRICS, PreferenceLoss
from ditto_hub.ditto.optimizer import Stepper, schedule
from ditto_hub.ditto.ranking import (
    Comparison,
    Ranked,
    comparisons,
    draw,
    pair_counts,
    present_shares,
)
from ditto_hub.ditto.rollout import Rollout, row_seed
from ditto_hub.ditto.state import Checkpoint, Work
from ditto_hub.ditto.warm_start import score_under_reference
from ditto_hub.events import Event, StepTaken
from ditto_hub.words import Message, Text


def update_round(work: Work, t: int) -> Generator[Event | Checkpoint, None, Text]:
    """Take the K preference steps of round t against the reference.

    Returns:
        Why it stopped before its last step, or nothing; then the run's rounds end too.
    """
    progress, update = work.progress, work.config.update
    if progress.step == 0:
        work.round_start = work.policy.snapshot()
    if update.reference == "every-round" and t > 0 and progress.step == 0:
        work.moved_reference = work.policy.snapshot()  # ablation: 45.8 % in the paper's table 3
        progress.rows = score_under_reference(work, progress.rows)
    pools = comparisons(_ranked(progress.rows), t if update.resample == "every-round" else 0)
    shares = present_shares(update.shares, pools)
    if not shares and any(pools.values()) and t == 0:
        return ""  # without an online share comparisons begin with the second round
    if not shares:
        why = Message("ditto.no_share" if any(pools.values()) else "ditto.all_copies")
        progress.stopped_early = Message("ditto.round_reason", round=t, why=why)
        return progress.stopped_early
    kinds = ",".join(shares)
    stepper = work.take_stepper(lambda: preference_stepper(work))
    counts = islice(pair_counts(shares, update.pairs), progress.steps_by_kinds.get(kinds, 0), None)
    while progress.step < update.steps:
        rng = random.Random(row_seed(work.config.seed, "pairs", t, progress.step))
        pairs = draw(pools, next(counts), rng)
        loss = PreferenceLoss(progress.rows, pairs, update)
        result = stepper.step(loss.rows, loss, explode=explosion(update))
        if not result.sound:
            progress.stopped_early = Message(
                "ditto.round_loss", round=t, step=progress.step + 1, loss=f"{result.loss:g}"
            )
            return progress.stopped_early
        progress.step += 1
        progress.steps_by_kinds[kinds] = progress.steps_by_kinds.get(kinds, 0) + 1
        yield StepTaken(
            step=progress.step,
            total_steps=update.steps,
            loss=result.loss,
            learning_rate=result.learning_rate,
            grad_norm=result.grad_norm,
            metrics={**dict(zip(METRICS, result.metrics, strict=True)), **_kind_counts(pairs)},
        )
        yield work.checkpoint()
    return ""


def explosion(update: Update) -> float:
    """Return the loss from which a run ends early.

    The setting counts in multiples of what the terms may begin with: 1 for a preference loss, or
    for IPO's squared one 1 / (4 beta^2), 100 at the paper's beta; and the NLL term's weight.
    """
    start = 1 / (4 * update.beta**2) if update.loss == "ipo" else 1.0
    return update.explode * (max(1.0, start) + update.sft_weight)


def _ranked(rows: Sequence[Rollout]) -> list[Ranked]:
    return [Ranked(i, r.demo, r.round) for i, r in enumerate(rows) if not r.copy_of]


def _kind_counts(pairs: Sequence[Comparison]) -> dict[str, float]:
    counts: dict[str, float] = {}
    for pair in pairs:
        counts[f"pairs_{pair.kind}"] = counts.get(f"pairs_{pair.kind}", 0) + 1
    return counts


def preference_stepper(work: Work, name: str = "update") -> Stepper:
    """Return the optimiser of a run's preference steps, over all its rounds.

    Args:
        name: goes into the seed of its dropout.
    """
    update = work.config.update
    return Stepper(
        work.policy,
        optimizer=update.optimizer,
        learning_rate=update.learning_rate,
        schedule=schedule(update.schedule, update.warmup_ratio, update.rounds * update.steps),
        max_grad_norm=update.max_grad_norm,
        seed=row_seed(work.config.seed, name),
    )
