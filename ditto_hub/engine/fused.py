"""Fewer kernels for the same numbers, on a GPU, where a step waits for its launches.

Nothing here depends on a family's name: a norm is replaced where a probe shows that the fused one
gives its output.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch.nn.functional import rms_norm, scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

GROUPED = "grouped_sdpa"
CLOSE = 2e-2  # bfloat16 rounds the fused product once where the plain one rounds twice


def grouped_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attend from one token a row, the heads that share keys and values side by side.

    The library repeats keys and values for every head where a mask is given, which moves several
    times the bytes of the cache (transformers 5.17).

    Args:
        query: (R, H, 1, D).
        key: (R, K, S, D), H a multiple of K; value likewise.
        attention_mask: (R, 1, 1, S), added to the scores.

    Returns:
        (R, 1, H, D), and no weights.
    """
    rows, heads, _one, width = query.shape
    groups = heads // key.shape[1]
    packed = query.reshape(rows, key.shape[1], groups, width)
    mask = None if attention_mask is None else attention_mask.expand(-1, -1, groups, -1)
    out = scaled_dot_product_attention(packed, key, value, attn_mask=mask, scale=scaling)
    return out.reshape(rows, heads, 1, -1).transpose(1, 2), None


AttentionInterface.register(GROUPED, grouped_attention)
AttentionMaskInterface.register(GROUPED, sdpa_mask)


@contextlib.contextmanager
def attending_in_groups(model: Any) -> Iterator[None]:
    """Decode with `grouped_attention` inside the block, where the model attends by sdpa.

    Args:
        model: the base model.
    """
    before = model.config._attn_implementation
    if before != "sdpa":
        yield
        return
    model.set_attn_implementation(GROUPED)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


@torch.no_grad()
def fuse_norms(model: Any) -> None:
    """Let a model's RMS norms run as one kernel each, those of which a probe gives the same."""
    for module in model.modules():
        if not type(module).__name__.endswith("RMSNorm") or "forward" in module.__dict__:
            continue
        weight = getattr(module, "weight", None)
        eps = getattr(module, "variance_epsilon", getattr(module, "eps", None))
        if weight is None or weight.dim() != 1 or not isinstance(eps, float):
            continue
        probe = torch.linspace(-2, 3, len(weight), device=weight.device, dtype=weight.dtype)[None]
        plain, fused = module(probe), rms_norm(probe, weight.shape, weight, eps)
        if plain.dtype == fused.dtype and torch.allclose(plain, fused, rtol=CLOSE, atol=CLOSE):
            module.forward = partial(_norm, weight=weight, eps=eps)


def unfuse_norms(model: Any) -> None:
    """Put the norms' own forward back."""
    for module in model.modules():
        own = module.__dict__.get("forward")
        if isinstance(own, partial) and own.func is _norm:
            del module.__dict__["forward"]


def _norm(hidden: torch.Tensor, *, weight: torch.Tensor, eps: float) -> torch.Tensor:
    return rms_norm(hidden, weight.shape, weight, eps)
