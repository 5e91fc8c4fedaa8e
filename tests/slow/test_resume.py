"""Stopped anywhere, a run goes on in another process to the bytes of one never stopped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import follow, made, tiny_config, tiny_demos, tiny_run

from ditto_hub.backends.local import LocalBackend
from ditto_hub.events import StageFinished
from ditto_hub.runs.folder import Run
from ditto_hub.tokens import NOBODY

HELD = {"n": 4, "held_out": 1}
RESUMED = {
    "plain": ((), {}),
    "held out, dropout, rmsprop": (
        ("warm_start.stop=held-out", "lora.dropout=0.3", "update.optimizer=rmsprop"),
        HELD,
    ),
    "reference moves": (("update.reference=every-round", "sampling.batch_rows=3"), {}),
    "distillation": (("warm_start.objective=distillation", "lora.dropout=0.3"), HELD),
    "sampled once, edits": (("update.resample=once", "update.edit=0.3"), {"edited": True}),
}


@pytest.fixture(scope="module")
def llama(tiny: Callable[[str], Path]) -> Path:
    return tiny("llama3")


@pytest.mark.parametrize(("settings", "demos"), RESUMED.values(), ids=RESUMED)
def test_resumes_from_every_checkpoint(
    llama: Path, settings: Sequence[str], demos: dict[str, Any]
) -> None:
    """From a checkpoint a fresh policy makes what is missing, with the same bytes and events.

    From each one with the plain settings, from every third with the others.
    """
    config = tiny_config(*settings)
    whole = follow(llama, config, tiny_demos(**demos), keep_states=True)
    assert len(whole.states) > 20
    kept = list(zip(whole.states, whole.before, strict=True))
    for state, (events, files) in kept[:: 3 if settings else 1]:
        rest = follow(llama, config, tiny_demos(**demos), saved=state)
        assert {k: whole.files[k] for k in rest.files} == rest.files
        assert files | set(rest.files) == set(whole.files)
        again = not isinstance(whole.events[events - 1], StageFinished)  # amid a stage
        assert rest.happened[again:] == whole.happened[events:]


@pytest.mark.parametrize("save_every_s", [0.0, 1e9], ids=["saved each step", "saved each stage"])
def test_closing_after_any_event_resumes_to_the_same_bytes(
    llama: Path, tmp_path: Path, save_every_s: float
) -> None:
    """Closed after its n-th event, for every fifth n, a run resumes to the same files."""
    local = LocalBackend("cpu", save_every_s)
    finished = tiny_run(llama, tmp_path / "whole")
    events = list(local.drive(finished, token=NOBODY))
    for n in range(1, len(events), 5):
        run = tiny_run(llama, tmp_path / str(n))
        stream = local.drive(run, token=NOBODY)
        for _ in range(n):
            next(stream)
        stream.close()
        assert Run.load(run.folder).record.status == "paused"
        list(local.drive(Run.load(run.folder), token=NOBODY))
        assert made(run.folder) == made(finished.folder), n
        seen = Run.load(run.folder).events()
        assert [e.seq for e in seen] == list(range(len(seen)))
        assert candidates(run) == candidates(finished), n
        assert names(run) == names(finished)


def names(run: Run) -> list[tuple[str, Any]]:
    return [(s["name"], s["round"]) for s in Run.load(run.folder).record.stages]


def candidates(run: Run) -> dict[str, Any]:
    return Run.load(run.folder).record.candidates
