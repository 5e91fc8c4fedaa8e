"""TRL's fused head, which gives log-probabilities without logits, for what is read here alone.

Away from CUDA it scores every position, prompts and padding included, so that a compiler (there is
none here) sees one shape; and the trainers have it compute three more figures a token, which are
logged and which nothing here reads.
"""

from __future__ import annotations

import functools
from types import FunctionType
from typing import Any

from trl.trainer.utils import add_fused_lm_head

UNREAD = ("entropy", "mean_logits", "is_top1")


def put_head(model: Any) -> Any:
    """Give a model the fused head, on labelled positions alone, and return its new `forward`.

    Args:
        model: a causal LM, before PEFT wraps it.
    """
    _add_compact_head(model, outputs=("log_probs",))
    fused = model.forward

    @functools.wraps(fused)
    def forward(*args: Any, fused_lm_head: bool = False, **kwargs: Any) -> Any:
        out = fused(*args, fused_lm_head=fused_lm_head, **kwargs)
        if fused_lm_head:  # the trainers log these and want tensors
            for name in UNREAD:
                setattr(out, name, out.log_probs.new_zeros(out.log_probs.shape))
            out.is_top1 = out.is_top1.bool()
        return out

    model.forward = forward
    return forward


# TRL's own function, but where it asks "only labelled positions?", which it answers by device.
_add_compact_head = FunctionType(
    add_fused_lm_head.__code__,
    {**add_fused_lm_head.__globals__, "_use_triton": lambda device: True},
    argdefs=add_fused_lm_head.__defaults__,
)
