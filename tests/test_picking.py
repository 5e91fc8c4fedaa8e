"""`ditto-hub pick`: what a file offers is shown, and what is chosen becomes a demo set."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ditto_hub.cli import main
from ditto_hub.demos.importers import load_demos
from ditto_hub.pocket import voice_path


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Return a table of unknown columns."""
    file = tmp_path / "posts.csv"
    file.write_text("Title,Body\n" + "\n".join(f"Post {n},Text {n}" for n in range(1, 5)))
    return file


def run(*words: object) -> Result:
    """Run the command."""
    return CliRunner().invoke(main, ["pick", *map(str, words)])


def test_without_an_output_the_file_is_shown(table: Path) -> None:
    """The columns are told, and with them chosen the rows are listed by number."""
    assert "Columns: title, body" in run(table).stderr
    shown = run(table, "--prompt-column", "Title", "--completion-column", "Body").stdout
    assert shown.splitlines()[1].split() == ["2", "Post", "2", "->", "Text", "2"]


def test_picked_rows_become_a_demo_set(table: Path, tmp_path: Path) -> None:
    """Rows chosen by number are written in that order, and read back as demonstrations."""
    out = tmp_path / "demos.jsonl"
    columns = ("--prompt-column", "title", "--completion-column", "body")
    result = run(table, *columns, "--rows", "3,1", "--output", out)
    assert result.exit_code == 0
    assert [demo.completion for demo in load_demos(out)] == ["Text 3", "Text 1"]


def test_a_voice_is_picked(tmp_path: Path) -> None:
    """Of a chat export the person's own writing can be taken."""
    turns = [{"sender": "human", "text": "Mine"}, {"sender": "assistant", "text": "Its"}]
    file, out = tmp_path / "conversations.json", tmp_path / "demos.jsonl"
    file.write_text(json.dumps([{"name": "Chat", "chat_messages": turns}]))
    assert "Voices: assistant, user" in run(file).stderr
    run(file, "--voice", "user", "--output", out)
    assert [demo.completion for demo in load_demos(out)] == ["Mine"]


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("--rows", "one", "--output", "x"), 2, "whole numbers"),
        (("--output", "x"), 1, "lacks the columns prompt, completion"),
    ],
)
def test_a_wrong_choice_is_told(table: Path, words: tuple[str, ...], code: int, told: str) -> None:
    """Wrong usage and a file that needs a choice each say so."""
    result = run(table, *words)
    assert (result.exit_code, told in result.stderr) == (code, True)


def test_texts_alone_get_prompts(tmp_path: Path) -> None:
    """Several files become demonstrations whose prompts the base model wrote; they are shown."""
    texts = [demo.completion for demo in load_demos(voice_path("sprout"))][:2]
    files = [tmp_path / f"{n}.txt" for n in range(2)]
    for file, text in zip(files, texts, strict=True):
        file.write_text(text)
    out = tmp_path / "demos.jsonl"
    result = run(*files, "--texts-alone", "--base-model", "pocket", "--output", out)
    assert result.exit_code == 0
    found = load_demos(out)
    assert [demo.completion for demo in found] == texts
    assert found.prompt_authors == {"model": 2}
    assert f"demo-1: {found.demos[0].prompt_text}" in result.stderr


def test_texts_alone_are_shown_first(tmp_path: Path) -> None:
    """Without an output nothing is written, and no model is loaded."""
    (tmp_path / "a.txt").write_text("One.\n---\nTwo.")
    shown = run(tmp_path / "a.txt", "--texts-alone").stdout
    assert [line.split() for line in shown.splitlines()] == [
        ["1", "->", "One."], ["2", "->", "Two."],
    ]  # fmt: skip


def test_several_files_are_for_texts(table: Path) -> None:
    """Several files without --texts-alone are wrong usage."""
    result = run(table, table, "--output", "x")
    assert (result.exit_code, "--texts-alone" in result.stderr) == (2, True)
