"""Records of an evaluation: verdicts, tallies, and the file they are kept in."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ditto_hub.config import RunConfig
from ditto_hub.demos.demonstrations import DemoSet
from ditto_hub.errors import RunError, StorageError
from ditto_hub.runs.folder import Run
from ditto_hub.runs.results import (
    Answer,
    Evaluation,
    EvaluationPrompt,
    JudgedPair,
    JudgeTally,
    Rating,
    Score,
    WinRate,
    count_prompts,
    file_name,
    load,
    load_all,
    pictures,
    save,
    save_progress,
    tally,
)
from ditto_hub.words import Message


def pair(forward: str, backward: str | None) -> JudgedPair:
    return JudgedPair("p", "ditto", "sft", 0, 0, forward, backward)


def full() -> Evaluation:
    return Evaluation(
        name="grammar",
        judge="grammar",
        date="2026-11-22",
        prompts_source="user",
        prompts_independent=True,
        methods=("ditto", "sft"),
        prompts=(EvaluationPrompt("p", ({"role": "user", "content": "Schreib, bitte: 会議"},)),),
        samples=2,
        seed=3,
        settings={"temperature": 1.0},
        answers=(Answer("ditto", "p", 0, "hi 👋"), Answer("sft", "p", 0, "hello")),
        ratings=(Rating("ditto", "p", 0, {"total": 0.5}),),
        pairs=(pair("a", "tie"),),
        scores=(Score("ditto", "total", 0.5, None, None, 1, 1),),
        win_rates=(WinRate("ditto", "sft", 0, 1, 0, 1, 0, 0.5, 0, 1, 1, "wilson", True),),
        tally=JudgeTally(1, 0, 1),
        degeneration={"ditto": {"length_ratio": 1.1}},
        missing={"spin": Message("runs.no_adapter.what", run_id="r")},
        notes=(Message("evaluation.seen_prompts", prompts=count_prompts(1)), "an old note"),
        complete=True,
        grammar_hash="abc",
    )


@pytest.fixture
def run(tmp_path: Path) -> Run:
    demos = DemoSet.from_pairs([("Write a note.", "a note"), ("Write a card.", "a card")])
    return Run.create(demos, {"id": "pocket", "revision": None}, RunConfig(), tmp_path / "run")


@pytest.mark.parametrize(
    ("forward", "backward", "verdict"),
    [
        ("a", "a", "a"),
        ("b", "b", "b"),
        ("tie", "tie", "tie"),
        ("a", "b", "tie"),
        ("a", "tie", "tie"),
        ("a", None, "a"),
        ("refused", "a", None),
        ("b", "unparsable", None),
        ("refused", None, None),
    ],
)
def test_verdict_of_both_orders(forward: str, backward: str | None, verdict: str | None) -> None:
    """A disagreement is a tie, a single order stands alone, and half an answer is none."""
    assert pair(forward, backward).verdict == verdict


@pytest.mark.parametrize(
    ("forward", "backward", "place"),
    [("a", "b", "first"), ("b", "a", "second"), ("a", "a", ""), ("a", "tie", ""), ("a", None, "")],
)
def test_place_that_was_favoured(forward: str, backward: str | None, place: str) -> None:
    """A judge that picks a place and not a text is found out."""
    assert pair(forward, backward).favoured_place == place


def test_tally_counts_how_a_judge_behaved() -> None:
    """Ties, disagreements with their place, refusals and nonsense are counted by hand."""
    orders = [("a", "a"), ("tie", "tie"), ("a", "b"), ("a", "b"), ("b", "a"), ("a", "tie")]
    pairs = [pair(*order) for order in [*orders, ("refused", "refused"), ("unparsable", "a")]]
    assert tally(pairs) == JudgeTally(
        pairs=8, ties=1, disagreements=4, first=2, second=1, refused=1, unparsable=1
    )


def test_an_evaluation_survives_its_file(run: Run) -> None:
    """What is saved is read back equal, in every script."""
    save(run, full())
    assert load(run.folder / "evaluation" / "grammar.json") == full()


def test_file_is_utf8_json_with_a_version(run: Run) -> None:
    """The file is readable UTF-8 and says its schema version."""
    save(run, full())
    text = (run.folder / "evaluation" / "grammar.json").read_bytes().decode()
    assert "会議" in text
    assert json.loads(text)["schema_version"] == 1


def test_all_evaluations_of_a_run_come_by_name(run: Run) -> None:
    """load_all finds each judge's file, and nothing in a run without one."""
    assert load_all(run) == []
    save(run, full())
    save(run, replace(full(), name="a-first"))
    assert [e.name for e in load_all(run)] == ["a-first", "grammar"]


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"schema_version": 2}', '{"schema_version": 1}', '{"schema_version": "x"}'],
)
def test_a_file_that_is_none_is_a_run_error(tmp_path: Path, content: str) -> None:
    """Damaged, foreign and newer files are refused with the path in the message."""
    path = tmp_path / "x.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(RunError, match=r"x\.json"):
        load(path)


def test_a_missing_file_is_a_run_error(tmp_path: Path) -> None:
    """A missing evaluation says how to make one."""
    with pytest.raises(RunError, match="ditto-hub evaluate"):
        load(tmp_path / "none.json")


def test_fields_of_a_later_version_are_left_out() -> None:
    """A field that this program does not know does no harm."""
    data = full().to_json()
    data["shine"] = 1
    data["answers"][0]["mood"] = "good"
    assert Evaluation.from_json(data) == full()


def test_an_unknown_source_of_prompts_is_refused() -> None:
    """Where prompts came from is one of three words, because the card says it."""
    with pytest.raises(ValueError, match="prompts_source"):
        replace(full(), prompts_source="internet")


@pytest.mark.parametrize(
    ("judge", "name"),
    [
        ("grammar", "grammar"),
        ("llm:Qwen/Qwen3-8B", "llm-Qwen-Qwen3-8B"),
        ("llm:../../x", "llm-..-..-x"),
        ("///", "evaluation"),
    ],
)
def test_file_name_stays_in_its_folder(judge: str, name: str) -> None:
    """A judge's name becomes a file name that cannot leave the folder."""
    assert file_name(judge) == name


def test_a_folder_that_cannot_be_written_is_a_storage_error(run: Run) -> None:
    """A disk that refuses becomes a known error."""
    (run.folder / "evaluation").write_text("a file in the way", encoding="utf-8")
    with pytest.raises(StorageError, match="evaluation"):
        save(run, full())


def test_an_evaluation_under_way_takes_nothing_from_a_whole_one(run: Run) -> None:
    """It is kept beside the whole one until it is whole itself, and then stands in its place."""
    save(run, full())
    earlier, begun = load_all(run), replace(full(), samples=7, complete=False)
    save_progress(run, begun, earlier)
    assert [(e.name, e.complete) for e in load_all(run)] == [
        ("grammar", True), ("grammar.partial", False),
    ]  # fmt: skip
    save_progress(run, replace(begun, complete=True), earlier)
    assert [(e.name, e.samples) for e in load_all(run)] == [("grammar", 7)]


def test_a_first_evaluation_has_its_name_from_the_start(run: Run) -> None:
    """With nothing whole to keep, what is under way has the plain name."""
    save_progress(run, replace(full(), complete=False), [])
    assert [e.name for e in load_all(run)] == ["grammar"]


def test_pictures_lie_beside_the_numbers(run: Run) -> None:
    """Only an evaluation's own pictures are found."""
    for name in ("grammar.png", "grammar-rounds.png", "other.png"):
        run.write(f"evaluation/{name}", b"png")
    assert [p.name for p in pictures(run, full())] == ["grammar.png", "grammar-rounds.png"]
    assert pictures(run, replace(full(), name="none")) == []
