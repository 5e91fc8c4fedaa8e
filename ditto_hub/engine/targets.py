"""Which of a base model's layers an adapter goes on, found from the architecture."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import torch

from ditto_hub.errors import BaseModelError

# What PEFT refuses to put LoRA on in these: their kernels read such weights past the layer.
MAMBA = ("falcon_h1", "mamba", "mamba2", "falcon_mamba", "nemotron_h")
MAMBA_REFUSES = ("out_proj", "conv1d")
# Where a model has experts, PEFT takes these names for the experts' own.
EXPERTS = (
    "gate",
    "router",
    "shared_expert_gate",
    "gate_proj",
    "up_proj",
    "down_proj",
    "w1",
    "w2",
    "w3",
)


def lora_targets(model: torch.nn.Module, wish: str) -> list[str]:
    """Return the names of the layers an adapter goes on.

    Only the language model's: a vision or audio tower has no part in writing. Not the experts of a
    mixture, nor what chooses among them: an adapter on each would be larger than the rest.

    Args:
        model: a causal LM.
        wish: "attention", "all-linear", or comma-separated module names; a model that has no
            attention gets all its linear layers for "attention".

    Raises:
        BaseModelError: there is no such layer.
    """
    linear = _linear_layers(model)
    if wish == "all-linear":
        chosen = _outside_experts(model, linear)
    elif wish == "attention":
        chosen = {n for n in linear if "attn" in n or "attention" in n}
        if not chosen and hasattr(model, "config"):
            return lora_targets(model, "all-linear")
    else:
        asked = {part.strip() for part in wish.split(",")}
        chosen = {n for n in linear if n.rpartition(".")[2] in asked}
        missing = sorted(asked - {n.rpartition(".")[2] for n in chosen})
        if missing:
            raise BaseModelError("engine.no_such_layer", names=", ".join(missing))
    if not chosen:
        raise BaseModelError("engine.no_layers", wish=wish, model=type(model).__name__)
    inside = text_part(model)
    others = {n for n, _ in model.named_modules() if n.startswith(inside)} - chosen
    return sorted(set(_shortest(chosen, others)))


def _shortest(chosen: Iterable[str], others: Iterable[str]) -> Iterator[str]:
    """Yield names as short as they mean no other module: PEFT goes by the end of a name."""
    taken = {end for name in others for end in _ends(name)}
    for name in chosen:
        yield next((end for end in _ends(name) if end not in taken), name)


def _ends(name: str) -> Iterator[str]:
    parts = name.split(".")
    for size in range(1, len(parts) + 1):
        yield ".".join(parts[-size:])


def outside_text(model: torch.nn.Module) -> str | None:
    """Return a pattern of the modules that are no part of the language model, as PEFT takes it."""
    text = text_part(model)
    towers = [name for name, module in model.named_children() if name != text.partition(".")[0]]
    if "." in text:
        parent, _, child = text.rpartition(".")
        inside = model.get_submodule(parent).named_children()
        towers += [f"{parent}.{name}" for name, _ in inside if name != child]
    towers = [t for t in towers if _has_linear(model.get_submodule(t))]
    if not text or not towers:
        return None
    return rf"({'|'.join(map(re.escape, towers))})(\..*)?"


def text_part(model: torch.nn.Module) -> str:
    """Return the name of the decoder inside a model that reads more than text, or nothing."""
    find: Any = getattr(model, "get_decoder", None)
    decoder = find() if find else None
    name = next((n for n, m in model.named_modules() if m is decoder), "")
    return name if "language_model" in name or "text_model" in name else ""


def _linear_layers(model: torch.nn.Module) -> set[str]:
    """Return the names of the language model's linear layers, its head excepted."""
    find_head: Any = getattr(model, "get_output_embeddings", None)
    head, inside = find_head() if find_head else None, text_part(model)
    refused = MAMBA_REFUSES if _model_type(model) in MAMBA else ()
    return {
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) or type(module).__name__ == "Conv1D"
        if module is not head and name.startswith(inside)
        if name.rpartition(".")[2] not in refused and _is_product(module)
    }


def _is_product(module: Any) -> bool:
    """Tell whether a layer is a plain product; a model's own kind may route or work in groups."""
    if not type(module).__module__.startswith("transformers.models."):
        return True
    try:
        with torch.no_grad():
            out = module(module.weight.new_zeros(1, module.in_features))
    except (RuntimeError, ValueError, TypeError, IndexError):
        return False
    return isinstance(out, torch.Tensor) and out.shape == (1, module.out_features)


def _outside_experts(model: torch.nn.Module, linear: set[str]) -> set[str]:
    """Return linear layers without those that PEFT would take for a mixture's experts."""
    if not any("experts" in n and p.ndim == 3 for n, p in model.named_parameters()):
        return linear
    return {name for name in linear if name.rpartition(".")[2] not in EXPERTS}


def _has_linear(module: torch.nn.Module) -> bool:
    return any(isinstance(m, torch.nn.Linear) for m in module.modules())


def _model_type(model: torch.nn.Module) -> str:
    return str(getattr(getattr(model, "config", None), "model_type", ""))
