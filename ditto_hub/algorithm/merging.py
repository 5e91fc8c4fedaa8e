"""Layers without PEFT around them, for passes that need no gradient of the adapter.

In float32 the adapter is added to copies of the weights it touches, and the very same tensors are
put back: nothing is ever restored by arithmetic. In lower precision the sum would round the adapter
away, so while decoding it stays beside the weights, in two small products of the layer's own dtype
where PEFT's float32 ones take six kernels.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from peft.tuners.lora import LoraLayer

ADAPTER = "default"
HALVES = (torch.bfloat16, torch.float16)


class Beside(torch.nn.Module):
    """A linear layer with a low-rank one beside it.

    Args:
        base: the layer itself.
        lora: PEFT's layer around it.
    """

    def __init__(self, base: torch.nn.Module, lora: Any) -> None:
        super().__init__()
        dtype = base.weight.dtype
        self.base = base
        scaled = lora.lora_B[ADAPTER].weight * lora.scaling[ADAPTER]
        self.down = lora.lora_A[ADAPTER].weight.to(dtype).t().contiguous()  # (in, rank)
        self.up = scaled.to(dtype).t().contiguous()  # (rank, out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the layer's output, (..., out), for (..., in)."""
        plain: torch.Tensor = self.base(x)
        low = x.flatten(0, -2) @ self.down
        return torch.addmm(plain.flatten(0, -2), low, self.up).view_as(plain)


@contextlib.contextmanager
def merged(model: Any) -> Iterator[None]:
    """Have a float32 model's own layers, with the adapter in their weights, inside the block.

    A model of another dtype stays as it is.
    """
    layers = _layers(model)
    kept = [(lora.get_base_layer(), lora.get_base_layer().weight.data) for _, lora in layers]
    if any(weight.dtype != torch.float32 for _, weight in kept):
        yield
        return
    active = _active(model, layers)
    try:
        if active:
            for (base, weight), (_, lora) in zip(kept, layers, strict=True):
                base.weight.data = weight + lora.get_delta_weight(ADAPTER)
        bare = [(name, lora.get_base_layer()) for name, lora in layers]
        with _in_place_of(model, bare):
            yield
    finally:
        for base, weight in kept:
            base.weight.data = weight


@contextlib.contextmanager
def ready_to_decode(model: Any) -> Iterator[None]:
    """Have layers inside the block that decode fast: merged, or the adapter beside them."""
    layers = _layers(model)
    bases = [lora.get_base_layer() for _, lora in layers]
    if not all(type(b) is torch.nn.Linear and b.weight.dtype in HALVES for b in bases):
        with merged(model):
            yield
        return
    active = _active(model, layers)
    stand_ins = [
        (name, Beside(base, lora) if active else base)
        for (name, lora), base in zip(layers, bases, strict=True)
    ]
    with _in_place_of(model, stand_ins):
        yield


def _layers(model: Any) -> list[tuple[str, Any]]:
    return [(name, m) for name, m in model.named_modules() if isinstance(m, LoraLayer)]


def _active(model: Any, layers: list[tuple[str, Any]]) -> bool:
    return ADAPTER in model.active_adapters and not layers[0][1].disable_adapters


@contextlib.contextmanager
def _in_place_of(model: Any, stand_ins: list[tuple[str, Any]]) -> Iterator[None]:
    """Put modules where others are, by name, and those back after."""
    kept = [(name, model.get_submodule(name)) for name, _ in stand_ins]
    try:
        _put(model, stand_ins)
        yield
    finally:
        _put(model, kept)


def _put(model: Any, modules: list[tuple[str, Any]]) -> None:
    for name, module in modules:
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, module)
