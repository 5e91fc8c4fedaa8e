"""Which engine runs a model: the fast one, or the plain one where a model is beyond it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer

from ditto_hub.config import Lora, Sampling
from ditto_hub.engine.base_model import translated, try_out
from ditto_hub.engine.families import family
from ditto_hub.engine.fast import FastEngine
from ditto_hub.engine.merging import can_merge
from ditto_hub.engine.plain import PlainEngine
from ditto_hub.engine.protocol import Row
from ditto_hub.errors import BaseModelError

AnyEngine = FastEngine | PlainEngine


def decodes_fast(config: Any) -> bool:
    """Tell whether all that a model keeps of earlier tokens is keys and values, row by row.

    A state space or a linear attention keeps a state that cannot be cut at a token.
    """
    return all(isinstance(layer, DynamicLayer) for layer in DynamicCache(config=config).layers)


def runs_fast(model: Any) -> bool:
    """Tell whether the fast engine runs a base model, by its type and by its own layers."""
    config = model.config
    return family(str(config.model_type)).trained_by == "fast" and decodes_fast(config)


def open_engine(
    model: Any, tokenizer: Any, lora: Lora, seed: int, base_model: Mapping[str, Any]
) -> AnyEngine:
    """Put an adapter on a base model, in the engine that runs it best, and try it out.

    A type of models that was never tried gets the plain engine.

    Args: those of `AdaptedModel`.

    Raises:
        BaseModelError: the model does not train.
    """
    where, model_type = str(base_model["id"]), str(model.config.model_type)
    known = family(model_type).trained_by
    if known == "nobody":
        raise BaseModelError("engine.untrainable", model_type=model_type)
    if runs_fast(model):
        fast = FastEngine(model, tokenizer, lora, seed, base_model)
        if can_merge(fast.model):
            try_out(fast.model, where)
            return fast
        fast.unload()
    plain = PlainEngine(model, tokenizer, lora, seed, base_model)
    plain.model_type = model_type
    try_out(plain.model, where)
    if known == "unknown":
        _try_sampling(plain, where)
    return plain


def require_fast(model: Any) -> None:
    """Refuse a base model that only the plain engine runs, which knows one process.

    Raises:
        BaseModelError: it is one.
    """
    if not runs_fast(model):
        raise BaseModelError("engine.one_process", model_type=str(model.config.model_type))


def _try_sampling(engine: AnyEngine, where: str) -> None:
    """Draw two tokens and train on two rows, padded: what `try_out` leaves out.

    Raises:
        BaseModelError: it fails.
    """
    end = engine.format.end_of_turn_id
    with translated(where, "engine.base_fails"), torch.random.fork_rng(devices=[]):
        engine.sample([[end, end], [end]], [[0], [1]], Sampling(), 2)
        engine.backward([Row((end, end), (end,)), Row((end,), (end,))], lambda lp: -lp.sum())
    for parameter in engine.parameters():
        parameter.grad = None
