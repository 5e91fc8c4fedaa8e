"""Decoding on a GPU: buffers that stay where they are, and a CUDA graph replayed a token.

Started from Python, the thousand kernels of a 7 B model's step take the host several times as long
as the GPU. So a step here reads and writes fixed buffers and asks the host for nothing: it is run
once, recorded once, and replayed. Only where many rows have ended, or the tokens seen outgrow a
block, is another step recorded. What is drawn is what `decoding` draws: the same numbers of
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

from ditto_hub.engine.decoding import (
    CACHE_BLOCK,
    collect,
    inverse_cdf,
    rounded,
    survivors,
)
from ditto_hub.engine.protocol import Drawn

SEEN_BLOCK = 512  # tokens by which what a step looks back on grows; each growth is recorded
PEEK = 16  # tokens between two looks at how many rows have ended: a look makes the GPU wait
LEAVE_AT = 0.25  # share of rows under way at which the ended ones leave: leaving is recorded

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
        self.recorder = Recorder(torch.cuda if mask.is_cuda else None)
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
        replay: Callable[[], None] | None = None
        shape = (0, 0)
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
            if replay is None or now != shape:
                shape, replay = now, self.recorder.record(partial(self.step, *now))
            else:
                replay()
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


class Recorder:
    """Record steps as CUDA graphs, one after the other in one pool, and keep count.

    The graph before is kept until the next one is there: a pool without a living graph is gone, and
    a recording into it ends in the allocator's assertion (seen on an H200, torch 2.11). Where a
    recording fails, decoding goes on without graphs, and `reason` says why.

    Args:
        cuda: torch.cuda, or None away from CUDA, where a step itself is returned.
    """

    def __init__(self, cuda: Any = None) -> None:
        self.cuda = cuda
        self.recorded = self.replayed = 0
        self.reason = ""
        self._pool = cuda.graph_pool_handle() if cuda else None
        self._graph: Any = None

    def record(self, step: Callable[[], None]) -> Callable[[], None]:
        """Run a step once and return what runs it again.

        Args:
            step: reads and writes fixed buffers alone.
        """
        if self.cuda is None or self.reason:
            step()
            return step
        first = self._graph is None
        if first:  # what is set up on first use must not be recorded
            side = self.cuda.Stream()
            side.wait_stream(self.cuda.current_stream())
            with self.cuda.stream(side):
                step()
            self.cuda.current_stream().wait_stream(side)
        graph = self.cuda.CUDAGraph()
        try:
            with self.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                step()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # this model's step asks the host for something
            self.reason = str(error).splitlines()[0]
            logger.warning("decoding without CUDA graphs: %s", self.reason)
            self.cuda.synchronize()
            if not first:
                step()
            return step
        self._graph = graph  # the one before is freed now, with this one in its pool
        self.recorded += 1
        if not first:
            graph.replay()
        return partial(self._replay, graph)

    def _replay(self, graph: Any) -> None:
        graph.replay()
        self.replayed += 1
