"""Prompts that several rows follow are read once, in training and in scoring.

A row sees its prompt through the prompt's keys and values alone. So a demonstration's prompt runs
once, its keys and values are handed to every completion, and what they are owed flows back through
them: loss and gradient are those of whole rows, from fewer tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer

from ditto_hub.algorithm.decoding import cache_argument, length_sorted_chunks, pad_rows

WORTH = 0.05  # share of all tokens that sharing saves at least; below it costs more than it gives
CARRIED = 8  # a prompt's token that is only seen weighs an eighth of one that runs

Sequences = Sequence[tuple[Sequence[int], Sequence[int]]]


def can_share(config: Any) -> bool:
    """Tell whether a model keeps all that later tokens see of a prompt as keys and values."""
    layers = DynamicCache(config=config).layers
    routed = getattr(config.get_text_config(), "output_router_logits", False)
    return bool(layers) and all(type(x) is DynamicLayer for x in layers) and not routed


def worth_sharing(rows: Sequences) -> bool:
    """Tell whether enough rows follow the same prompts.

    Args:
        rows: (prompt ids, completion ids).
    """
    prompts = {tuple(p) for p, _ in rows}
    if any(len(p) < 2 for p in prompts):
        return False
    saved = sum(len(p) - 1 for p, _ in rows) - sum(len(p) - 1 for p in prompts)
    return saved > WORTH * sum(len(p) + len(c) for p, c in rows)


def shared_passes(
    model: Any, rows: Sequences, tokens: int, pad_id: int
) -> Iterator[tuple[list[int], torch.Tensor]]:
    """Score completions after prompts that are read once.

    Args:
        model: the PEFT model with the fused head.
        rows: (prompt ids, completion ids); no prompt of fewer than two tokens.
        tokens: a pass at most, padding included.
        pad_id: any token.

    Yields:
        Numbers of some rows, and the log-probabilities of their completions' tokens, (R, C) from
        the left; 0 where there is none.
    """
    prompts = list(dict.fromkeys(tuple(p) for p, _ in rows))
    for block in length_sorted_chunks([len(p) - 1 for p in prompts], tokens):
        place = {prompts[i]: k for k, i in enumerate(block)}
        read = Prefix(model, [prompts[i][:-1] for i in block], pad_id)
        mine = [i for i, (p, _) in enumerate(rows) if tuple(p) in place]
        sizes = [1 + len(rows[i][1]) + len(rows[i][0]) // CARRIED for i in mine]
        for chunk in length_sorted_chunks(sizes, tokens):
            numbers = [mine[k] for k in chunk]
            part = [rows[i] for i in numbers]
            yield numbers, read.log_probs(part, [place[tuple(p)] for p, _ in part])


class Prefix:
    """Some prompts' keys and values, with their graph where gradients are asked for.

    Args:
        model: the PEFT model with the fused head.
        prompts: all but the last token of each.
        pad_id: any token.
    """

    def __init__(self, model: Any, prompts: Sequence[Sequence[int]], pad_id: int) -> None:
        base = model.get_base_model()
        self.model, self.config, self.pad_id = model, base.config, pad_id
        self.argument = cache_argument(base)
        self.cache = DynamicCache(config=self.config)
        ids, mask = pad_rows(prompts, pad_id)
        self.mask = mask.to(model.device)
        model(
            input_ids=ids.to(model.device),
            attention_mask=self.mask,
            position_ids=(self.mask.cumsum(1) - 1).clamp(min=0),
            use_cache=True,
            logits_to_keep=1,
            **{self.argument: self.cache},
        )

    def log_probs(self, rows: Sequences, place: Sequence[int]) -> torch.Tensor:
        """Return (R, C) log-probabilities of completions, each after a prompt of these.

        Args:
            rows: (whole prompt, completion).
            place: the number of each row's prompt.
        """
        device = self.model.device
        ids, mask = pad_rows([(p[-1], *c) for p, c in rows], self.pad_id)
        labels = ids.masked_fill(mask == 0, -100)
        labels[:, 0] = -100
        which = torch.tensor(place, device=device)
        seen = DynamicCache(config=self.config)
        for k, layer in enumerate(self.cache.layers):
            seen.update(layer.keys.index_select(0, which), layer.values.index_select(0, which), k)
        before, mask = self.mask[which], mask.to(device)
        positions = before.sum(1, keepdim=True) + mask.cumsum(1) - 1
        out = self.model(
            input_ids=ids.to(device),
            attention_mask=torch.cat([before, mask], 1),
            position_ids=positions,
            labels=labels.to(device),
            fused_lm_head=True,
            use_cache=False,
            **{self.argument: seen},
        )
        log_probs: torch.Tensor = out.log_probs
        return log_probs


def at_place(log_probs: torch.Tensor, starts: torch.Tensor, width: int) -> torch.Tensor:
    """Return (R, C) log-probabilities of completions where whole rows have them, (R, width).

    Args:
        starts: (R,) length of each row's prompt.
    """
    column = torch.arange(width, device=starts.device) - (starts - 1)[:, None]  # (R, width)
    inside = (column >= 0) & (column < log_probs.shape[1])
    return log_probs.gather(1, column.clamp(0, log_probs.shape[1] - 1)).where(inside, 0.0)
