"""Files of demonstrations: read whatever shape people have, write one shape.

A file is JSONL, a JSON array, or CSV; a `Shape` turns one row into (prompt, completion). To learn a
further shape, add one to `SHAPES`.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import io
import itertools
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ditto_hub.demos import Demonstration, DemoSet, Message, as_messages
from ditto_hub.errors import DemoError, StorageError

MAX_BYTES = 5_000_000
Row = dict[str, Any]
Pair = tuple[tuple[Message, ...], Any]


@dataclass(frozen=True)
class Shape:
    """Know one shape of row.

    Args:
        name: for people, naming the keys.
        keys: a row that has all of these is of this shape.
        read: row -> (prompt as turns, completion); may raise DemoError.
    """

    name: str
    keys: tuple[str, ...]
    read: Callable[[Row], Pair]


def load_demos(path: str | Path) -> DemoSet:
    """Read a file of demonstrations.

    Args:
        path: JSONL or a JSON array of rows with prompt and completion or with messages, or a CSV
            with the columns prompt and completion. Rows may carry id, origin, original and split.

    Raises:
        DemoError: what is wrong with the file, and in which line.
    """
    file = Path(path)
    text = _decode(_read(file), file)
    rows = list(_rows(text, file))
    given = {str(row.get("id")) for _, row in rows}
    spare = (name for name in map("demo-{}".format, itertools.count(1)) if name not in given)
    demos: dict[str, Demonstration] = {}
    for line, row in rows:
        try:
            demo = _demonstration(row, spare)
            if demo.id in demos:
                raise DemoError(
                    f"The id {demo.id!r} was given before.",
                    "Give each demonstration its own id, or leave the ids out.",
                )
        except DemoError as error:
            raise DemoError(f"{file.name}, line {line}: {error.what}", error.remedy) from error
        demos[demo.id] = demo
    if not demos:
        raise DemoError(f"{file.name} holds no demonstrations.", "Two are the least.")
    return DemoSet(tuple(demos.values()))


def save_demos(demos: Iterable[Demonstration], path: str | Path) -> None:
    """Write demonstrations as JSONL; the file is there whole or not at all.

    Raises:
        StorageError: the disk refused.
    """
    target = Path(path)
    lines = [json.dumps(demo.to_json(), ensure_ascii=False) + "\n" for demo in demos]
    draft = ""
    try:
        handle, draft = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as out:
            out.writelines(lines)
            out.flush()
            os.fsync(out.fileno())
        os.replace(draft, target)
    except OSError as error:
        if draft:
            Path(draft).unlink(missing_ok=True)
        raise StorageError(
            f"{target} cannot be written ({error.strerror}).", "Free some space or choose a folder."
        ) from error


def _read(file: Path) -> bytes:
    try:
        if file.is_dir():
            raise DemoError(f"{file} is a folder.", "Give a file of demonstrations in it.")
        if not file.exists():
            raise DemoError(f"There is no file {file}.", "Check the spelling and the folder.")
        if not file.is_file():
            raise DemoError(f"{file} is not a regular file.", "Save the demonstrations in a file.")
        with file.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
            size = os.fstat(stream.fileno()).st_size
    except OSError as error:
        raise DemoError(
            f"{file} cannot be read ({error.strerror}).", "Give another file, or mend its rights."
        ) from error
    if len(data) > MAX_BYTES:
        raise DemoError(
            f"{file.name} has {size / 1e6:.1f} MB, and {MAX_BYTES / 1e6:.0f} MB is the most.",
            "A few demonstrations are enough: keep the 4 to 7 most typical ones.",
        )
    return data


ENCODINGS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins like UTF-16's, so it is looked for first
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def _decode(data: bytes, file: Path) -> str:
    encoding = next((name for mark, name in ENCODINGS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        place = error.start + len(data) - len(error.object)  # a BOM may be cut off already
        raise DemoError(
            f"{file.name} is not {error.encoding.upper()} text: byte offset {place}"
            f" (0x{data[place]:02X}) does not belong there.",
            "Save the file as UTF-8 text.",
        ) from error
    if not text.strip():
        raise DemoError(f"{file.name} is empty.", "Two demonstrations are the least.")
    return text


def _rows(text: str, file: Path) -> Iterator[tuple[int, Row]]:
    """Yield (line, row), whichever of the three kinds of file it is."""
    start = text.lstrip()[0]
    if file.suffix.lower() in (".csv", ".tsv") or start not in "[{":
        return _csv_rows(text, file)
    if start == "[":
        return _array_rows(text, file)
    return _jsonl_rows(text, file)


def _jsonl_rows(text: str, file: Path) -> Iterator[tuple[int, Row]]:
    with contextlib.suppress(ValueError, RecursionError):
        yield 1, json.loads(text)  # one object, which may go over several lines
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, _as_row(_parse(line, file, number), number, file)


def _array_rows(text: str, file: Path) -> Iterator[tuple[int, Row]]:
    _parse(text, file, 1)
    decoder, at, line = json.JSONDecoder(), text.index("[") + 1, 1
    line += text.count("\n", 0, at)
    while True:
        while text[at] in " \t\r\n,":
            line += text[at] == "\n"
            at += 1
        if text[at] == "]":
            return
        value, end = decoder.raw_decode(text, at)
        yield line, _as_row(value, line, file)
        line += text.count("\n", at, end)
        at = end


def _parse(text: str, file: Path, line: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DemoError(
            f"{file.name}, line {line + error.lineno - 1}, column {error.colno}: not valid JSON"
            f" ({error.msg}).",
            "JSONL has one {...} a line; mind quotes, commas and line breaks inside texts.",
        ) from error
    except (RecursionError, ValueError) as error:
        raise DemoError(
            f"{file.name}, line {line}: JSON nested too deep, or with a number too long.",
            "A row has texts for prompt and completion.",
        ) from error


def _as_row(value: Any, line: int, file: Path) -> Row:
    if isinstance(value, dict):
        return value
    raise DemoError(
        f"{file.name}, line {line}: a {type(value).__name__} where a row belongs.",
        'A row is like {"prompt": "...", "completion": "..."}.',
    )


def _csv_rows(text: str, file: Path) -> Iterator[tuple[int, Row]]:
    header = text.lstrip().split("\n", 1)[0]
    delimiter = max(",;\t", key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    columns: list[str] = []
    line = 1
    try:
        for cells in reader:
            blank = not any(cell.strip() for cell in cells)
            if not columns and not blank:
                columns = _columns(cells, file)
            elif not blank:
                yield line, _csv_row(columns, cells, line, file)
            line = reader.line_num + 1
    except csv.Error as error:
        raise DemoError(
            f"{file.name}, line {line}: not valid CSV ({error}).",
            'Put a text with commas, quotes or line breaks in "quotes", quotes inside doubled.',
        ) from error


def _columns(cells: Sequence[str], file: Path) -> list[str]:
    columns = [cell.strip().lower() for cell in cells]
    missing = [name for name in ("prompt", "completion") if name not in columns]
    if not missing:
        return columns
    if file.suffix.lower() in (".csv", ".tsv"):
        raise DemoError(
            f"{file.name} lacks the column {' and '.join(missing)}; it has"
            f" {', '.join(columns)[:200]}.",
            "The first line names the columns: prompt,completion",
        )
    raise DemoError(
        f"{file.name} is neither JSONL, a JSON array, nor CSV with prompt and completion columns:"
        f" it begins with {' '.join(columns)[:40]!r}.",
        'Write one {"prompt": "...", "completion": "..."} a line.',
    )


def _csv_row(columns: list[str], cells: list[str], line: int, file: Path) -> Row:
    if len(cells) != len(columns):
        raise DemoError(
            f"{file.name}, line {line}: {len(cells)} cells, but {len(columns)} columns.",
            'Put a text that has commas in it in "quotes".',
        )
    row = dict(zip(columns, cells, strict=True))
    sides = ("prompt", "completion")
    return {name: cell for name, cell in row.items() if cell or name in sides}


def _demonstration(row: Row, spare_ids: Iterator[str]) -> Demonstration:
    shape = next((s for s in SHAPES if all(key in row for key in s.keys)), None)
    if shape is None:
        known = "; ".join(shape.name for shape in SHAPES)
        raise DemoError(
            f"A row with the keys {', '.join(map(str, row))[:200] or '(none)'} is of no known"
            " shape.",
            f"Known shapes: {known}.",
        )
    prompt, completion = shape.read(row)
    given = row.get("id")
    name = str(given) if type(given) is int else next(spare_ids) if given is None else given
    kept = {key: row[key] for key in ("split", "origin", "original") if row.get(key) is not None}
    return Demonstration(name, prompt, completion, **{"origin": "file", **kept})


def _read_pair(row: Row) -> Pair:
    """Take prompt (text or turns) and completion (text, or one assistant turn in a list)."""
    prompt, completion = row["prompt"], row["completion"]
    if isinstance(completion, list) and len(completion) == 1:
        (turn,) = _turns(completion)
        completion = turn["content"] if turn["role"] == "assistant" else completion
    return as_messages(prompt if isinstance(prompt, str) else _turns(prompt)), completion


def _read_messages(row: Row) -> Pair:
    """Take the last assistant turn as the completion, all before it as the prompt."""
    turns = _turns(row["messages"])
    answers = [place for place, turn in enumerate(turns) if turn["role"] == "assistant"]
    if not answers or not answers[-1]:
        raise DemoError(
            "The messages hold no question with an answer.",
            "They need a user turn and, after it, an assistant turn: the completion.",
        )
    return as_messages(turns[: answers[-1]]), turns[answers[-1]]["content"]


def _turns(value: Any) -> list[Message]:
    if not isinstance(value, list) or not all(isinstance(turn, dict) for turn in value):
        raise DemoError(
            f"Turns are needed, and a value of type {type(value).__name__} is there.",
            'Turns are like [{"role": "user", "content": "..."}].',
        )
    return [{**turn, "content": _content(turn.get("content"))} for turn in value]


def _content(content: Any) -> Any:
    """Join a content given in parts, as chat APIs do; anything else is left as it is."""
    if not isinstance(content, list):
        return content
    kinds = {
        part.get("type") if isinstance(part, dict) else type(part).__name__ for part in content
    }
    if kinds != {"text"}:
        told = ", ".join(sorted(map(str, kinds))) or "nothing"
        raise DemoError(f"A turn holds {told}.", "Demonstrations are text only.")
    return "".join(str(part.get("text", "")) for part in content)


SHAPES: tuple[Shape, ...] = (
    Shape("prompt and completion", ("prompt", "completion"), _read_pair),
    Shape("messages, the last answer being the completion", ("messages",), _read_messages),
)
