"""A LoRA adapter as a GGUF file, for llama.cpp and the programs built on it, such as Ollama.

The file is the one that llama.cpp's `convert_lora_to_gguf.py` makes: a pair of float32 tensors a
layer under the layer's GGUF name, and the alpha that llama.cpp divides by the rank. Where llama.cpp
keeps the rows of the query and key projections in another order than transformers, those of the
adapter's B are put into that order too.

Source: https://github.com/ggml-org/llama.cpp, `convert_lora_to_gguf.py`, `conversion/`.
"""

from __future__ import annotations

import importlib.util
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft.utils.other import get_pattern_key

from ditto_hub.errors import BaseModelError
from ditto_hub.runs.storage import told_as_storage_error

FILE = "adapter.gguf"


@dataclass(frozen=True)
class Layout:
    """Hold how llama.cpp has an architecture.

    Args:
        name: `general.architecture`.
        interleaved: the rows of a head's query and key are in pairs that rope turns together,
            where transformers has all first halves before all second ones.
    """

    name: str
    interleaved: bool = False


# transformers' model_type -> llama.cpp's layout; each compared with llama.cpp and its converter
LAYOUTS = {
    "apertus": Layout("apertus"),
    "arcee": Layout("arcee", interleaved=True),
    "cohere": Layout("command-r"),
    "ernie4_5": Layout("ernie4_5"),
    "exaone4": Layout("exaone4"),
    "gemma": Layout("gemma"),
    "gemma2": Layout("gemma2"),
    "gemma3": Layout("gemma3"),
    "gemma3_text": Layout("gemma3"),
    "glm4": Layout("glm4"),
    "gpt_oss": Layout("gpt-oss"),
    "granite": Layout("granite", interleaved=True),
    "granitemoe": Layout("granitemoe", interleaved=True),
    "llama": Layout("llama", interleaved=True),
    "mistral": Layout("llama", interleaved=True),
    "mixtral": Layout("llama", interleaved=True),
    "nemotron": Layout("nemotron"),
    "olmo": Layout("olmo", interleaved=True),
    "olmo2": Layout("olmo2"),
    "olmo3": Layout("olmo2"),
    "phi3": Layout("phi3"),
    "qwen2": Layout("qwen2"),
    "qwen3": Layout("qwen3"),
    "qwen3_moe": Layout("qwen3moe"),
    "seed_oss": Layout("seed_oss"),
    "smollm3": Layout("smollm3", interleaved=True),
    "stablelm": Layout("stablelm"),
    "starcoder2": Layout("starcoder2"),
}
# What of a LoraConfig means more than two matrices a layer, as long as it is set.
MORE = ("use_dora", "lora_bias", "modules_to_save", "trainable_token_indices", "target_parameters",
        "layer_replication", "alora_invocation_tokens", "use_qalora", "use_bdlora", "arrow_config",
        "kasa_config", "monteclora_config", "velora_config", "fan_in_fan_out")  # fmt: skip
HALF = re.compile(r"base_model\.model\.(.+)\.lora_([AB])\.weight")


@dataclass(frozen=True)
class Pair:
    """Hold a layer's matrices.

    Args:
        layer: the layer's name in transformers.
        down: (rank, in), PEFT's A.
        up: (out, rank), PEFT's B.
        scale: of their product.
    """

    layer: str
    down: torch.Tensor
    up: torch.Tensor
    scale: float


def require_gguf() -> None:
    """Check that the package that writes GGUF files is installed.

    Raises:
        BaseModelError: it is not.
    """
    if importlib.util.find_spec("gguf") is None:
        raise BaseModelError("engine.gguf_not_installed")


def layout_of(model_config: Any) -> Layout:
    """Return how llama.cpp has a base model.

    Raises:
        BaseModelError: it is of none of the types above.
    """
    model_type = str(model_config.model_type)
    if model_type not in LAYOUTS:
        known = ", ".join(sorted(LAYOUTS))
        raise BaseModelError("engine.gguf_unknown_type", model_type=model_type, known=known)
    return LAYOUTS[model_type]


def write_gguf(
    config: Mapping[str, Any],
    tensors: Mapping[str, torch.Tensor],
    model_config: Any,
    target: Path,
    names: tuple[str, str],
) -> None:
    """Write an adapter as a GGUF file.

    Args:
        config: content of adapter_config.json.
        tensors: of adapter_model.safetensors.
        model_config: the base model's, as transformers has it.
        target: the file to write.
        names: of the adapter and of its base model, for whoever looks into the file.

    Raises:
        BaseModelError: `gguf` is not installed, the base model is of a type that is not known
            here, or the adapter is more than LoRA on the linear layers of its blocks.
        StorageError: the disk refused.
    """
    require_gguf()
    import gguf

    layout = layout_of(model_config)
    pairs = list(read_pairs(config, tensors))
    writer = gguf.GGUFWriter(target, layout.name)
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_name(names[0])
    writer.add_base_model_count(1)
    writer.add_base_model_name(0, names[1])
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, pairs[0].scale * len(pairs[0].down))
    for name, half in gguf_tensors(pairs, layout, model_config.get_text_config()):
        writer.add_tensor(name, half.contiguous().numpy())
    with told_as_storage_error(target):
        try:
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
        finally:
            writer.close()


def read_pairs(config: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> Iterator[Pair]:
    """Yield the layers of an adapter that is LoRA and nothing else, in order.

    Raises:
        BaseModelError: it is more.
    """
    more = [name for name in MORE if config.get(name)]
    if config.get("bias", "none") != "none":
        more.append("bias")
    if config.get("init_lora_weights", True) not in (True, False, "gaussian"):
        more.append("init_lora_weights")  # some ways to begin change the base model's weights
    strange = [name for name in tensors if not HALF.fullmatch(name)]
    if more or strange or not tensors:
        raise BaseModelError("engine.gguf_more_than_lora", what=", ".join(more + strange[:1]))
    halves: dict[str, dict[str, torch.Tensor]] = {}
    for name in sorted(tensors):
        layer, half = HALF.fullmatch(name).groups()  # type: ignore[union-attr]
        halves.setdefault(layer, {})[half] = tensors[name].float()
    for layer, both in halves.items():
        if set(both) != {"A", "B"}:
            raise BaseModelError("engine.gguf_more_than_lora", what=layer)
        yield Pair(layer, both["A"], both["B"], scale_of(layer, len(both["A"]), config))


def scale_of(layer: str, rank: int, config: Mapping[str, Any]) -> float:
    """Return what PEFT multiplies a layer's product by.

    Raises:
        BaseModelError: the config says no positive number.
    """
    patterns: Mapping[str, float] = config.get("alpha_pattern") or {}
    try:
        alpha = float(patterns.get(get_pattern_key(list(patterns), layer), config["lora_alpha"]))
        if not 0 < alpha < math.inf:
            raise ValueError(alpha)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        path = "adapter_config.json"
        raise BaseModelError("engine.adapter_config_damaged", path=path, error=error) from error
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def gguf_tensors(
    pairs: list[Pair], layout: Layout, text_config: Any
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield an adapter's tensors under their GGUF names, (rank, in) and (out, rank).

    llama.cpp scales every layer by one alpha over the layer's rank; where PEFT's scale is another,
    the difference goes into B.

    Args:
        pairs: the layers.
        layout: of the base model.
        text_config: of the base model's language part.

    Raises:
        BaseModelError: a layer has no place in a GGUF file, or is another base model's.
    """
    import gguf

    names = gguf.get_tensor_name_map(arch_of(layout), text_config.num_hidden_layers)
    alpha = pairs[0].scale * len(pairs[0].down)
    for pair in pairs:
        name = names.get_name(pair.layer.replace(".language_model.", "."))
        if name is None or not name.startswith("blk."):
            raise BaseModelError("engine.gguf_no_such_layer", layer=pair.layer)
        up = pair.up
        if layout.interleaved and (heads := heads_of(pair.layer, text_config)):
            if len(up) % (2 * heads):
                raise BaseModelError("engine.adapter_misfit")
            up = interleave(up, heads)
        by = pair.scale * len(pair.down) / alpha
        yield f"{name}.weight.lora_a", pair.down
        yield f"{name}.weight.lora_b", up if by == 1 else up * by


def arch_of(layout: Layout) -> Any:
    """Return what the package gguf calls an architecture."""
    import gguf

    return next(arch for arch, name in gguf.MODEL_ARCH_NAMES.items() if name == layout.name)


def heads_of(layer: str, text_config: Any) -> int:
    """Return how many heads a query or key projection has; 0 for any other layer."""
    heads = int(text_config.num_attention_heads)
    if layer.endswith(".k_proj"):
        return int(getattr(text_config, "num_key_value_heads", None) or heads)
    return heads if layer.endswith(".q_proj") else 0


def interleave(rows: torch.Tensor, heads: int) -> torch.Tensor:
    """Put a projection's rows into llama.cpp's order.

    Args:
        rows: (heads * size, any), of each head the first halves before the second ones.
        heads: how many.

    Returns:
        The same rows, of each head a first half beside its second one.
    """
    return rows.view(heads, 2, -1, rows.shape[1]).transpose(1, 2).reshape(rows.shape)
