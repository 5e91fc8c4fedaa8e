"""The embedded base model as a GGUF file: llama.cpp's own converter does not know its tokenizer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig

from ditto_hub import pocket
from ditto_hub.engine.adapter import read_tensors
from ditto_hub.engine.base_model import load_tokenizer, reading
from ditto_hub.engine.gguf_adapter import arch_of, heads_of, interleave, layout_of, require_gguf
from ditto_hub.runs.storage import told_as_storage_error
from ditto_hub.tokens import NOBODY

FILE = "base.gguf"


def write_pocket(target: Path) -> None:
    """Write the embedded base model as a GGUF file in float32, tokenizer and chat template with it.

    Args:
        target: the file to write.

    Raises:
        BaseModelError: `gguf` is not installed.
        StorageError: the disk refused.
    """
    require_gguf()
    import gguf

    config: Any = AutoConfig.from_pretrained(pocket.path(), **reading(NOBODY))
    writer = gguf.GGUFWriter(target, layout_of(config).name)
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name("pocket")
    writer.add_license("apache-2.0")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    _add_shape(writer, config)
    _add_tokenizer(writer)
    for name, tensor in _tensors(config):
        writer.add_tensor(name, tensor.contiguous().numpy())
    with told_as_storage_error(target):
        try:
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
        finally:
            writer.close()


def _add_shape(writer: Any, config: Any) -> None:
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])


def _add_tokenizer(writer: Any) -> None:
    """Write the tokenizer: BPE over bytes, cut into words as GPT-2 does."""
    import gguf

    tokenizer = load_tokenizer(str(pocket.path()), **reading(NOBODY))
    known = json.loads((pocket.path() / "tokenizer.json").read_text(encoding="utf-8"))
    texts = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    control = set(tokenizer.all_special_tokens)
    kinds = (gguf.TokenType.NORMAL, gguf.TokenType.CONTROL)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(texts)
    writer.add_token_types([kinds[text in control] for text in texts])
    writer.add_token_merges([" ".join(pair) for pair in known["model"]["merges"]])
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_add_bos_token(False)
    writer.add_chat_template(tokenizer.chat_template)


def _tensors(config: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the weights under their GGUF names, in llama.cpp's order of rows."""
    import gguf

    names = gguf.get_tensor_name_map(arch_of(layout_of(config)), config.num_hidden_layers)
    for name, tensor in read_tensors(pocket.path() / "model.safetensors").items():
        heads = heads_of(name.removesuffix(".weight"), config)
        rows = interleave(tensor, heads) if heads else tensor
        yield str(names.get_name(name, (".weight",))), rows.float()
