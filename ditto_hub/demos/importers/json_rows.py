"""Rows of JSON Lines, of a JSON array, or of JSON values one after the other.

What JSON makes of a text takes up to thirty times its size, so a value's length, the number of
its parts and its depth are looked at before it is decoded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from ditto_hub.demos.importers.pairs import Row
from ditto_hub.demos.importers.reading import Source
from ditto_hub.errors import DemoError

Numbered = Iterator[tuple[int, Row | DemoError]]
LONGEST_ROW = 4_000_000  # characters
MOST_PARTS = 300_000  # of one row: brackets and commas
DEEPEST = 200
MOST_COLUMNS = 1000
TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{},]', re.DOTALL)
BLANK = re.compile(r"[ \t\r\n]*+")
DECODER = json.JSONDecoder()


def json_rows(text: str, start: int, source: Source) -> Numbered:
    """Yield (line, row), or the error in a row's place.

    Args:
        start: where the text begins after its blanks.

    Raises:
        DemoError: where nothing after the fault can be read.
    """
    for line, value in json_values(text, start, source):
        failed = isinstance(value, DemoError)
        yield line, value if failed else _as_row(value, line, source)


def json_values(text: str, start: int, source: Source) -> Iterator[tuple[int, Any]]:
    """Yield (line, value), or the error in a value's place; of arrays one a line, their values.

    Args, Raises: as `json_rows`.
    """
    by_line = text[start] != "[" or _goes_on(text, start)
    for line, value in _line_rows(text, source) if by_line else _array_rows(text, source):
        if by_line and text[start] == "[" and isinstance(value, list) and value:
            yield from ((line, row) for row in value)
        else:
            yield line, value


def _goes_on(text: str, start: int) -> bool:
    """Return whether an array ends on its first line, and more follows it."""
    end = text.find("\n", start)
    if end < 0 or not text[max(start, end - 20) : end].rstrip().endswith("]"):
        return False
    return BLANK.match(text, end).end() < len(text)  # type: ignore[union-attr]


# ---- one value after the other ------------------------------------------------------------------


def _line_rows(text: str, source: Source) -> Iterator[tuple[int, Any]]:
    """Yield a value a line; where a line is none by itself, the value that begins on it.

    Raises:
        DemoError: a value over several lines is too large.
    """
    at, line, room = 0, 1, len(text)  # room: how far values over several lines are looked for
    while at < len(text):
        end = text.find("\n", at)
        if end < 0:
            if source.cut:
                return
            end = len(text)
        first = BLANK.match(text, at).end()  # type: ignore[union-attr]
        if first >= end:  # blank lines, all that follow each other
            begin = text.rfind("\n", at, first) + 1 if first < len(text) else first
            at, line = begin, line + text.count("\n", at, begin)
            continue
        value: Any = _decoded(text, first, end, source, line, at)
        if isinstance(value, DemoError) and room > 0 and text[first] == "{":
            stop = _end_of(text, first)
            room -= (abs(stop) or len(text)) - first
            if stop < 0:
                raise DemoError("files.row_too_large", name=source.name, line=line)
            if stop > end:
                whole: Any = _decoded(text, first, stop, source, line, at)
                if not isinstance(whole, DemoError):
                    value, end = whole, stop
        yield line, value
        line += text.count("\n", at, end + 1)
        at = end + 1


def _decoded(text: str, at: int, end: int, source: Source, line: int, begin: int) -> Any:
    """Return the value that a part of a text holds, or why it holds none."""
    parts = sum(text.count(mark, at, end) for mark in ",[{")
    if end - at > LONGEST_ROW or parts > MOST_PARTS:
        return DemoError("files.row_too_large", name=source.name, line=line)
    try:
        return json.loads(text[at:end])  # an error counts the lines of all that it is given
    except json.JSONDecodeError as error:
        column = error.colno + (at - begin if error.lineno == 1 else 0)
        return _not_json(source, line + error.lineno - 1, column, error.msg)
    except (RecursionError, ValueError):
        return DemoError("files.json_deep", name=source.name, line=line)


def _not_json(source: Source, line: int, column: int, why: str) -> DemoError:
    return DemoError("files.not_json", name=source.name, line=line, column=column, why=why)


def _end_of(text: str, at: int) -> int:
    """Return where the value that begins at a place ends; minus where looking was given up.

    0: the text ends first.
    """
    depth = 0
    for parts, token in enumerate(TOKEN.finditer(text, at)):
        mark = text[token.start()]
        if mark in ("{", "["):
            depth += 1
        elif mark in ("}", "]"):
            depth -= 1
        if depth == 0:
            return token.end()
        if depth > DEEPEST or parts > MOST_PARTS or token.end() - at > LONGEST_ROW:
            return -token.end()
    return 0


# ---- an array -----------------------------------------------------------------------------------


def _array_rows(text: str, source: Source) -> Iterator[tuple[int, Any]]:
    """Yield the values of an array.

    Raises:
        DemoError: where one is damaged, since nobody knows where the next one begins.
    """
    place = _Place(text)
    place.skip(text.index("[") + 1)
    small = len(text) <= LONGEST_ROW and sum(map(text.count, ",[{")) <= MOST_PARTS
    while text[place.at : place.at + 1] != "]":
        value, end = _value_at(text, place, source, small)
        if end < 0:
            return
        yield place.line, value
        place.skip(end)
        if text[place.at : place.at + 1] == ",":
            place.skip(place.at + 1)
            if text[place.at : place.at + 1] == "]":
                raise _not_json(source, place.line, place.column, "Expecting value")
        elif text[place.at : place.at + 1] != "]":
            break
    closed = text[place.at : place.at + 1] == "]"
    if closed:
        place.skip(place.at + 1)
    if (place.at < len(text) or not closed) and not source.cut:
        raise _not_json(source, place.line, place.column, "Expecting ',' or the end")


def _value_at(text: str, place: _Place, source: Source, small: bool) -> tuple[Any, int]:
    """Return the value at a place and where it ends; -1 where a text that was cut off ends.

    Raises:
        DemoError: there is none, or it is too large.
    """
    if not small and text[place.at : place.at + 1] in ("[", "{"):
        end = _end_of(text, place.at)
        if end < 0:
            raise DemoError("files.row_too_large", name=source.name, line=place.line)
        if end == 0 and source.cut:
            return None, -1
    try:
        return DECODER.raw_decode(text, place.at)
    except json.JSONDecodeError as error:
        if source.cut:
            return None, -1
        place.skip(error.pos)
        raise _not_json(source, place.line, place.column, error.msg) from error
    except (RecursionError, ValueError) as error:
        raise DemoError("files.json_deep", name=source.name, line=place.line) from error


class _Place:
    """Know a place in a text by its line and column."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at, self.line = 0, 1

    def skip(self, to: int) -> None:
        """Go on to a place, and over the blanks there."""
        match = BLANK.match(self.text, to)
        end = match.end() if match else to
        self.line += self.text.count("\n", self.at, end)
        self.at = end

    @property
    def column(self) -> int:
        """The place's column, from 1."""
        return self.at - self.text.rfind("\n", 0, self.at)


# ---- rows ---------------------------------------------------------------------------------------


def _as_row(value: Any, line: int, source: Source) -> Row | DemoError:
    if not isinstance(value, dict):
        kind = type(value).__name__
        return DemoError("files.not_row", name=source.name, line=line, kind=kind)
    if len(value) > MOST_COLUMNS:
        return many_columns(source.name, len(value))
    return named_row(value)


def named_row(value: dict[Any, Any]) -> Row:
    """Return a row with its keys in small letters; of two that differ in case, the first."""
    row: Row = {}
    for key, held in value.items():
        row.setdefault(" ".join(str(key).split()).lower(), held)
    return row


def many_columns(name: str, count: int) -> DemoError:
    """Return the error of a table with too many columns."""
    return DemoError("files.many_columns", name=name, count=count, most=MOST_COLUMNS)
