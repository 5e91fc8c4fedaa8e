"""Memory runs out: the batch runs in smaller parts, says so, and ends when nothing is smaller."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ditto_hub import api
from ditto_hub.backends.local import LocalBackend
from ditto_hub.engine.memory import Room, attempt, parts
from ditto_hub.errors import MemoryShortError
from ditto_hub.events import Noticed, RunFailed, RunFinished, StepTaken
from ditto_hub.runs.folder import Run
from ditto_hub.tokens import NOBODY

SETTINGS = (
    "warm_start.max_steps=2",
    "sampling.samples=2",
    "sampling.max_new_tokens=24",
    "selection.samples=1",
    "selection.sft_long=false",
    "update.rounds=1",
    "update.steps=2",
)
ROOMY = 10**9


def test_a_call_is_made_again_with_half_until_it_fits() -> None:
    """800 tokens, then 400, then 200 fit; the two halvings are told once."""
    room, seen = Room(), []

    def call() -> int:
        seen.append(room.at_most(800))
        if seen[-1] > 200:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
        return seen[-1]

    assert room.with_tokens(call, 800, 10) == 200
    assert seen == [800, 400, 200]
    assert [n.code for n in room.notices()] == ["memory", "memory"]
    assert list(room.notices()) == []


@pytest.mark.parametrize("start", [1, 7, 1000, 16_384])
def test_halving_ends(start: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that never fits is given up after at most 15 tries, with what to do."""
    monkeypatch.setattr("ditto_hub.engine.memory.gc.collect", int)  # slow among many tests' objects
    tries = []

    def call() -> None:
        tries.append(1)
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(MemoryShortError, match="smaller base"):
        Room().with_tokens(call, start, 1)
    with pytest.raises(MemoryShortError):
        Room().with_rows(call, start)
    assert len(tries) <= 2 * 15


@pytest.mark.parametrize(
    ("error", "short"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"), True),
        (RuntimeError("[enforce] DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
    ],
)
def test_only_memory_is_taken_for_memory(error: RuntimeError, short: bool) -> None:
    """Every device's way to say it is known, and no other error is swallowed."""

    def call() -> None:
        raise error

    if short:
        assert attempt(call) is None
    else:
        with pytest.raises(RuntimeError, match="shapes"):
            attempt(call)


def test_parts_keep_every_row_in_order() -> None:
    """Five rows of two prompts in groups of two: each once, none over its group's size."""
    groups = parts([[1], [2]], [[10, 11, 12], [20, 21]], 2)
    assert groups == [[(0, [10, 11])], [(0, [12]), (1, [20])], [(1, [21])]]
    assert parts([[1], [2]], [[10], [20]], 0) == [[(0, [10]), (1, [20])]]


def small_memory(policy: Any, tokens: int, rows: int = ROOMY) -> Any:
    """Let a policy's model raise where a pass has more tokens, or a decoding step more rows."""

    def limited(module: Any, args: Any, kwargs: Any) -> None:
        ids = kwargs["input_ids"]
        cached = any(kwargs.get(name) is not None for name in ("cache", "past_key_values"))
        if (cached and ids.shape[0] > rows) or (not cached and ids.numel() > tokens):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB.")

    policy.model.get_base_model().model.register_forward_pre_hook(limited, with_kwargs=True)
    return policy


def drive(base: Path, demos: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, tokens: int,
          rows: int = ROOMY) -> tuple[Run, list[Any]]:  # fmt: skip
    """Run on a device of so much memory and return the run and its events."""
    from ditto_hub.backends import local

    real = local.open_policy
    monkeypatch.setattr(
        local, "open_policy", lambda *a, **k: small_memory(real(*a, **k), tokens, rows)
    )
    config = api.default_config(str(base))
    for text in SETTINGS:
        config = config.with_setting(text)
    run = api.create_run(demos, str(base), config, output=folder, token=NOBODY)
    events = []
    try:
        events.extend(api.drive(run, backend=LocalBackend("cpu"), token=NOBODY))
    except MemoryShortError:
        events.extend(run.events()[-1:])
    monkeypatch.undo()
    return Run.load(folder), events


@pytest.fixture
def demos(tmp_path: Path) -> Path:
    """Three demonstrations of different length."""
    import json

    path = tmp_path / "demos.jsonl"
    rows = [("a b", "c d e"), ("f g", "h i j k l m"), ("n", "o p q r s t u v w")]
    path.write_text(
        "".join(json.dumps({"prompt": p, "completion": c}) + "\n" for p, c in rows), "utf-8"
    )
    return path


def losses(events: list[Any]) -> list[float]:
    """Return the losses of a run's steps."""
    return [e.loss for e in events if isinstance(e, StepTaken)]


def test_a_run_goes_on_in_smaller_passes(
    tiny: Callable[[str], Path], demos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device with room for a third of each batch finishes and says so; the losses agree."""
    base = tiny("smollm2")
    roomy, whole = drive(base, demos, tmp_path / "roomy", monkeypatch, ROOMY)
    tight, split = drive(base, demos, tmp_path / "tight", monkeypatch, 100, rows=2)
    assert isinstance(split[-1], RunFinished)
    assert losses(split) == pytest.approx(losses(whole), rel=1e-4)
    told = [e for e in split if isinstance(e, Noticed)]
    assert {e.code for e in told} == {"memory"}
    assert any("tokens" in str(e.message) for e in told)
    assert any("batches of" in str(e.message) for e in told)
    assert tight.record.notices
    assert not roomy.record.notices


def test_a_run_that_fits_nowhere_fails_in_words(
    tiny: Callable[[str], Path], demos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where one sequence is too much the run fails, resumable, and names what would help."""
    run, events = drive(tiny("smollm2"), demos, tmp_path / "run", monkeypatch, 4)
    assert isinstance(events[-1], RunFailed)
    assert events[-1].error == "MemoryShortError"
    assert run.record.status == "failed"
