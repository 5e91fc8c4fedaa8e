"""Files written whole or not at all, and JSON as the run folder has it."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from ditto_hub.errors import RunError, StorageError
from ditto_hub.validation import validated

T = TypeVar("T")
LONGEST_HEADER = 100_000_000  # as safetensors has it


@contextlib.contextmanager
def told_as_storage_error(path: Path) -> Iterator[None]:
    """Turn an `OSError` of the block into a `StorageError` that names the path and the cause."""
    try:
        yield
    except RunError:
        raise
    except OSError as error:
        raise StorageError(
            "runs.could_not_write", path=path, strerror=error.strerror or error
        ) from error


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        StorageError: the disk refused.
    """
    temporary = _temporary(path)
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


def replace_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Put a whole new folder in the place of an old one; of several at once, the last one stays.

    Args:
        folder: that is replaced, or made.
        files: path inside it -> content.

    Raises:
        StorageError: the disk refused; then the old one, if any, is still there.
    """
    new = _temporary(folder)
    try:
        with told_as_storage_error(folder):
            for file, data in files.items():
                write_atomic(new / file, data)
            while not _moved(new, folder):
                old = _temporary(folder)
                with contextlib.suppress(FileNotFoundError):  # another thread was faster
                    os.replace(folder, old)
                    shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(new, ignore_errors=True)


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Give a temporary folder to fill; it becomes the one that is meant, or goes with an error.

    Args:
        folder: that is made; it is missing or empty.

    Raises:
        StorageError: the disk refused, or something came into the folder meanwhile.
    """
    new = _temporary(folder)
    try:
        with told_as_storage_error(folder):
            new.mkdir(parents=True)
        yield new
        with told_as_storage_error(folder):
            os.replace(new, folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def require_room(folder: Path, size: int) -> None:
    """Check that a disk has room before a large file is written.

    Args:
        folder: on the disk; it is there.
        size: bytes.

    Raises:
        StorageError: it has not.
    """
    free = shutil.disk_usage(folder).free
    if free < size:
        gib = {"needed": size / 2**30, "free": free / 2**30}
        raise StorageError("runs.no_room", folder=folder, **gib)


def _moved(new: Path, folder: Path) -> bool:
    """Rename a folder, unless something that is not empty has the name."""
    try:
        os.replace(new, folder)
    except OSError as error:
        taken = error.errno in (errno.ENOTEMPTY, errno.EEXIST)
        if not taken and not (
            error.errno == errno.EACCES and folder.is_dir()
        ):  # as Windows says it
            raise
        return False
    return True


def _temporary(path: Path) -> Path:
    """Return a name beside a path that no other thread or process takes; `Run.sweep` knows it."""
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")


def is_folder(text: str | Path) -> bool:
    """Tell whether a text names a folder; one that can be no path, too long a one, names none."""
    try:
        return Path(text).is_dir()
    except (OSError, ValueError):
        return False


def is_file(path: Path) -> bool:
    """Tell whether a path is a file's; one that can be no path is none's."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def size_of(folder: Path) -> int:
    """Return the bytes of a folder's files; one that goes meanwhile counts nothing."""
    size = 0
    for place, _, files in os.walk(folder):  # a folder that goes meanwhile is passed over
        for name in files:
            with contextlib.suppress(FileNotFoundError):
                found = os.lstat(os.path.join(place, name))
                size += found.st_size if stat.S_ISREG(found.st_mode) else 0
    return size


def whole_weights(path: Path) -> bool:
    """Tell whether a file is safetensors whose header and size agree, without reading its data.

    Source: https://huggingface.co/docs/safetensors, "Format".
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, LONGEST_HEADER):
                return False
            header = json.loads(file.read(length))
        ends = [row["data_offsets"][1] for name, row in header.items() if name != "__metadata__"]
        return 8 + length + max(ends, default=0) == size
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        return False


def require_plain_files(folder: Path) -> None:
    """Refuse a folder that holds anything but folders and files of its own.

    A link could have any file of this machine read, trained on or published; a device or a pipe
    has no end.

    Raises:
        RunError: naming the first one.
    """
    for place, folders, files in os.walk(folder):
        for name in sorted(folders + files):
            mode = os.lstat(os.path.join(place, name)).st_mode
            if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                raise RunError("runs.not_plain_file", path=os.path.join(place, name))


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


def read_file(kind: type[T], path: Path) -> T:
    """Read a record from a JSON file of its own.

    Args:
        kind: a dataclass.
        path: of the file.

    Raises:
        RunError: it is missing, or holds no such record.
    """
    try:
        return validated(kind, json.loads(path.read_bytes()))
    except (OSError, ValueError, RecursionError) as error:
        raise RunError("runs.missing_damaged", path=path, error=error) from error
