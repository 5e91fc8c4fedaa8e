"""Rows of JSON Lines, of a JSON array, of a table, one after the other."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

from ditto_hub.errors import DemoError
from ditto_hub.importers.pairs import Row
from ditto_hub.importers.reading import Source

Numbered = Iterator[tuple[int, Row | DemoError]]
DELIMITERS = ",;\t"
TABLES = (".csv", ".tsv")
MARKS = ("id", "split", "origin", "original")  # an empty cell of these is none
BLANKS = (" ", "\t", "\r", "\n")


def rows_of(text: str, source: Source) -> Numbered:
    """Yield (line, row), or the error that stands in a row's place.

    Raises:
        DemoError: where nothing after the fault can be read.
    """
    start = text.lstrip()[0]
    if is_table(text, source):
        return _csv_rows(text, source)
    if start == "[":
        return _array_rows(text, source)
    return _jsonl_rows(text, source)


def is_table(text: str, source: Source) -> bool:
    """Tell whether a text is CSV, by its name or its beginning."""
    return source.suffix in TABLES or text.lstrip()[0] not in "[{"


def _jsonl_rows(text: str, source: Source) -> Numbered:
    try:
        whole = json.loads(text)  # one object, which may go over several lines
    except (ValueError, RecursionError):
        whole = None
    if whole is not None:
        yield 1, whole
        return
    for number, line in enumerate(io.StringIO(text, newline="\n"), start=1):
        if source.cut and not line.endswith("\n"):
            return
        if line.strip():
            try:
                yield number, _as_row(json.loads(line), number, source)
            except (RecursionError, ValueError) as error:
                yield number, _not_json(error, source, number, number - 1)


def _array_rows(text: str, source: Source) -> Numbered:
    decoder, line = json.JSONDecoder(), 1
    at, line = _skip(text, text.index("[") + 1, 1 + text.count("\n", 0, text.index("[")))
    while text[at : at + 1] != "]":
        try:
            value, end = decoder.raw_decode(text, at)
        except (RecursionError, ValueError) as error:
            if source.cut:
                return
            raise _not_json(error, source, line) from error
        yield line, _as_row(value, line, source)
        at, line = _skip(text, end, line + text.count("\n", at, end))
        if text[at : at + 1] == ",":
            at, line = _skip(text, at + 1, line)
            if text[at : at + 1] == "]":
                at -= 1  # so that a comma before the end is told like any value that is missing
                break
        elif text[at : at + 1] != "]":
            break
    after = _skip(text, at + 1, line)[0] if text[at : at + 1] == "]" else at
    if (after < len(text) or text[at : at + 1] != "]") and not source.cut:
        told = json.JSONDecodeError("Expecting ',' or the end", text, after)
        raise _not_json(told, source, line)


def _skip(text: str, at: int, line: int) -> tuple[int, int]:
    while text[at : at + 1] in BLANKS:
        line += text[at] == "\n"
        at += 1
    return at, line


def _not_json(error: Exception, source: Source, line: int, before: int = 0) -> DemoError:
    if isinstance(error, DemoError):
        return error
    if isinstance(error, json.JSONDecodeError):
        return DemoError(
            f"{source.name}, line {before + error.lineno}, column {error.colno}: not valid JSON"
            f" ({error.msg}).",
            "JSONL has one {...} a line; mind quotes, commas and line breaks inside texts.",
        )
    return DemoError(
        f"{source.name}, line {line}: JSON nested too deep, or with a number too long.",
        "A row has texts for prompt and completion.",
    )


def _as_row(value: Any, line: int, source: Source) -> Row | DemoError:
    if isinstance(value, dict):
        return value
    return DemoError(
        f"{source.name}, line {line}: a {type(value).__name__} where a row belongs.",
        'A row is like {"prompt": "...", "completion": "..."}.',
    )


def _csv_rows(text: str, source: Source) -> Numbered:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text), strict=True)
    whole_lines = text.count("\n") if source.cut else math.inf
    names: list[str] = []
    line = 1
    try:
        for cells in reader:
            if reader.line_num > whole_lines:
                return
            blank = not any(cell.strip() for cell in cells)
            if not names and not blank:
                names = column_names(cells)
            elif not blank:
                yield line, _csv_row(names, cells, line, source)
            line = reader.line_num + 1
    except csv.Error as error:
        if not source.cut:
            raise DemoError(
                f"{source.name}, line {line}: not valid CSV ({error}).",
                'Put a text with commas, quotes or line breaks in "quotes", quotes inside doubled.',
            ) from error


def header_of(text: str) -> list[str]:
    """Return a table's column names, from its first line that holds any."""
    reader = csv.reader(io.StringIO(text.lstrip(), newline=""), delimiter=_delimiter(text))
    try:
        return column_names(next(reader, []))
    except csv.Error:
        return []


def column_names(cells: Sequence[str]) -> list[str]:
    """Name columns in small letters; a name that comes again gets a number, an empty one too."""
    names: list[str] = []
    for place, cell in enumerate(cells, start=1):
        name = " ".join(cell.split()).lower() or f"column {place}"
        names.append(name if name not in names else f"{name} ({place})")
    return names


def _delimiter(text: str) -> str:
    header = text.lstrip().split("\n", 1)[0]
    return max(DELIMITERS, key=header.count)


def _csv_row(names: list[str], cells: list[str], line: int, source: Source) -> Row | DemoError:
    if len(cells) != len(names):
        return DemoError(
            f"{source.name}, line {line}: {len(cells)} cells, but {len(names)} columns.",
            'Put a text that has commas in it in "quotes".',
        )
    row = dict(zip(names, cells, strict=True))
    return {name: cell for name, cell in row.items() if cell or name not in MARKS}
