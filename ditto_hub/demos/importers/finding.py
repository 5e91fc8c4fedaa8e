"""From a file's bytes to what it holds, place by place, whatever kind of file it is."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ditto_hub.demos.importers.archives import unpack
from ditto_hub.demos.importers.chats import app_of, is_whatsapp, of_messages, read_whatsapp
from ditto_hub.demos.importers.csv_rows import TABLES, Table
from ditto_hub.demos.importers.json_rows import LONGEST_ROW, Numbered, json_rows
from ditto_hub.demos.importers.mail import is_mail, read_mail
from ditto_hub.demos.importers.pairs import Found, Notes, Row, at
from ditto_hub.demos.importers.parquet import is_parquet, parquet_rows
from ditto_hub.demos.importers.reading import Source, decode
from ditto_hub.demos.importers.shapes import read_columns, read_row, shape_of
from ditto_hub.demos.importers.texts import (
    PLAIN,
    holds_strings,
    read_strings,
    read_texts,
    text_column,
    without_prompts,
)
from ditto_hub.errors import DemoError
from ditto_hub.words import Message, told

BLANKS = re.compile(r"\s*+")
ARRAY = re.compile(r'\[\s*+(?:["{[\]]|\Z)')
# Under these a single object holds a file's rows.
WRAPPERS = ("data", "rows", "examples", "items", "train", "samples")
MOST_MESSAGES = 20_000  # of a chat that has a message a row, or a line


@dataclass(frozen=True)
class Choice:
    """Say what is wanted of a file that could be read in several ways.

    Args:
        prompt: the column that holds prompts; "" where the file's shape says, or where only the
            completions are in it.
        completion: the column that holds completions.
        voice: whose writing is wanted: of a chat export "assistant" or "user", of mail a sender's
            address; "" for the one that the file has, or has most of.
        rows: numbers of the demonstrations to take, from 1 in the file's order; () for all.
        texts_alone: take the texts without any prompts, which are yet to be written.
        whole: of `texts_alone`, a file of plain text is one text, whatever lines are in it.
    """

    prompt: str = ""
    completion: str = ""
    voice: str = ""
    rows: tuple[int, ...] = ()
    texts_alone: bool = False
    whole: bool = False

    @property
    def columns(self) -> tuple[str, str] | None:
        """The two columns, where that of the completions is named."""
        return (_name(self.prompt), _name(self.completion)) if self.completion else None


def _name(column: str) -> str:
    return " ".join(column.split()).lower()


@dataclass(frozen=True)
class Contents:
    """Hold what a file offers before any of it is read.

    Args:
        found: place by place; raises DemoError where the file breaks off.
        notices: what a reader should know of it.
        header: the names of a table's columns, where they are of no known shape.
        plain: whether it is plain text, of texts without prompts.
    """

    found: Iterator[Found]
    notices: tuple[Message, ...] = ()
    header: tuple[str, ...] = ()
    plain: bool = False


def find(source: Source, choice: Choice) -> Contents:
    """Return what a file holds.

    Raises:
        DemoError: the file is of no kind that is known.
    """
    sources, notices = unpack(source)
    first = _find(sources[0], choice)
    others = (_find(other, choice).found for other in sources[1:])
    found: Iterator[Found] = itertools.chain(first.found, itertools.chain.from_iterable(others))
    if choice.texts_alone:
        found = map(without_prompts, found)
    return Contents(found, (*notices, *first.notices), first.header, first.plain)


def _find(source: Source, choice: Choice) -> Contents:
    if is_mail(source.data, source.suffix):
        return Contents(read_mail(source))
    if is_parquet(source.data):
        return Contents(_of_rows(parquet_rows(source), source, choice))
    text, notices = decode(source)
    text = _with_line_ends(text)
    start = BLANKS.match(text).end()  # type: ignore[union-attr]
    if source.suffix not in TABLES and is_whatsapp(text[start : start + 4000]):
        return Contents(_whatsapp(text, source), notices)
    if source.suffix not in TABLES and holds_strings(text, start, source):
        return Contents(read_strings(text, start, source), notices, plain=True)
    if text[start] in "[{" and source.suffix not in TABLES:
        if text[start] == "[" and not ARRAY.match(text, start):
            raise DemoError("files.no_kind", name=source.name, start=text[start : start + 40])
        return Contents(_of_rows(json_rows(text, start, source), source, choice), notices)
    table = Table(text, start, source, _is_known)
    known = _is_known(table.names) or bool(choice.columns)
    if not known and source.suffix not in TABLES:
        if source.suffix in PLAIN or choice.texts_alone:
            return Contents(read_texts(text, source, choice.whole), notices, plain=True)
        raise DemoError("files.no_kind", name=source.name, start=" ".join(table.names)[:40])
    header = () if known or choice.texts_alone else tuple(table.names)
    return Contents(_of_rows(table.rows(), source, choice), notices, header)


def _with_line_ends(text: str) -> str:
    """Return a text whose lines end as old programs ended them as one of today's."""
    return text.replace("\r", "\n") if "\r" in text and "\n" not in text else text


def _is_known(names: Sequence[str]) -> bool:
    row = dict.fromkeys(names, "")
    return shape_of(row) is not None or bool(app_of(row))


def columns_of(row: Row) -> tuple[str, ...]:
    """Return the names under which a row holds texts."""
    return tuple(name for name, value in row.items() if isinstance(value, str))


def _of_rows(rows: Numbered, source: Source, choice: Choice) -> Iterator[Found]:
    """Yield what each row holds; rows that are messages of one chat, together."""
    first = next(rows, None)
    if first is None:
        return
    rows = itertools.chain([first], rows)
    app = app_of(first[1]) if isinstance(first[1], dict) and not choice.columns else ""
    if app:
        yield _of_chat(rows, app, source)
        return
    for line, row in rows:
        where = Message("files.line", line=line)
        if isinstance(row, DemoError):
            yield Found(where, fault=row)
            continue
        for inner in _unwrapped(row):
            yield _of_row(inner, where, source, choice)


def _of_row(row: Row, where: Message, source: Source, choice: Choice) -> Found:
    notes = Notes()
    try:
        columns = choice.columns
        if choice.texts_alone and not columns and shape_of(row) is None:
            columns = ("", text_column(row))
        pairs = read_columns(row, *columns, notes) if columns else read_row(row, notes)
    except DemoError as error:
        return Found(where, row=row, fault=at(source.name, where, error), notes=notes)
    except RecursionError:
        fault = DemoError("files.json_deep", name=source.name, line=told(where))
        return Found(where, row=row, fault=fault, notes=notes)
    return Found(where, tuple(pairs), row, notes=notes)


def _unwrapped(row: Row) -> list[Row]:
    """Return the rows that an object of no known shape holds in a list; else the row itself."""
    for name in WRAPPERS:
        rows = row.get(name)
        if isinstance(rows, list) and rows and all(map(_is_row, rows)) and shape_of(row) is None:
            return [_inner(inner) for inner in rows]
    return [row]


def _is_row(value: Any) -> bool:
    return isinstance(value, dict) and shape_of(_inner(value)) is not None


def _inner(value: dict[str, Any]) -> Row:
    row = value["row"] if isinstance(value.get("row"), dict) else value
    return {" ".join(str(key).split()).lower(): held for key, held in row.items()}


def _of_chat(rows: Numbered, app: str, source: Source) -> Found:
    """Return a chat that has a message a row."""
    where, notes = Message("files.chat", app=app), Notes()
    messages: list[Row] = []
    for _, row in rows:
        if isinstance(row, DemoError):
            return Found(where, fault=row)
        if len(messages) == MOST_MESSAGES:
            notes.leave("files.left_messages", f"{MOST_MESSAGES:,}")
            break
        messages.append(row)
    try:
        return Found(where, tuple(of_messages(messages, app, notes)), notes=notes)
    except DemoError as error:
        return Found(where, fault=at(source.name, where, error))


def _whatsapp(text: str, source: Source) -> Iterator[Found]:
    where, notes = Message("files.chat", app="WhatsApp"), Notes()
    try:
        yield Found(where, tuple(read_whatsapp(_lines(text, source, notes), notes)), notes=notes)
    except DemoError as error:
        yield Found(where, fault=at(source.name, where, error))


def _lines(text: str, source: Source, notes: Notes) -> Iterator[str]:
    """Yield a text's lines, so many as a chat is read of; a line that is cut off is left out."""
    place = 0
    for number in range(MOST_MESSAGES):
        end = text.find("\n", place, LONGEST_ROW)
        if end < 0 and len(text) > LONGEST_ROW:
            notes.leave("files.left_messages", f"{number:,}")
            return
        if end < 0:
            if not source.cut:
                yield text[place:]
            return
        yield text[place:end].rstrip("\r")
        place = end + 1
    notes.leave("files.left_messages", f"{MOST_MESSAGES:,}")
