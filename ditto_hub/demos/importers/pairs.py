"""What every reader of files gives: pairs of prompt and completion, and where each was found."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from ditto_hub.demos.demonstrations import Message as Turn
from ditto_hub.errors import DemoError
from ditto_hub.words import Text

Row = dict[str, Any]
LONGEST_NAME = 60  # characters of a key or a person's name that are shown


@dataclass(frozen=True)
class Pair:
    """Hold one demonstration as a file has it.

    Args:
        prompt: turns, the last one the user's.
        completion: what is wanted for it; checked to be a text where the demonstration is made.
        original: what the completion was preferred to or edited from.
        voice: whose writing the completion is, where a file holds several people's.
    """

    prompt: tuple[Turn, ...]
    completion: Any
    original: Any = None
    voice: str = ""


@dataclass
class Notes:
    """Gather what a reader should know of a row, or of a whole file.

    Args:
        ignored: names of keys that were not read, and in how many rows.
        left: what was left out and why: (code of the notice, its value) and how often.
        ratings: by the name of its key, the number a row was rated with.
    """

    ignored: Counter[str] = field(default_factory=Counter)
    left: Counter[tuple[str, str]] = field(default_factory=Counter)
    ratings: dict[str, float] = field(default_factory=dict)

    def ignore(self, key: object) -> None:
        """Note a key that is not read."""
        self.ignored[str(key)[:LONGEST_NAME]] = 1

    def leave(self, code: str, value: str = "", count: int = 1) -> None:
        """Note what was left out."""
        self.left[code, value[:LONGEST_NAME]] += count


@dataclass(frozen=True)
class Found:
    """Hold what one place of a file has: its pairs, or why there are none.

    Args:
        where: such as "line 3".
        pairs: read from there.
        row: the row itself, where the file is of rows.
        fault: why nothing could be read.
        notes: what was not read of it.
    """

    where: Text
    pairs: tuple[Pair, ...] = ()
    row: Row = field(default_factory=dict)
    fault: DemoError | None = None
    notes: Notes = field(default_factory=Notes)


def is_absent(value: Any) -> bool:
    """Return whether a value says nothing: null, or the NaN that tables have for it."""
    return value is None or value != value


def says_nothing(value: Any) -> bool:
    """Return whether a value is null, empty, or blank."""
    if isinstance(value, str):
        return not value or value.isspace()
    return is_absent(value) or value in ([], {}, ())


def at(name: str, where: Text, error: DemoError) -> DemoError:
    """Return an error that also says in which file and where."""
    return DemoError("files.at", name=name, where=where, what=error.happened, remedy=error.todo)
