"""What a file holds, to choose from: its first rows, what is doubtful, how many there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ditto_hub.demos import Demonstration, Message
from ditto_hub.errors import DemoError
from ditto_hub.importers.finding import Choice, columns_of, find
from ditto_hub.importers.pairs import Found, Pair, Row
from ditto_hub.importers.reading import LONGEST_PREVIEW, Source, read_start
from ditto_hub.importers.shapes import read_columns, shape_of

ROWS_SHOWN = 200
ROWS_READ = 5_000
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
    """

    number: int
    where: str
    prompt: tuple[Message, ...]
    completion: str
    original: str | None = None
    voice: str = ""
    warnings: tuple[str, ...] = ()

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
    notices: tuple[str, ...] = ()
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

    def from_columns(self, prompt: str, completion: str) -> Preview:
        """Return the same file read by two of its columns; "" leaves the prompts to be written."""
        kept = tuple(
            _checked(Pair(pair.prompt, pair.completion), number, f"row {number}")
            for number, cells in enumerate(self.cells, start=1)
            if (pair := _from_cells(cells, prompt, completion)) is not None
        )
        lost = len(self.cells) - len(kept)
        return replace(self, rows=kept, totals={"": len(kept)}, unusable=lost)


def preview(path: str | Path, limit: int = LONGEST_PREVIEW, rows: int = ROWS_SHOWN) -> Preview:
    """Show what a file offers; at most its first `limit` bytes are read.

    Raises:
        DemoError: nothing in it can be read.
    """
    return _preview(read_start(path, limit), rows)


def preview_bytes(data: bytes, name: str, rows: int = ROWS_SHOWN) -> Preview:
    """Show what bytes offer that came with a name.

    Raises:
        DemoError: nothing in them can be read.
    """
    return _preview(Source(name, data[:LONGEST_PREVIEW], len(data) > LONGEST_PREVIEW), rows)


def _preview(source: Source, most: int) -> Preview:
    found, notices = find(source, Choice(), lenient=True)
    gathered = _Gathered(most)
    stopped: tuple[str, ...] = ()
    try:
        for entry in found:
            gathered.take(entry)
            if gathered.places >= ROWS_READ:
                stopped = (f"Only the first {ROWS_READ:,} rows were read.",)
                break
    except DemoError as error:
        if not gathered.rows:
            raise
        stopped = (f"Nothing after this was read: {error}",)
    if source.cut and not stopped:
        stopped = (f"Only the first {len(source.data):,} bytes were read.",)
    if not gathered.rows and not gathered.columns:
        if gathered.fault is not None:
            raise gathered.fault
        if gathered.counts:
            raise DemoError(f"{source.name} holds texts that are too long.", "Shorten them.")
        raise DemoError(f"{source.name} holds no demonstrations.", "Two are the least.")
    return Preview(
        name=source.name,
        rows=tuple(gathered.rows),
        totals=dict(gathered.counts),
        more=bool(stopped),
        unusable=gathered.unusable,
        notices=(*notices, *stopped, *gathered.notices()),
        columns=gathered.columns,
        cells=tuple(gathered.cells),
    )


class _Gathered:
    """Gather what is shown of a file while it is read."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.rows: list[PreviewRow] = []
        self.cells: list[Row] = []
        self.columns: tuple[str, ...] = ()
        self.unusable = self.places = self.chars = 0
        self.fault: DemoError | None = None
        self.counts: Counter[str] = Counter()

    def take(self, entry: Found) -> None:
        """Add what stands at one place of the file."""
        self.places += 1
        self.unusable += entry.fault is not None
        self.fault = self.fault or entry.fault
        unknown = bool(entry.row) and shape_of(entry.row) is None
        if unknown and len(self.cells) < self.most and (names := columns_of(entry.row)):
            kept = {name: entry.row[name] for name in names}
            if self._has_room(sum(map(len, kept.values()))):
                self.cells.append(kept)
            self.columns = tuple(dict.fromkeys((*self.columns, *names)))
        for pair in entry.pairs:
            self._add(pair, entry.where)

    def _add(self, pair: Pair, where: str) -> None:
        if pair.voice not in self.counts and len(self.counts) >= VOICES_SHOWN:
            return
        number = self.counts[pair.voice] + 1
        try:
            shown = _checked(pair, number, where)
        except DemoError as error:
            self.unusable += 1
            self.fault = self.fault or error
            return
        self.counts[pair.voice] += 1
        if number <= self.most and self._has_room(len(shown.prompt_text) + len(shown.completion)):
            self.rows.append(shown)

    def _has_room(self, chars: int) -> bool:
        """Take up room for so many characters, if there is so much left."""
        room = self.chars + chars <= CHARS_SHOWN
        self.chars += chars * room
        return room

    def notices(self) -> Iterator[str]:
        """Say what else a reader should know."""
        if self.unusable and self.fault is not None and (self.rows or not self.columns):
            yield f"{self.unusable} rows cannot be used. The first: {self.fault.what}"


def _checked(pair: Pair, number: int, where: str) -> PreviewRow:
    """Make a row of a pair.

    Raises:
        DemoError: its texts are none.
    """
    demo = Demonstration("row", pair.prompt, pair.completion, original=pair.original)
    return PreviewRow(
        number, where, demo.prompt, demo.completion, demo.original, pair.voice,
        tuple(_doubts(demo)),
    )  # fmt: skip


def _doubts(demo: Demonstration) -> Iterator[str]:
    if not demo.completion.strip():
        yield "The completion is empty."
    if not demo.prompt[-1]["content"].strip():
        yield "The prompt is empty."
    if (length := len(demo.prompt_text) + len(demo.completion)) > LONG_CHARS:
        yield f"It is long: {length:,} characters."


def _from_cells(cells: Row, prompt: str, completion: str) -> Pair | None:
    try:
        return read_columns({"": "", **cells}, prompt, completion)
    except DemoError:
        return None
