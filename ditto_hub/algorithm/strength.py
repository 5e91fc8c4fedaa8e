"""An adapter at a share of the strength that it was trained to.

Source: between a model and its fine-tuned form there is mostly a better one than either (Wortsman
et al., *Robust fine-tuning of zero-shot models*, arXiv 2109.01903). What it gives: LAB.md.
"""

from __future__ import annotations

from ditto_hub.algorithm.policy import Tensors


def scaled(tensors: Tensors, share: float) -> Tensors:
    """Return an adapter that changes the weights by a share of what this one does."""
    return {k: v * share if "lora_B" in k else v for k, v in tensors.items()}
