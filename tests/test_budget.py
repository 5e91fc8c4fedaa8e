"""How many tokens keep their activations at a time: computed, or measured once on a GPU."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
from pair_rows import ROWS, policy_at

from ditto_hub.engine import memory
from ditto_hub.engine.memory import CPU_SHARE, SHARE, Budget
from ditto_hub.engine.protocol import Row

Tiny = Callable[[str], Path]
SMALL_ROWS = [r.row for r in ROWS]


def test_on_a_cpu_the_same_machine_cuts_alike(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """The budget follows from the machine's memory and the model's shape, not from what is free."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=10**9, available=1))
    engine = policy_at(tiny, weights=1)
    shape = (20 * 32 + 4 * 64) * 2 * 4  # numbers a token and layer, layers, bytes a number
    assert engine.budget.tokens(engine, SMALL_ROWS) == int(CPU_SHARE * 10**9 / shape)
    assert Budget(engine.model.get_base_model()).tokens(engine, SMALL_ROWS[:1]) == int(
        CPU_SHARE * 10**9 / shape
    )


@pytest.mark.parametrize(("fixed", "expected"), [(0, 1000), (300, 300), (5000, 1000)])
def test_a_bound_of_the_settings_only_lowers_it(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, fixed: int, expected: int
) -> None:
    """`update.token_budget` lowers what memory holds and never raises it."""
    monkeypatch.setattr(Budget, "_here", lambda _: 1000)
    engine = policy_at(tiny, weights=1)
    engine.token_budget = fixed
    assert engine.budget.tokens(engine, SMALL_ROWS) == expected


def test_a_small_memory_still_trains(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """The budget is 256 tokens at least; where even they do not fit, passes are halved."""
    monkeypatch.setattr(Budget, "_here", lambda _: 3)
    engine = policy_at(tiny, weights=1)
    assert engine.budget.tokens(engine, SMALL_ROWS) == 256


class Cuda:
    """Stand in for torch.cuda: a pass of n tokens keeps 1,000 bytes of each."""

    def __init__(self) -> None:
        self.held = 5_000

    def memory_allocated(self) -> int:
        """Return the bytes that tensors take."""
        return self.held

    def memory_reserved(self) -> int:
        """Return the bytes that the allocator has."""
        return self.held + 2_000_000

    def mem_get_info(self) -> tuple[int, int]:
        """Return free and all bytes."""
        return 8_000_000, 80_000_000


def test_on_a_gpu_it_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The longest row is run once, and what it kept sets the budget of the whole run."""
    cuda, measured = Cuda(), []

    class Kept:
        """What a pass keeps; memory is back when it goes."""

        def __init__(self, rows: Sequence[Row]) -> None:
            measured.append([len(r.ids) for r in rows])
            self.bytes = 1_000 * len(rows[0].ids)
            cuda.held += self.bytes

        def __del__(self) -> None:
            cuda.held -= self.bytes

    def passes(rows: Sequence[Row], tokens: int, share: bool) -> Iterator[Any]:
        yield Kept(rows)

    engine = SimpleNamespace(
        training=lambda seed: contextlib.nullcontext(),
        model=None,
        scorer=SimpleNamespace(passes=passes),
    )
    monkeypatch.setattr(memory, "ready_to_train", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(memory, "torch", SimpleNamespace(cuda=cuda))
    budget = Budget(SimpleNamespace(device=torch.device("cuda")))
    found = budget.tokens(engine, SMALL_ROWS)
    assert budget.bytes_a_token == 1_000
    assert found == int(SHARE * 10_000)
    assert budget.tokens(engine, SMALL_ROWS[:1]) == found
    assert measured == [[13]]
