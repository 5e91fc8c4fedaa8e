"""What a device can hold at once: smaller batches when memory runs out, and then on.

Nothing is planned from this: batches, their order and every random number stay as the settings say.
Only how much of a batch runs at a time changes, and with it the last digits of sums.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import psutil
import torch
from accelerate.utils.memory import should_reduce_batch_size

from ditto_hub.engine.merging import ready_to_train
from ditto_hub.engine.protocol import Row
from ditto_hub.errors import MemoryShortError
from ditto_hub.events import Noticed
from ditto_hub.words import Message

Answer = TypeVar("Answer")
CODE = "memory"
SHARE = 0.7  # of the free memory that a pass's activations may take
CPU_SHARE = 0.25  # of the machine's, so that a resumed run cuts its passes alike
ACTIVATIONS = (20, 4)  # numbers a token and layer: times the hidden and the intermediate width


class Budget:
    """How many tokens may keep their activations at a time, read off the device's memory.

    On a GPU what a token keeps is measured once, on the longest row at hand; elsewhere it is
    computed from the model's shape, so that the same machine always cuts alike.

    Args:
        model: the base model.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.fixed = 0  # tokens that the settings allow at most; 0 for no bound of their own
        self.bytes_a_token = 0.0
        self._tokens = 0

    def tokens(self, engine: Any, rows: Sequence[Row]) -> int:
        """Return the budget for training on rows.

        Args:
            engine: scores a row with its graph, to measure what that keeps.
            rows: of which the longest is measured.
        """
        if not self._tokens:
            on_cuda = self.model.device.type == "cuda"
            self._tokens = max(256, self._on_cuda(engine, rows) if on_cuda else self._here())
        return min(self._tokens, self.fixed) if self.fixed else self._tokens

    def _here(self) -> int:
        text = self.model.config.get_text_config()
        hidden = getattr(text, "hidden_size", 1024)
        wide = getattr(text, "intermediate_size", None)
        wide = wide if isinstance(wide, int) else 4 * hidden
        numbers = ACTIVATIONS[0] * hidden + ACTIVATIONS[1] * wide
        layers = getattr(text, "num_hidden_layers", 32)
        self.bytes_a_token = numbers * layers * torch.finfo(self.model.dtype).bits / 8
        return int(CPU_SHARE * psutil.virtual_memory().total / self.bytes_a_token)

    def _on_cuda(self, engine: Any, rows: Sequence[Row]) -> int:
        longest = max(rows, key=lambda r: len(r.ids))
        before = torch.cuda.memory_allocated()
        with engine.training(None), ready_to_train(engine.model):
            kept = list(engine.scorer.passes([longest], 2**31, share=False))
        self.bytes_a_token = max(1.0, (torch.cuda.memory_allocated() - before) / len(longest.ids))
        del kept
        free = torch.cuda.mem_get_info()[0]
        free += torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        return int(SHARE * free / self.bytes_a_token)


class Room:
    """Hold how much runs at a time, halved whenever memory ends.

    Args:
        tokens: a pass of training or scoring at most; 0 for no bound of its own.
        rows: completions drawn side by side at most; 0 for no bound of its own.
    """

    def __init__(self, tokens: int = 0, rows: int = 0) -> None:
        self.tokens = tokens
        self.rows = rows
        self._told: list[Message] = []

    def at_most(self, tokens: int) -> int:
        """Return a budget of tokens within the bound."""
        return min(tokens, self.tokens) if self.tokens else tokens

    def with_tokens(self, call: Callable[[], Answer], size: int, least: int) -> Answer:
        """Make a call that reads `at_most`, again with half as many tokens when memory ends.

        Args:
            call: safe to repeat from its beginning.
            size: tokens that it runs at a time now.
            least: of one row, below which nothing gets smaller.

        Raises:
            MemoryShortError: not even one row at a time fits.
        """
        while True:
            answer = attempt(call)
            if answer is not None:
                return answer[0]
            now = self.at_most(size)
            if now <= least:
                raise _too_small(Message("engine.one_row", count=least))
            self.tokens = max(1, now // 2)
            self._told.append(Message("engine.passes_of", count=self.tokens, before=now))

    def with_rows(self, call: Callable[[], Answer], size: int) -> Answer:
        """Make a call that reads `rows`, again with half as many of them when memory ends.

        Raises:
            MemoryShortError: not even one row at a time fits.
        """
        while True:
            answer = attempt(call)
            if answer is not None:
                return answer[0]
            now = min(size, self.rows) if self.rows else size
            if now <= 1:
                raise _too_small(Message("engine.one_completion"))
            self.rows = now // 2
            self._told.append(Message("engine.completions_at_once", count=self.rows, before=now))

    def notices(self) -> Iterator[Noticed]:
        """Yield what has changed since the last call, for the run's record."""
        told, self._told = self._told, []
        for parts in told:
            yield Noticed(code=CODE, message=Message("engine.memory_ran_out", parts=parts))


def attempt(call: Callable[[], Answer]) -> tuple[Answer] | None:
    """Make a call and return its answer in a tuple, or None, tidied up, where memory ran out."""
    try:
        return (call(),)
    except RuntimeError as error:
        if not (isinstance(error, torch.OutOfMemoryError) or should_reduce_batch_size(error)):
            raise
    gc.collect()  # outside of the handler, which holds the frames and their tensors
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None


def parts(prompts: Sequence[Sequence[int]], seeds: Sequence[Sequence[int]], rows: int) -> list[
    list[tuple[int, list[int]]]
]:  # fmt: skip
    """Return which prompts with which of their seeds are drawn side by side.

    Args:
        prompts: token ids, one list a prompt.
        seeds: for each prompt, one seed a completion.
        rows: completions at most; 0 for all at once.

    Returns:
        Groups of (prompt's number, seeds), each group of `rows` completions at most.
    """
    every = [(i, seed) for i, mine in enumerate(seeds) for seed in mine]
    size = rows or max(1, len(every))
    groups = []
    for start in range(0, len(every), size):
        group: dict[int, list[int]] = {}
        for i, seed in every[start : start + size]:
            group.setdefault(i, []).append(seed)
        groups.append(list(group.items()))
    return groups


def _too_small(what: Message) -> MemoryShortError:
    return MemoryShortError("engine.memory_short", what=what)
