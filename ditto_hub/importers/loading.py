"""From a file to a demo set, and back."""

from __future__ import annotations

import itertools
import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from ditto_hub.demos import Demonstration, DemoSet
from ditto_hub.errors import DemoError, StorageError
from ditto_hub.importers.finding import Choice, columns_of, find
from ditto_hub.importers.pairs import Found, Pair
from ditto_hub.importers.reading import MAX_BYTES, read_whole

MOST_PAIRS = 10_000
KEPT = ("split", "origin")


def load_demos(path: str | Path, choice: Choice | None = None, limit: int = MAX_BYTES) -> DemoSet:
    """Read a file of demonstrations.

    Args:
        path: JSONL, a JSON array, CSV or Parquet whose rows are of one of `SHAPES`; a ChatGPT or
            Claude export, an mbox, a letter. Rows may carry id, origin, original and split.
        choice: what is wanted of it, where there are several ways to read it.
        limit: bytes that the file may have.

    Raises:
        DemoError: what is wrong with the file, and in which line.
    """
    wanted = choice or Choice()
    source = read_whole(path, limit)
    found = list(itertools.islice(_good(find(source, wanted, lenient=False)[0]), MOST_PAIRS + 1))
    if len(found) > MOST_PAIRS:
        raise DemoError(
            f"{source.name} holds more than {MOST_PAIRS:,} demonstrations.",
            "Keep the 4 to 7 most typical ones.",
        )
    placed = [(entry, pair) for entry in found for pair in entry.pairs]
    placed = _of_rows(_of_voice(placed, wanted.voice, source.name), wanted.rows, source.name)
    given = {str(entry.row.get("id")) for entry, _ in placed}
    spare = (name for name in map("demo-{}".format, itertools.count(1)) if name not in given)
    demos: dict[str, Demonstration] = {}
    for entry, pair in placed:
        try:
            demo = _demonstration(entry, pair, spare)
            if demo.id in demos:
                raise DemoError(
                    f"The id {demo.id!r} was given before.",
                    "Give each demonstration its own id, or leave the ids out.",
                )
        except DemoError as error:
            told = f"{source.name}, {entry.where}: {error.what}"
            raise DemoError(told, error.remedy) from error
        demos[demo.id] = demo
    if not demos:
        raise DemoError(f"{source.name} holds no demonstrations.", "Two are the least.")
    return DemoSet(tuple(demos.values()))


def columns(path: str | Path) -> tuple[str, ...]:
    """Return the names of a table's columns that hold texts.

    Raises:
        DemoError: the file cannot be read, or has no rows.
    """
    found, _ = find(read_whole(path), Choice(), lenient=True)
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
        raise StorageError(
            f"{target} cannot be written ({error.strerror}).", "Free some space or choose a folder."
        ) from error


def _good(found: Iterator[Found]) -> Iterator[Found]:
    """Pass on what could be read, up to the first fault.

    Raises:
        DemoError: that fault.
    """
    for entry in found:
        if entry.fault is not None:
            raise entry.fault
        yield entry


Placed = list[tuple[Found, Pair]]


def _of_voice(placed: Placed, voice: str, name: str) -> Placed:
    """Keep one person's writing: the one asked for, else the commonest.

    Raises:
        DemoError: nobody of that name writes in the file.
    """
    voices = Counter(pair.voice for _, pair in placed)
    if voice and voice not in voices:
        raise DemoError(
            f"{name} holds nothing written by {voice!r}.",
            "Of a chat export it is assistant or user, of mail the sender's address.",
        )
    wanted = voice or ("assistant" if "assistant" in voices else _commonest(voices))
    return [(entry, pair) for entry, pair in placed if pair.voice == wanted]


def _commonest(voices: Counter[str]) -> str:
    return voices.most_common(1)[0][0] if voices else ""


def _of_rows(placed: Placed, rows: tuple[int, ...], name: str) -> Placed:
    """Keep the rows asked for, in that order.

    Raises:
        DemoError: there is no row of that number.
    """
    if missing := [row for row in rows if not 1 <= row <= len(placed)]:
        raise DemoError(
            f"{name} has no row {missing[0]}: it holds {len(placed)} demonstrations.",
            "Rows are counted from 1.",
        )
    return [placed[row - 1] for row in rows] if rows else placed


def _demonstration(entry: Found, pair: Pair, spare_ids: Iterator[str]) -> Demonstration:
    given = entry.row.get("id") if len(entry.pairs) == 1 else None
    name = str(given) if type(given) is int else next(spare_ids) if given is None else given
    kept = {key: entry.row[key] for key in KEPT if entry.row.get(key) is not None}
    fields = {"origin": "file", "original": pair.original, **kept}
    return Demonstration(name, pair.prompt, pair.completion, **fields)
