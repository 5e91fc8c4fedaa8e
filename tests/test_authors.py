"""The loader for real authors: what it reads, and the whole command on a tiny model."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from tiny_models import build_tiny
from tiny_runs import TINY

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import authors

SPLITS = ("train", "train", "train", "val", "test", "test")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two made-up authors in the benchmarks' layout."""
    path = tmp_path_factory.mktemp("data") / "cmcc.jsonl"
    rows = [
        {"author": name, "split": split, "prompt": f"Write note {k}.", "completion": text * (k + 1)}
        for name, text in (("ann", "hello there all. "), ("bo", "ok! see you! "))
        for k, split in enumerate(SPLITS)
    ]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    return path


def test_validation_texts_are_held_out_and_test_prompts_asked(data: Path) -> None:
    """Training texts train, validation ones only score, test texts are never shown."""
    ann, bo = authors.read_authors(data)
    assert (ann.name, bo.name) == ("ann", "bo")
    assert [demo.split for demo in ann.demos] == ["train", "train", "train", "held_out"]
    assert ann.prompts == ("Write note 4.", "Write note 5.")


def test_texts_can_be_cut(data: Path) -> None:
    """For a base model that holds little."""
    assert max(len(d.completion) for a in authors.read_authors(data, 20) for d in a.demos) == 20


@pytest.mark.parametrize("content", ["", "no json", '{"author": "a", "split": "train"}', "[1]"])
def test_another_layout_is_refused(tmp_path: Path, content: str) -> None:
    """With the file's name; an empty file has no author."""
    path = tmp_path / "x.jsonl"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(SystemExit, match=r"x\.jsonl"):
        authors.read_authors(path)


def test_the_papers_preset_trains_on_the_training_texts_alone(data: Path) -> None:
    """It holds nothing out, so the validation texts have no part in it."""
    options = authors.parse(["x", "--base-model", "some/7b"])
    assert authors.settings(options).selection.held_out == 0
    shown = authors.demonstrations(authors.read_authors(data)[0], authors.settings(options))
    assert len(shown) == 3
    kept = authors.settings(authors.parse(["x", "--base-model", "some/7b", "--preset", "fast"]))
    assert len(authors.demonstrations(authors.read_authors(data)[0], kept)) == 4


def test_pocket_says_that_only_mechanics_are_tried(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is trained, and again above the table."""
    monkeypatch.setattr(authors, "read_authors", lambda *_: [])
    authors.main([str(data), "--base-model", "pocket", "--out", str(tmp_path)])
    told = capsys.readouterr()
    assert authors.MECHANICS in told.err
    assert authors.MECHANICS in told.out


def test_the_command_trains_compares_and_goes_on(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One command: runs, a rival, verdicts, a table; the second time nothing is trained again."""
    base = build_tiny("llama3", tmp_path / "tiny")
    given = [str(data), "--base-model", str(base), "--preset", "fast", "--out", str(tmp_path / "o")]
    given += [part for text in TINY for part in ("--set", text)]
    given += ["--methods", "zero-shot,sft,spin,ditto"]
    authors.main(given)
    first = capsys.readouterr().out
    assert "2 authors; intervals are clustered by author." in first
    assert [line.split()[0] for line in first.splitlines()[1:5]] == given[-1].split(",")
    weights = (tmp_path / "o" / "ann" / "adapter" / "adapter_model.safetensors").stat().st_mtime_ns
    authors.main(given)
    assert capsys.readouterr().out == first
    again = (tmp_path / "o" / "ann" / "adapter" / "adapter_model.safetensors").stat().st_mtime_ns
    assert again == weights
