"""From a file to a demo set, and back."""

from __future__ import annotations

import itertools
import json
import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from ditto_hub.demos.demonstrations import Demonstration, DemoSet
from ditto_hub.demos.importers.finding import Choice, columns_of, find
from ditto_hub.demos.importers.gathering import ROWS_READ, Offer, Offered, gather
from ditto_hub.demos.importers.opening import MAX_BYTES, read_start, read_whole
from ditto_hub.demos.importers.pairs import at
from ditto_hub.demos.importers.reading import LONGEST_PREVIEW
from ditto_hub.errors import DemoError, StorageError
from ditto_hub.words import Message, chained


def load_demos(path: str | Path, choice: Choice | None = None, limit: int = MAX_BYTES) -> DemoSet:
    """Read a file of demonstrations, all of it; what was left out is in the set's notices.

    Args:
        path: JSONL, a JSON array, CSV or Parquet whose rows are of one of `SHAPES`; a ChatGPT or
            Claude export, a chat of two people, an mbox, a letter. Rows may carry id, origin,
            original and split.
        choice: what is wanted of it, where there are several ways to read it. Where it names
            rows, only these have to be readable.
        limit: bytes that the file may have.

    Raises:
        DemoError: what is wrong with the file, and in which line.
    """
    wanted = choice or Choice()
    offer = gather(read_whole(path, limit), wanted)
    _require_wanted(offer, wanted)
    if not wanted.rows:
        _require_whole(offer)
    return _taken(offer, wanted, strict=not wanted.rows)


def pick_demos(path: str | Path, choice: Choice) -> DemoSet:
    """Take of a file what its preview shows, or the rows of it that are chosen.

    Raises:
        DemoError: nothing in it can be read, or a chosen row is not there.
    """
    offer = gather(read_start(path, LONGEST_PREVIEW), choice)
    _require_wanted(offer, choice)
    if not offer.rows:
        _require_whole(offer)
    return _taken(offer, choice, strict=False)


def load_texts(paths: Sequence[str | Path], choice: Choice | None = None) -> DemoSet:
    """Read files of texts without prompts; the prompts of the set are empty, yet to be written.

    Args:
        paths: of one file, in which texts of plain text are parted by a line of three or more
            dashes or a form feed; of several, in which one of plain text is one text.
        choice: the column, the voice or the rows that are wanted of each.

    Raises:
        DemoError: what is wrong with a file.
    """
    wanted = replace(choice or Choice(), texts_alone=True, whole=len(paths) > 1)
    sets = [load_demos(path, wanted) for path in paths]
    texts = [demo for found in sets for demo in found]
    demos = (replace(demo, id=f"demo-{n}") for n, demo in enumerate(texts, start=1))
    return DemoSet(tuple(demos), tuple(notice for found in sets for notice in found.notices))


def _require_wanted(offer: Offer, choice: Choice) -> None:
    """Refuse plain text where nobody asked for texts without prompts.

    Raises:
        DemoError: it is that.
    """
    if offer.plain and not choice.texts_alone:
        raise DemoError("files.plain", name=offer.name, count=len(offer.rows))


def _require_whole(offer: Offer) -> None:
    """Refuse a file that is not readable from its first row to its last.

    Raises:
        DemoError: the first fault.
    """
    if offer.header:
        missing = [name for name in ("prompt", "completion") if name not in offer.header]
        raise DemoError(
            "files.lacks_column",
            name=offer.name,
            missing=", ".join(missing),
            header=", ".join(offer.header)[:200],
        )
    if offer.fault is not None:
        raise offer.fault
    if offer.broken is not None:
        raise offer.broken
    if offer.stopped is not None:
        raise DemoError("files.too_many", name=offer.name, most=ROWS_READ)


def _taken(offer: Offer, wanted: Choice, strict: bool) -> DemoSet:
    """Make a demo set of what is wanted of a file.

    Args:
        strict: whether two rows of one id are refused; else the second gets another id.

    Raises:
        DemoError: nothing is there, or not what is wanted.
    """
    voice = _voice(offer, wanted.voice)
    of_voice = [row for row in offer.rows if row.voice == voice]
    chosen = _of_rows(of_voice, wanted.rows, offer.name)
    given = {row.id for row in chosen}
    spare = (name for name in map("demo-{}".format, itertools.count(1)) if name not in given)
    demos: dict[str, Demonstration] = {}
    for row in chosen:
        if strict and row.id in demos:
            raise at(offer.name, row.where, DemoError("files.id_again", id=row.id))
        name = row.id if row.id and row.id not in demos else next(spare)
        demos[name] = replace(row.demo, id=name)
    if not demos:
        raise nothing(offer)
    notices = list(offer.said())
    if others := len(offer.rows) - len(of_voice):
        notices.append(Message("files.other_voices", count=others, voice=voice))
    return DemoSet(tuple(demos.values()), tuple(notices))


def nothing(offer: Offer) -> DemoError:
    """Return why a file offers nothing: what was left out of it, where anything was."""
    if offer.notes.left:
        left = [m for m in offer.said() if m.code.startswith("files.left")]
        return DemoError("files.all_left_out", name=offer.name, left=chained("words.then", left))
    return DemoError("files.no_demonstrations", name=offer.name)


def _voice(offer: Offer, wanted: str) -> str:
    """Return the voice asked for, else the one that is taken by default.

    Raises:
        DemoError: nobody of that name writes in the file.
    """
    if wanted and wanted not in offer.voices:
        raise DemoError("files.no_voice", name=offer.name, voice=wanted)
    return wanted or offer.default_voice()


def _of_rows(found: Sequence[Offered], rows: tuple[int, ...], name: str) -> Sequence[Offered]:
    """Return the rows asked for, in that order.

    Raises:
        DemoError: there is no row of that number.
    """
    if missing := [row for row in rows if not 1 <= row <= len(found)]:
        raise DemoError("files.no_row", name=name, row=missing[0], count=len(found))
    return [found[row - 1] for row in dict.fromkeys(rows)] if rows else found


def columns(path: str | Path) -> tuple[str, ...]:
    """Return the names of a table's columns that hold texts.

    Raises:
        DemoError: the file cannot be read.
    """
    found = find(read_whole(path), Choice()).found
    return next((columns_of(entry.row) for entry in found if entry.row), ())


def load_table(path: str | Path, *, prompt: str, completion: str) -> DemoSet:
    """Read a table by two of its columns.

    Raises:
        DemoError: the file cannot be read, or lacks one of them.
    """
    return load_demos(path, Choice(prompt=prompt, completion=completion))


def save_demos(demos: Iterable[Demonstration], path: str | Path) -> None:
    """Write demonstrations as JSONL; the file is there whole or not at all.

    Raises:
        StorageError: the disk refused.
    """
    target = Path(path)
    lines = [json.dumps(demo.to_json(), ensure_ascii=False) + "\n" for demo in demos]
    draft = ""
    try:
        handle, draft = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as out:
            out.writelines(lines)
            out.flush()
            os.fsync(out.fileno())
        os.replace(draft, target)
    except OSError as error:
        if draft:
            Path(draft).unlink(missing_ok=True)
        raise StorageError("files.not_written", target=target, why=error.strerror) from error
