"""The base model: where it is, how it is loaded, which of its layers an adapter goes on."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from ditto_hub import pocket
from ditto_hub.algorithm.chat import ChatFormat
from ditto_hub.errors import BaseModelError, MemoryShortError


def pick_device(wish: str | None = None) -> torch.device:
    """Return the device to run on: as wished, else CUDA, MPS, or the CPU."""
    if wish:
        return torch.device(wish)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def pick_dtype(device: torch.device) -> torch.dtype:
    """Return bfloat16 where the device computes in it soundly, float32 elsewhere."""
    # without emulation: a T4 takes bfloat16 and computes it in software
    bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
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
        base_model: {id, revision, quantize}; id is "pocket", a Hub id or a folder; quantize is
            "4bit" or missing.
        device: where to; default `pick_device()`.
        token: of the Hub, for a private or gated base model.

    Raises:
        BaseModelError: it cannot be loaded, or not in 4 bits.
        MemoryShortError: the device does not hold it.
    """
    device = device or pick_device()
    where = pocket.resolve(str(base_model["id"]))
    options = {"revision": base_model.get("revision"), "token": token, "trust_remote_code": False}
    try:
        config = AutoConfig.from_pretrained(where, **options)
        config.attention_dropout = 0.0
        tokenizer = AutoTokenizer.from_pretrained(where, **options)
        if base_model.get("quantize") == "4bit":
            options |= four_bit(device)
        model = _onto(
            device,
            lambda: AutoModelForCausalLM.from_pretrained(
                where, config=config, dtype=pick_dtype(device), **options
            ),
        )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        words = str(error).strip().splitlines() or [type(error).__name__]
        raise BaseModelError(f"Could not load the base model {where!r}: {words[0]}") from error
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model.eval().requires_grad_(False), tokenizer


def _onto(device: torch.device, load: Callable[[], Any]) -> Any:
    """Load a model onto a device, unless it does not fit."""
    try:
        model = load()
        placed = getattr(model, "is_loaded_in_4bit", False)  # by its device_map; may not be moved
        return model if placed else model.to(device)
    except torch.OutOfMemoryError as error:
        raise MemoryShortError(
            f"The base model does not fit the memory of this {device.type} device.",
            "Use a smaller one, --set base.quantize=4bit, or larger hardware; `ditto-hub estimate"
            " --device all` says what fits.",
        ) from error


def four_bit(device: torch.device) -> dict[str, Any]:
    """Return what loads a base model's linear layers as NF4, computing in the device's dtype.

    Raises:
        BaseModelError: bitsandbytes is not installed, or does not know the device.
    """
    if find_spec("bitsandbytes") is None:
        raise BaseModelError(
            "base.quantize=4bit needs the package bitsandbytes, which is not installed.",
            "pip install 'ditto-hub[4bit]', or --set base.quantize=none.",
        )
    if device.type == "mps":
        raise BaseModelError(
            "bitsandbytes has no 4-bit weights for MPS.", "Use --set base.quantize=none."
        )
    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=pick_dtype(device),
    )
    return {"quantization_config": quantization, "device_map": {"": device}}


def load_format(base_model_id: str, token: str | bool | None = None) -> ChatFormat:
    """Return how a base model's chat template writes, without loading its weights."""
    where = pocket.resolve(base_model_id)
    return ChatFormat(AutoTokenizer.from_pretrained(where, token=token))


def context_length(base_model_id: str, token: str | bool | None = None) -> int:
    """Return how many tokens a base model can take, answer included; 4096 where nothing says."""
    config = AutoConfig.from_pretrained(pocket.resolve(base_model_id), token=token)
    return int(getattr(config, "max_position_embeddings", None) or 4096)


def strip_adapters(model: Any) -> None:
    """Take off what an earlier use of a base model left on it: its layers and its forward again.

    A GPU worker is used again by other visitors, and what it holds in memory with it.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in list(model.named_modules()):
        if isinstance(module, BaseTunerLayer):
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, module.get_base_layer())
    for attribute in ("forward", "peft_config"):
        model.__dict__.pop(attribute, None)
    model.eval().requires_grad_(False)


def free_memory() -> None:
    """Give memory back that nothing uses any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
