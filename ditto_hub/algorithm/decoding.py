"""Pieces of sampling and scoring: padded batches, filters, and the draw of a token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from transformers import (
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from ditto_hub.config import Sampling


@dataclass(frozen=True)
class Drawn:
    """Hold one sampled completion.

    Args:
        token_ids: new tokens, the end of turn included where there is one.
        ended: whether a stop token was drawn before the cap.
        log_prob: summed log-probability (nats) at temperature 1, unfiltered.
    """

    token_ids: tuple[int, ...]
    ended: bool
    log_prob: float


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
