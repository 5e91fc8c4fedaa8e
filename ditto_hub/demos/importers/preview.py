"""What a file holds, to choose from: its first rows, what is doubtful, how many there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ditto_hub.demos.demonstrations import Demonstration
from ditto_hub.demos.demonstrations import Message as Turn
from ditto_hub.demos.importers.finding import Choice
from ditto_hub.demos.importers.gathering import Offer, Offered, gather
from ditto_hub.demos.importers.loading import nothing
from ditto_hub.demos.importers.opening import read_start
from ditto_hub.demos.importers.pairs import Notes, Pair, Row
from ditto_hub.demos.importers.reading import LONGEST_PREVIEW, Source
from ditto_hub.demos.importers.shapes import read_columns
from ditto_hub.errors import DemoError
from ditto_hub.words import Message, Text, text_from_json, text_to_json

ROWS_SHOWN = 200
VOICES_SHOWN = 12
CHARS_SHOWN = 1_000_000  # a page's session holds them
LONG_CHARS = 6000


@dataclass(frozen=True)
class PreviewRow:
    """Show one demonstration that a file offers.

    Args:
        number: from 1, in the order of the file among those of its voice.
        where: such as "line 3".
        prompt: turns, the last one the user's.
        completion: what was written.
        original: what it was preferred to or edited from, where the file says so.
        voice: whose writing it is, where the file holds several people's.
        warnings: what is doubtful about it, a sentence each.
        prompt_by: who wrote the prompt, as a demonstration has it.
    """

    number: int
    where: Text
    prompt: tuple[Turn, ...]
    completion: str
    original: str | None = None
    voice: str = ""
    warnings: tuple[Message, ...] = ()
    prompt_by: str = "user"

    @property
    def prompt_text(self) -> str:
        """The turns' texts under each other."""
        return "\n\n".join(turn["content"] for turn in self.prompt)


@dataclass(frozen=True)
class Preview:
    """Show what a file offers.

    Args:
        name: of the file.
        rows: the first ones of each voice.
        totals: how many demonstrations of each voice were found, shown or not.
        more: whether the file goes on after what was read.
        unusable: how many rows could not be read.
        notices: what a reader should know, a sentence each.
        columns: those that hold texts, where the rows are of no known shape: prompts and
            completions can be taken from any two of them with `from_columns`.
        cells: the first rows as they are, for that.
    """

    name: str
    rows: tuple[PreviewRow, ...] = ()
    totals: Mapping[str, int] = field(default_factory=dict)
    more: bool = False
    unusable: int = 0
    notices: tuple[Message, ...] = ()
    columns: tuple[str, ...] = ()
    cells: tuple[Row, ...] = ()

    @property
    def total(self) -> int:
        """How many demonstrations were found."""
        return sum(self.totals.values())

    @property
    def voices(self) -> tuple[str, ...]:
        """Whose writing there is, the commonest first; () where there is no choice."""
        if set(self.totals) == {"assistant", "user"}:
            return "assistant", "user"
        ranked = Counter(self.totals).most_common()
        return tuple(voice for voice, _ in ranked) if len(ranked) > 1 else ()

    def of_voice(self, voice: str) -> tuple[PreviewRow, ...]:
        """Return the rows of one voice; all where there is no choice."""
        return tuple(row for row in self.rows if row.voice == voice or not self.voices)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types, as another process hands a preview on."""
        rows = [
            {**vars(row), "where": text_to_json(row.where), "warnings": _told(row.warnings)}
            for row in self.rows
        ]
        return {**vars(self), "rows": rows, "notices": _told(self.notices)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Preview:
        """Build from `to_json`'s form."""
        rows = tuple(
            PreviewRow(**{
                **row,
                "where": text_from_json(row["where"]),
                "prompt": tuple(row["prompt"]),
                "warnings": _messages(row["warnings"]),
            })
            for row in data["rows"]
        )  # fmt: skip
        lists = {name: tuple(data[name]) for name in ("columns", "cells")}
        return cls(**{**data, **lists, "rows": rows, "notices": _messages(data["notices"])})

    def from_columns(self, prompt: str, completion: str) -> Preview:
        """Return the same file read by two of its columns; "" leaves the prompts to be written."""
        kept = tuple(
            _shown(row)
            for number, cells in enumerate(self.cells, start=1)
            if (row := _from_cells(cells, prompt, completion, number)) is not None
        )
        lost = len(self.cells) - len(kept)
        return replace(self, rows=kept, totals={"": len(kept)}, unusable=lost)


def _told(messages: Iterable[Message]) -> list[Any]:
    return [text_to_json(message) for message in messages]


def _messages(data: Iterable[Any]) -> tuple[Message, ...]:
    texts = map(text_from_json, data)
    return tuple(text for text in texts if isinstance(text, Message))


def preview(
    path: str | Path,
    limit: int = LONGEST_PREVIEW,
    rows: int = ROWS_SHOWN,
    choice: Choice | None = None,
) -> Preview:
    """Show what a file offers; at most its first `limit` bytes are read.

    Args:
        rows: how many of each voice are shown.
        choice: the columns to read it by.

    Raises:
        DemoError: nothing in it can be read.
    """
    return _preview(read_start(path, limit), rows, choice or Choice())


def preview_bytes(data: bytes, name: str, rows: int = ROWS_SHOWN) -> Preview:
    """Show what bytes offer that came with a name.

    Raises:
        DemoError: nothing in them can be read.
    """
    cut = len(data) > LONGEST_PREVIEW
    return _preview(Source(name, data[:LONGEST_PREVIEW] if cut else data, cut), rows, Choice())


def _preview(source: Source, most: int, choice: Choice) -> Preview:
    room = _Room(most)
    offer = gather(source, choice, room.takes_cells)
    if not offer.rows and not offer.columns and not offer.header:
        raise offer.broken or offer.fault or nothing(offer)
    counts = offer.voices
    voices = dict(counts.most_common(VOICES_SHOWN))
    notices = list(offer.said())
    if len(counts) > len(voices):
        notices.append(Message("files.more_voices", count=len(counts) - len(voices)))
    return Preview(
        name=source.name,
        rows=tuple(_shown(row) for row in offer.rows if row.voice in voices and room.takes(row)),
        totals=voices,
        more=offer.stopped is not None or offer.broken is not None,
        unusable=offer.unusable,
        notices=tuple(notices),
        columns=offer.columns or _columns(offer),
        cells=tuple(offer.cells),
    )


def _columns(offer: Offer) -> tuple[str, ...]:
    return () if offer.rows else offer.header


class _Room:
    """Know how much of a file is still shown.

    Args:
        most: rows of each voice.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.cells = self.chars = 0

    def takes_cells(self, cells: Row) -> bool:
        """Take room for a row's cells, where there is so much left."""
        taken = self.cells < self.most and self._has(sum(len(str(cell)) for cell in cells.values()))
        self.cells += taken
        return taken

    def takes(self, row: Offered) -> bool:
        """Take room for a row, where there is so much left."""
        demo = row.demo
        length = sum(len(turn["content"]) for turn in demo.prompt) + len(demo.completion)
        return row.number <= self.most and self._has(length + len(demo.original or ""))

    def _has(self, chars: int) -> bool:
        room = self.chars + chars <= CHARS_SHOWN
        self.chars += chars * room
        return room


def _shown(row: Offered) -> PreviewRow:
    demo = row.demo
    return PreviewRow(
        row.number, row.where, demo.prompt, demo.completion, demo.original, row.voice,
        tuple(_doubts(demo)), demo.prompt_by,
    )  # fmt: skip


def _doubts(demo: Demonstration) -> Iterator[Message]:
    if not demo.completion.strip():
        yield Message("files.doubt.completion")
    if not demo.prompt[-1]["content"].strip():
        yield Message("files.doubt.prompt")
    if (length := len(demo.prompt_text) + len(demo.completion)) > LONG_CHARS:
        yield Message("files.doubt.long", length=length)


def _from_cells(cells: Row, prompt: str, completion: str, number: int) -> Offered | None:
    try:
        pairs: list[Pair] = read_columns(cells, prompt, completion, Notes())
        demos = [Demonstration("row", pair.prompt, pair.completion) for pair in pairs]
    except DemoError:
        return None
    where = Message("files.row", number=number)
    return Offered(number, where, demos[0]) if demos else None
