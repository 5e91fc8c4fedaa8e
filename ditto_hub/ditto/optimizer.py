"""Optimiser steps, one at a time: a run stops and goes on between any two.

The order of batches, the learning rate and the random state of a step depend on the settings and
the step's number alone.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ditto_hub.ditto.rollout import row_seed
from ditto_hub.engine.protocol import Engine, Loss, Row, Tensors

Schedule = Callable[[int], float]


@dataclass(frozen=True)
class StepResult:
    """Hold what an optimiser step said.

    Args:
        loss: of the batch, before the step.
        learning_rate: used in the step.
        grad_norm: before the clip.
        sound: False where loss or gradient is no sound number and the weights were left alone.
        metrics: of the loss, where it has some.
    """

    loss: float
    learning_rate: float
    grad_norm: float
    sound: bool
    metrics: tuple[float, ...] = ()


class Stepper:
    """An optimiser over the adapter.

    Args:
        policy: whose adapter is trained.
        optimizer: "adamw" or "rmsprop"; weight decay 0, the library's other defaults.
        learning_rate: peak.
        schedule: step (from 0) -> factor on the peak.
        max_grad_norm: clip; 0 is off.
        seed: with the step's number, the random state of a step (dropout).
    """

    def __init__(
        self,
        policy: Engine,
        *,
        optimizer: str,
        learning_rate: float,
        schedule: Schedule,
        max_grad_norm: float,
        seed: int,
    ) -> None:
        self.policy = policy
        self.parameters = policy.parameters()
        self.schedule = schedule
        self.learning_rate = learning_rate
        self.max_grad_norm = max_grad_norm
        self.seed = seed
        self.step_count = 0
        self.optimizer: torch.optim.Optimizer
        if optimizer == "rmsprop":
            self.optimizer = torch.optim.RMSprop(self.parameters, lr=learning_rate)
        else:
            fused = self.parameters[0].device.type in ("cpu", "cuda")
            self.optimizer = torch.optim.AdamW(
                self.parameters, lr=learning_rate, weight_decay=0.0, fused=fused
            )

    def step(
        self, rows: Sequence[Row], loss: Loss, *, dropout: bool = False, explode: float = math.inf
    ) -> StepResult:
        """Take one step; leave the weights alone where loss or gradient is no sound number.

        The device is waited for once, where loss, norm and the loss's `metrics` are read together.

        Args:
            rows: each different one once.
            loss: of their log-probabilities.
            dropout: whether the adapter's is on.
            explode: loss from which the step is not taken.
        """
        rate = self.learning_rate * self.schedule(self.step_count)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        seed = row_seed(self.seed, self.step_count) % 2**62 if dropout else None
        value = self.policy.backward(rows, loss, seed)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.max_grad_norm or math.inf)
        metrics = getattr(loss, "metrics", value.new_zeros(0)).to(value.dtype)
        read = torch.cat([torch.stack([value, norm.to(value.dtype)]), metrics.to(value.device)])
        loss_value, norm_value, *rest = read.tolist()
        sound = math.isfinite(loss_value) and math.isfinite(norm_value) and loss_value < explode
        if sound:
            self.optimizer.step()
        self.step_count += 1
        return StepResult(loss_value, rate, norm_value, sound, tuple(rest))

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
