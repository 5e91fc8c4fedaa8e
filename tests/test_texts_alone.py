"""Files of texts without prompts: what is one text, and what the texts of other files are."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path

import pytest

from ditto_hub.demos.importers import Choice, load_demos, load_texts, preview
from ditto_hub.errors import DemoError

LETTER = """From ann@example.org Mon Jan 01 10:00:00 2024
From: Ann <ann@example.org>
Subject: The roof
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="b"

--b
Content-Type: text/plain; charset=utf-8

It leaks again.

On Monday Bob wrote:
> Does it leak?

--{blank}
Ann, 12 Mill Road
--b
Content-Type: text/plain
Content-Disposition: attachment; filename="x.txt"

an attachment
--b--
""".replace("{blank}", " ")


def texts_of(*files: Path) -> list[str]:
    """Return the texts of files, whose prompts are all empty."""
    found = load_texts(files)
    assert {demo.prompt_text for demo in found} <= {""}
    return [demo.completion for demo in found]


def put(folder: Path, name: str, text: str) -> Path:
    """Write a file."""
    (folder / name).write_bytes(text.encode())
    return folder / name


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.txt", "One.\n\nStill one.\n---\nTwo.\n", ["One.\n\nStill one.", "Two."]),
        ("a.txt", "One.\fTwo.", ["One.", "Two."]),
        ("a.txt", "One.\r\n  -----\t\r\nTwo,\r\nstill.", ["One.", "Two,\nstill."]),
        ("a.txt", "--\nOne - with -- dashes\n", ["--\nOne - with -- dashes"]),
        ("a.txt", "---\n\n---\nOne.\n---\n", ["One."]),
        ("a.md", "---\ntitle: T\ntags:\n  - x\n---\nOne.\n\n---\n\nTwo.", ["One.", "Two."]),
        ("a.md", "A heading\n---\nOne.", ["A heading\n---\nOne."]),
        ("notes", "One.\n---\nTwo.", ["One.", "Two."]),
        ("a.csv", "id,text,likes\n1,One.,3\n2,Two.,4\n", ["One.", "Two."]),
        ("a.csv", "post\nOne.\nTwo.\n", ["One.", "Two."]),
        ("a.jsonl", '{"text": "One."}\n{"text": "Two.", "n": 2}', ["One.", "Two."]),
        ("a.jsonl", '{"prompt": "P", "completion": "One."}', ["One."]),
        ("a.json", '["One.", "Two."]', ["One.", "Two."]),
        (
            "a.json",
            '[\n  "One.\\n---\\nStill.",\n  " ",\n  "Two."\n]\n',
            ["One.\n---\nStill.", "Two."],
        ),
        ("a.jsonl", '"One."\n"Two: \\"a\\", b"\n', ["One.", 'Two: "a", b']),
        ("a.jsonl", '["One.", "Two."]\n["Three."]\n', ["One.", "Two.", "Three."]),
        ("a.txt", '"One."\n---\n"Two."', ['"One."', '"Two."']),
        ("a.mbox", LETTER, ["It leaks again."]),
        ("a.eml", LETTER.partition("\n")[2], ["It leaks again."]),
    ],
)
def test_texts_are_read(tmp_path: Path, name: str, content: str, expected: list[str]) -> None:
    """Plain text is parted by lines of dashes and form feeds; of all else the texts are taken."""
    assert texts_of(put(tmp_path, name, content)) == expected


def test_several_files_are_a_text_each(tmp_path: Path) -> None:
    """Of several files each of plain text is one text, whatever lines are in it."""
    files = [put(tmp_path, "a.txt", "One.\n---\nStill."), put(tmp_path, "b.md", "Two.")]
    assert texts_of(*files) == ["One.\n---\nStill.", "Two."]
    assert [demo.id for demo in load_texts(files)] == ["demo-1", "demo-2"]


@pytest.mark.parametrize(
    ("name", "content"), [("a.txt", "One.\n---\nTwo."), ("a.json", '["One.", "Two."]')]
)
@pytest.mark.parametrize("load", [load_demos, lambda file: load_demos(file, Choice(rows=(1,)))])
def test_texts_alone_need_the_wish(tmp_path: Path, name: str, content: str, load: object) -> None:
    """Where nobody asked for texts alone, texts are refused in words; they are previewed."""
    file = put(tmp_path, name, content)
    with pytest.raises(DemoError, match=r"2 in all.*--texts-alone"):
        load(file)  # type: ignore[operator]
    assert [(row.prompt_text, row.completion) for row in preview(file).rows] == [
        ("", "One."), ("", "Two."),
    ]  # fmt: skip


def test_a_list_of_strings_has_nothing_else(tmp_path: Path) -> None:
    """What is no text among texts is told with its line."""
    with pytest.raises(DemoError, match="line 3: a dict where a text belongs"):
        load_texts([put(tmp_path, "a.json", '["x",\n\n{"text": "y"}]')])


def test_a_column_that_cannot_be_told_is_asked_for(tmp_path: Path) -> None:
    """Of several columns without a known name none is guessed; one can be named."""
    file = put(tmp_path, "a.csv", "one,two\nA,B\n")
    with pytest.raises(DemoError, match=r"one, two.*--completion-column"):
        load_texts([file])
    assert load_texts([file], Choice(completion="two")).demos[0].completion == "B"


def test_who_wrote_a_prompt_is_kept(tmp_path: Path) -> None:
    """A row's `prompt_by` is read where it is one of our words, and else says nothing."""
    rows = [{"prompt": "P", "completion": by, "prompt_by": by} for by in ("model", "text", "Ann")]
    file = put(tmp_path, "a.jsonl", "\n".join(map(json.dumps, rows)))
    found = load_demos(file)
    assert [demo.prompt_by for demo in found] == ["model", "text", "user"]
    assert found.prompt_authors == {"model": 1, "text": 1}


@pytest.mark.parametrize(
    "content",
    [
        "---\n" + "-a: b\n" * 300_000,
        "-" * 2_000_000 + "x",
        ("-" * 1000 + " " * 1000 + "x\n") * 1000,
        "x\n---\n" * 300_000,
        "\f" * 2_000_000,
    ],
)
def test_plain_text_is_read_in_linear_time(tmp_path: Path, content: str) -> None:
    """No file of plain text takes long, whatever lines it has."""
    file, began = put(tmp_path, "a.md", content), time.perf_counter()
    with contextlib.suppress(DemoError):  # some hold nothing
        preview(file, choice=Choice(texts_alone=True))
    assert time.perf_counter() - began < 10
