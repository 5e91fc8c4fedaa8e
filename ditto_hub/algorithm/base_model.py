"""The base model: where it is, how it is loaded, which of its layers an adapter goes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from ditto_hub import pocket
from ditto_hub.algorithm.chat import ChatFormat
from ditto_hub.errors import BaseModelError


def pick_device(wish: str | None = None) -> torch.device:
    """Return the device to run on: as wished, else CUDA, MPS, or the CPU."""
    if wish:
        return torch.device(wish)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def pick_dtype(device: torch.device) -> torch.dtype:
    """Return bfloat16 where the device computes in it soundly, float32 elsewhere."""
    bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return torch.bfloat16 if bf16 else torch.float32


def lora_targets(model: torch.nn.Module, wish: str) -> list[str]:
    """Return the names of the layers an adapter goes on, found from the architecture.

    Args:
        model: a causal LM.
        wish: "attention", "all-linear", or comma-separated module names.

    Raises:
        BaseModelError: there is no such layer.
    """
    find_head: Any = getattr(model, "get_output_embeddings", None)
    head = find_head() if find_head else None
    linear = {
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) or type(module).__name__ == "Conv1D"
        if module is not head
    }
    if wish == "all-linear":
        found = {name.rpartition(".")[2] for name in linear}
    elif wish == "attention":
        inside = {n for n in linear if "attn" in n or "attention" in n}
        outside = {name.rpartition(".")[2] for name in linear - inside}
        # GPT-2 has a c_proj in the MLP too, so there the module before it is named as well
        found = {
            ".".join(n.split(".")[-2 if n.rpartition(".")[2] in outside else -1 :]) for n in inside
        }
    else:
        asked = {part.strip() for part in wish.split(",")}
        found = {name.rpartition(".")[2] for name in linear} & asked
        if found != asked:
            missing = ", ".join(sorted(asked - found))
            raise BaseModelError(f"The base model has no linear layer named {missing}.")
    if not found:
        raise BaseModelError(
            f"No layers for lora.targets={wish!r} in {type(model).__name__}.",
            "Name them, for example --set lora.targets=all-linear.",
        )
    return sorted(found)


def load_base(
    base_model: Mapping[str, Any],
    *,
    device: torch.device | None = None,
    token: str | bool | None = None,
) -> tuple[Any, Any]:
    """Load a base model and its tokenizer, frozen and in evaluation mode.

    Args:
        base_model: {id, revision}; id is "pocket", a Hub id or a folder.
        device: where to; default `pick_device()`.
        token: of the Hub, for a private or gated base model.

    Raises:
        BaseModelError: it cannot be loaded.
    """
    device = device or pick_device()
    where = pocket.resolve(str(base_model["id"]))
    options = {"revision": base_model.get("revision"), "token": token, "trust_remote_code": False}
    try:
        config = AutoConfig.from_pretrained(where, **options)
        config.attention_dropout = 0.0
        tokenizer = AutoTokenizer.from_pretrained(where, **options)
        model = AutoModelForCausalLM.from_pretrained(
            where, config=config, dtype=pick_dtype(device), **options
        )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        words = str(error).strip().splitlines() or [type(error).__name__]
        raise BaseModelError(f"Could not load the base model {where!r}: {words[0]}") from error
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model.to(device).eval().requires_grad_(False), tokenizer


def load_format(base_model_id: str) -> ChatFormat:
    """Return how a base model's chat template writes, without loading its weights."""
    return ChatFormat(AutoTokenizer.from_pretrained(pocket.resolve(base_model_id)))
