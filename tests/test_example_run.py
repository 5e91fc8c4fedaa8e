"""Runs that come with the package: opened by name, read by anybody, written to by nobody."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from test_guidance import compared

from ditto_hub import api
from ditto_hub.cli import main
from ditto_hub.config import RunConfig
from ditto_hub.demos.demonstrations import DemoSet
from ditto_hub.ditto.loop import plan
from ditto_hub.errors import DemoError, RunError
from ditto_hub.runs import examples, results
from ditto_hub.runs.folder import Run
from ditto_hub.runs.storage import from_jsonl

NAME = "example:made"


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A finished run with a comparison, in a folder as the package has one."""
    demos = DemoSet.from_pairs([("Write a note.", "Keys found."), ("Write to Ann.", "Ann, hi.")])
    run = Run.create(demos, {"id": "smollm2"}, RunConfig(), tmp_path / "shipped" / "made")
    run.record.id, run.record.status = NAME, "finished"
    run.save_record()
    results.save(run, replace(compared(few_shot=0.7, ditto=0.6), name="stylometric"))
    monkeypatch.setattr(examples, "FOLDER", tmp_path / "shipped")
    return Run.load(NAME)


def test_it_is_opened_by_its_id(shipped: Run) -> None:
    """The id of its record is the one that opens it."""
    assert shipped.record.id == NAME
    assert examples.example_runs() == [NAME]


def test_whoever_asks_may_read_it(shipped: Run) -> None:
    """A visitor who owns other runs, or none."""
    assert Run.load(NAME, owner="somebody").folder == shipped.folder


def test_it_is_not_among_ones_own_runs(
    shipped: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lists of runs are of those made here."""
    monkeypatch.setenv("DITTO_HUB_HOME", str(tmp_path / "home"))
    assert Run.all() == []


@pytest.mark.parametrize(
    "change",
    [
        lambda run: run.write("demos.jsonl", b""),
        lambda run: run.replace_folder("adapter", {}),
        lambda run: run.append_events([]),
        lambda run: run.save_record(),
        lambda run: run.delete(),
        lambda run: run.claim("", "me"),
        lambda run: api.resume(run),
        lambda run: api.evaluate(run),
        lambda run: next(api.stream_publish(run, "me/voice")),
    ],
)
def test_nothing_changes_it(shipped: Run, change: Callable[[Run], object]) -> None:
    """Every way to write is refused with a sentence, and leaves no file behind."""
    before = {path: path.stat().st_mtime_ns for path in shipped.folder.rglob("*")}
    with pytest.raises(RunError, match="comes with the package"):
        change(shipped)
    assert {path: path.stat().st_mtime_ns for path in shipped.folder.rglob("*")} == before


def test_other_runs_are_written_to(shipped: Run, tmp_path: Path) -> None:
    """Only the package's own are read-only."""
    demos = DemoSet.from_pairs([("a", "b")])
    run = Run.create(demos, {"id": "pocket"}, RunConfig(), tmp_path / "mine")
    assert not run.read_only
    run.write("x", b"1")


def test_a_name_that_does_not_exist_is_refused() -> None:
    """As any other run that is not there; no path gets out of the folder."""
    for name in ("example:nothing", "example:../runs"):
        with pytest.raises(RunError, match="no run"):
            Run.load(name)


def test_show_prints_texts_and_says_where_it_is_from(shipped: Run) -> None:
    """Demonstrations, the comparison, and the day it was made."""
    said = CliRunner().invoke(main, ["runs", "show", NAME]).output
    assert "Shipped with the package; made on 20" in said
    assert "Keys found." in said
    assert "few-shot" in said


def test_a_run_of_ones_own_shows_texts_where_asked(shipped: Run, tmp_path: Path) -> None:
    """And only then."""
    demos = DemoSet.from_pairs([("a", "my secret")])
    run = Run.create(demos, {"id": "pocket"}, RunConfig(), tmp_path / "mine")
    shown = ["runs", "show", str(run.folder)]
    assert "my secret" not in CliRunner().invoke(main, shown).output
    assert "my secret" in CliRunner().invoke(main, [*shown, "--texts", "1"]).output


def test_example_texts_for_a_real_model_are_read_by_name() -> None:
    """As demonstrations, with prompts of their own beside them."""
    assert len(api.read_demos("example:workshop")) == 6
    with pytest.raises(DemoError, match="nobody"):
        api.read_demos("example:nobody")


# ---- the one there is --------------------------------------------------------------------------

SMOLLM2 = "example:smollm2"


@pytest.fixture(scope="module")
def real() -> Run:
    """The run that the package ships."""
    return Run.load(SMOLLM2)


def test_the_package_ships_a_finished_run_on_a_real_model(real: Run) -> None:
    """Finished, kept, and on the demonstrations that have its name in the package."""
    assert examples.example_runs() == [SMOLLM2]
    assert real.record.id == SMOLLM2
    assert real.record.status == "finished"
    assert real.record.base_model["hub_id"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    shown = {demo.completion for demo in api.read_demos("example:workshop")}
    assert {demo.completion for demo in real.demos()} == shown


def test_it_has_samples_before_and_after_every_stage(real: Run) -> None:
    """What a page shows for a demonstration's prompt, the base model's answer first."""
    stages = ["base", *(f"round-{t}" for t in range(real.config.update.rounds + 1)), "sft-long"]
    for name in stages:
        rows = from_jsonl(real.folder / "rollouts" / f"{name}.jsonl")
        assert {row["demo"] for row in rows} == {demo.id for demo in real.demos()}


def test_its_comparison_is_on_prompts_that_had_no_part(real: Run) -> None:
    """Whole, and with the baselines."""
    (found,) = results.load_all(real)
    assert found.reportable
    assert {"zero-shot", "few-shot", "sft", "sft-long", "ditto"} <= set(found.methods)


def test_its_curves_can_be_drawn(real: Run) -> None:
    """The events of every stage are there."""
    told = [type(event).__name__ for event in real.events()]
    assert told.count("StageFinished") == len(plan(real.config))
    assert told[-1] == "RunFinished"


def test_it_is_small_and_carries_no_path_of_the_machine_that_made_it(real: Run) -> None:
    """Under 5 MB of adapter and 1 MB of everything else."""
    sizes = {p: p.stat().st_size for p in real.folder.rglob("*") if p.is_file()}
    weights = real.candidate() / "adapter_model.safetensors"
    assert sizes.pop(weights) < 5_000_000
    assert sum(sizes.values()) < 1_000_000
    for path in sizes:
        assert not re.search(r'"/(tmp|home|root|work)/', path.read_text("utf-8")), path.name
