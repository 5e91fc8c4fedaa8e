"""One update step: ours against TRL's stock DPOTrainer on the same pairs."""

from __future__ import annotations

import tempfile
import warnings
from copy import deepcopy
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
from speed_models import base, batch_of_pairs, policy, rows, with_reference
from speed_timing import compare, interleave, peak_bytes
from speed_trainers import trainer_arguments
from trl import DPOConfig, DPOTrainer

from ditto_hub.config import Lora, Update
from ditto_hub.ditto.losses import PreferenceLoss
from ditto_hub.ditto.rollout import Rollout
from ditto_hub.engine.fast import FastEngine
from ditto_hub.engine.protocol import Tensors
from ditto_hub.engine.targets import lora_targets

UPDATE = Update(beta=0.1)


class Case:
    """Both sides of one update step, built on the same weights, reference and pairs.

    Args:
        model: "pocket" or a random model's name.
        demos: how many demonstrations.
        length: mean tokens of a completion.
    """

    def __init__(self, model: str, demos: int, length: int) -> None:
        self.policy = policy(model)
        self.rows = rows(demos, length)
        self.pairs = batch_of_pairs(self.rows)
        used = sorted({i for p in self.pairs for i in (p.winner, p.loser)})
        scored = with_reference(self.policy, [self.rows[i] for i in used])
        for i, row in zip(used, scored, strict=True):
            self.rows[i] = row
        pi_0 = self.policy.snapshot()
        self.policy.restore(_moved(pi_0))
        self.stock = StockTrainer(model, pi_0, self.policy)
        self.unique = len(used)
        self.before = self.stock.reference(self.rows, self.pairs)

    def ours(self) -> float:
        """Take our step from pairs to gradients."""
        loss = PreferenceLoss(self.rows, self.pairs, UPDATE)
        return float(self.policy.backward(loss.rows, loss))

    def theirs(self) -> float:
        """Take the stock step, its reference an adapter that runs in every step."""
        return self.stock.step(self.rows, self.pairs)

    def theirs_precomputed(self) -> float:
        """Take the stock step with the reference's figures there already, at no cost."""
        return self.stock.step(self.rows, self.pairs, self.before)

    def difference(self) -> dict[str, float]:
        """Return how far apart loss and gradients of the two sides are, relative to their size."""
        mine, theirs, before = self.ours(), self.theirs(), self.theirs_precomputed()
        a = torch.cat([p.grad.flatten() for p in self.policy.parameters() if p.grad is not None])
        b = torch.cat([p.grad.flatten() for p in self.stock.parameters() if p.grad is not None])
        return {
            "loss": abs(mine - theirs) / abs(theirs),
            "loss_precomputed": abs(mine - before) / abs(before),
            "gradient": float((a - b).norm() / b.norm()),
        }


class StockTrainer:
    """TRL's DPOTrainer as a careful user builds it: our dtype, lengths and threads, no checkpoints.

    Built at pi_0, which it keeps as its reference adapter, then moved to pi.
    """

    def __init__(self, model: str, pi_0: Tensors, ours: FastEngine) -> None:
        plain, tokenizer = base(model)
        lora = Lora()
        shape = LoraConfig(
            r=lora.rank,
            lora_alpha=int(lora.alpha),
            target_modules=lora_targets(plain, lora.targets),
            task_type="CAUSAL_LM",
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.model = get_peft_model(plain, shape)
            set_peft_model_state_dict(self.model, pi_0)
            arguments = trainer_arguments(ours, UPDATE.pairs)
            self.trainer = DPOTrainer(
                model=self.model,
                args=DPOConfig(
                    **{**arguments, "output_dir": tempfile.gettempdir()}, beta=UPDATE.beta
                ),
                train_dataset=Dataset.from_list([{"prompt": "a", "chosen": "b", "rejected": "c"}]),
                processing_class=deepcopy(tokenizer),
            )
            self.trainer.current_gradient_accumulation_steps = 1
            set_peft_model_state_dict(self.model, ours.snapshot())

    def batch(self, rows: list[Rollout], pairs: list[Any]) -> dict[str, torch.Tensor]:
        """Return what the trainer's own collator makes of the pairs."""
        found: dict[str, torch.Tensor] = self.trainer.data_collator(
            [
                {
                    "prompt_ids": list(rows[p.winner].prompt_ids),
                    "chosen_ids": list(rows[p.winner].completion_ids),
                    "rejected_ids": list(rows[p.loser].completion_ids),
                }
                for p in pairs
            ]
        )
        return found

    def reference(self, rows: list[Rollout], pairs: list[Any]) -> dict[str, torch.Tensor]:
        """Return the reference's log-probabilities, as its precomputation stores them."""
        chosen, rejected = self.trainer.compute_ref_log_probs(self.model, self.batch(rows, pairs))
        return {"ref_chosen_logps": chosen, "ref_rejected_logps": rejected}

    def step(
        self,
        rows: list[Rollout],
        pairs: list[Any],
        precomputed: dict[str, torch.Tensor] | None = None,
    ) -> float:
        """Run one step from pairs to gradients."""
        self.model.zero_grad(set_to_none=True)
        self.trainer.precompute_ref_logps = precomputed is not None
        batch = {**self.batch(rows, pairs), **(precomputed or {})}
        return float(self.trainer.training_step(self.model, batch))

    def parameters(self) -> list[torch.nn.Parameter]:
        """Return the trained adapter's parameters, in our policy's order."""
        named = sorted(self.model.named_parameters())
        return [p for name, p in named if ".default." in name]


def _moved(tensors: Tensors) -> Tensors:
    generator = torch.Generator().manual_seed(2)
    return {k: v + 0.01 * torch.randn(v.shape, generator=generator) for k, v in tensors.items()}


def measure(model: str, demos: int, length: int, turns: int, budget_s: float) -> dict[str, Any]:
    """Return one row of the table: the ratio with its spread, and that both sides agree."""
    case = Case(model, demos, length)
    difference = case.difference()  # runs each side once, too
    sides = {
        "stock": case.theirs,
        "stock, reference precomputed": case.theirs_precomputed,
        "ours": case.ours,
    }
    found = compare(interleave(sides, turns, budget_s))
    return {
        "model": model,
        "demonstrations": demos,
        "completion_tokens": length,
        "pairs": len(case.pairs),
        "different_rows": case.unique,
        "difference": {k: float(f"{v:.2g}") for k, v in difference.items()},
        **found,
    }


def memory(model: str, demos: int, length: int) -> dict[str, Any]:
    """Return by how much memory rises at most in a step of each side."""
    case = Case(model, demos, length)
    case.difference()
    rise = {"stock": peak_bytes(case.theirs), "ours": peak_bytes(case.ours)}
    case.policy.token_budget = 1024
    rise["ours, budget of 1,024 tokens"] = peak_bytes(case.ours)
    return {"model": model, "demonstrations": demos, "completion_tokens": length, "bytes": rise}
