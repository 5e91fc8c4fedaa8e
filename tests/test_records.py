"""Records read back from disk: whatever is wrong with a field, what is said of it is words."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ditto_hub.cli import main
from ditto_hub.cost.profiles import load_profile
from ditto_hub.errors import DittoError, RunError
from ditto_hub.runs import results
from ditto_hub.runs.folder import Run, home
from ditto_hub.runs.record import RunRecord
from ditto_hub.ui.serving.cleanup import sweep

OLD_RUN = Path(__file__).parent / "data" / "old_runs" / "finished"
JOB = {"id": "1", "stage": "RUNNING", "seconds": None, "expected_s": 60.0, "timeout_s": 90,
       "usd_per_hour": 1.5, "attempt": 1, "url": "", "repo": "a/b", "home": True}  # fmt: skip
MISSING = object()
WRONG: tuple[Any, ...] = (
    "never", "x" * 200_000, "", True, 0, -1, 9e99, 10**30, 0.5, float("nan"), float("inf"), None,
    [], [1], {}, {"a": {}}, [[[[]]]], MISSING,
)  # fmt: skip
FIELDS = [(f.name,) for f in fields(RunRecord)] + [
    ("base_model", "id"), ("base_model", "revision"), ("base_model", "licence"),
    ("config", "update"), ("config", "seed"), ("config", "preset"), ("config", "lora"),
    ("stages", 0), ("stages", 0, "name"), ("stages", 0, "round"), ("stages", 0, "seconds"),
    ("candidates", "sft"), ("candidates", "sft", "scores"), ("candidates", "sft", "degenerate"),
    ("candidates", "sft", "scores", "kl"), ("order", 0), ("order", 0, "ordered"),
    ("order", 0, "rewards"), ("versions", "torch"), ("hardware", "device"),
    ("stage_seconds", "update"), ("estimate", "total_seconds"), ("estimate", "seconds"),
    ("estimate", "basis"), ("error", "message"), *(("job", key) for key in JOB),
]  # fmt: skip


@pytest.fixture
def good() -> Run:
    """Return a run beside the damaged one."""
    return Run.load(shutil.copytree(OLD_RUN, home() / "runs" / "good"))


@pytest.fixture
def folder() -> Path:
    """Return a run's folder whose record has every field filled."""
    folder = Path(shutil.copytree(OLD_RUN, home() / "runs" / "damaged"))
    record = json.loads((folder / "run.json").read_text("utf-8"))
    record |= {"job": JOB, "error": {"type": "RunError", "message": "It broke."}}
    record["prompt_authors"] = {"model": 3}
    record["estimate"]["seconds"] = {"update": 1.0}
    (folder / "run.json").write_text(json.dumps(record))
    return folder


def damaged(text: str, path: tuple[Any, ...]) -> Iterator[str]:
    """Yield a JSON text with one field wrong in every way."""
    for wrong in WRONG:
        record = json.loads(text)
        inside = record
        for key in path[:-1]:
            inside = inside[key]
        if wrong is not MISSING:
            inside[path[-1]] = wrong
        else:
            del inside[path[-1]]
        yield json.dumps(record)


@pytest.mark.parametrize("path", FIELDS, ids=lambda path: ".".join(map(str, path)))
def test_a_wrong_field_of_a_record_ends_in_words(
    path: tuple[Any, ...], folder: Path, good: Run
) -> None:
    """Loading, listing, sweeping and showing go on; other runs are found as ever."""
    profile = load_profile("zerogpu")
    for text in damaged((folder / "run.json").read_text("utf-8"), path):
        (folder / "run.json").write_text(text)
        with contextlib.suppress(DittoError):
            assert Run.load(folder).config.seed >= 0
        assert good.record.id in {run.record.id for run in Run.all() if run.folder == good.folder}
        assert sweep(profile, now=1.0) == []
        for command in (["runs", "list"], ["runs", "show", str(folder)]):
            result = CliRunner().invoke(main, command)
            assert result.exception is None or isinstance(result.exception, SystemExit), text


@pytest.mark.parametrize("text", ["[" * 100_000, '{"schema_version": 1, "id": ' + "[" * 90_000])
def test_deep_nesting_is_damage(folder: Path, text: str) -> None:
    """A record that nests deeper than Python can follow is a RunError."""
    (folder / "run.json").write_text(text)
    with pytest.raises(RunError, match="damaged"):
        Run.load(folder)


@pytest.mark.parametrize(
    "line",
    [
        '{"type": "RunPaused", "seq": "1", "reason": "x"}',
        '{"type": "RunPaused", "seq": 1, "time": 9e99, "reason": "x"}',
        '{"type": "RunPaused", "seq": 1}',
        '{"type": ["RunPaused"], "seq": 1, "reason": "x"}',
        '{"type": "CoffeeMade"}',
        "[]",
        "7",
    ],
)
def test_a_wrong_event_is_passed_over(folder: Path, line: str) -> None:
    """A line that is no event of ours takes nothing from the others."""
    before = Run.load(folder).events()
    with (folder / "events.jsonl").open("a") as file:
        file.write(f"{line}\n")
    assert Run.load(folder).events() == before


EVALUATION = results.Evaluation(
    name="stylometric",
    judge="stylometric",
    date="2026-11-25",
    prompts_source="user",
    prompts_independent=True,
    methods=("sft", "ditto"),
    prompts=(results.EvaluationPrompt("p1", ({"role": "user", "content": "Hi"},)),),
    answers=(results.Answer("sft", "p1", 0, "Hello"),),
    pairs=(results.JudgedPair("p1", "sft", "ditto", 0, 0, "a", "b"),),
    scores=(results.Score("sft", "total", 0.5, None, None, 1, 1),),
    settings={"sampling": {}},
)


def test_an_evaluation_is_read_back_as_it_was(folder: Path) -> None:
    """Nested records and tuples come back as such."""
    run = Run.load(folder)
    results.save(run, EVALUATION)
    assert results.load_all(run) == [EVALUATION]


@pytest.mark.parametrize(
    "path",
    [
        *((f.name,) for f in fields(results.Evaluation)),
        ("prompts", 0), ("prompts", 0, "messages"), ("answers", 0, "text"),
        ("pairs", 0, "sample_a"), ("scores", 0, "mean"), ("tally", "pairs"),
    ],
    ids=lambda path: ".".join(map(str, path)),
)  # fmt: skip
def test_a_wrong_field_of_an_evaluation_ends_in_words(path: tuple[Any, ...], folder: Path) -> None:
    """What cannot be read is a RunError that says what to do."""
    run = Run.load(folder)
    results.save(run, EVALUATION)
    file = folder / "evaluation" / "stylometric.json"
    for text in damaged(file.read_text("utf-8"), path):
        file.write_text(text)
        with contextlib.suppress(RunError):
            assert len(results.load_all(run)) == 1
