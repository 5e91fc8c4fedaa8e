"""What is timed: the embedded model, random models of a given size, and rows of a given length."""

from __future__ import annotations

import copy
import random
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from ditto_hub.config import Lora
from ditto_hub.ditto.ranking import Comparison, Ranked, comparisons, draw, pair_counts
from ditto_hub.ditto.rollout import Rollout
from ditto_hub.engine.base_model import load_base
from ditto_hub.engine.fast import FastEngine
from ditto_hub.tokens import NOBODY

BASE = {"id": "pocket", "revision": None}
CPU = torch.device("cpu")
PROMPT = 25  # tokens, as pocket's are
SHARES = {"online": 0.7, "replay": 0.2, "intermodel": 0.1}


@dataclass(frozen=True)
class Shape:
    """Say how large a random model is.

    Args:
        width: of the hidden states; heads have 64 dimensions.
        layers: how many.
        vocabulary: tokens; its matrix is tied to the embedding.
    """

    width: int
    layers: int
    vocabulary: int = 1024


SHAPES = {"20M": Shape(384, 8, 16_384), "26M": Shape(512, 8)}


@cache
def _loaded(name: str) -> tuple[Any, Any]:
    model, tokenizer = load_base(BASE, device=CPU, token=NOBODY)
    if name == "pocket":
        return model, tokenizer
    return random_model(SHAPES[name]), tokenizer


def random_model(shape: Shape) -> Any:
    """Return a Llama of random weights, always the same."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        intermediate_size=-(-shape.width * 8 // 3 // 64) * 64,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.width // 64,
        num_key_value_heads=shape.width // 64,
        head_dim=64,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        pad_token_id=0,
        eos_token_id=2,
        bos_token_id=None,
    )
    return LlamaForCausalLM(config).eval().requires_grad_(False)


def base(name: str) -> tuple[Any, Any]:
    """Return a base model of one's own and its tokenizer: "pocket" or a name of SHAPES."""
    model, tokenizer = _loaded(name)
    return copy.deepcopy(model), copy.deepcopy(tokenizer)


def policy(name: str, lora: Lora | None = None, stir: float = 0.02) -> FastEngine:
    """Return our policy on a model, with an adapter that does something."""
    model, tokenizer = base(name)
    made = FastEngine(model, tokenizer, lora or Lora(), 0, BASE)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(stir * torch.randn(parameter.shape, generator=generator))
    return made


def rows(demos: int, length: int, samples: int = 10, rounds: int = 2) -> list[Rollout]:
    """Return demonstrations and their samples, of lengths around `length` as samples have them.

    Completions are of 0.6 to 1.4 times the length, evenly drawn; token ids are random.
    """
    rng = random.Random(0)
    found = []
    for demo in range(demos):
        prompt = tuple(rng.randrange(10, 1000) for _ in range(PROMPT + rng.randint(-2, 2)))
        for t in (-1, *range(rounds)):
            for _ in range(1 if t < 0 else samples):
                n = max(1, round(length * rng.uniform(0.6, 1.4)))
                ids = tuple(rng.randrange(10, 1000) for _ in range(n))
                found.append(Rollout(demo, t, prompt, ids, reference_log_prob=-5.0 * n))
    return found


def batch_of_pairs(rows: list[Rollout], pairs: int = 24) -> list[Comparison]:
    """Return a batch of comparisons as a run in its second round draws them."""
    ranked = [Ranked(i, row.demo, row.round) for i, row in enumerate(rows)]
    counts = next(iter(pair_counts(SHARES, pairs)))
    return draw(comparisons(ranked, 1), counts, random.Random(0))


def with_reference(policy: FastEngine, rows: list[Rollout]) -> list[Rollout]:
    """Return the rows scored under the policy as it is."""
    scores = policy.log_probs([r.row for r in rows])
    return [replace(r, reference_log_prob=s) for r, s in zip(rows, scores, strict=True)]
