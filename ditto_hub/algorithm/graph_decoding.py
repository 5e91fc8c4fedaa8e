"""Decoding on a GPU: buffers that stay where they are, and a CUDA graph replayed a token.

Started from Python, the thousand kernels of a 7 B model's step take the host several times as long
as the GPU. So a step here reads and writes fixed buffers and asks the host for nothing: it is run
once, recorded once, and replayed. Only where many rows have ended, or the tokens seen outgrow a
block, is another step recorded. What is drawn is what `Policy._decode` draws: the same numbers of
each row's own generator, against the same probabilities.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from transformers import LogitsProcessorList
from transformers.cache_utils import DynamicCache, DynamicLayer

from ditto_hub.algorithm.decoding import (
    CACHE_BLOCK,
    Drawn,
    collect,
    inverse_cdf,
    rounded,
    survivors,
)

SEEN_BLOCK = 256  # tokens by which what a step looks back on grows; each growth is recorded anew
PEEK = 16  # tokens between two looks at how many rows have ended: a look makes the GPU wait
LEAVE_AT = 0.5  # share of rows under way at which the ended ones leave: leaving records anew

Forward = Callable[[dict[str, torch.Tensor], DynamicCache], torch.Tensor]
logger = logging.getLogger(__name__)


class FixedLayer(DynamicLayer):  # type: ignore[misc]
    """A layer's keys and values in buffers that never move, (R, H, room, D).

    Args:
        layer: with the prompts' keys and values.
        room: tokens that the buffers hold.
        place: (1,) where the next token goes.
    """

    def __init__(self, layer: DynamicLayer, room: int, place: torch.Tensor) -> None:
        super().__init__()
        self.is_initialized = True
        self.place, self.seen = place, room
        self.buffers = []
        for old in (layer.keys, layer.values):
            buffer = old.new_zeros((*old.shape[:2], room, old.shape[3]))
            buffer[:, :, : old.shape[2]] = old
            self.buffers.append(buffer)
        self.keys, self.values = self.buffers

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write one token's keys and values, (R, H, 1, D); return all that a step looks back on."""
        rows = key_states.shape[0]
        for buffer, new in zip(self.buffers, (key_states, value_states), strict=True):
            buffer[:rows].index_copy_(2, self.place, new)
        keys, values = (buffer[:rows, :, : self.seen] for buffer in self.buffers)
        return keys, values

    def get_seq_length(self) -> int:
        """Return how many tokens a step looks back on; the mask says which of them are there."""
        return self.seen


class FixedDecoder:
    """Rows being decoded side by side.

    Args:
        forward: a model's step and its cache -> the next logits, (R, V) float32.
        cache: holds R rows' prompts; its layers are replaced.
        mask: (R, L) of the prompts, padded on the left.
        draws: (R, cap) each row's random numbers.
        warp: filters of the settings.
        stop: token ids that end a row.
    """

    def __init__(
        self,
        forward: Forward,
        cache: DynamicCache,
        mask: torch.Tensor,
        draws: torch.Tensor,
        warp: LogitsProcessorList,
        stop: torch.Tensor,
    ) -> None:
        count, self.width = mask.shape
        self.cap, device = draws.shape[1], mask.device
        self.forward, self.cache, self.warp, self.stop = forward, cache, warp, stop
        room = self.room = rounded(self.width + self.cap, CACHE_BLOCK)
        self.place = torch.full((1,), self.width, device=device)
        dtype = cache.layers[0].keys.dtype
        cache.layers = [FixedLayer(layer, room, self.place) for layer in cache.layers]
        self.turn = torch.zeros(1, dtype=torch.long, device=device)
        self.bias = torch.full((count, room), torch.finfo(dtype).min, dtype=dtype, device=device)
        self.bias[:, : self.width].masked_fill_(mask.bool(), 0.0)
        self.position = mask.sum(1, keepdim=True)
        self.token = torch.zeros((count, 1), dtype=torch.long, device=device)
        self.draws = draws.clone()
        self.tokens = torch.full((count, self.cap), -1, dtype=torch.long, device=device)
        self.log_probs = torch.zeros(count, dtype=torch.float64, device=device)
        self.ended = torch.zeros(count, dtype=torch.bool, device=device)
        self.number = torch.arange(count, device=device)

    @property
    def by_row(self) -> tuple[torch.Tensor, ...]:
        """Everything that has a line for each row."""
        return (
            self.bias,
            self.position,
            self.token,
            self.draws,
            self.tokens,
            self.log_probs,
            self.ended,
            self.number,
        )

    def run(self, logits: torch.Tensor) -> list[Drawn]:
        """Draw until every row has ended or met the cap.

        Args:
            logits: (R, V) after the prompts.
        """
        rows = logits.shape[0]
        self.draw(logits)
        recorded: Callable[[], None] | None = None
        shape, pool = (0, 0), None
        if logits.is_cuda:
            pool = torch.cuda.graph_pool_handle()
        for done in range(1, self.cap):
            if done % PEEK == 1:
                left = ~self.ended[:rows]
                n_left = int(left.sum())
                if n_left == 0:
                    break
                if n_left <= LEAVE_AT * rows:
                    self.drop(left)
                    rows = n_left
            now = (rows, min(self.room, rounded(self.width + done, SEEN_BLOCK)))
            if recorded is None or now != shape:
                shape, recorded = now, None  # frees the one before
                recorded = record(partial(self.step, *now), pool)
            else:
                recorded()
        order = self.number.argsort()
        return collect(self.tokens[order], self.ended[order], self.log_probs[order])

    def step(self, rows: int, seen: int) -> None:
        """Feed the newest token of the first rows and draw the next one, all on the device.

        Args:
            rows: how many are under way.
            seen: tokens looked back on at most.
        """
        for layer in self.cache.layers:
            layer.seen = seen
        self.bias.index_fill_(1, self.place, 0.0)  # the newest token is there now
        given = {
            "input_ids": self.token[:rows],
            "attention_mask": self.bias[:rows, None, None, :seen],
            "position_ids": self.position[:rows],
        }
        logits = self.forward(given, self.cache)
        self.place += 1
        self.position += 1
        self.draw(logits)

    def draw(self, logits: torch.Tensor) -> None:
        """Draw and note a token for each of the first rows, (R, V) logits given."""
        rows = logits.shape[0]
        uniform = self.draws[:rows].index_select(1, self.turn)[:, 0]
        token = inverse_cdf(self.warp(None, logits), uniform)
        chosen = logits.log_softmax(-1).gather(1, token[:, None])[:, 0].double()
        ended = self.ended[:rows]
        self.tokens[:rows].index_copy_(1, self.turn, token.masked_fill(ended, -1)[:, None])
        self.log_probs[:rows] += chosen.masked_fill(ended, 0.0)
        self.ended[:rows] |= (token[:, None] == self.stop).any(1)
        self.token[:rows] = token[:, None]
        self.turn += 1

    def drop(self, left: torch.Tensor) -> None:
        """Put the rows that stay before all others.

        Args:
            left: (R,) whether a row stays.
        """
        keep = survivors(left)
        stays = torch.zeros(len(self.number), dtype=torch.bool, device=left.device)
        stays[keep] = True
        order = torch.cat([keep, (~stays).nonzero()[:, 0]])
        for tensor in self.by_row:
            tensor.copy_(tensor[order])
        moved = (keep != torch.arange(len(keep), device=keep.device)).nonzero()[:, 0]
        for layer in self.cache.layers:
            for buffer in layer.buffers:
                buffer[moved] = buffer[keep[moved]]


def record(step: Callable[[], None], pool: Any) -> Callable[[], None]:
    """Run a step and return what runs it again.

    Args:
        step: reads and writes fixed buffers alone.
        pool: of CUDA graphs' memory; None away from CUDA, where the step itself is returned.
    """
    if pool is None:
        step()
        return step
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # what is set up on first use must not be recorded
        step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            step()
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:  # this model's step asks the host for something
        logger.warning("decoding without a CUDA graph: %s", str(error).splitlines()[0])
        torch.cuda.synchronize()
        return step
    replay: Callable[[], None] = graph.replay
    return replay
