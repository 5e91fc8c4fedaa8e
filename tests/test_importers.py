"""Files of demonstrations: every shape read, every fault told in a line, writing whole or not."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ditto_hub.demos.demonstrations import DemoSet
from ditto_hub.demos.importers import load_demos, save_demos
from ditto_hub.errors import DemoError, StorageError

PAIRS = [("Write a note.", "Hi,\nall “done”, Ann"), ("Write a letter.", 'Dear "team", bye 👋')]
ROWS = [{"prompt": prompt, "completion": completion} for prompt, completion in PAIRS]
CHATS = [
    {"messages": [{"role": "user", "content": p}, {"role": "assistant", "content": c}]}
    for p, c in PAIRS
]
TRL = [{"prompt": c["messages"][:1], "completion": c["messages"][1:]} for c in CHATS]
PARTS = [
    {
        "messages": [
            {**turn, "content": [{"type": "text", "text": turn["content"]}]} for turn in turns
        ]
    }
    for turns in (chat["messages"] for chat in CHATS)
]
CSV = """prompt,completion
Write a note.,"Hi,
all “done”, Ann"

Write a letter.,"Dear ""team"", bye 👋"
"""


def lines(rows: list[dict[str, object]], **how: bool) -> str:
    return "\n".join(json.dumps(row, ensure_ascii=False, **how) for row in rows)  # type: ignore[arg-type]


def put(folder: Path, content: str | bytes, name: str = "demos.jsonl") -> Path:
    file = folder / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def pairs(demos: DemoSet) -> list[tuple[str, str]]:
    return [(demo.prompt_text, demo.completion) for demo in demos]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", lines(ROWS)),
        ("crlf.jsonl", lines(ROWS).replace("\n", "\r\n") + "\r\n\r\n"),
        ("a.json", json.dumps(ROWS)),
        ("pretty.json", json.dumps(ROWS, indent=2, ensure_ascii=False)),
        ("array.jsonl", json.dumps(ROWS)),
        ("lines.json", lines(ROWS)),
        ("chat.jsonl", lines(CHATS)),
        ("chat.json", json.dumps(CHATS)),
        ("trl.jsonl", lines(TRL)),
        ("parts.jsonl", lines(PARTS)),
        ("mixed.txt", lines([ROWS[0], CHATS[1]])),
        ("a.csv", CSV),
        ("blank-first.csv", "\n\n" + CSV),
        ("no-suffix", CSV),
        ("capitals.csv", CSV.replace("prompt,completion", "Prompt, Completion ")),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_every_shape_gives_the_same_demos(
    tmp_path: Path, name: str, content: str, encoding: str
) -> None:
    """JSONL, JSON arrays and CSV, with pairs or messages, in UTF-8 or UTF-16, read alike."""
    assert pairs(load_demos(put(tmp_path, content.encode(encoding), name))) == PAIRS


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_csv_of_another_delimiter_is_read(tmp_path: Path, delimiter: str) -> None:
    """A spreadsheet's semicolons or tabs serve as well as commas."""
    text = f"id{delimiter}prompt{delimiter}completion\na{delimiter}Hi, you{delimiter}Yo\n"
    assert pairs(load_demos(put(tmp_path, text, "a.csv"))) == [("Hi, you", "Yo")]


def test_last_answer_is_the_completion(tmp_path: Path) -> None:
    """Of a conversation the last assistant turn is the completion, all before it the prompt."""
    turns = [("system", "Be kind."), ("user", "a"), ("assistant", "b"), ("user", "c")]
    turns += [("assistant", "d"), ("user", "e")]
    row = {"messages": [{"role": role, "content": text} for role, text in turns]}
    (demo,) = load_demos(put(tmp_path, json.dumps(row)))
    assert ([turn["content"] for turn in demo.prompt], demo.completion) == (
        ["Be kind.", "a", "b", "c"],
        "d",
    )


def test_optional_fields_are_kept(tmp_path: Path) -> None:
    """Id, origin, original and split come through; other keys are left out."""
    more = {"id": 7, "origin": "edited", "original": "Was.", "split": "held_out", "author": "x"}
    (demo,) = load_demos(put(tmp_path, json.dumps({**ROWS[0], **more})))
    assert (demo.id, demo.origin, demo.original, demo.split) == ("7", "edited", "Was.", "held_out")


def test_missing_ids_are_numbered_around_given_ones(tmp_path: Path) -> None:
    """A row without an id gets the next number that no row has taken."""
    rows = [ROWS[0], {**ROWS[0], "id": "demo-1"}, ROWS[1]]
    assert [d.id for d in load_demos(put(tmp_path, lines(rows)))] == ["demo-2", "demo-1", "demo-3"]


def test_line_separators_inside_a_text_do_not_end_a_row(tmp_path: Path) -> None:
    """U+2028 and U+0085 are text in JSONL, not line ends."""
    row = {"prompt": "Hi", "completion": "a\u2028b\u0085c"}
    assert pairs(load_demos(put(tmp_path, lines([row, row])))) == [("Hi", "a\u2028b\u0085c")] * 2


GOOD = lines(ROWS[:1])


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "is empty"),
        (" \n\t\n", "is empty"),
        ("[]", "holds no demonstrations"),
        ("prompt,completion\n", "holds no demonstrations"),
        (GOOD + '\n{"prompt": "a",', r"line 2, column 16: not valid JSON"),
        (GOOD + "\n{'prompt': 1}", r"line 2, column 2: not valid JSON"),
        ('[\n{"prompt": "a"\n"completion"}]', r"line 3, column 1: not valid JSON"),
        (GOOD + "\n[1]", "line 2: a list where a row belongs"),
        ('[{"prompt": "P", "completion": "C"},\n"x"]', "line 2: a str where a row belongs"),
        ("[" * 100_000, "JSON"),
        ('{"prompt": ' + "9" * 5000 + "}", "number too long"),
        (GOOD + '\n{"author": "x", "text": "y"}', r"line 2: A row with the keys author, text"),
        ("{}", r"keys \(none\)"),
        ('{"data": [1]}', "keys data"),
        (GOOD + '\n{"prompt": "a", "completion": 5}', "line 2: The completion is of type int"),
        (GOOD + '\n{"prompt": "a", "completion": null}', "line 2: The completion is null"),
        (GOOD + '\n{"prompt": 7, "completion": "a"}', "line 2: .* type int"),
        ('{"prompt": "\\ud83d", "completion": "a"}', "half a character"),
        ('{"prompt": "a", "completion": "b", "split": "test"}', "line 1: The split is 'test'"),
        ('{"prompt": "a", "completion": "b", "split": ["x"]}', "line 1: The split is"),
        (lines([{**ROWS[0], "id": "a"}, {**ROWS[1], "id": "a"}]), "line 2: The id 'a' was given"),
        ('{"messages": "hi"}', "line 1: .* type str"),
        ('{"messages": []}', "no question with an answer"),
        ('{"messages": [{"role": "assistant", "content": "x"}]}', "no question with an answer"),
        ('{"messages": [{"role": "user", "content": "x"}]}', "no question with an answer"),
        (
            '{"messages": [{"role": "tool", "content": "x"},'
            ' {"role": "assistant", "content": "y"}]}',
            "'tool'",
        ),
        (
            '{"messages": [{"role": "user", "content": [{"type": "image"}]},'
            ' {"role": "assistant", "content": "y"}]}',
            "holds image",
        ),
        ("Dear all,\nthe potluck is off.", "neither JSONL, a JSON array, nor CSV"),
        ("prompt,completion\na,b,c\n", "line 2: 3 cells, but 2 columns"),
        ('prompt,completion\na,b\nc,"d', "line 3: not valid CSV"),
        ('prompt,completion\na,"b"c\n', "line 2: not valid CSV"),
        (b"caf\xe9", r"UTF-8 text: byte offset 3 \(0xE9\)"),
        (b"\xef\xbb\xbf{\xff}", "byte offset 4"),
        (b"\xff\xfe{\x00\x00", "UTF-16"),
        (b"\x1f\x8b\x08\x00\x00", "is a gzip archive, not text"),
    ],
)
def test_bad_file_is_told(tmp_path: Path, content: str | bytes, told: str) -> None:
    """Every fault is a DemoError that says where it is and what was found."""
    with pytest.raises(DemoError, match=told):
        load_demos(put(tmp_path, content))


def test_csv_without_a_column_names_those_it_has(tmp_path: Path) -> None:
    """A CSV that lacks a column is told which one, and which it has."""
    with pytest.raises(DemoError, match="lacks the columns completion; it has prompt, remark"):
        load_demos(put(tmp_path, "prompt,remark\na,b\n", "a.csv"))


def test_folder_is_refused(tmp_path: Path) -> None:
    """A folder is not a file of demonstrations."""
    with pytest.raises(DemoError, match="is a folder"):
        load_demos(tmp_path)


@pytest.mark.parametrize("name", ["nowhere.jsonl", "a\0b", "x" * 300])
def test_missing_file_is_refused(tmp_path: Path, name: str) -> None:
    """A name with no file behind it, however odd, is a DemoError."""
    with pytest.raises(DemoError):
        load_demos(tmp_path / name)


def test_pipe_is_refused(tmp_path: Path) -> None:
    """A pipe is refused rather than waited for."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DemoError, match="not a regular file"):
        load_demos(tmp_path / "pipe")


def test_large_file_is_refused(tmp_path: Path) -> None:
    """A file over 5 MB is refused with its size."""
    with pytest.raises(DemoError, match=r"6\.0 MB; the maximum is 5 MB"):
        load_demos(put(tmp_path, b"x" * 6_000_000))


def test_saved_demos_read_back(tmp_path: Path) -> None:
    """What is saved is read back equal: ids, split, origin and all."""
    demos = DemoSet.from_pairs([*PAIRS, *PAIRS]).split(1, seed=2)
    save_demos(demos, tmp_path / "demos.jsonl")
    assert load_demos(tmp_path / "demos.jsonl") == demos


def test_save_replaces_whole_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """Saving over a file replaces it, and no draft stays in the folder."""
    target = put(tmp_path, "old")
    save_demos(DemoSet.from_pairs(PAIRS), target)
    assert [file.name for file in tmp_path.iterdir()] == ["demos.jsonl"]


def test_failed_save_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk refuses, the old file stays, the draft goes, and the error is ours."""

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    target = put(tmp_path, "old")
    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(StorageError, match="No space left"):
        save_demos(DemoSet.from_pairs(PAIRS), target)
    assert [file.read_text() for file in tmp_path.iterdir()] == ["old"]


def test_save_into_a_missing_folder_is_told(tmp_path: Path) -> None:
    """A folder that is not there is a StorageError naming the file."""
    with pytest.raises(StorageError, match=r"demos\.jsonl cannot be written"):
        save_demos(DemoSet.from_pairs(PAIRS), tmp_path / "none" / "demos.jsonl")
