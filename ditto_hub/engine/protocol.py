"""What Algorithm 1 needs of a model: the line between the paper and the engine.

`ditto/` knows a model by this protocol alone; `plain.py` is the shortest engine that keeps it and
the oracle of the tests, `fast.py` the product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch

from ditto_hub.config import Sampling
from ditto_hub.events import Event

if TYPE_CHECKING:
    from ditto_hub.engine.chat import ChatFormat

Tensors = dict[str, torch.Tensor]
LEAST = 1e-6  # probability of all tokens together that a distribution does not keep
Loss = Callable[[torch.Tensor], torch.Tensor]
"""(R,) log-probabilities with graph -> a scalar; it may be called once a `backward`."""


@dataclass(frozen=True, eq=False)
class Distribution:
    """Hold what a model expects at each place of a completion; all other tokens are one more.

    Args:
        ids: (n, k) int32, the likeliest tokens.
        probs: (n, k) float32, their probabilities.
    """

    ids: torch.Tensor
    probs: torch.Tensor


@dataclass(frozen=True)
class Row:
    """Hold one sequence, and which of its tokens count.

    Args:
        prompt_ids: what comes before the completion.
        completion_ids: always counted, an end of turn included where there is one.
        prompt_counts: whether the prompt's tokens count too, its first one excepted.
        expected: what a teacher expects at each place of the completion. A row that has it scores
            the mean of log-probability under that distribution and not the completion's own, and
            so do all rows of its batch.
    """

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    prompt_counts: bool = False
    expected: Distribution | None = field(default=None, compare=False)

    @property
    def ids(self) -> tuple[int, ...]:
        """The whole sequence."""
        return (*self.prompt_ids, *self.completion_ids)

    @property
    def start(self) -> int:
        """Index of the first token that counts; the first of all has nothing to follow."""
        return 1 if self.prompt_counts else max(1, len(self.prompt_ids))

    @property
    def tokens(self) -> int:
        """How many tokens count."""
        return len(self.prompt_ids) + len(self.completion_ids) - self.start


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


class Engine(Protocol):
    """A base model with one LoRA adapter, named `default`."""

    format: ChatFormat
    device: torch.device
    limits: Mapping[str, int]
    """Tokens and rows at a time, where memory ran out; saved with a run's state."""

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        seeds: Sequence[Sequence[int]],
        sampling: Sampling,
        cap: int,
    ) -> list[list[Drawn]]:
        """Draw completions, each with its own random generator.

        Args:
            prompts: token ids, one list a prompt.
            seeds: for each prompt, one seed a completion.
            sampling: temperature, top-p and top-k.
            cap: new tokens at most.

        Returns:
            For each prompt, its completions in the order of its seeds.
        """

    def log_probs(self, rows: Sequence[Row]) -> list[float]:
        """Return each row's log-probability, summed over the tokens that count (nats)."""

    def distributions(self, rows: Sequence[Row], k: int) -> list[Distribution]:
        """Return what the model expects at each place of the rows' completions.

        Args:
            rows: of which the prompts' tokens do not count.
            k: likeliest tokens kept a place; fewer where the vocabulary is smaller.

        Returns:
            One a row, on the CPU.
        """

    def backward(self, rows: Sequence[Row], loss: Loss, seed: int | None = None) -> torch.Tensor:
        """Put the gradient of a loss into the adapter's parameters.

        How many passes it takes is the engine's affair and changes no result.

        Args:
            rows: each different one once.
            loss: of the rows' summed log-probabilities, (R,).
            seed: fixes dropout; None trains without it.

        Returns:
            The loss, a scalar on the device: reading it is the caller's one wait for the device.
        """

    def parameters(self) -> list[torch.nn.Parameter]:
        """Return what an optimiser steps, in a fixed order."""

    def snapshot(self) -> Tensors:
        """Return copies of the adapter's tensors on the CPU, under PEFT's names."""

    def restore(self, tensors: Tensors) -> None:
        """Put a snapshot's tensors into the adapter."""

    def adapter_off(self) -> AbstractContextManager[None]:
        """Be the base model inside the block."""

    def as_adapter(self, tensors: Tensors) -> AbstractContextManager[None]:
        """Wear another adapter of the same shape inside the block."""

    def load_adapter(self, folder: Path) -> None:
        """Put the adapter of a folder into this engine."""

    def adapter_files(self) -> dict[str, bytes]:
        """Return the files that plain PEFT loads."""

    def device_name(self) -> str:
        """Return the device in words."""

    def notices(self) -> Iterator[Event]:
        """Yield what the engine had to do since the last call: smaller batches, no graph."""
