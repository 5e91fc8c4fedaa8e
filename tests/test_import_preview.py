"""Previews: what a file offers, at most so much of it, faults told and passed over."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pytest

from ditto_hub.demos.importers import LONGEST_PREVIEW, preview, preview_bytes
from ditto_hub.demos.importers.gathering import ROWS_READ
from ditto_hub.demos.importers.preview import CHARS_SHOWN, ROWS_SHOWN
from ditto_hub.errors import DemoError


def row(n: int = 0, completion: str = "Yes, of course.") -> str:
    """Return one row as JSON."""
    return json.dumps({"prompt": f"Question {n}", "completion": completion})


def test_a_row_says_where_it_stands_and_what_is_doubtful() -> None:
    """Rows come with their place, their texts and a sentence for each doubt."""
    data = "\n".join([row(), "", row(1, ""), row(2, "x" * 7000)]).encode()
    found = preview_bytes(data, "a.jsonl")
    rows = [(r.number, str(r.where), tuple(map(str, r.warnings))) for r in found.rows]
    assert rows == [
        (1, "line 1", ()),
        (2, "line 3", ("The completion is empty.",)),
        (3, "line 4", ("It is long: 7,010 characters.",)),
    ]


def test_bad_rows_are_counted_and_passed_over() -> None:
    """A row that cannot be read costs the others nothing; the first fault is told."""
    data = "\n".join([row(), "{broken", '{"other": 1}', row(1), "[]"]).encode()
    found = preview_bytes(data, "a.jsonl")
    assert (len(found.rows), found.unusable) == (2, 3)
    assert "3 rows cannot be used. The first: a.jsonl, line 2" in str(found.notices[0])


def test_a_broken_end_keeps_what_came_before() -> None:
    """Where a file breaks off, what was read of it stays and the break is told."""
    found = preview_bytes(f"[{row()}, {row(1)}, {{".encode(), "a.json")
    assert (len(found.rows), found.more) == (2, True)
    assert "Nothing after this was read: a.json, line 1" in str(found.notices[0])


def test_what_a_page_holds_is_bounded() -> None:
    """Of many long texts as many are shown as a page's session may hold; all are counted."""
    data = "\n".join(row(n, "z" * 50_000) for n in range(100)).encode()
    found = preview_bytes(data, "a.jsonl")
    assert (len(found.rows), found.total) == (CHARS_SHOWN // 50_020, 100)


def test_a_million_rows_stop_early() -> None:
    """Of a table of a million rows the first are shown, and that it goes on is told."""
    data = b"prompt,completion\n" + b"a,b\n" * 1_000_000
    found = preview_bytes(data, "a.csv")
    assert (len(found.rows), found.total, found.more) == (ROWS_SHOWN, ROWS_READ, True)
    assert f"Only the first {ROWS_READ:,} rows were read." in map(str, found.notices)


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv"])
def test_of_a_large_file_the_beginning_is_read(tmp_path: Path, name: str) -> None:
    """A file over the limit is read up to it, whole rows only, and that is told."""
    lines = [row(n, "y" * 200) for n in range(100)]
    text = {
        "a.jsonl": "\n".join(lines),
        "a.json": "[" + ",".join(lines) + "]",
        "a.csv": "prompt,completion\n" + "\n".join(f"q{n},{'y' * 200}" for n in range(100)),
    }[name]
    (tmp_path / name).write_text(text)
    found = preview(tmp_path / name, limit=5000)
    assert 15 < len(found.rows) < 30
    assert all(r.completion == "y" * 200 for r in found.rows)
    assert found.more
    assert [*map(str, found.notices)] == ["Only the first 5,000 bytes were read."]


def test_a_large_upload_takes_little_memory(tmp_path: Path) -> None:
    """Of a file of 100 MB no more than the limit is ever in memory, a few times over."""
    file = tmp_path / "a.jsonl"
    with file.open("wb") as out:
        out.write(row().encode() + b"\n")
        out.truncate(100_000_000)
    tracemalloc.start()
    with pytest.raises(DemoError, match="NUL"):
        preview(file)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * LONGEST_PREVIEW


def test_columns_are_offered_where_no_shape_fits() -> None:
    """A table of unknown columns shows no rows until two are chosen, or one."""
    found = preview_bytes(b"Frage,Antwort\nWas?,Das.\nWer?,Der.\n", "a.csv")
    assert (found.rows, found.columns) == ((), ("frage", "antwort"))
    chosen = found.from_columns("frage", "antwort")
    assert [(r.prompt_text, r.completion) for r in chosen.rows] == [
        ("Was?", "Das."),
        ("Wer?", "Der."),
    ]
    alone = found.from_columns("", "antwort")
    (row, *_) = alone.rows
    assert (row.prompt_text, [*map(str, row.warnings)]) == ("", ["The prompt is empty."])


def test_columns_are_offered_for_json_rows_of_unknown_keys() -> None:
    """JSON rows of unknown keys are read by two of them like a table."""
    found = preview_bytes(b'{"title": "Hi", "body": "There", "n": 3}\n' * 3, "posts.jsonl")
    assert found.columns == ("title", "body")
    assert len(found.from_columns("title", "body").rows) == 3


def test_western_european_text_is_read_with_a_notice() -> None:
    """Text in Windows-1252 is read, and that this was guessed is told."""
    found = preview_bytes("prompt,completion\nSay hi,Grüße – Zoë\n".encode("cp1252"), "a.csv")
    assert found.rows[0].completion == "Grüße – Zoë"
    assert "Windows-1252" in str(found.notices[0])


@pytest.mark.parametrize("encoding", ["big5", "gb18030"])
def test_other_encodings_are_not_guessed(encoding: str) -> None:
    """Text that is most likely in yet another encoding is refused, with what to do."""
    with pytest.raises(DemoError, match="UTF-8"):
        preview_bytes("prompt,completion\n你好嗎今天,我很好謝謝你\n".encode(encoding), "a.csv")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_marked_encodings_are_read(encoding: str) -> None:
    """A byte order mark says what the encoding is."""
    found = preview_bytes("prompt,completion\r\n你好,我很好\r\n".encode(encoding), "a.csv")
    assert [(r.prompt_text, r.completion) for r in found.rows] == [("你好", "我很好")]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark_is_read(encoding: str) -> None:
    """UTF-16 is known by its zero bytes where no byte order mark says so."""
    found = preview_bytes("prompt,completion\r\nHello,Good day\r\n".encode(encoding), "a.csv")
    assert [(r.prompt_text, r.completion) for r in found.rows] == [("Hello", "Good day")]


def test_marks_count_where_columns_are_chosen() -> None:
    """Of a table of unknown columns a row that is marked as bad is not offered either."""
    data = (
        b'{"title": "x", "body": "y", "label": false}\n{"title": "x", "body": "z", "label": true}'
    )
    chosen = preview_bytes(data, "a.jsonl").from_columns("title", "body")
    assert [row.completion for row in chosen.rows] == ["z"]


@pytest.mark.parametrize(
    "data",
    [b"", b" \n", b"[]", b"prompt,completion\n", b"[" * 100_000, b'{"a":' * 50_000, b"\xff\xff",
     b"9" * 100_000, b'{"prompt": "a", "completion": "b\\u0000"}',
     b'{"prompt": "a", "completion": "b\\ud800"}',
     b'["' + b"x" * 10_000],
)  # fmt: skip
def test_nothing_to_show_is_an_error(data: bytes) -> None:
    """A file that offers nothing is a DemoError, whatever is wrong with it."""
    with pytest.raises(DemoError):
        preview_bytes(data, "a.jsonl")
