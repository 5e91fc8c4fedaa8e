"""What a device can hold at once: smaller batches when memory runs out, and then on.

Nothing is planned from this: batches, their order and every random number stay as the settings say.
Only how much of a batch runs at a time changes, and with it the last digits of sums.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from accelerate.utils.memory import should_reduce_batch_size

from ditto_hub.errors import MemoryShortError
from ditto_hub.events import Noticed

Answer = TypeVar("Answer")
CODE = "memory"
REMEDY = (
    "Use a smaller base model, larger hardware, --set base.quantize=4bit on CUDA, or shorter"
    " demonstrations; `ditto-hub estimate` says what fits. The run is kept and can be resumed."
)


class Room:
    """Hold how much runs at a time, halved whenever memory ends.

    Args:
        tokens: a pass of training or scoring at most; 0 for no bound of its own.
        rows: completions drawn side by side at most; 0 for no bound of its own.
    """

    def __init__(self, tokens: int = 0, rows: int = 0) -> None:
        self.tokens = tokens
        self.rows = rows
        self._told: list[str] = []

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
                raise _too_small(f"one sequence of {least} tokens")
            self.tokens = max(1, now // 2)
            self._told.append(f"passes of {self.tokens} tokens instead of {now}")

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
                raise _too_small("one completion")
            self.rows = now // 2
            self._told.append(f"{self.rows} completions side by side instead of {now}")

    def notices(self) -> Iterator[Noticed]:
        """Yield what has changed since the last call, for the run's record."""
        told, self._told = self._told, []
        for words in told:
            yield Noticed(
                code=CODE,
                message=f"Memory ran out, so the run goes on in {words}. Its numbers may differ in"
                " the last digits from those of a run that had room.",
            )


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


def row_groups(batch: dict[str, torch.Tensor], tokens: int) -> list[dict[str, torch.Tensor]]:
    """Return a padded batch in groups of rows, (R, L) tokens at most each, one row at least."""
    count, width = batch["input_ids"].shape
    size = max(1, tokens // width)
    return [{k: v[i : i + size] for k, v in batch.items()} for i in range(0, count, size)]


def _too_small(what: str) -> MemoryShortError:
    return MemoryShortError(f"The memory of this device does not hold {what}.", REMEDY)
