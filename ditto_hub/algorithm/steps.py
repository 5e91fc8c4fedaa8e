"""Optimiser steps, one at a time, through a TRL trainer's own `training_step`.

`Trainer.train()` blocks; a run must stop and go on between any two steps. So the trainer brings its
loss, its collation and accelerate's backward pass, and this drives it: the order of batches, the
learning rate and the random state of a step depend on the settings and the step's number alone.
"""

from __future__ import annotations

import math
import random
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from transformers import TrainingArguments

from ditto_hub.algorithm.memory import row_groups
from ditto_hub.algorithm.policy import Policy, Tensors
from ditto_hub.algorithm.rollout import row_seed

Schedule = Callable[[int], float]


@dataclass(frozen=True)
class StepResult:
    """Hold what an optimiser step said.

    Args:
        loss: of the batch, before the step.
        learning_rate: used in the step.
        grad_norm: before the clip.
        sound: False where loss or gradient is no sound number and the weights were left alone.
    """

    loss: float
    learning_rate: float
    grad_norm: float
    sound: bool


class Stepper:
    """An optimiser over the adapter, with a trainer that knows the loss.

    Args:
        policy: whose adapter is trained.
        optimizer: "adamw" or "rmsprop"; weight decay 0, the library's other defaults.
        learning_rate: peak.
        schedule: step (from 0) -> factor on the peak.
        max_grad_norm: clip; 0 is off.
        seed: with the step's number, the random state of a step (dropout).
        token_budget: tokens whose activations are kept at a time at most.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        optimizer: str,
        learning_rate: float,
        schedule: Schedule,
        max_grad_norm: float,
        seed: int,
        token_budget: int = 16_384,
    ) -> None:
        self.policy = policy
        self.parameters = policy.parameters()
        self.schedule = schedule
        self.learning_rate = learning_rate
        self.max_grad_norm = max_grad_norm
        self.seed = seed
        self.token_budget = token_budget
        self.step_count = 0
        self.optimizer: torch.optim.Optimizer
        if optimizer == "rmsprop":
            self.optimizer = torch.optim.RMSprop(self.parameters, lr=learning_rate)
        else:
            self.optimizer = torch.optim.AdamW(self.parameters, lr=learning_rate, weight_decay=0.0)

    def step(
        self, trainer: Any, batch: Mapping[str, torch.Tensor], explode: float = math.inf
    ) -> StepResult:
        """Take one step; leave the weights alone where loss or gradient is no sound number.

        Args:
            trainer: whose `training_step` runs forward and backward.
            batch: what that trainer's collator would return.
            explode: loss from which the step is not taken.
        """
        rate = self.learning_rate * self.schedule(self.step_count)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss = self.policy.room.with_tokens(
            lambda: self._backward(trainer, batch), *_extent(batch, self.token_budget)
        )
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.max_grad_norm or math.inf)
        self.policy.model.eval()
        sound = math.isfinite(loss) and math.isfinite(float(norm)) and loss < explode
        result = StepResult(loss, rate, float(norm), sound)
        if sound:
            self.optimizer.step()
        self.step_count += 1
        return result

    def _backward(self, trainer: Any, batch: Mapping[str, torch.Tensor]) -> float:
        """Return the loss, its gradient in place; rows of labels in several passes where needed."""
        torch.manual_seed(row_seed(self.seed, self.step_count))
        self.optimizer.zero_grad(set_to_none=True)
        if self.policy.team is not None and "labels" in batch:
            return self.policy.team.supervise(batch)
        limit = self.policy.room.at_most(self.token_budget)
        if "labels" not in batch or _extent(batch, limit + 1)[0] <= limit:
            return float(trainer.training_step(self.policy.model, dict(batch)))
        trained = (batch["labels"][:, 1:] != -100).sum().to(self.policy.device)
        return sum(
            float(trainer.training_step(self.policy.model, part, trained))
            for part in row_groups(dict(batch), limit)
        )

    def state(self) -> Tensors:
        """Return the optimiser's tensors and the step count."""
        found = {"step_count": torch.tensor(self.step_count)}
        for index, values in self.optimizer.state_dict()["state"].items():
            for key, value in values.items():
                found[f"{index}.{key}"] = torch.as_tensor(value).detach().cpu().clone()
        return found

    def load_state(self, tensors: Tensors) -> None:
        """Go on from what `state` returned."""
        self.step_count = int(tensors["step_count"])
        state: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in tensors.items():
            index, _, key = name.partition(".")
            if key:
                state.setdefault(int(index), {})[key] = value.clone()
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})


def _extent(batch: Mapping[str, torch.Tensor], token_budget: int) -> tuple[int, int]:
    """Return how many tokens of a batch run at a time, and how many its longest row has."""
    mask = batch.get("attention_mask")
    if mask is None:
        return 0, 0
    return min(mask.numel(), token_budget), int(mask.sum(1).max())


def schedule(shape: str, warmup_ratio: float, total: int) -> Schedule:
    """Return step -> factor: linear warm-up, then constant, linear or cosine decay to 0.

    Args:
        shape: "constant", "linear" or "cosine".
        warmup_ratio: share of `total` spent warming up.
        total: steps in all.
    """
    warmup = math.ceil(warmup_ratio * total)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        done = (step - warmup) / max(1, total - warmup)
        if shape == "linear":
            return max(0.0, 1 - done)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, done))) if shape == "cosine" else 1.0

    return factor


def epoch_batches(n: int, size: int, step: int, seed: int) -> list[int]:
    """Return which of `n` rows step `step` (from 0) trains on: shuffled epochs, laid end to end."""
    size = min(size, n)
    wanted = range(step * size, step * size + size)
    orders: dict[int, list[int]] = {}
    batch = []
    for place in wanted:
        epoch, offset = divmod(place, n)
        if epoch not in orders:
            orders[epoch] = random.Random(row_seed(seed, "epoch", epoch)).sample(range(n), n)
        batch.append(orders[epoch][offset])
    return batch


def trainer_arguments(policy: Policy, batch_size: int) -> dict[str, Any]:
    """Return the arguments every trainer here is built with; each one said on purpose."""
    return {
        "output_dir": tempfile.gettempdir(),
        "per_device_train_batch_size": batch_size,
        "use_cpu": policy.device.type == "cpu",
        "bf16": False,  # the base's dtype decides; no autocast over it
        _checkpointing(): False,
        "max_length": None,
        "report_to": [],
        "save_strategy": "no",
        "logging_strategy": "no",
        "dataloader_num_workers": 0,  # a ZeroGPU worker may not have children
        "dataloader_pin_memory": False,
        "disable_tqdm": True,
    }


def _checkpointing() -> str:
    """Return the name this version of transformers has for activation checkpointing."""
    names = {f.name for f in fields(TrainingArguments)}
    new = "activation_checkpointing"
    return new if new in names else "gradient_checkpointing"
