"""Rows of a table in text: comma, semicolon, tab or another mark between cells."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from ditto_hub.demos.importers.json_rows import MOST_COLUMNS, many_columns
from ditto_hub.demos.importers.pairs import Row
from ditto_hub.demos.importers.reading import Source
from ditto_hub.errors import DemoError

Numbered = Iterator[tuple[int, Row | DemoError]]
DELIMITERS = ",;\t|"
RARE = "^~:\x1f\x01"  # taken only where they give columns that are known
TABLES = (".csv", ".tsv", ".psv", ".tab")
MARKS = ("id", "split", "origin", "original")  # an empty cell of these is none
LONGEST_LINE = 1_000_000
MOST_LINES = 1_000_000
LONGEST_HEADER = 100_000
QUOTED = re.compile(r'"[^"]*"')
SEPARATOR = re.compile(r'\s*"?sep=(.)"?\s*$', re.IGNORECASE)
Known = Callable[[Sequence[str]], bool]


class Table:
    """Read a table's rows; its header is read when it is made.

    Args:
        text: of the whole file.
        start: where it begins after its blanks.
        source: for its name, and whether the text is cut off.
        known: whether some column names are of a known shape.

    Raises:
        DemoError: it has too many columns.
    """

    def __init__(self, text: str, start: int, source: Source, known: Known) -> None:
        self.text = text
        self.source = source
        self.start = start
        header = self._line(start)
        if separator := SEPARATOR.match(header[:20]):
            self.start += len(header)
            self.delimiter = str(separator[1])
            header = self._line(self.start)
        else:
            self.delimiter = _delimiter(header, known)
        self.names = self._names(header)

    def _line(self, at: int) -> str:
        end = self.text.find("\n", at, at + LONGEST_HEADER)
        return self.text[at : end + 1 if end >= 0 else at + LONGEST_HEADER]

    def _names(self, header: str) -> list[str]:
        """Return the column names, quoted ones over several lines too.

        Raises:
            DemoError: they are too many.
        """
        count = header.count(self.delimiter) + 1
        if count > MOST_COLUMNS * 2:
            raise many_columns(self.source.name, count)
        cells = _cells(self.text[self.start : self.start + LONGEST_HEADER], self.delimiter)
        if len(cells) > MOST_COLUMNS:
            raise many_columns(self.source.name, len(cells))
        return column_names(cells)

    def rows(self) -> Numbered:
        """Yield (line, row), or the error in a row's place.

        Raises:
            DemoError: where nothing after the fault can be read.
        """
        lines = _Lines(self)
        reader = csv.reader(iter(lines), delimiter=self.delimiter, strict=True)
        first = line = 1 + self.text.count("\n", 0, self.start)
        headed = False
        try:
            for cells in reader:
                lines.marks = 0
                if lines.cut_off:
                    return
                blank = not any(cell and not cell.isspace() for cell in cells)
                if not headed and not blank:
                    headed = True
                elif not blank:
                    yield line, self._row(cells, line)
                line = first + reader.line_num
        except csv.Error as error:
            if not self.source.cut:
                raise DemoError(
                    "files.not_csv", name=self.source.name, line=line, why=error
                ) from error

    def _row(self, cells: list[str], line: int) -> Row | DemoError:
        if len(cells) != len(self.names):
            return DemoError(
                "files.cells",
                name=self.source.name,
                line=line,
                cells=len(cells),
                columns=len(self.names),
                delimiter=repr(self.delimiter),
            )
        row = dict(zip(self.names, cells, strict=True))
        return {name: cell for name, cell in row.items() if cell or name not in MARKS}


class _Lines:
    """Hand out a table's lines, none that is longer or has more marks than a row may have.

    Args:
        table: whose text it is.
    """

    def __init__(self, table: Table) -> None:
        self.table = table
        self.marks = 0  # delimiters since the last row ended
        self.cut_off = False

    def __iter__(self) -> Iterator[str]:
        text, at = self.table.text, self.table.start
        for _ in range(MOST_LINES):
            if at >= len(text):
                return
            end = text.find("\n", at) + 1 or len(text)
            self.cut_off = end == len(text) and text[-1] != "\n" and self.table.source.cut
            self.marks += text.count(self.table.delimiter, at, end)
            if end - at > LONGEST_LINE or self.marks > LONGEST_LINE // 4:
                line = text.count("\n", 0, at) + 1
                raise DemoError("files.line_too_long", name=self.table.source.name, line=line)
            yield text[at:end]
            at = end
        raise DemoError("files.many_lines", name=self.table.source.name, most=MOST_LINES)


def _cells(text: str, delimiter: str) -> list[str]:
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        return next((cells for cells in reader if any(map(str.strip, cells))), [])
    except csv.Error:
        return []


def _delimiter(header: str, known: Known) -> str:
    """Return what parts the cells: what gives known columns, else what is there most often."""
    bare = QUOTED.sub("", header)
    candidates = sorted(DELIMITERS, key=lambda mark: -bare.count(mark))
    for mark in [*candidates, *list(RARE)]:
        if 0 < bare.count(mark) <= MOST_COLUMNS and known(column_names(_cells(header, mark))):
            return mark
    return candidates[0]


def column_names(cells: Sequence[str]) -> list[str]:
    """Name columns in small letters; a name that comes again gets a number, an empty one too."""
    names: list[str] = []
    seen: Counter[str] = Counter()
    for place, cell in enumerate(cells, start=1):
        name = " ".join(cell.split()).lower() or f"column {place}"
        name = f"{name} ({place})" if seen[name] else name
        seen[name] += 1
        names.append(name)
    return names
