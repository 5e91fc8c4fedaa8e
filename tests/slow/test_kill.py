"""Killed with SIGKILL anywhere, a run resumes to the bytes of one that was never stopped."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import made, tiny_run

from ditto_hub.runs.folder import Run

CHILD = Path(__file__).with_name("kill_child.py")
# Place -> which of its occurrences in a run. Only the last is tried with a state saved each stage.
PLACES = {
    "in the middle of a write": (2, 17, 30, 9),
    "in the middle of sampling": (3, 20, 40),
    "in the middle of an update, after its backward pass": (1, 4),
    "in an update, between two steps": (2,),
    "in the warm start, after its backward pass": (1, 2),
    "after a stage, before its state is saved": (1, 2, 3, 5, 7),
    "while saving the state": (12, 1, 6),
    "just after saving the state": (8, 2),
    "while saving the record": (2, 9),
    "while writing a candidate": (1, 3, 4),
    "while writing rollouts": (1, 2, 4),
    "while scoring": (1, 3),
    "while scoring under the reference": (1,),
    "in sft-long": (1, 3),
    "while choosing": (1,),
    "while replacing adapter/": (1,),
    "after replacing adapter/": (1,),
    "while writing the probe": (1,),
    "after the run is finished, while its state goes": (1,),
}
EACH_STEP, EACH_STAGE = 0.0, 1e9
CASES = {
    f"{place} {n}, saved each {'step' if often == EACH_STEP else 'stage'}": (place, n, often)
    for place, numbers in PLACES.items()
    for often in (EACH_STEP, EACH_STAGE)
    for n in (numbers if often == EACH_STEP else numbers[-1:])
}


class Forks:
    """Talk to `kill_child.py`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def drive(
        self,
        folder: Path,
        place: tuple[str, int] | None = None,
        after_s: float | None = None,
        save_every_s: float = EACH_STEP,
    ) -> str:
        """Drive a run in a process of its own; return how that ended."""
        job: dict[str, Any] = {"run": str(folder), "place": place, "after_s": after_s}
        job["save_every_s"] = save_every_s
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(job), file=self.process.stdin, flush=True)
        return self.process.stdout.readline().strip()


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    """Start the process that forks, and wait for no import but its one."""
    with subprocess.Popen(
        [sys.executable, str(CHILD)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Forks(process)
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture(scope="module")
def created(tiny: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run folder as it is before any work, with a held-out demonstration."""
    folder = tmp_path_factory.mktemp("kill") / "run"
    tiny_run(tiny("llama3"), folder, "warm_start.stop=held-out", "lora.dropout=0.2",
             n=4, held_out=1)  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def whole(created: Path, forks: Forks) -> Path:
    """Return the same run, never stopped."""
    folder = created.with_name("whole")
    shutil.copytree(created, folder)
    assert forks.drive(folder) == "exit 0"
    return folder


def assert_as_if_never_stopped(folder: Path, whole: Path) -> None:
    """Compare a run that was killed and resumed with one that was not."""
    run, other = Run.load(folder), Run.load(whole)
    assert run.record.status == "finished"
    assert made(folder) == made(whole)
    assert run.record.candidates == other.record.candidates
    assert (run.record.chosen, run.record.order) == (other.record.chosen, other.record.order)
    assert [e.seq for e in run.events()] == list(range(len(run.events())))
    assert not [p for p in folder.rglob("*.tmp") if p.parent.name != "state"]


@pytest.mark.parametrize(("place", "n", "save_every_s"), CASES.values(), ids=CASES)
def test_killed_at_a_place(
    created: Path,
    whole: Path,
    forks: Forks,
    tmp_path: Path,
    place: str,
    n: int,
    save_every_s: float,
) -> None:
    """Killed at a named place, the state saved often or seldom, a run resumes to its bytes."""
    folder = tmp_path / "run"
    shutil.copytree(created, folder)
    assert forks.drive(folder, place=(place, n), save_every_s=save_every_s) == "signal 9"
    if Run.load(folder).record.status != "finished":
        assert forks.drive(folder, save_every_s=save_every_s) == "exit 0"
    assert_as_if_never_stopped(folder, whole)


@pytest.mark.parametrize("seed", range(6))
def test_killed_again_and_again(
    created: Path, whole: Path, forks: Forks, tmp_path: Path, seed: int
) -> None:
    """Killed at random times, up to five times over, the run ends as it would have."""
    rng = random.Random(seed)
    folder = tmp_path / "run"
    shutil.copytree(created, folder)
    began = time.monotonic()
    assert forks.drive(copy(created, tmp_path / "timed")) == "exit 0"
    typical = time.monotonic() - began
    kills = 0
    while kills < 5 and forks.drive(folder, after_s=rng.random() * typical) == "signal 9":
        kills += 1
    if Run.load(folder).record.status != "finished":
        assert forks.drive(folder) == "exit 0"
    assert_as_if_never_stopped(folder, whole)


def copy(source: Path, target: Path) -> Path:
    shutil.copytree(source, target)
    return target
