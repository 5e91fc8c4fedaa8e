"""From a file's bytes to what stands in it, place by place, whatever kind of file it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ditto_hub.errors import DemoError
from ditto_hub.importers.mail import is_mail, read_mail
from ditto_hub.importers.pairs import Found, Row
from ditto_hub.importers.parquet import is_parquet, parquet_rows
from ditto_hub.importers.reading import Source, decode, decode_leniently, unpack
from ditto_hub.importers.rows import TABLES, header_of, is_table, rows_of
from ditto_hub.importers.shapes import read_columns, read_row, shape_of


@dataclass(frozen=True)
class Choice:
    """Say what is wanted of a file that could be read in several ways.

    Args:
        prompt: the column that holds prompts; "" where the file's shape tells.
        completion: the column that holds completions.
        voice: whose writing is wanted: of a chat export "assistant" or "user", of mail a sender's
            address; "" for the one that the file has, or has most of.
        rows: numbers of the demonstrations to take, from 1 in the file's order; () for all.
    """

    prompt: str = ""
    completion: str = ""
    voice: str = ""
    rows: tuple[int, ...] = ()

    @property
    def columns(self) -> tuple[str, str] | None:
        """The two columns, where both are named."""
        named = bool(self.prompt and self.completion)
        return (self.prompt.lower(), self.completion.lower()) if named else None


def find(source: Source, choice: Choice, lenient: bool) -> tuple[Iterator[Found], tuple[str, ...]]:
    """Return what stands in a file, and what a reader of it should know.

    Args:
        lenient: also take text that is not UTF-8, and say so.

    Raises:
        DemoError: the file is of no kind that is known; later, while reading, that it breaks off.
    """
    source = unpack(source)
    if is_mail(source.data, source.suffix):
        return read_mail(source), ()
    if is_parquet(source.data):
        return _find_in_rows(parquet_rows(source), source, choice), ()
    text, notices = decode_leniently(source) if lenient else (decode(source), ())
    if is_table(text, source) and not choice.columns:
        _require_columns(text, source, lenient)
    return _find_in_rows(rows_of(text, source), source, choice), notices


def columns_of(row: Row) -> tuple[str, ...]:
    """Return the names under which a row holds texts."""
    return tuple(name for name, value in row.items() if isinstance(value, str))


def _find_in_rows(
    rows: Iterator[tuple[int, Row | DemoError]], source: Source, choice: Choice
) -> Iterator[Found]:
    columns = choice.columns
    for line, row in rows:
        where = f"line {line}"
        if isinstance(row, DemoError):
            yield Found(where, fault=row)
            continue
        try:
            pairs = (read_columns(row, *columns),) if columns else tuple(read_row(row))
        except DemoError as error:
            told = DemoError(f"{source.name}, {where}: {error.what}", error.remedy)
            yield Found(where, row=row, fault=told)
        else:
            yield Found(where, pairs, row)


def _require_columns(text: str, source: Source, lenient: bool) -> None:
    """Refuse a table whose columns are of no known shape, unless they are yet to be chosen.

    Raises:
        DemoError: naming the columns there are.
    """
    names = header_of(text)
    if shape_of(dict.fromkeys(names)):
        return
    if source.suffix not in TABLES:
        raise DemoError(
            f"{source.name} is neither JSONL, a JSON array, nor CSV with prompt and completion"
            f" columns: it begins with {' '.join(names)[:40]!r}.",
            'Write one {"prompt": "...", "completion": "..."} a line.',
        )
    if not lenient:
        missing = [name for name in ("prompt", "completion") if name not in names]
        raise DemoError(
            f"{source.name} lacks the column {' and '.join(missing)}; it has"
            f" {', '.join(names)[:200]}.",
            "The first line names the columns: prompt,completion. `ditto-hub pick` takes others.",
        )
