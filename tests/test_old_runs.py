"""Run folders that version 0.1.0 wrote: they open, show, continue, compare and publish.

The two in tests/data/old_runs/ were made by that version on the embedded base model, with an
adapter of rank 1, four steps of warm start and two rounds; only their pictures were left out.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

import ditto_hub
from ditto_hub.cli import main
from ditto_hub.errors import DittoError
from ditto_hub.runs.folder import Run

OLD_RUNS = Path(__file__).parent / "data" / "old_runs"


@pytest.fixture
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return a copy of an old run's folder."""
    return shutil.copytree(OLD_RUNS / request.param, tmp_path / "run")


finished = pytest.mark.parametrize("folder", ["finished"], indirect=True)
paused = pytest.mark.parametrize("folder", ["paused"], indirect=True)
both = pytest.mark.parametrize("folder", ["finished", "paused"], indirect=True)


@both
def test_it_opens_with_all_that_was_in_it(folder: Path) -> None:
    """The record, the settings, the demonstrations and every event are read."""
    run = Run.load(folder)
    assert run.record.status == folder_status(folder)
    assert run.config.lora.rank == 1
    assert len(run.demos()) == 5
    lines = (folder / "events.jsonl").read_bytes().count(b"\n")
    assert len(run.events()) == lines


def folder_status(folder: Path) -> str:
    """Return finished where there is an adapter, else paused."""
    return "finished" if (folder / "adapter").is_dir() else "paused"


@both
def test_it_shows(folder: Path) -> None:
    """`runs show` prints its state and its candidates."""
    result = CliRunner().invoke(main, ["runs", "show", str(folder)])
    assert result.exit_code == 0, result.output
    assert "base model pocket" in result.output
    assert "sft" in result.output


@paused
def test_it_resumes_or_says_why_not(folder: Path) -> None:
    """A run that was paused goes on to its end, or the reason is said in words and it stays."""
    refused = ""
    try:
        ditto_hub.resume(Run.load(folder))
    except DittoError as error:
        refused = error.what
    run = Run.load(folder)
    assert "sft" in run.candidates()
    assert refused.endswith(".") if refused else run.record.status == "finished"


@finished
def test_it_compares(folder: Path) -> None:
    """Its candidates are compared on a new prompt."""
    (found,) = ditto_hub.evaluate(
        Run.load(folder),
        methods=("sft", "ditto"),
        prompts=["Write to the crew."],
        judges=("stylometric",),
        samples=1,
    )
    assert found.complete
    assert {answer.method for answer in found.answers} == {"sft", "ditto"}


@finished
def test_it_publishes(folder: Path, tmp_path: Path) -> None:
    """A dry run writes what would be in the repo: the adapter of the old run with a new card."""
    receipt = ditto_hub.publish(Run.load(folder), "ann/voice", dry_run=tmp_path / "repo")
    assert "adapter_model.safetensors" in {file.path for file in receipt.files}
    assert (tmp_path / "repo" / "adapter_model.safetensors").read_bytes() == (
        folder / "adapter" / "adapter_model.safetensors"
    ).read_bytes()
