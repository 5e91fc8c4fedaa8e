"""Layers without PEFT around them: the same sums in fewer kernels.

In float32 the adapter is added to copies of the weights it touches, and the very same tensors are
put back: nothing is ever restored by arithmetic. In lower precision the sum would round the adapter
away, so while decoding it stays beside the weights, in two small products of the layer's own dtype
where PEFT's float32 ones take six kernels. While training it always does.
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
    """A linear layer with a low-rank one beside it, both in the layer's own dtype.

    Args:
        base: the layer itself.
        down: (rank, in), PEFT's A.
        up: (out, rank), PEFT's B.
        scale: of the low-rank product.
    """

    def __init__(
        self, base: torch.nn.Module, down: torch.Tensor, up: torch.Tensor, scale: float
    ) -> None:
        super().__init__()
        self.base, self.scale = base, scale
        self.down, self.up = down.t(), up.t()

    @property
    def weight(self) -> torch.Tensor:
        """The layer's own, for a model that reads it past the layer; as PEFT's layers have it."""
        return self.base.get_parameter("weight")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the layer's output, (..., out), for (..., in)."""
        plain: torch.Tensor = self.base(x)
        low = x.flatten(0, -2) @ self.down
        flat = plain.flatten(0, -2)  # in place: a product's backward pass does not read it
        return flat.addmm_(low, self.up, alpha=self.scale).view_as(plain)


class LiveAdapter:
    """All of an adapter's matrices as one tensor of the layers' dtype, which takes the gradient.

    One cast where every matrix would have its own, forth and back.

    Args:
        layers: PEFT's, by name.
        dtype: of the layers around them.
    """

    def __init__(self, layers: list[tuple[str, Any]], dtype: torch.dtype) -> None:
        self.parameters = [
            half[ADAPTER].weight for _, lora in layers for half in (lora.lora_A, lora.lora_B)
        ]
        self.sizes = [p.numel() for p in self.parameters]
        joined = torch.cat([p.detach().flatten() for p in self.parameters])
        self.leaf = joined.to(dtype).requires_grad_()
        pieces = torch.split(self.leaf, self.sizes)  # type: ignore[no-untyped-call]
        self.matrices = [p.view(q.shape) for p, q in zip(pieces, self.parameters, strict=True)]

    def stand_ins(self, layers: list[tuple[str, Any]]) -> list[tuple[str, Beside]]:
        """Return what takes the place of PEFT's layers."""
        halves = zip(self.matrices[::2], self.matrices[1::2], strict=True)
        return [
            (name, Beside(lora.get_base_layer(), down, up, lora.scaling[ADAPTER]))
            for (name, lora), (down, up) in zip(layers, halves, strict=True)
        ]

    def hand_over(self) -> None:
        """Add the gradient to the adapter's own parameters."""
        if self.leaf.grad is None:
            return
        gradient = self.leaf.grad.to(self.parameters[0].dtype)
        pieces = torch.split(gradient, self.sizes)  # type: ignore[no-untyped-call]
        for parameter, piece in zip(self.parameters, pieces, strict=True):
            gradient = piece.view(parameter.shape)
            known = parameter.grad
            parameter.grad = gradient if known is None else known + gradient


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
    with torch.no_grad():
        live = LiveAdapter(layers, bases[0].weight.dtype)
    bare = list(zip((name for name, _ in layers), bases, strict=True))
    with _in_place_of(model, live.stand_ins(layers) if _active(model, layers) else bare):
        yield


@contextlib.contextmanager
def ready_to_train(model: Any) -> Iterator[None]:
    """Have layers inside the block that train in four kernels where PEFT's take a dozen.

    PEFT casts a layer's whole input to the adapter's float32; here the adapter's small matrices
    are cast to the layer's dtype. With dropout, or a layer that is not plain, PEFT's own stay.
    """
    layers = _layers(model)
    bases = [lora.get_base_layer() for _, lora in layers]
    plain = all(type(b) is torch.nn.Linear for b in bases) and _active(model, layers)
    if not plain or (model.training and any(_drops(lora) for _, lora in layers)):
        yield
        return
    live = LiveAdapter(layers, bases[0].weight.dtype)
    with _in_place_of(model, live.stand_ins(layers)):
        yield
    live.hand_over()


def can_merge(model: Any) -> bool:
    """Tell whether an adapter is on plain layers only; PEFT also puts one on stacked experts."""
    return all(hasattr(lora.get_base_layer(), "weight") for _, lora in _layers(model))


def _drops(lora: Any) -> bool:
    return getattr(lora.lora_dropout[ADAPTER], "p", 0.0) > 0


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
