"""The shape of a base model: enough to count its operations and its bytes, without its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ATTENTION = ("q", "k", "v", "o")
MLP = ("gate", "up", "down")


@dataclass(frozen=True)
class BaseShape:
    """Describe a decoder with gated MLPs and grouped-query attention.

    Args:
        layers: of the decoder.
        hidden: width of the residual stream.
        intermediate: width of the MLP.
        heads: of attention; kv_heads of them hold keys and values.
        head_dim: width of one head.
        vocabulary: tokens.
        tied: the head is the embedding.
        head_norm: queries and keys are normalised a head.
    """

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied: bool = False
    head_norm: bool = False

    @property
    def query(self) -> int:
        """Width of all queries together."""
        return self.heads * self.head_dim

    @property
    def kv(self) -> int:
        """Width of all keys together, and of all values."""
        return self.kv_heads * self.head_dim

    @property
    def linear(self) -> dict[str, tuple[int, int]]:
        """Name -> (inputs, outputs) of a layer's matrices."""
        h, q, kv, i = self.hidden, self.query, self.kv, self.intermediate
        return {
            "q": (h, q), "k": (h, kv), "v": (h, kv), "o": (q, h),
            "gate": (h, i), "up": (h, i), "down": (i, h),
        }  # fmt: skip

    @property
    def parameters(self) -> int:
        """Weights in all."""
        norms = 2 * self.hidden + (2 * self.head_dim if self.head_norm else 0)
        layer = sum(a * b for a, b in self.linear.values()) + norms
        embedding = self.vocabulary * self.hidden * (1 if self.tied else 2)
        return self.layers * layer + embedding + self.hidden

    @property
    def multiplied(self) -> int:
        """Weights that every token is multiplied with: all but an embedding of its own."""
        return self.parameters - (0 if self.tied else self.vocabulary * self.hidden)

    def adapter_parameters(self, rank: int, targets: str) -> int:
        """Return the weights of an adapter.

        Args:
            rank: LoRA rank.
            targets: as `lora.targets`; names that are not a layer's count as attention's.
        """
        names = (*ATTENTION, *MLP) if "all-linear" in targets or "up" in targets else ATTENTION
        return self.layers * rank * sum(sum(self.linear[name]) for name in names)

    def cache_bytes(self, weight_bytes: int) -> int:
        """Return the bytes of keys and values that one token adds to the cache."""
        return 2 * self.layers * self.kv * weight_bytes

    def activation_bytes(self, weight_bytes: int, targets: str, rank: int) -> int:
        """Return the bytes that one token leaves for the backward pass, over all layers.

        Counted with saved-tensor hooks on Llama-like layers under transformers 5.23 and PEFT
        0.21.2, base frozen, LoRA in float32, no activation checkpointing (2026-11).
        """
        wide = "all-linear" in targets or "up" in targets
        per_hidden, per_inner, per_query, per_kv = _KEPT[weight_bytes >= 4, wide]
        if self.head_norm:
            per_query, per_kv = per_query + 4.25, per_kv + 4.25
        ranks = 4 * rank * (len(ATTENTION) + (len(MLP) if wide else 0))
        layer = (
            per_hidden * self.hidden
            + per_inner * self.intermediate
            + per_query * self.query
            + per_kv * self.kv
            + ranks
        )
        return int(layer) * self.layers


# Bytes kept a token and layer for each unit of the residual, inner, query and key/value widths, by
# (weights in float32, adapter on the MLP too); see `BaseShape.activation_bytes`.
_KEPT: dict[tuple[bool, bool], tuple[float, float, float, float]] = {
    (False, False): (20, 6, 8.25, 4),
    (False, True): (28, 10, 8.25, 4),
    (True, False): (12, 12, 8.25, 8),
    (True, True): (16, 16, 8.25, 8),
}

_SMOLLM2 = BaseShape(30, 576, 1536, 9, 3, 64, 49152, tied=True)
# From each model's config.json; parameters agree with the Hub's count of them.
SHAPES: dict[str, BaseShape] = {
    "pocket": BaseShape(5, 192, 384, 6, 6, 32, 1024, tied=True),
    "smollm2": _SMOLLM2,
    "HuggingFaceTB/SmolLM2-135M-Instruct": _SMOLLM2,
    "HuggingFaceTB/SmolLM2-360M-Instruct": BaseShape(32, 960, 2560, 15, 5, 64, 49152, tied=True),
    "Qwen/Qwen3-4B-Instruct-2507": BaseShape(
        36, 2560, 9728, 32, 8, 128, 151936, tied=True, head_norm=True
    ),
    "mistralai/Mistral-7B-Instruct-v0.2": BaseShape(32, 4096, 14336, 32, 8, 128, 32000),
}


def shape_of_config(config: Mapping[str, Any]) -> BaseShape | None:
    """Return the shape that a config.json tells, or None where it does not tell enough."""
    inner = config.get("text_config")
    config = inner if isinstance(inner, Mapping) else config

    def number(*names: str) -> int:
        found = next((config[n] for n in names if isinstance(config.get(n), int)), 0)
        return int(found)

    layers = number("num_hidden_layers", "n_layer")
    hidden, vocabulary = number("hidden_size", "n_embd"), number("vocab_size")
    heads = number("num_attention_heads", "n_head")
    if not (layers and hidden and vocabulary and heads):
        return None
    return BaseShape(
        layers=layers,
        hidden=hidden,
        intermediate=number("intermediate_size", "n_inner") or 4 * hidden,
        heads=heads,
        kv_heads=number("num_key_value_heads") or heads,
        head_dim=number("head_dim") or hidden // heads,
        vocabulary=vocabulary,
        tied=bool(config.get("tie_word_embeddings", False)),
        head_norm=str(config.get("model_type", "")).startswith("qwen3"),
    )
