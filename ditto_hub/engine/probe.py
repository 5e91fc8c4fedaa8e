"""What a load-back of an adapter is compared with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from safetensors.torch import save as tensors_to_bytes

from ditto_hub.engine.choice import AnyEngine
from ditto_hub.engine.decoding import pad_rows


@torch.no_grad()
def probe(policy: AnyEngine, prompts: Sequence[Sequence[int]]) -> bytes:
    """Return what a load-back is compared with: last-position logits, adapter on and off.

    Args:
        policy: wears the adapter.
        prompts: token ids, one list a row.

    Returns:
        A safetensors file: input_ids and attention_mask (R, L), adapter_on and adapter_off
        (R, V) float32; dtype and device in its metadata.
    """
    policy.model.eval()
    rows = [_last_logits(policy, p) for p in prompts]
    with policy.adapter_off():
        off = [_last_logits(policy, p) for p in prompts]
    ids, mask = pad_rows(prompts, policy.format.pad_id)
    tensors = {
        "input_ids": ids,
        "attention_mask": mask,
        "adapter_on": torch.stack(rows),
        "adapter_off": torch.stack(off),
    }
    about = {"dtype": policy.dtype_name, "device": policy.device.type}
    return tensors_to_bytes(tensors, about)


def _last_logits(policy: AnyEngine, prompt: Sequence[int]) -> torch.Tensor:
    ids = torch.tensor([list(prompt)], device=policy.device)
    out = policy.model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
    logits: torch.Tensor = out.logits[0, -1].float().cpu()
    return logits
