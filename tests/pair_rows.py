"""Rows and comparisons that several tests train on, and how two gradients are compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tiny_runs import tiny_config, tiny_policy

from ditto_hub.config import Update
from ditto_hub.ditto.losses import PreferenceLoss
from ditto_hub.ditto.ranking import Comparison
from ditto_hub.ditto.rollout import Rollout
from ditto_hub.engine.fast import FastEngine
from ditto_hub.engine.protocol import Engine, Tensors

Tiny = Callable[[str], Path]
ROWS = [
    Rollout(0, -1, (5, 60, 61, 62), (90, 91, 92, 93, 94)),
    Rollout(1, -1, (5, 70), (93, 94)),
    Rollout(0, 0, (5, 60, 61, 62), (94,)),
    Rollout(0, 0, (5, 60, 61, 62), (95, 96, 97, 98, 99, 90, 91, 92, 93)),
    Rollout(1, 0, (5, 70), (97, 93, 98)),
    Rollout(0, 1, (5, 60, 61, 62), (99, 98, 97)),
]
PAIRS = [  # seven pairs over six rows: winners and losers repeat, and one pair comes twice
    Comparison(0, 2, "replay"),
    Comparison(0, 3, "replay"),
    Comparison(1, 4, "online"),
    Comparison(0, 5, "online"),
    Comparison(0, 5, "online"),
    Comparison(5, 2, "intermodel"),
    Comparison(5, 3, "intermodel"),
]


def noise(tensors: Tensors, size: float, seed: int) -> Tensors:
    """Return the tensors with something added to each."""
    generator = torch.Generator().manual_seed(seed)
    return {k: v + size * torch.randn(v.shape, generator=generator) for k, v in tensors.items()}


def policy_at(tiny: Tiny, weights: int, family: str = "llama3", **lora: Any) -> FastEngine:
    """Return a policy whose adapter's weights a number decides."""
    policy = tiny_policy(tiny(family), tiny_config(*(f"lora.{k}={v}" for k, v in lora.items())))
    policy.restore(noise(policy.snapshot(), 0.3, weights))
    return policy


def scored(policy: Engine, reference: Tensors) -> list[Rollout]:
    """Return the rows with their log-probability under the reference."""
    with policy.as_adapter(reference):
        scores = policy.log_probs([r.row for r in ROWS])
    return [replace(r, reference_log_prob=s) for r, s in zip(ROWS, scores, strict=True)]


def gradients(named: Any) -> dict[str, torch.Tensor]:
    """Return the adapter's gradients, by layer."""
    return {
        name.partition("model.model.")[2]: p.grad.clone()
        for name, p in named
        if ".default" in name and p.grad is not None
    }


def ours(
    policy: Any, update: Update, rows: Sequence[Rollout]
) -> tuple[float, dict[str, torch.Tensor]]:
    """Return loss and gradients of our update step on the pairs."""
    loss = PreferenceLoss(rows, PAIRS, update)
    value = policy.backward(loss.rows, loss)
    found = gradients(policy.model.named_parameters())
    policy.model.zero_grad(set_to_none=True)
    return float(value), found


def gap(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    """Return how far two gradients are apart, relative to their size."""
    assert a.keys() == b.keys()
    assert a
    one, two = (torch.cat([g[k].flatten().double() for k in sorted(g)]) for g in (a, b))
    assert two.norm() > 1e-4
    return float((one - two).norm() / two.norm())
