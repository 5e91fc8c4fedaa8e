"""What is exported, in llama.cpp itself; skipped where `pip install llama-cpp-python` was not."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict

from ditto_hub import pocket
from ditto_hub.engine.gguf_adapter import write_gguf
from ditto_hub.engine.gguf_base import write_pocket

llama_cpp = pytest.importorskip("llama_cpp")
TURNS = [{"role": "user", "content": "Write a note to the volunteers about the *book swap*."}]


def adapted() -> tuple[Any, dict[str, Any], dict[str, torch.Tensor]]:
    """Return pocket with a random adapter on it, and the adapter as it is saved."""
    model = transformers.AutoModelForCausalLM.from_pretrained(pocket.path())
    config = LoraConfig(r=4, lora_alpha=6, target_modules="all-linear", task_type="CAUSAL_LM")
    wrapped = get_peft_model(model, config).eval()
    generator = torch.Generator().manual_seed(0)
    for name, parameter in sorted(wrapped.named_parameters()):
        if "lora_" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.05
    tensors = get_peft_model_state_dict(wrapped)
    return wrapped, config.to_dict(), {name: tensor.detach() for name, tensor in tensors.items()}


@pytest.mark.parametrize("with_adapter", [False, True])
def test_llama_cpp_computes_what_peft_does(with_adapter: bool, tmp_path: Path) -> None:
    """The same token ids and the same logits, of pocket alone and with an adapter beside it."""
    model, config, tensors = adapted()
    write_pocket(tmp_path / "base.gguf")
    write_gguf(config, tensors, model.config, tmp_path / "adapter.gguf", ("mine", "pocket"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(pocket.path())
    text = tokenizer.apply_chat_template(TURNS, add_generation_prompt=True, tokenize=False)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    runner = llama_cpp.Llama(
        str(tmp_path / "base.gguf"),
        lora_path=str(tmp_path / "adapter.gguf") if with_adapter else None,
        n_ctx=256,
        logits_all=True,
        verbose=False,
        type_k=llama_cpp.GGML_TYPE_F32,
        type_v=llama_cpp.GGML_TYPE_F32,
    )
    assert runner.tokenize(text.encode(), add_bos=False, special=True) == ids
    runner.eval(ids)
    shown = contextlib.nullcontext() if with_adapter else model.disable_adapter()
    with torch.no_grad(), shown:
        expected = model(input_ids=torch.tensor([ids])).logits[0].numpy()
    np.testing.assert_allclose(np.array(runner.scores[: len(ids)]), expected, atol=1e-3)
