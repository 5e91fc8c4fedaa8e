"""Tiny random models of every type that is named, from transformers' own configuration classes.

A model has a few ten thousand weights, four layers at most, and pocket's tokenizer with its chat
template. What is made small is found by the names that configurations share; a type that has names
of its own has a line in `OWN`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from ditto_hub import pocket

VOCABULARY = 16 + len(json.loads((pocket.path() / "tokenizer.json").read_text())["model"]["vocab"])
LAYERS = 4
HIDDEN, HEADS, WIDTH = 32, 4, 8

LAYER_COUNTS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_blocks")
SMALL: dict[str, Any] = {
    **dict.fromkeys(LAYER_COUNTS, LAYERS),
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "embedding_dim", "lru_width"), HIDDEN),
    **dict.fromkeys(("word_embed_proj_dim", "attention_hidden_size"), HIDDEN),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads"), HEADS),
    **dict.fromkeys(("attention_heads", "encoder_attention_heads"), HEADS),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads", "swa_num_key_value_heads"), 2),
    **dict.fromkeys(("swa_num_attention_heads", "linear_num_heads"), HEADS),
    **dict.fromkeys(("head_dim", "kv_channels", "d_head", "dim_head", "swa_head_dim"), WIDTH),
    **dict.fromkeys(("linear_head_dim", "v_head_dim", "qk_nope_head_dim"), WIDTH),
    **dict.fromkeys(("qk_rope_head_dim", "index_head_dim", "linear_key_head_dim"), WIDTH),
    **dict.fromkeys(("linear_value_head_dim", "rotary_dim", "global_head_dim"), WIDTH),
    **dict.fromkeys(("kv_lora_rank", "q_lora_rank", "o_lora_rank", "hc_lowrank"), 16),
    **dict.fromkeys(("linear_num_key_heads", "index_n_heads"), 2),
    **dict.fromkeys(("linear_num_value_heads",), 4),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "ffn_hidden_size", "d_inner", "dff"), 64),
    **dict.fromkeys(("moe_intermediate_size", "shared_intermediate_size", "dim_ff"), 32),
    **dict.fromkeys(("shared_expert_intermediate_size", "intermediate_size_mlp"), 32),
    **dict.fromkeys(("expert_ffn_hidden_size", "dense_intermediate_size"), 32),
    **dict.fromkeys(("moe_shared_expert_intermediate_size",), 32),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 4),
    **dict.fromkeys(("moe_num_experts",), 4),
    **dict.fromkeys(("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k"), 2),
    **dict.fromkeys(("n_group", "topk_group", "num_expert_group", "n_shared_experts"), 1),
    **dict.fromkeys(("num_shared_experts", "moe_num_shared_experts", "first_k_dense_replace"), 1),
    **dict.fromkeys(("zero_expert_num",), 2),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx"), 512),
    **dict.fromkeys(("context_length", "model_max_length"), 512),
    **dict.fromkeys(("sliding_window", "sliding_window_size", "local_attention"), 16),
    **dict.fromkeys(("attention_window_size", "window_size", "attention_chunk_size"), 16),
    **dict.fromkeys(("state_size", "mamba_d_state", "ssm_state_size"), 8),
    **dict.fromkeys(("time_step_rank", "mamba_dt_rank"), 4),
    **dict.fromkeys(("mamba_n_heads", "mamba_num_heads", "n_mamba_heads"), 4),
    **dict.fromkeys(("mamba_d_head", "mamba_head_dim", "mamba_headdim"), 16),
    **dict.fromkeys(("n_groups", "mamba_n_groups", "mamba_ngroups"), 1),
    **dict.fromkeys(("chunk_size", "mamba_chunk_size", "block_size"), 16),
    **dict.fromkeys(("num_nextn_predict_layers", "num_kv_shared_layers"), 0),
    **dict.fromkeys(("query_pre_attn_scalar", "hidden_size_per_layer_input"), WIDTH),
    **dict.fromkeys(("laurel_rank", "adapter_rank"), 4),
    **dict.fromkeys(("image_size",), 32),
    **dict.fromkeys(("patch_size",), 16),
    **dict.fromkeys(("mm_tokens_per_image",), 4),
    **dict.fromkeys(("initializer_range", "init_std"), 0.15),
    "mamba_d_ssm": 64,
    "unpadded_vocab_size": VOCABULARY,
    "router_hidden_size": 16,
    "index_topk": 8,
}
PER_LAYER = (
    "layer_types", "mlp_layer_types", "layers_block_type", "indexer_types", "layer_rope_theta",
    "num_attention_heads_per_layer", "no_rope_layers", "activation_sparsity_pattern",
    "attention_layers",
)  # fmt: skip
TOKEN_IDS = ("bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "eod_token_id")
QWEN4 = {"indexer_n_heads": 2, "indexer_kv_heads": 1, "indexer_head_dim": WIDTH}
QWEN4 |= {"indexer_budget": 16, "indexer_compress_ratio": 4, "ngram_vocab_size_base": 64}
DOTS3 = {  # its own layers of each kind are larger than those around them
    "per_layer_config": {},
    "head_dim": 2 * WIDTH,
    "layer_types": ["indexed_attention", "sliding_attention"] * 2,
    "shared_experts_intermediate_size": 32,
}
LAST_TWO_SHARE = {  # keys and values of the layers before
    "vocab_size_per_layer_input": VOCABULARY,
    "num_kv_shared_layers": 2,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
}
SHARED = {  # what an assistant takes from the model it assists
    "model_type": "gemma4_text",
    "hidden_size": HIDDEN,
    "intermediate_size": 64,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": 2,
    "head_dim": WIDTH,
    "global_head_dim": WIDTH,
    "vocab_size": VOCABULARY,
    "hidden_size_per_layer_input": 0,
    "vocab_size_per_layer_input": 0,
    "num_kv_shared_layers": LAYERS,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
OWN: dict[str, dict[str, Any]] = {
    "dbrx": {"attn_config": {"rope_theta": 10000.0, "kv_n_heads": 2, "clip_qkv": 8.0}},
    "zamba2": {"attention_hidden_size": 2 * HIDDEN, "attention_head_dim": 2 * WIDTH},
    "bamba": {"attn_layer_indices": [1, 3]},
    "granitemoehybrid": {"layer_types": ["mamba", "attention", "mamba", "attention"]},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "blt": {"encoder_hash_byte_group_vocab": 64},
    "cohere_compass_text": {
        "rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 10000.0}}
    },
    "dots1": {"moe_intermediate_size": 32, "n_routed_experts": 4, "num_experts_per_tok": 2}
    | {"n_shared_experts": 1},
    "dots3_note_text": DOTS3,
    "dots3_note": {
        "text_config": DOTS3,
        "vision_config": {
            "mlp_layer_types": ["dense"] * LAYERS,
            "adapter_in_dim": HIDDEN,
            "adapter_out_dim": HIDDEN,
        },
        "audio_config": {"adapter_input_size": HIDDEN, "adapter_out_dim": HIDDEN},
    },
    "deepseek_v2": {"num_experts_per_tok": 2},
    "gemma3n_text": {**LAST_TWO_SHARE, "hidden_size_per_layer_input": WIDTH},
    "gemma4_text": {"vocab_size_per_layer_input": VOCABULARY},
    "gemma4": {"text_config": {"vocab_size_per_layer_input": VOCABULARY}},
    "gemma4_assistant": {"_bare": True, "text_config": SHARED, "backbone_hidden_size": HIDDEN},
    "hunyuan_v1_dense": {"head_dim": WIDTH},
    "hunyuan_v1_moe": {"head_dim": WIDTH},
    "lfm2": {"layer_types": ["conv", "full_attention", "conv", "full_attention"]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention", "conv", "full_attention"]},
    "mamba2": {"num_heads": 8, "head_dim": WIDTH},
    "ministral": {"head_dim": WIDTH},
    "modernbert-decoder": {"sep_token_id": 1, "cls_token_id": 0},
    "nemotron": {"num_key_value_heads": 2},
    "phi4_multimodal": {"audio_config": {"hidden_size": HIDDEN, "num_blocks": 1}},
    "qwen4_exp": {"text_config": QWEN4},
    "qwen4_exp_text": QWEN4,
    "zamba": {
        "num_hidden_layers": 6,
        "layers_block_type": ["linear_attention", "linear_attention", "hybrid"] * 2,
        "attention_hidden_size": 2 * HIDDEN,
        "attention_head_dim": 2 * WIDTH,
    },
    "zaya": {"num_experts_per_tok": 1},
}


def build_family(model_type: str, folder: Path, seed: int = 0) -> Path:
    """Write a tiny random model of a type, with pocket's tokenizer.

    Args:
        model_type: transformers' name.
        folder: where to write; made when missing.
        seed: of the weights.
    """
    config = small_config(model_type)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.save_pretrained(folder)
    for path in pocket.path().iterdir():
        if path.name.startswith(("tokenizer", "chat_template")):
            shutil.copy(path, folder)
    return folder


def small_config(model_type: str) -> Any:
    """Return a type's configuration with everything made small."""
    kind = CONFIG_MAPPING[model_type]
    own = OWN.get(model_type, {})
    default = kind() if not own.get("_bare") else None
    changes = _merged(_small(default) if default is not None else {}, own)
    changes.pop("_bare", None)
    return kind(**changes)


def _small(config: Any) -> dict[str, Any]:
    """Return what to change in a configuration, and in those inside it."""
    known = {k: v for k, v in vars(config).items() if not k.startswith("_")}
    changes: dict[str, Any] = {k: SMALL[k] for k, v in known.items() if k in SMALL and v}
    for name, value in known.items():
        if hasattr(value, "to_diff_dict"):
            changes[name] = {"model_type": value.model_type, **_small(value)}
        elif name in PER_LAYER and isinstance(value, list) and value:
            changes[name] = _few(value)
    if "kv_lora_rank" in known and "num_key_value_heads" in known:
        changes["num_key_value_heads"] = HEADS  # latent attention has no groups
    if "vocab_size" in known:
        changes["vocab_size"] = VOCABULARY
        changes |= dict.fromkeys((k for k in TOKEN_IDS if k in known), None)
        changes |= {"bos_token_id": 0, "eos_token_id": 1}
        changes |= {"pad_token_id": 2} if known.get("pad_token_id") is not None else {}
    return changes


def _few(kinds: list[Any]) -> list[Any]:
    """Return as many layers' kinds as there are layers, one of each kind among them."""
    places = [kinds.index(kind) for kind in dict.fromkeys(map(_hashable, kinds))][:LAYERS]
    places += [k for k in range(len(kinds)) if k not in places][: LAYERS - len(places)]
    return [kinds[k] for k in sorted(places)]


def _hashable(kind: Any) -> Any:
    return kind


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    both = dict(base)
    for name, value in over.items():
        nested = isinstance(value, dict) and isinstance(both.get(name), dict)
        both[name] = _merged(both[name], value) if nested else value
    return both
