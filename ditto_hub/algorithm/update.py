"""K preference steps a round: TRL's DPOTrainer on pre-tokenised, reference-scored, unique rows.

A batch of 24 comparisons over 7 demonstrations holds about 31 different sequences, not 48. Each
runs once and its log-probabilities are gathered to the pairs it stands in; the reference's are
stored with the row since it was sampled. Loss and gradient are those of a stock DPOTrainer on the
same pairs (tests/test_update.py holds that).
"""

from __future__ import annotations

import random
from collections.abc import Generator, Sequence
from copy import deepcopy
from itertools import islice
from typing import Any

import torch
from datasets import Dataset
from trl import DPOConfig, DPOTrainer

from ditto_hub.algorithm.decoding import pad_rows
from ditto_hub.algorithm.memory import Room
from ditto_hub.algorithm.policy import Policy
from ditto_hub.algorithm.ranking import (
    Comparison,
    Ranked,
    comparisons,
    draw,
    pair_counts,
    present_shares,
)
from ditto_hub.algorithm.rollout import Rollout, row_seed
from ditto_hub.algorithm.state import Checkpoint, Work
from ditto_hub.algorithm.steps import Stepper, schedule, trainer_arguments
from ditto_hub.algorithm.team import Team
from ditto_hub.algorithm.unique_rows import UniqueRows
from ditto_hub.algorithm.warm_start import score_under_reference
from ditto_hub.config import Update
from ditto_hub.events import Event, StepTaken

ALL_COPIES = "every sample is a copy, so nothing is left to compare"


class UpdateTrainer(DPOTrainer):  # type: ignore[misc]
    """DPOTrainer that takes token ids as they were sampled and reference scores as stored."""

    token_budget = 16_384
    pass_tokens = 16_384
    room = Room()
    team: Team | None = None
    _unique: UniqueRows | None = None

    def _prepare_dataset(self, dataset: Any, *_: object, **__: object) -> Any:
        return dataset  # rows are token ids already

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Return TRL's loss, computed on unique rows."""
        if self._unique is None:
            budget = self.room.at_most(self.token_budget)
            share = max(1, budget // 4) if self.team else self.pass_tokens
            self._unique = UniqueRows(model, budget, min(share, self.pass_tokens), self.team)
        return super().compute_loss(self._unique, inputs, return_outputs, num_items_in_batch)

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Run forward and backward, turn by turn where the batch exceeds the token budget."""
        self._unique = None
        more = True
        while more:
            loss: torch.Tensor = super().training_step(*args, **kwargs)
            more = self._unique.backward()  # type: ignore[attr-defined]
        self._unique = None  # nothing of a step outlives it
        return loss


def dpo_trainer(policy: Policy, update: Update) -> UpdateTrainer:
    """Return a trainer with the settings' loss, on the policy's adapter and none of its own."""
    types, weights = [update.loss], [1.0]
    if update.sft_weight:
        types, weights = [*types, "sft"], [*weights, update.sft_weight]
    args = DPOConfig(
        **trainer_arguments(policy, update.pairs),
        beta=update.beta,
        loss_type=types,
        loss_weights=weights,
        disable_dropout=False,  # it would outlive the trainer; see `dropout_off`
    )
    dummy = Dataset.from_list([{"prompt_ids": [0], "chosen_ids": [0], "rejected_ids": [0]}])
    unused = torch.optim.SGD(policy.parameters(), lr=0.0)  # the Stepper's own is used
    with policy.own_head():
        trainer = UpdateTrainer(
            model=policy.model,
            args=args,
            train_dataset=dummy,  # never trained on
            processing_class=deepcopy(policy.tokenizer),  # TRL sets its pad token
            optimizers=(unused, None),
        )
    policy.model.delete_adapter("ref")  # TRL's copy of the current adapter: the wrong reference
    trainer.precompute_ref_logps = True
    trainer.token_budget = update.token_budget
    trainer.pass_tokens = policy.pass_tokens
    trainer.room = policy.room
    trainer.team = policy.team
    trainer.current_gradient_accumulation_steps = 1
    return trainer


def pair_batch(
    rows: Sequence[Rollout], pairs: Sequence[Comparison], pad_id: int
) -> dict[str, torch.Tensor]:
    """Return what DPOTrainer's loss reads, winners first, for B comparisons.

    Returns:
        input_ids, attention_mask, completion_mask (2B, L); ref_chosen_logps, ref_rejected_logps
        (B,); rows (2B,) numbers of the different rows from 0.
    """
    order = [p.winner for p in pairs] + [p.loser for p in pairs]
    numbers: dict[int, int] = {}
    for index in order:
        numbers.setdefault(index, len(numbers))
    lines = [rows[i] for i in order]
    ids, mask = pad_rows([(*r.prompt_ids, *r.completion_ids) for r in lines], pad_id)
    completion = mask.clone()
    for k, row in enumerate(lines):
        completion[k, : len(row.prompt_ids)] = 0
    reference = torch.tensor([r.reference_log_prob for r in lines])
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "completion_mask": completion,
        "ref_chosen_logps": reference[: len(pairs)],
        "ref_rejected_logps": reference[len(pairs) :],
        "rows": torch.tensor([numbers[i] for i in order]),
    }


def update_round(work: Work, t: int) -> Generator[Event | Checkpoint, None, str]:
    """Take the K preference steps of round t against the reference.

    Returns:
        Why it stopped before its last step, or nothing; then the run's rounds end too.
    """
    progress, update = work.progress, work.config.update
    if update.reference == "every-round" and t > 0 and progress.step == 0:
        work.moved_reference = work.policy.snapshot()  # ablation: 45.8 % in the paper's table 3
        progress.rows = score_under_reference(work, progress.rows)
    pools = comparisons(_ranked(progress.rows), t if update.resample == "every-round" else 0)
    shares = present_shares(update.shares, pools)
    if not shares and any(pools.values()) and t == 0:
        return ""  # without an online share comparisons begin with the second round
    if not shares:
        why = "no kind of comparison there is has a share" if any(pools.values()) else ALL_COPIES
        progress.stopped_early = f"round {t}: {why}"
        return progress.stopped_early
    kinds = ",".join(shares)
    stepper = work.take_stepper(lambda: _stepper(work))
    trainer = work.trainer("dpo", lambda policy: dpo_trainer(policy, update))
    counts = islice(pair_counts(shares, update.pairs), progress.steps_by_kinds.get(kinds, 0), None)
    while progress.step < update.steps:
        rng = random.Random(row_seed(work.config.seed, "pairs", t, progress.step))
        pairs = draw(pools, next(counts), rng)
        batch = pair_batch(progress.rows, pairs, work.policy.format.pad_id)
        with work.policy.dropout_off():
            result = stepper.step(trainer, batch, explosion(update))
        if not result.sound:
            progress.stopped_early = f"round {t}, step {progress.step + 1}: loss {result.loss:g}"
            return progress.stopped_early
        progress.step += 1
        progress.steps_by_kinds[kinds] = progress.steps_by_kinds.get(kinds, 0) + 1
        yield StepTaken(
            step=progress.step,
            total_steps=update.steps,
            loss=result.loss,
            learning_rate=result.learning_rate,
            grad_norm=result.grad_norm,
            metrics={**_read_metrics(trainer), **_kind_counts(pairs)},
        )
        yield work.checkpoint()
    if t == update.rounds - 1:
        work.soften()
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


def _read_metrics(trainer: UpdateTrainer) -> dict[str, float]:
    """Return TRL's own metrics of the step under our names, and clear them."""
    kept = trainer._metrics["train"]
    names = {
        "logps/chosen": "chosen_log_prob",
        "logps/rejected": "rejected_log_prob",
        "rewards/chosen": "chosen_reward",
        "rewards/rejected": "rejected_reward",
        "rewards/accuracies": "accuracy",
        "rewards/margins": "margin",
    }
    found = {ours: float(kept[theirs][-1]) for theirs, ours in names.items() if kept.get(theirs)}
    kept.clear()
    return found


def _stepper(work: Work) -> Stepper:
    update = work.config.update
    return Stepper(
        work.policy,
        optimizer=update.optimizer,
        learning_rate=update.learning_rate,
        schedule=schedule(update.schedule, update.warmup_ratio, update.rounds * update.steps),
        max_grad_norm=update.max_grad_norm,
        seed=row_seed(work.config.seed, "update"),
        token_budget=update.token_budget,
    )
