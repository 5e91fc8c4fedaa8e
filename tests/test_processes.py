"""Two processes under `accelerate launch` do what one does, within rounding; of three, one dies."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ditto_hub import api
from ditto_hub.backends.local import LocalBackend, launched_as, take_seat
from ditto_hub.config import RunConfig, preset
from ditto_hub.engine.processes import Seat
from ditto_hub.events import CandidateScored, RunFinished, RunStarted, StepTaken
from ditto_hub.runs.folder import Run
from ditto_hub.runs.storage import from_jsonl
from ditto_hub.tokens import NOBODY

SETTINGS = (
    "warm_start.max_steps=2", "sampling.samples=2", "sampling.max_new_tokens=24",
    "selection.samples=1", "update.rounds=2", "update.steps=1", "update.pairs=6",
)  # fmt: skip


def config() -> RunConfig:
    """Return the settings of a short run."""
    found = preset("pocket")
    for text in SETTINGS:
        found = found.with_setting(text)
    return found


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Run]:
    """The same run by one process and by two."""
    folder = tmp_path_factory.mktemp("team")
    one = api.create_run("example:harbor", config=config(), output=folder / "one", token=NOBODY)
    for _ in api.drive(one, backend=LocalBackend("cpu"), token=NOBODY):
        pass
    command = [
        sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
        "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no",
        "--main_process_port", str(free_port()), "-m", "ditto_hub", "train", "example:harbor",
        "--no-compare", "--output", str(folder / "two"),
    ]  # fmt: skip
    command += [word for text in SETTINGS for word in ("--set", text)]
    env = {**os.environ, "DITTO_HUB_HOME": str(folder), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return Run.load(folder / "one"), Run.load(folder / "two")


def losses(run: Run) -> list[float]:
    """Return the losses of all steps, warm start, updates and sft-long."""
    return [e.loss for e in run.events() if isinstance(e, StepTaken)]


def test_the_losses_agree(pair: tuple[Run, Run]) -> None:
    """Every step of every stage has the same loss, and none was left out."""
    one, two = map(losses, pair)
    assert len(one) == 2 + 2 + 2
    assert two == pytest.approx(one, rel=1e-4)


def test_the_weights_agree(pair: tuple[Run, Run]) -> None:
    """Each candidate's adapter is the same within a hundredth of what training moved."""
    assert pair[0].candidates() == pair[1].candidates()
    for name in pair[0].candidates():
        one, two = (load_file(run.candidate(name) / "adapter_model.safetensors") for run in pair)
        moved = max(float(t.abs().max()) for k, t in one.items() if "lora_B" in k)
        apart = max(float((one[k] - two[k]).abs().max()) for k in one)
        assert moved > 0
        assert apart < 0.01 * moved


def test_the_samples_and_scores_agree(pair: tuple[Run, Run]) -> None:
    """The same completions are drawn, so the same candidate is chosen."""
    drawn = [from_jsonl(run.folder / "rollouts" / "round-0.jsonl") for run in pair]
    texts = [[row["text"] for row in rows] for rows in drawn]
    assert texts[0] == texts[1]
    scores = [
        {e.name: e.scores["style_distance"] for e in run.events() if isinstance(e, CandidateScored)}
        for run in pair
    ]
    assert scores[1] == pytest.approx(scores[0], abs=0.05)
    assert pair[0].record.chosen == pair[1].record.chosen


def test_one_process_writes(pair: tuple[Run, Run]) -> None:
    """The run of two has one start and one end, numbered without a gap."""
    events = pair[1].events()
    assert [e.seq for e in events] == list(range(len(events)))
    assert isinstance(events[-1], RunFinished)


def test_it_was_two(pair: tuple[Run, Run]) -> None:
    """The bytes differ somewhere: sums were added by two, in another order."""
    one, two = (load_file(run.candidate("round-2") / "adapter_model.safetensors") for run in pair)
    assert any(not torch.equal(one[k], two[k]) for k in one)


def test_of_three_one_dies(tmp_path: Path) -> None:
    """The others end with a sentence, the run is kept, and one process goes on with it."""
    command = [
        sys.executable, "-m", "ditto_hub", "train", "example:harbor", "--no-compare",
        "--output", str(tmp_path / "run"), "--set", "warm_start.max_steps=500",
    ]  # fmt: skip
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "3"}
    env = {**os.environ, **place, "DITTO_HUB_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    three = [
        subprocess.Popen(command, env={**env, "RANK": str(rank)}, stderr=subprocess.PIPE, text=True)
        for rank in range(3)
    ]
    events = tmp_path / "run" / "events.jsonl"
    until = time.monotonic() + 120
    while time.monotonic() < until and not (events.is_file() and "StepTaken" in events.read_text()):
        time.sleep(0.1)
    three[2].kill()
    said = [process.communicate(timeout=120)[1] for process in three]
    assert [process.returncode for process in three] == [1, 1, -9]
    for text in said[:2]:
        assert "One of the processes" in text
        assert "Traceback" not in text
    run = Run.load(tmp_path / "run")
    assert run.record.status == "failed"
    first = next(api.drive(run, backend=LocalBackend("cpu"), token=NOBODY))
    assert isinstance(first, RunStarted)


def test_a_seat_is_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the launcher set is read and taken away, so that no trainer waits for the others."""
    assert take_seat() is None
    given = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "h",
             "MASTER_PORT": "7"}  # fmt: skip
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert launched_as() == 1
    assert take_seat() == Seat(1, 2, 1, "h:7")
    assert (take_seat(), launched_as()) == (None, 0)
