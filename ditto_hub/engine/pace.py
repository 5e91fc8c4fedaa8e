"""What this machine's CPU computes and reads in a second, timed in a tenth of one."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache

import torch

from ditto_hub.engine.base_model import THREADED_PARAMETERS, THREADS

HOLDS_S = 600.0  # others may come to the machine, or leave it
SIDE, NUMBERS = 1024, 16 << 20


def pace(parameters: int) -> tuple[float, float]:
    """Return multiplications and additions a second, and bytes read from memory in a second.

    Args:
        parameters: of the model that is to run, by which threads are used.
    """
    flops, bandwidth = _timed(int(time.monotonic() / HOLDS_S))
    return flops * (THREADS if parameters >= THREADED_PARAMETERS else 1), bandwidth


@cache
def _timed(_now: int) -> tuple[float, float]:
    """Return a thread's float32 rate, and the bandwidth of as many as are set."""
    square, numbers = torch.ones(SIDE, SIDE), torch.ones(NUMBERS)

    def fastest(act: Callable[[], object]) -> float:
        taken = []
        for _ in range(4):
            began = time.perf_counter()
            act()
            taken.append(time.perf_counter() - began)
        return min(taken)

    flops = 2 * SIDE**3 / fastest(lambda: square @ square) / torch.get_num_threads()
    return flops, 4 * NUMBERS / fastest(numbers.sum)
