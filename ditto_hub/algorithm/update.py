"""K preference steps a round: TRL's DPOTrainer on pre-tokenised, reference-scored, unique rows.

A batch of 24 comparisons over 7 demonstrations holds about 31 different sequences, not 48. Each
runs once and its log-probabilities are gathered to the pairs it stands in; the reference's are
stored with the row since it was sampled. Loss and gradient are those of a stock DPOTrainer on the
same pairs (tests/test_update.py holds that).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Sequence
from copy import deepcopy
from itertools import islice
from types import SimpleNamespace
from typing import Any

import torch
from datasets import Dataset
from trl import DPOConfig, DPOTrainer

from ditto_hub.algorithm.decoding import length_sorted_chunks, pad_rows
from ditto_hub.algorithm.memory import Room
from ditto_hub.algorithm.policy import Policy
from ditto_hub.algorithm.prefix import at_place, can_share, shared_passes, worth_sharing
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
from ditto_hub.algorithm.warm_start import score_under_reference
from ditto_hub.config import Update
from ditto_hub.events import Event, StepTaken

ALL_COPIES = "every sample is a copy, so nothing is left to compare"


class UniqueRows:
    """Stand in for the model in DPOTrainer's loss: run each different row once, gather to pairs.

    Rows run in length-sorted passes, so hardly any padding is computed, and a prompt that several
    rows follow runs once. While all rows hold no more tokens than the budget, every pass keeps its
    graph and one backward goes through all. With more, they take turns: pairs of different
    demonstrations have no row in common, so the loss's gradient at some demonstrations' rows asks
    for nothing of the others. The loss is taken anew in every turn, the rows of the turn with their
    graph, the others as constants; in the last one all are known and it is the batch's loss. Rows
    of one demonstration that exceed the budget run twice: first without gradients, then, once
    the loss has given the gradient of each row's log-probabilities, again with them (`backward`).

    Args:
        model: the PEFT model with TRL's fused head.
        token_budget: tokens whose activations are kept at a time at most, padding included.
        pass_tokens: tokens a forward pass at most, where that is less.
        team: processes that share the passes, if there are several.
    """

    def __init__(
        self, model: Any, token_budget: int, pass_tokens: int, team: Team | None = None
    ) -> None:
        self.model = model
        self.team = team
        self.token_budget = token_budget
        self.pass_tokens = min(token_budget, pass_tokens)
        self.can_share = team is None and can_share(model.config)
        self.groups: list[list[int]] = []  # rows that take a turn together
        self._turn = 0
        self._known = torch.empty(0)
        self._leaf: torch.Tensor | None = None
        self._passes: list[dict[str, torch.Tensor]] = []
        self._chunks: list[list[int]] = []

    def __call__(
        self,
        *,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        labels: torch.Tensor,
        rows: torch.Tensor,
        **_: object,
    ) -> SimpleNamespace:
        """Return per-token fields of shape (2B, L - 1), as the fused head would.

        Args:
            input_ids: (2B, L), winners first; attention_mask and labels likewise.
            rows: (2B,) number of the different row that each line holds, from 0.
        """
        first = torch.stack([(rows == r).nonzero()[0, 0] for r in range(int(rows.max()) + 1)])
        given = {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}
        given = {name: value[first] for name, value in given.items()}
        lengths = given["attention_mask"].sum(1).tolist()
        if not self.groups:
            pairs = list(zip(*(half.tolist() for half in rows.chunk(2)), strict=True))
            self.groups = turns(pairs, len(lengths), lambda g: self._fits(lengths, g))
            self._known = given["input_ids"].new_zeros((len(first), input_ids.shape[1] - 1))
            self._known = self._known.float()
        group = self.groups[self._turn]
        found, routing = self._run_group(given, lengths, group)
        where = torch.tensor(group, device=rows.device)
        values = self._known.to(found.dtype).index_copy(0, where, found)
        self._known = values.detach()
        unread = torch.zeros_like(self._known)[rows]
        return SimpleNamespace(
            log_probs=values[rows],
            entropy=unread,
            mean_logits=unread,
            is_top1=unread.bool(),
            aux_loss=routing,
        )

    def backward(self) -> bool:
        """Send the gradient on the log-probabilities through the model, pass by pass.

        Returns:
            Whether rows are left that have not had their turn.
        """
        if self._leaf is not None:
            parts = list(zip(self._passes, self._chunks, strict=True))
            owed = [self._leaf.grad[c, : p["input_ids"].shape[1] - 1] for p, c in parts]  # type: ignore[index]
            if self.team is not None:
                self.team.backward(self._passes, owed)
            else:
                for (part, _), gradient in zip(parts, owed, strict=True):
                    self._run(part).log_probs.backward(gradient=gradient)
        self._leaf = None
        self._turn += 1
        return self._turn < len(self.groups)

    def _run_group(
        self, given: dict[str, torch.Tensor], lengths: list[int], group: list[int]
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return (R, L - 1) log-probabilities of a turn's rows, and the routing loss if any."""
        self._chunks = list(length_sorted_chunks([lengths[r] for r in group], self.pass_tokens))
        widths = [max(lengths[group[i]] for i in chunk) for chunk in self._chunks]
        fits = self.team is None and self._fits(lengths, group)
        mine = {name: value[group] for name, value in given.items()}
        self._passes = [
            {name: value[chunk, :width] for name, value in mine.items()}
            for chunk, width in zip(self._chunks, widths, strict=True)
        ]
        routing = None
        with torch.set_grad_enabled(fits and torch.is_grad_enabled()):
            found = self._run_shared(mine, [lengths[r] for r in group])
            if found is None:
                found, routing = self._run_whole(mine["input_ids"].shape[1] - 1)
        if not fits:
            self._leaf = found = found.detach().requires_grad_()
        return found, routing

    def _fits(self, lengths: Sequence[int], group: Sequence[int]) -> bool:
        """Tell whether the budget holds the graph of some rows; a team's batch is not cut here."""
        own = [lengths[r] for r in group]
        chunks = length_sorted_chunks(own, self.pass_tokens)
        padded = sum(max(own[i] for i in chunk) * len(chunk) for chunk in chunks)
        return self.team is not None or padded <= self.token_budget

    def _run_shared(self, mine: dict[str, torch.Tensor], lengths: list[int]) -> torch.Tensor | None:
        """Return what `_run_whole` does from prompts that are read once, or None without gain."""
        if not self.can_share:
            return None
        starts = (mine["labels"] != -100).int().argmax(1)
        ids = mine["input_ids"].tolist()
        sizes = zip(ids, starts.tolist(), lengths, strict=True)
        rows = [(tuple(line[:start]), tuple(line[start:end])) for line, start, end in sizes]
        if not worth_sharing(rows):
            return None
        order, found = [], []
        for numbers, log_probs in shared_passes(self.model, rows, self.pass_tokens, 0):
            order += numbers
            found.append(at_place(log_probs, starts[numbers], mine["labels"].shape[1] - 1))
        return torch.cat(found)[torch.tensor(order).argsort().to(starts.device)]

    def _run_whole(self, width: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        if self.team is not None:
            found, routing = self.team.forward(self._passes), []
        else:
            outs = [self._run(part) for part in self._passes]
            found = [out.log_probs for out in outs]
            routing = [out.aux_loss for out in outs if out.aux_loss is not None]
        padded = torch.cat([torch.nn.functional.pad(p, (0, width - p.shape[1])) for p in found])
        order = torch.tensor([i for chunk in self._chunks for i in chunk], device=padded.device)
        return padded[order.argsort()], sum(routing) / len(routing) if routing else None

    def _run(self, part: dict[str, torch.Tensor]) -> Any:
        return self.model(**part, fused_lm_head=True, use_cache=False)


def turns(
    pairs: Sequence[tuple[int, int]], count: int, fits: Callable[[list[int]], bool]
) -> list[list[int]]:
    """Return rows in groups that no pair joins, as many rows together as fit.

    Args:
        pairs: numbers of two rows.
        count: of rows.
        fits: whether some rows may take their turn together.
    """
    owner = list(range(count))

    def root(row: int) -> int:
        while owner[row] != row:
            row = owner[row]
        return row

    for a, b in pairs:
        owner[root(b)] = root(a)
    joined: dict[int, list[int]] = {}
    for row in range(count):
        joined.setdefault(root(row), []).append(row)
    groups: list[list[int]] = []
    for rows in joined.values():
        if groups and fits([*groups[-1], *rows]):
            groups[-1] = [*groups[-1], *rows]
        else:
            groups.append(rows)
    return groups


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
