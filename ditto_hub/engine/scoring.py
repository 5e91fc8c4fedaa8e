"""Rows through a model in passes: summed log-probabilities, with or without their graph.

A row sees its prompt through the prompt's keys and values alone. So where several rows follow one
prompt it runs once, its keys and values are handed to every completion, and what they are owed
flows back through them: loss and gradient are those of whole rows, from fewer tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer

from ditto_hub.engine.decoding import cache_argument, length_sorted_chunks, pad_rows
from ditto_hub.engine.head import Batch, Head
from ditto_hub.engine.protocol import Row

# Share of all tokens that sharing saves at least; below it costs more than it gives. A GPU waits
# for the launches of the second pass that sharing takes.
WORTH = {"cpu": 0.05, "cuda": 0.3}
CARRIED = 8  # a prompt's token that is only seen weighs an eighth of one that runs

Pass = tuple[list[int], torch.Tensor]
"""Numbers of some rows, and their (r,) summed log-probabilities."""


def can_share(config: Any) -> bool:
    """Tell whether a model keeps all that later tokens see of a prompt as keys and values."""
    layers = DynamicCache(config=config).layers
    return bool(layers) and all(type(x) is DynamicLayer for x in layers)


class Scorer:
    """Score rows with a model.

    Args:
        model: the base model, whatever adapter is on its layers.
        pad_id: any token.
    """

    def __init__(self, model: Any, pad_id: int) -> None:
        self.model, self.pad_id = model, pad_id
        self.head = Head(model)
        self.can_share = can_share(model.config) and not self.head.whole
        self.argument = cache_argument(model)

    def passes(self, rows: Sequence[Row], tokens: int, share: bool = True) -> Iterator[Pass]:
        """Score rows in passes of so many tokens at most, padding included.

        Args:
            share: whether prompts may be read once; the passes then have one graph together.
        """
        for numbers, batch in self.batches(rows, tokens, share):
            yield numbers, self.head.log_probs(batch)

    def batches(
        self, rows: Sequence[Row], tokens: int, share: bool = True
    ) -> Iterator[tuple[list[int], Batch]]:
        """Yield the passes' row numbers and inputs; see `passes`."""
        if share and self.can_share and self._worth(rows):
            yield from self._shared(rows, tokens)
            return
        for chunk in length_sorted_chunks([len(r.ids) for r in rows], tokens):
            part = [rows[i] for i in chunk]
            ids, _ = pad_rows([r.ids for r in part], self.pad_id)
            # no mask: padding is on the right, where nothing that counts looks back on it
            inputs = {"input_ids": self._sent(ids), "use_cache": False}
            starts = [r.start for r in part]
            yield chunk, self._batch(inputs, ids, starts, part)

    def _worth(self, rows: Sequence[Row]) -> bool:
        """Tell whether enough rows follow the same prompts."""
        prompts = {r.prompt_ids for r in rows}
        if any(len(p) < 2 for p in prompts) or any(r.prompt_counts for r in rows):
            return False
        saved = sum(len(r.prompt_ids) - 1 for r in rows) - sum(len(p) - 1 for p in prompts)
        worth = WORTH.get(self.model.device.type, WORTH["cuda"])
        return saved > worth * sum(len(r.ids) for r in rows)

    def _shared(self, rows: Sequence[Row], tokens: int) -> Iterator[tuple[list[int], Batch]]:
        prompts = list(dict.fromkeys(r.prompt_ids for r in rows))
        for block in length_sorted_chunks([len(p) - 1 for p in prompts], tokens):
            place = {prompts[i]: k for k, i in enumerate(block)}
            cache, before = self._read([prompts[i][:-1] for i in block])
            mine = [i for i, r in enumerate(rows) if r.prompt_ids in place]
            sizes = [
                1 + len(rows[i].completion_ids) + len(rows[i].prompt_ids) // CARRIED for i in mine
            ]
            for chunk in length_sorted_chunks(sizes, tokens):
                numbers = [mine[k] for k in chunk]
                part = [rows[i] for i in numbers]
                which = self._sent(torch.tensor([place[r.prompt_ids] for r in part]))
                yield numbers, self._after(part, cache, before, which)

    def _read(self, prompts: Sequence[Sequence[int]]) -> tuple[DynamicCache, torch.Tensor]:
        """Return the prompts' keys and values, with their graph where gradients are asked for."""
        cache = DynamicCache(config=self.model.config)
        ids, mask = pad_rows(prompts, self.pad_id)
        # no mask, as padding is on the right: given one, the library looks at it and so waits
        given = {"input_ids": self._sent(ids), "use_cache": True, self.argument: cache}
        self.model.base_model(**given)
        return cache, self._sent(mask)

    def _after(
        self, part: Sequence[Row], cache: DynamicCache, before: torch.Tensor, which: torch.Tensor
    ) -> Batch:
        """Return a pass of completions, each after the prompt it is given."""
        ids, _ = pad_rows([(r.prompt_ids[-1], *r.completion_ids) for r in part], self.pad_id)
        seen = DynamicCache(config=self.model.config)
        for k, layer in enumerate(cache.layers):
            seen.update(layer.keys.index_select(0, which), layer.values.index_select(0, which), k)
        before = before.index_select(0, which)
        place = torch.arange(ids.shape[1], device=before.device)
        inputs = {
            "input_ids": self._sent(ids),
            "attention_mask": self._bias(before, ids.shape[1]),
            "position_ids": before.sum(1, keepdim=True) + place,
            "use_cache": True,
            self.argument: seen,
        }
        ends = [1 + len(r.completion_ids) for r in part]
        return self._batch(inputs, ids, [1] * len(part), part, ends)

    def _bias(self, before: torch.Tensor, width: int) -> torch.Tensor:
        """Return what is added to attention scores, (r, 1, width, P + width): 0 where one looks.

        Padding is on the right of its row, where no token that counts looks.

        Args:
            before: (r, P) whether a place holds a token of the prompt.
            width: tokens after it.
        """
        own = before.new_ones((width, width)).tril()
        shape = (len(before), width, -1)
        seen = torch.cat([before[:, None].expand(shape), own.expand(shape)], 2)[:, None].bool()
        dtype = self.model.dtype
        hidden = torch.full((), torch.finfo(dtype).min, dtype=dtype, device=before.device)
        return torch.where(seen, hidden.new_zeros(()), hidden)

    def _batch(
        self,
        inputs: dict[str, Any],
        ids: torch.Tensor,
        starts: Sequence[int],
        part: Sequence[Row],
        ends: Sequence[int] | None = None,
    ) -> Batch:
        """Return padded rows with the places of the tokens that count, all found on the host."""
        width = ids.shape[1]
        ends = ends or [len(r.ids) for r in part]
        spans = [torch.arange(a, b) for a, b in zip(starts, ends, strict=True)]
        owner = torch.cat([torch.full((len(span),), k) for k, span in enumerate(spans)])
        flat = owner * width + torch.cat(spans)
        targets = ids.flatten()[flat]
        expected = [r.expected for r in part if r.expected is not None]
        probs = None
        if expected:
            targets = torch.cat([e.ids for e in expected]).long()
            probs = self._sent(torch.cat([e.probs for e in expected]))
        place, targets, owner = (self._sent(x) for x in (flat - 1, targets, owner))
        return Batch(inputs, place, targets, owner, len(part), probs)

    def _sent(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return a small tensor of the host's on the device, without waiting for either."""
        return tensor.to(self.model.device, non_blocking=True)


def joined(passes: Sequence[Pass]) -> torch.Tensor:
    """Return (R,) log-probabilities in the order of the rows, with the passes' graphs."""
    order = torch.tensor([i for numbers, _ in passes for i in numbers])
    found = torch.cat([part for _, part in passes])
    return found[order.argsort().to(found.device, non_blocking=True)]
