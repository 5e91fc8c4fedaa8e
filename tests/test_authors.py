"""The benchmark on real authors: its splits, its index, and a job from end to end."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import build_tiny

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import authors
import authors_curves
import authors_jobs
import authors_judges as judges
import authors_report
import authors_settings
from authors_fit import Fit, margin
from authors_settings import SETTINGS, Setting
from authors_teach import Teacher, Teaching, losses
from authors_texts import Author, Text, cut, cut_all, read_authors, split

from ditto_hub.backends.local import dress
from ditto_hub.demos.demonstrations import DemoSet
from ditto_hub.engine.base_model import load_base
from ditto_hub.evaluation.real_authors import read_real_figures
from ditto_hub.runs.folder import Run
from ditto_hub.tokens import NOBODY

WORDS = {"ann": "hello there all", "bo": "ok see you", "cy": "well now then"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three made-up authors, two texts on each of five topics."""
    folder = tmp_path_factory.mktemp("data")
    rows = [
        {"author": name, "prompt": f"Write {kind}: Topic {k}?", "completion": f"{text} {k}. " * 9}
        for name, text in WORDS.items()
        for k in range(5)
        for kind in ("an essay", "an email")
    ]
    lines = "\n".join(map(json.dumps, rows)) + "\n"
    for corpus in ("cmcc", "ccat50"):
        (folder / f"{corpus}.jsonl").write_text(lines, encoding="utf-8")
    return folder


def test_no_topic_is_on_both_sides(data: Path) -> None:
    """What was shown says nothing about what the judged texts say."""
    for seed in range(5):
        found = split(read_authors(data, "cmcc")[0], seed)
        assert not {t.topic for t in found.pool} & {t.topic for t in found.judged}
        assert len(found.judged) >= 4


def test_the_shown_texts_have_as_many_topics_as_there_are(data: Path) -> None:
    """Not two texts of one topic while another has none."""
    found = split(read_authors(data, "cmcc")[0], 0)
    assert len({t.topic for t in found.shown(3)}) == 3


def test_seeds_draw_other_splits(data: Path) -> None:
    """So that a few authors give more than one trial each."""
    ann = read_authors(data, "cmcc")[0]
    assert len({split(ann, seed).judged for seed in range(5)}) > 1


def test_texts_are_cut_at_a_sentence() -> None:
    """Within the words allowed, never in the middle where there is an end."""
    text = "One two three. Four five six seven. Eight nine."
    assert cut(text, 5) == "One two three."
    assert list(cut_all(text, 5)) == ["One two three.", "Four five six seven.", "Eight nine."]
    assert cut("a b c d e f", 4) == "a b c d"


def test_news_does_not_repeat_its_prompts_sentence(tmp_path: Path) -> None:
    """Or copying the prompt would count as writing like the author."""
    row = {
        "author": "x",
        "prompt": "Write an article that starts with the following: Rates rose.",
        "completion": "Rates rose. Banks were glad. ",
    }
    (tmp_path / "ccat50.jsonl").write_text(json.dumps(row), encoding="utf-8")
    text = read_authors(tmp_path, "ccat50")[0].texts[0]
    assert text.completion == "Banks were glad."
    assert text.prompt.endswith("Rates rose.")


@pytest.mark.parametrize("content", ["", "no json", '{"author": "a"}', "[1]"])
def test_another_layout_is_refused(tmp_path: Path, content: str) -> None:
    """With the file's name."""
    (tmp_path / "cmcc.jsonl").write_text(content, encoding="utf-8")
    with pytest.raises(SystemExit, match=r"cmcc\.jsonl"):
        read_authors(tmp_path, "cmcc")


def test_the_author_beats_others_in_style(data: Path) -> None:
    """The author's own text scores higher than another author's."""
    ann, bo, cy = read_authors(data, "cmcc")
    style = judges.Style(split(ann, 0), [bo, cy], 80)
    assert style.score(split(ann, 0).pool[0].completion) > style.score(bo.texts[0].completion)
    assert style.score(" ") == 0


def test_own_is_one_half_for_the_base_model() -> None:
    """And a fifth less loss fills its range."""
    assert judges.own_score(1.0, 1.0) == 0.5
    assert judges.own_score(0.8, 1.0) == pytest.approx(1.0)
    assert judges.own_score(2.0, 1.0) == 0.0


def as_vectors(texts: Sequence[str]) -> torch.Tensor:
    """Stand in for sentence embeddings: one dimension for each word of a small world."""
    words = ("fog", "trains", "bread", "chess")
    counts = torch.tensor([[1.0 * text.count(word) for word in words] for text in texts])
    return torch.nn.functional.normalize(counts + 1e-3, dim=1)


def on(*topics: str, number: int) -> Author:
    """Make an author with a text on each topic that is half about another thing."""
    texts = [Text(topic, f"{topic} and chess", topic, "") for topic in topics]
    return Author("cmcc", number, tuple(texts))


def test_a_text_on_another_subject_has_no_fit() -> None:
    """One on its own subject, as far as real texts keep to theirs, has all of it."""
    found = Fit(on("fog", "trains", number=0), [on("bread", "trains", number=1)], as_vectors)
    assert found.score("fog, fog, chess", "fog") == 1
    assert found.score("trains, trains", "fog") == 0
    assert found.score("  ", "fog") == 0


def test_margin_is_to_the_nearest_other_topic() -> None:
    """A text that is about two topics is about neither."""
    topics = ["fog", "trains", "bread"]
    assert margin(as_vectors, "fog and trains", "fog", topics) == pytest.approx(0, abs=1e-6)
    assert margin(as_vectors, "fog", "fog", topics) > 0.9


def test_rows_of_different_judges_are_never_averaged() -> None:
    """Each version has a table of its own, the newest first."""
    values = {"style": 0.5, "loss": 1.0, "fit": 1.0, "copied_share": 0.0, "self_repetition": 0.0,
              "ended": 1.0}  # fmt: skip
    row = {"author": "a-0", "setting": "prompting", "seed": 0, "base_loss": 1.0}
    old = {**row, "methods": {"few-shot": values}}
    new = {**row, "methods": {"few-shot": {**values, "fit": 0.0}}, "judges": 2}
    first, _, second = authors_report.report([old, new]).partition("Judges, version 1")
    assert "0.333" in first
    assert "0.667" in second


def test_every_setting_is_one_that_runs_take() -> None:
    """A name that is misspelt is found here and not on a rented machine."""
    for setting in SETTINGS.values():
        assert setting.config(0, 100).selection.held_out == 0


TINY = Setting(
    "tiny",
    (
        "warm_start.max_steps=1",
        "sampling.samples=1",
        "update.rounds=1",
        "update.steps=1",
        "update.pairs=2",
        "selection.samples=1",
    ),
    texts=2,
)


def test_a_job_judges_every_method_and_keeps_numbers_alone(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trained and prompted, on one base model that is as it was afterwards."""
    monkeypatch.setitem(SETTINGS, "tiny", TINY)
    plan = authors_jobs.Plan(
        str(data), str(build_tiny("llama3", tmp_path / "base")), 6, 1, (0.5,), "cpu"
    )
    bench = authors_jobs.Bench(plan)
    bench.embed = as_vectors
    row = bench.run(authors_jobs.Job("cmcc-0", "tiny", 0))
    assert list(row["methods"]) == [
        "sft", "round-1", "sft-long", "round-1@0.5", "sft-long@0.5", "round-1+few-shot",
        "sft-long+few-shot",
    ]  # fmt: skip
    prompted = bench.run(authors_jobs.Job("cmcc-0", "prompting", 0))
    assert list(prompted["methods"]) == ["zero-shot", "few-shot"]
    assert prompted["base_loss"] == row["base_loss"]
    assert prompted["methods"]["zero-shot"]["loss"] == pytest.approx(row["base_loss"], rel=1e-3)
    assert "hello" not in json.dumps(row)
    assert "cmcc-0   " not in authors_report.report([row, prompted])
    assert "tiny" in authors_report.report([row, prompted])


def test_students_are_taught_and_their_fit_judged_elsewhere(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Texts stand beside the rows, never in them; a student's divergence falls."""
    students = (("base", Teaching(steps=8, prompts=1, draws=1, rate=1e-2)),)
    monkeypatch.setitem(SETTINGS, "taught-tiny", replace(TINY, teachings=students))
    base = str(build_tiny("llama3", tmp_path / "base"))
    bench = authors_jobs.Bench(authors_jobs.Plan(str(data), base, 6, 1, (), True, "cpu"))
    rows = tmp_path / "rows.jsonl"
    found: Future[dict[str, Any]] = Future()
    found.set_result(bench.run(authors_jobs.Job("cmcc-0", "taught-tiny", 0)))
    row = authors._keep(found, authors_jobs.Job("cmcc-0", "taught-tiny", 0), rows)
    assert "base" in row["methods"]
    looks = row["teachings"]["base"]
    assert [look["step"] for look in looks] == [2, 4, 6, 8]
    assert looks[-1]["divergence"] < looks[0]["divergence"]
    assert set(json.loads(rows.read_text("utf-8"))) == set(row)
    assert "drawn" not in row
    assert authors_report.best_taught([row]) == ["base"]
    monkeypatch.setattr("authors_fit.MiniLM", lambda: as_vectors)
    authors.main(["--rows", str(rows), "--data", str(data), "--judge-fit"])
    (judged,) = authors.read_rows(rows)
    fits = {values["fit"] for values in judged["methods"].values()}
    assert all(0 <= fit <= 1 for fit in fits)
    assert authors_report.trained_as(judged, "sft") == "small"
    assert authors_report.trained_as(judged, "base") == "taught"


def test_a_student_of_itself_has_nothing_to_learn(tmp_path: Path) -> None:
    """Where teacher and student see the same, the divergence is that of rounding."""
    base = str(build_tiny("llama3", tmp_path / "base"))
    model, tokenizer = load_base({"id": base}, device=torch.device("cpu"), token=NOBODY)
    demos = DemoSet.from_pairs([("a b", "c d"), ("e f", "g h")])
    config = TINY.config(0, 8)
    run = Run.create(demos, {"id": base, "revision": None}, config, tmp_path / "run", None)
    teacher = Teacher(run, dress(run, model, tokenizer), {}, 8)
    teacher.demos = ()
    lessons = teacher.lessons(["a b", "e f"], [(5, 6, 7), (8, 9)])
    divergence, nll = losses(teacher.policy, lessons)
    assert divergence.item() == pytest.approx(0, abs=1e-4)
    assert nll.item() == 0


def test_a_curve_is_looked_at_on_the_way_and_at_smaller_scales(data: Path, tmp_path: Path) -> None:
    """Beginning with the base model, ending with the demonstrations in the prompt and scales."""
    base = str(build_tiny("llama3", tmp_path / "base"))
    row = authors_curves.Curves(data, base, 6, 8).run("cmcc-0", "1e-3", 4, 0)
    places = [(look["step"], look["scale"], look["shown"]) for look in row["looks"]]
    assert places == [
        (0, 1.0, False), (4, 1.0, False), (8, 1.0, False), (8, 1.0, True),
        (8, 0.3, False), (8, 0.5, False), (8, 0.7, False),
    ]  # fmt: skip
    assert "hello" not in json.dumps(row)
    assert "best step" in authors_curves.report([row])


def test_a_curves_step_is_chosen_by_what_a_run_can_see() -> None:
    """The held-out text's loss, though another step was better for the unseen ones."""
    looks = [
        {"step": step, "scale": 1.0, "shown": False, "unseen": unseen, "held_out": held_out}
        for step, unseen, held_out in ((0, 1.0, 1.0), (4, 0.8, 0.9), (8, 0.9, 0.7))
    ]
    found = authors_curves.places([{"looks": looks}])
    assert found["step by held-out loss"] == [0.9]
    assert found["best step"] == [0.8]


def test_what_users_are_told_is_counted_from_committed_rows() -> None:
    """Nobody types a figure in by hand."""
    told = read_real_figures()
    rows = authors.read_rows(Path(__file__).parents[1] / told.source)
    assert authors_report.figures(rows, told.source) == told


def test_rows_that_are_there_are_not_made_again(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line that was cut off is as if it were not there."""
    rows = tmp_path / "rows.jsonl"
    for name in ("cmcc-0", "ccat50-0"):
        authors.append(rows, {"key": f"{name}/small/0"})
    with rows.open("a") as file:
        file.write('{"key": "cmcc-1')
    given = ["--data", str(data), "--rows", str(rows), "--base-model", "x", "--settings", "small"]
    authors.main([*given, "--authors", "cmcc-0,ccat50-0"])
    assert "0 jobs, 2 rows there" in capsys.readouterr().err


def test_the_first_authors_are_for_tuning(data: Path) -> None:
    """The others are kept for reporting."""
    given = ["--data", str(data), "--base-model", "x", "--settings", "small"]
    tuning = list(authors.jobs_wanted(authors.parse(given), 80))
    assert [job.author for job in tuning][:3] == ["cmcc-0", "cmcc-1", "cmcc-2"]
    reporting = authors.parse([*given, "--role", "reporting"])
    assert list(authors.jobs_wanted(reporting, 80)) == []


def test_pocket_says_that_only_mechanics_are_tried(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is trained."""
    given = ["--data", str(data), "--rows", str(tmp_path / "rows"), "--base-model", "pocket"]
    authors.main([*given, "--authors", "nobody"])
    assert authors.MECHANICS in capsys.readouterr().err


def test_intervals_are_over_authors() -> None:
    """One author gives an interval of no width."""
    assert authors_report.interval([0.4]) == (0.4, 0.4)
    low, high = authors_report.interval([0.2, 0.4, 0.6, 0.8])
    assert 0.2 <= low < 0.5 < high <= 0.8


def test_settings_say_what_they_change() -> None:
    """A rank comes with its alpha, so that the scale stays."""
    assert authors_settings.SETTINGS["rank-4"].changes == ("lora.rank=4", "lora.alpha=8")
