"""Pieces of sampling and scoring: padded batches, filters, and the draw of a token."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import (
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)
from transformers.cache_utils import DynamicCache, DynamicLayer

from ditto_hub.config import Sampling
from ditto_hub.engine.protocol import Drawn

CPU_PASS_TOKENS = 512  # activations of more leave a core's cache: half the speed (LAB.md)

CACHE_BLOCK = 64  # tokens a cache's buffer grows by


def pass_tokens(device: torch.device) -> int:
    """Return how many tokens a forward pass should have at most, memory aside."""
    return CPU_PASS_TOKENS if device.type == "cpu" else 2**31


def warpers(sampling: Sampling) -> LogitsProcessorList:
    """Return the filters of the settings and no others: the library's defaults do not slip in."""
    found = LogitsProcessorList()
    if sampling.temperature != 1:
        found.append(TemperatureLogitsWarper(sampling.temperature))
    if sampling.top_k:
        found.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        found.append(TopPLogitsWarper(sampling.top_p))
    return found


def pad_rows(
    rows: Sequence[Sequence[int]], pad_id: int, left: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids and attention mask, both (R, L), of rows padded to the longest."""
    width = max(len(r) for r in rows)
    ids = torch.full((len(rows), width), pad_id, dtype=torch.long)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for i, row in enumerate(rows):
        place = slice(width - len(row), None) if left else slice(0, len(row))
        ids[i, place] = torch.tensor(list(row))
        mask[i, place] = 1
    return ids, mask


def length_sorted_chunks(lengths: Sequence[int], token_budget: int) -> Iterator[list[int]]:
    """Yield indices in chunks whose padded size stays within the budget, shortest rows first."""
    chunk: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        if chunk and lengths[i] * (len(chunk) + 1) > token_budget:
            yield chunk
            chunk = []
        chunk.append(i)
    if chunk:
        yield chunk


class BufferedLayer(DynamicLayer):  # type: ignore[misc]
    """A layer's cached keys and values, with room for tokens to come.

    The library's own copies all of them for every token, and again when a row leaves.
    """

    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.buffers: list[torch.Tensor] = []  # keys' and values', (rows' room, H, room, D)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Add the newest tokens' keys and values, (R, H, T, D), and return all."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        before, rows = self.get_seq_length(), key_states.shape[0]
        now = before + key_states.shape[-2]
        news = (key_states, value_states)
        if not self.buffers or now > self.buffers[0].shape[-2]:
            room = rounded(now, CACHE_BLOCK)
            grown = [new.new_empty((*new.shape[:-2], room, new.shape[-1])) for new in news]
            for small, large in zip(self.buffers, grown, strict=False):
                large[..., :before, :] = small[:rows, :, :before]
            self.buffers = grown
        for buffer, new in zip(self.buffers, news, strict=True):
            buffer[:rows, :, before:now] = new
        self.keys, self.values = (buffer[:rows, :, :now] for buffer in self.buffers)
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep some rows, or repeat them."""
        length = self.get_seq_length()
        self.buffers = [buffer[indices] for buffer in self.buffers]
        if length:
            self.keys, self.values = (buffer[..., :length, :] for buffer in self.buffers)

    def move_rows(self, places: torch.Tensor, sources: torch.Tensor, count: int) -> None:
        """Keep the first `count` rows, some of them replaced by later ones."""
        length = self.get_seq_length()
        for buffer in self.buffers:
            buffer[places, :, :length] = buffer[sources, :, :length]
        self.keys, self.values = (buffer[:count, :, :length] for buffer in self.buffers)


def rounded(tokens: int, block: int) -> int:
    """Return the number of tokens that whole blocks hold."""
    return -(-tokens // block) * block


def survivors(left: torch.Tensor) -> torch.Tensor:
    """Return which rows stay, in an order that moves few: later ones take the place of the ended.

    Args:
        left: (R,) whether a row stays.
    """
    count = int(left.sum())
    keep = torch.arange(count, device=left.device)
    keep[~left[:count]] = left[count:].nonzero()[:, 0] + count
    return keep


def drop_rows(cache: DynamicCache, keep: torch.Tensor) -> None:
    """Take ended rows out of a cache.

    Args:
        keep: of `survivors`.
    """
    places = (keep != torch.arange(len(keep), device=keep.device)).nonzero()[:, 0]
    for layer in cache.layers:
        if isinstance(layer, BufferedLayer):
            layer.move_rows(places, keep[places], len(keep))
        else:
            layer.batch_select_indices(keep)


def roomy_cache(config: Any) -> DynamicCache:
    """Return a cache for decoding with a model; layers with a sliding window stay the library's."""
    cache = DynamicCache(config=config)
    cache.layers = [BufferedLayer() if type(x) is DynamicLayer else x for x in cache.layers]
    return cache


def cache_argument(model: Any) -> str:
    """Return what a model's forward calls its cache: transformers renamed it in 5.24.

    Args:
        model: the base model, without an adapter.
    """
    names = inspect.signature(type(model).forward).parameters
    return "cache" if "cache" in names else "past_key_values"


def uniforms(seed: int, n: int) -> torch.Tensor:
    """Return a row's random numbers, (n,) in [0, 1), from its seed alone."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, generator=generator, dtype=torch.float64)


def inverse_cdf(logits: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """Draw a token a row: the first whose cumulative probability exceeds the row's number.

    Args:
        logits: (R, V), filtered.
        uniform: (R,) in [0, 1).

    Returns:
        (R,) token ids.
    """
    cdf = logits.float().softmax(-1).double().cumsum(-1)  # (R, V)
    point = (uniform * cdf[:, -1])[:, None]
    return torch.searchsorted(cdf, point, right=True)[:, 0].clamp(max=logits.shape[-1] - 1)


def collect(tokens: torch.Tensor, ended: torch.Tensor, log_probs: torch.Tensor) -> list[Drawn]:
    """Return the rows of (R, T) tokens, where -1 is none, as `Drawn`."""
    rows = []
    for ids, end, score in zip(tokens.tolist(), ended.tolist(), log_probs.tolist(), strict=True):
        rows.append(Drawn(tuple(i for i in ids if i >= 0), end, score))
    return rows
