"""Texts without prompts: plain text parted into texts, JSON strings, the column of a table."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from ditto_hub.demos.demonstrations import as_messages
from ditto_hub.demos.importers.json_rows import json_values
from ditto_hub.demos.importers.marks import mark_keys
from ditto_hub.demos.importers.pairs import Found, Pair, Row
from ditto_hub.demos.importers.reading import Source
from ditto_hub.errors import DemoError
from ditto_hub.words import Message

PLAIN = (".txt", ".text", ".md", ".markdown")
JSON = (".json", ".jsonl", ".ndjson")
STRINGS = re.compile(r'\[\s*+"')
MARKDOWN = (".md", ".markdown")
PARTING = re.compile(r"(?m)^[ \t]*+-{3,}+[ \t]*+\r?$|\f")
FRONT_MATTER = re.compile(
    r"---[ \t]*+\r?\n(?>(?:[\w-]++:|[ \t#-])[^\n]*+\n|\r?\n)*?---[ \t]*+\r?\n"
)
# What a column of texts is called, the likeliest first.
COLUMNS = (
    "text", "completion", "content", "body", "message", "post", "tweet", "email", "letter",
    "article", "response", "output", "answer", "reply",
)  # fmt: skip
ABOUT = frozenset({"id", "split", "origin", "original", "prompt_by"})
EMPTY = as_messages("")


def read_texts(text: str, source: Source, whole: bool = False) -> Iterator[Found]:
    """Yield the texts of a file of plain text, each with an empty prompt.

    Texts are parted by a line of three or more dashes, or by a form feed. In Markdown a line of
    dashes right under a line of text makes that a heading and parts nothing; the front matter of a
    file is no text.

    Args:
        whole: the file is one text, whatever lines are in it.
    """
    begun = 0
    markdown = source.suffix in MARKDOWN
    if markdown and (front := FRONT_MATTER.match(text)):
        begun = front.end()
    places = () if whole else PARTING.finditer(text, begun)
    number = 0
    for start, end in _between(text, places, begun, markdown):
        if part := text[start:end].strip():
            number += 1
            where = Message("files.text", number=number)
            yield Found(where, (Pair(EMPTY, part.replace("\r\n", "\n")),))


def holds_strings(text: str, start: int, source: Source) -> bool:
    """Tell whether a file is a JSON array of strings, or has a JSON string a line.

    Args:
        start: where the text begins after its blanks.
    """
    return bool(STRINGS.match(text, start)) or (text[start] == '"' and source.suffix in JSON)


def read_strings(text: str, start: int, source: Source) -> Iterator[Found]:
    """Yield the texts of such a file, each with an empty prompt; blank ones are left out."""
    for line, value in json_values(text, start, source):
        where = Message("files.line", line=line)
        if isinstance(value, DemoError):
            yield Found(where, fault=value)
        elif not isinstance(value, str):
            kind = type(value).__name__
            fault = DemoError("files.not_text", name=source.name, line=line, kind=kind)
            yield Found(where, fault=fault)
        elif value.strip():
            yield Found(where, (Pair(EMPTY, value),))


def _between(
    text: str, places: Iterable[re.Match[str]], begun: int, markdown: bool
) -> Iterator[tuple[int, int]]:
    for place in places:
        if markdown and _is_heading(text, place.start()):
            continue
        yield begun, place.start()
        begun = place.end()
    yield begun, len(text)


def _is_heading(text: str, at: int) -> bool:
    """Tell whether a line of dashes is right under a line of text."""
    above = text.rfind("\n", 0, max(0, at - 1)) + 1
    return text[at] != "\f" and not text[above:at].isspace() and at > above


def text_column(row: Row) -> str:
    """Return the column of a row that holds its text.

    Raises:
        DemoError: it cannot be told which one does.
    """
    others = ABOUT | mark_keys(row)
    texts = (key for key, value in row.items() if isinstance(value, str) and value.strip())
    held = [key for key in texts if key not in others]
    known = [key for key in COLUMNS if key in held]
    if known or len(held) == 1:
        return (known or held)[0]
    columns = ", ".join(held[:20])[:200] or "(none)"
    raise DemoError("files.which_column", columns=columns)


def without_prompts(found: Found) -> Found:
    """Return what a place of a file has, with its prompts yet to be written."""
    return replace(found, pairs=tuple(replace(pair, prompt=EMPTY) for pair in found.pairs))
