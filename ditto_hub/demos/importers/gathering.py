"""What a file offers, gathered once: the one reading that a preview shows and loading takes from.

Rows are numbered here, so that the third row of a preview is the third that is loaded; what is
left out is counted here, so that both say it.
"""

from __future__ import annotations

import datetime
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ditto_hub.demos.demonstrations import AUTHORS, SPLITS, Demonstration
from ditto_hub.demos.importers.finding import Choice, columns_of, find
from ditto_hub.demos.importers.marks import least_rating, mark_keys
from ditto_hub.demos.importers.pairs import Found, Notes, Pair, Row, at, is_absent
from ditto_hub.demos.importers.reading import Source
from ditto_hub.demos.importers.shapes import is_preference, shape_of
from ditto_hub.errors import DemoError
from ditto_hub.words import Message, Text

ROWS_READ = 5_000
PAIRS_HELD = 20_000
TURNS_HELD = 60_000
CHARS_HELD = 8_000_000
NAMES_HELD = 1000
NAMES_SHOWN = 12
NO_ID = frozenset({"", "nan", "null", "none", "<na>", "nat"})


@dataclass(frozen=True)
class Offered:
    """Hold one demonstration that a file offers.

    Args:
        number: from 1, in the order of the file among those of its voice.
        where: such as "line 3".
        demo: with the split and the origin that the row gives; its id is not yet given.
        id: what the row gives as its id; "" for none.
        voice: whose writing it is.
    """

    number: int
    where: Text
    demo: Demonstration
    id: str = ""
    voice: str = ""


@dataclass
class Offer:
    """Hold what a file offers.

    Args:
        name: of the file.
        rows: what can be taken, in the order of the file.
        unusable: how many rows could not be read.
        fault: of the first of these.
        broken: why nothing after some place could be read.
        stopped: why reading ended before the file did.
        notices: what a reader should know of the whole file.
        notes: what was not read, and what was left out.
        columns: those that hold texts, where the rows are of no known shape.
        cells: the first of these rows as they are.
        header: a table's columns, where they are of no known shape.
        plain: whether it is plain text, of texts without prompts.
    """

    name: str
    rows: list[Offered] = field(default_factory=list)
    unusable: int = 0
    fault: DemoError | None = None
    broken: DemoError | None = None
    stopped: Message | None = None
    notices: tuple[Message, ...] = ()
    notes: Notes = field(default_factory=Notes)
    columns: tuple[str, ...] = ()
    cells: list[Row] = field(default_factory=list)
    header: tuple[str, ...] = ()
    plain: bool = False

    @property
    def voices(self) -> Counter[str]:
        """How many demonstrations there are of each voice."""
        return Counter(row.voice for row in self.rows)

    def default_voice(self) -> str:
        """Return whose writing is taken where nobody says whose."""
        voices = self.voices
        ranked = voices.most_common(1)
        return "assistant" if "assistant" in voices else ranked[0][0] if ranked else ""

    def said(self) -> Iterator[Message]:
        """Say what a reader should know."""
        yield from self.notices
        if self.broken is not None:
            yield Message("files.broken_after", why=self.broken.happened)
        if self.stopped is not None:
            yield self.stopped
        if self.notes.ignored:
            listed = [f"{key} ({count:,})" for key, count in self.notes.ignored.most_common()]
            more = len(listed) - NAMES_SHOWN
            names = ", ".join(listed[:NAMES_SHOWN]) + (f", + {more:,}" if more > 0 else "")
            yield Message("files.ignored", names=names)
        for (code, value), count in self.notes.left.most_common(NAMES_SHOWN):
            yield Message(code, count=count, value=value)
        if self.unusable and self.fault is not None and (self.rows or not self.columns):
            yield Message("files.unusable", count=self.unusable, what=self.fault.happened)


Rated = list[tuple[Offered, dict[str, float]]]


def gather(source: Source, choice: Choice, keep: Callable[[Row], bool] = bool) -> Offer:
    """Read a file, its first rows at least, and return what it offers.

    Args:
        keep: whether the cells of a row of no known shape are kept, to choose columns from.

    Raises:
        DemoError: the file is of no kind that is known.
    """
    contents = find(source, choice)
    offer = Offer(
        source.name, notices=contents.notices, header=contents.header, plain=contents.plain
    )
    rated: Rated = []
    try:
        _read(contents.found, offer, rated, keep)
    except DemoError as error:
        offer.broken = error
    if source.cut and offer.stopped is None and offer.broken is None:
        offer.stopped = Message("files.bytes_read", count=len(source.data))
    _leave_low(offer, rated)
    return offer


def _read(found: Iterator[Found], offer: Offer, rated: Rated, keep: Callable[[Row], bool]) -> None:
    places = turns = chars = 0
    preferred: dict[tuple[object, str], int] = {}
    for entry in found:
        full = len(rated) >= PAIRS_HELD or turns >= TURNS_HELD or chars >= CHARS_HELD
        if places >= ROWS_READ or full:
            offer.stopped = Message("files.rows_read", count=places)
            return
        places += 1
        if len(offer.notes.ignored) < NAMES_HELD:
            offer.notes.ignored.update(entry.notes.ignored)
        offer.notes.left.update(entry.notes.left)
        if entry.fault is not None:
            _add_fault(offer, entry.fault)
            _add_cells(offer, entry.row, keep)
            continue
        for pair in entry.pairs[:PAIRS_HELD]:
            try:
                row = _offered(entry, pair, offer.name)
            except DemoError as error:
                _add_fault(offer, error)
                continue
            if is_preference(entry.row) and _said_before(row, rated, preferred, offer):
                continue
            rated.append((row, entry.notes.ratings))
            turns += len(pair.prompt)
            chars += len(row.demo.completion) + len(row.demo.prompt[-1]["content"])


def _said_before(
    row: Offered, rated: Rated, preferred: dict[tuple[object, str], int], offer: Offer
) -> bool:
    """Return whether a completion was preferred before; it is one demonstration all the same.

    Of the texts it was preferred to, the first is its original.

    Args:
        preferred: (prompt, completion) -> its place in `rated`; changed here.
    """
    key = (row.demo.prompt_key, row.demo.completion)
    if key not in preferred:
        preferred[key] = len(rated)
        return False
    earlier, ratings = rated[preferred[key]]
    if earlier.demo.original is None and row.demo.original:
        demo = replace(earlier.demo, original=row.demo.original)
        rated[preferred[key]] = (replace(earlier, demo=demo), ratings)
    else:
        offer.notes.leave("files.left_preferred_again")
    return True


def _add_fault(offer: Offer, fault: DemoError) -> None:
    offer.unusable += 1
    offer.fault = offer.fault or fault


def _add_cells(offer: Offer, row: Row, keep: Callable[[Row], bool]) -> None:
    """Keep a row that no shape fits, to read it by two of its columns."""
    if not row or shape_of(row) is not None or not (names := columns_of(row)):
        return
    marks = {key: row[key] for key in mark_keys(row) if isinstance(row[key], (bool, int, float))}
    cells = {name: row[name] for name in names} | marks
    if keep(cells):
        offer.cells.append(cells)
    if not set(names) <= set(offer.columns):
        offer.columns = tuple(dict.fromkeys((*offer.columns, *names)))[:NAMES_HELD]


def _leave_low(offer: Offer, rated: Rated) -> None:
    """Number what is offered, without what a file's own ratings call bad."""
    keys = {key for _, ratings in rated for key in ratings}
    least = {key: least_rating(r[key] for _, r in rated if key in r) for key in keys}
    for key in sorted(key for key, value in least.items() if value is None):
        offer.notes.ignored[key] += sum(key in ratings for _, ratings in rated)
    counts: Counter[str] = Counter()
    for row, ratings in rated:
        low = _lowest(ratings, least)
        if low:
            offer.notes.left["files.left_rated", f"{low} < {least[low]:g}"] += 1
            continue
        counts[row.voice] += 1
        offer.rows.append(Offered(counts[row.voice], row.where, row.demo, row.id, row.voice))


def _lowest(ratings: Mapping[str, float], least: Mapping[str, float | None]) -> str:
    """Return the key by which a row is rated as bad; "" where it is not."""
    for key, value in ratings.items():
        bound = least[key]
        if bound is not None and value < bound:
            return key
    return ""


# ---- one row ------------------------------------------------------------------------------------


def _offered(entry: Found, pair: Pair, name: str) -> Offered:
    """Make a demonstration of what one place of a file has.

    Raises:
        DemoError: its texts are none, or its split is none.
    """
    alone = entry.row if len(entry.pairs) == 1 else {}
    try:
        demo = Demonstration(
            "row",
            pair.prompt,
            pair.completion,
            split=_split(alone.get("split")),  # type: ignore[arg-type]
            origin=as_text(alone.get("origin")) or "file",
            original=_original(pair.original),
            prompt_by=_author(alone.get("prompt_by")),
        )
    except DemoError as error:
        raise at(name, entry.where, error) from error
    return Offered(0, entry.where, demo, as_text(alone.get("id")), pair.voice)


def _original(value: Any) -> str | None:
    return value if isinstance(value, str) else as_text(value) or None


def _author(value: Any) -> Any:
    """Return who wrote a prompt, where that is said in our words; other files may mean another."""
    text = as_text(value)
    return text if text in AUTHORS else "user"


def _split(value: Any) -> Any:
    text = as_text(value)
    return text if text in SPLITS else "train" if not text else value


def as_text(value: Any) -> str:
    """Return a scalar of any type as a text, whole numbers without a point; "" for nothing.

    An object with one value in it, as databases write their ids, is that value.
    """
    if isinstance(value, dict) and len(value) == 1:
        value = next(iter(value.values()))
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, (list, dict, tuple)) or is_absent(value):
        return json.dumps(value, default=str)[:200] if value and not is_absent(value) else ""
    text = str(value).strip()
    return "" if text.casefold() in NO_ID else text
