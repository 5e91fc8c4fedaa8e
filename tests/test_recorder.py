"""CUDA graphs, against a stand-in of torch.cuda that fails where the allocator does."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from pair_rows import policy_at

from ditto_hub.config import Sampling
from ditto_hub.engine import graph_decoding
from ditto_hub.engine.graph_decoding import FixedDecoder, Recorder
from ditto_hub.events import GraphsRecorded

Tiny = Callable[[str], Path]
Step = Callable[[], None]
GONE = "it->second->use_count > 0 INTERNAL ASSERT FAILED at CUDACachingAllocator.cpp:2170"
PROMPTS = [[5, 60, 61, 62], [5, 70]]
SEEDS = [list(range(8)), [21, 22, 23]]


class Graph:
    """A graph: what was started while it was captured, and runs again on replay."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def replay(self) -> None:
        """Run what was captured."""
        for step in self.steps:
            step()


class Cuda:
    """Stand in for torch.cuda: a pool is gone with the last graph that was recorded into it.

    Args:
        refuses: numbers of captures, from 1, that fail.
    """

    CUDAGraph = Graph

    def __init__(self, refuses: tuple[int, ...] = (), error: Exception | None = None) -> None:
        self.refuses, self.error = refuses, error or RuntimeError("operation not permitted\nwhen")
        self.captures, self.capturing = 0, None
        self.pools: dict[int, list[weakref.ref[Graph]]] = {}

    def graph_pool_handle(self) -> int:
        """Return a new pool's name."""
        return len(self.pools) + 1

    def Stream(self) -> Cuda:
        """Return a stream."""
        return self

    def current_stream(self) -> Cuda:
        """Return the current stream."""
        return self

    def wait_stream(self, other: Cuda) -> None:
        """Wait for a stream."""

    def synchronize(self) -> None:
        """Wait for all."""

    def stream(self, stream: Cuda) -> contextlib.AbstractContextManager[None]:
        """Go on in a stream."""
        return contextlib.nullcontext()

    @contextlib.contextmanager
    def graph(self, graph: Graph, pool: int, capture_error_mode: str) -> Iterator[None]:
        """Capture what is started inside the block."""
        self.captures += 1
        known = self.pools.setdefault(pool, [])
        if known and all(ref() is None for ref in known):
            raise RuntimeError(GONE)
        known.append(weakref.ref(graph))
        self.capturing = graph
        try:
            yield
            if self.captures in self.refuses:
                raise self.error
        finally:
            self.capturing = None

    def start(self, step: Step) -> None:
        """Run a step, or note it while a graph is captured."""
        if self.capturing is None:
            step()
        else:
            self.capturing.steps.append(step)


@pytest.mark.parametrize("refuses", [(), (1,), (3,)], ids=["never", "at once", "later"])
def test_each_step_runs_once_a_call(refuses: tuple[int, ...]) -> None:
    """Recorded or refused, each step runs as often as asked; only a graph counts as replayed."""
    cuda, ran = Cuda(refuses), []
    recorder = Recorder(cuda)
    for shape in range(5):
        replay = recorder.record(partial(cuda.start, partial(ran.append, shape)))
        replay()
        replay()
    assert ran == [shape for shape in range(5) for _ in range(3)]
    assert recorder.recorded == (5 if not refuses else refuses[0] - 1)
    assert recorder.replayed == 2 * recorder.recorded


def test_a_pool_outlives_its_graphs_change() -> None:
    """One pool holds the newest graph: the one before is freed only once the next is there."""
    cuda = Cuda()
    recorder = Recorder(cuda)
    for shape in range(4):
        recorder.record(partial(cuda.start, partial(str, shape)))
    assert (recorder.recorded, recorder.reason) == (4, "")
    assert [sum(ref() is not None for ref in known) for known in cuda.pools.values()] == [1]


def test_without_cuda_nothing_is_recorded() -> None:
    """Away from CUDA a step is its own replay, and nothing is counted."""
    ran: list[int] = []
    recorder = Recorder()
    replay = recorder.record(partial(ran.append, 0))
    replay()
    assert ran == [0, 0]
    assert (recorder.recorded, recorder.replayed, recorder.reason) == (0, 0, "")


def test_the_stand_in_fails_as_the_allocator_does() -> None:
    """A pool whose graphs are all gone refuses the next one: the stand-in does see that fault."""
    cuda = Cuda()
    pool = cuda.graph_pool_handle()
    with cuda.graph(Graph(), pool, "thread_local"):
        pass
    with pytest.raises(RuntimeError, match="INTERNAL ASSERT"), cuda.graph(Graph(), pool, ""):
        pass


def test_a_refusal_is_told_in_one_line_and_not_tried_again() -> None:
    """After a capture that failed, steps run as they are, and the first line says why."""
    cuda = Cuda(refuses=(1,))
    recorder = Recorder(cuda)
    for shape in range(3):
        recorder.record(partial(cuda.start, partial(str, shape)))
    assert (cuda.captures, recorder.reason) == (1, "operation not permitted")


def test_memory_that_ends_is_no_refusal() -> None:
    """Where memory runs out in a capture the error goes on, so that smaller batches are tried."""
    cuda = Cuda(refuses=(1,), error=torch.OutOfMemoryError("CUDA out of memory."))
    with pytest.raises(torch.OutOfMemoryError):
        Recorder(cuda).record(partial(cuda.start, partial(str, 0)))


@pytest.mark.parametrize("refuses", [(), (1,), (2,)], ids=["never", "at once", "later"])
def test_graphs_change_no_sample(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, refuses: tuple[int, ...]
) -> None:
    """With graphs, or without where one was refused, the same rows; an event says what it was."""
    engine = policy_at(tiny, weights=1)
    engine.format.stop_ids = tuple(range(100, 150))
    plain = engine.sample(PROMPTS, SEEDS, Sampling(), 40)
    cuda, inner = Cuda(refuses), FixedDecoder.step

    def step(self: FixedDecoder, rows: int, seen: int) -> None:
        cuda.start(partial(inner, self, rows, seen))

    monkeypatch.setattr(FixedDecoder, "step", step)
    monkeypatch.setattr(graph_decoding, "Recorder", lambda _: Recorder(cuda))
    for name, value in {"SEEN_BLOCK": 16, "PEEK": 3, "LEAVE_AT": 0.8}.items():
        monkeypatch.setattr(graph_decoding, name, value)
    engine.fixed_buffers = True
    recorded = engine.sample(PROMPTS, SEEDS, Sampling(), 40)
    assert tokens(recorded) == tokens(plain)
    (told,) = (event for event in engine.notices() if isinstance(event, GraphsRecorded))
    assert told.fallback == ("operation not permitted" if refuses else "")
    assert told.recorded == (refuses[0] - 1 if refuses else cuda.captures)
    assert told.recorded > 2 or refuses
    assert told.replayed or told.recorded == 0


def tokens(drawn: list[list[Any]]) -> list[tuple[int, ...]]:
    """Return the rows' tokens."""
    return [row.token_ids for mine in drawn for row in mine]
