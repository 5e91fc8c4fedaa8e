"""Files written whole or not at all, and JSON as the run folder has it."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ditto_hub.errors import RunError, StorageError


@contextlib.contextmanager
def told_as_storage_error(path: Path) -> Iterator[None]:
    """Turn an `OSError` of the block into a `StorageError` that names the path and the cause."""
    try:
        yield
    except RunError:
        raise
    except OSError as error:
        raise StorageError(
            f"Could not write {path}: {error.strerror or error}.",
            "Make room or choose a folder that can be written; what was saved before is whole.",
        ) from error


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        StorageError: the disk refused.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with told_as_storage_error(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def to_json_bytes(data: Any) -> bytes:
    """Return pretty UTF-8 JSON with a newline at its end."""
    return (json.dumps(data, ensure_ascii=False, indent=2) + "\n").encode()


def to_jsonl_bytes(rows: Iterable[Any]) -> bytes:
    """Return UTF-8 JSON lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def from_jsonl(path: Path) -> list[Any]:
    """Read JSON lines; a text may hold U+2028 and its like, which are no ends of lines here."""
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines if line]
