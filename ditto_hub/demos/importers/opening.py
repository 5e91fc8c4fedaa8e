"""Files on disk: opened once, read to a limit."""

from __future__ import annotations

import os
from pathlib import Path

from ditto_hub.demos.importers.archives import members_of
from ditto_hub.demos.importers.reading import LONGEST_PREVIEW, ZIP, Source
from ditto_hub.errors import DemoError

MAX_BYTES = 5_000_000


def read_whole(path: str | Path, limit: int = MAX_BYTES) -> Source:
    """Read a file of demonstrations, all of it.

    Raises:
        DemoError: there is none, it cannot be read, or it has more than `limit` bytes.
    """
    source, size = _read(Path(path), limit)
    if source.cut:
        raise DemoError(
            "files.too_large", name=source.name, size=size / 1e6, most=round(limit / 1e6)
        )
    return source


def read_start(path: str | Path, limit: int = LONGEST_PREVIEW) -> Source:
    """Read a file's first `limit` bytes.

    Raises:
        DemoError: there is none, or it cannot be read.
    """
    return _read(Path(path), limit)[0]


def _read(file: Path, limit: int) -> tuple[Source, int]:
    try:
        if file.is_dir():
            raise DemoError("files.folder", file=file)
        if not file.exists():
            raise DemoError("files.missing", file=file)
        if not file.is_file():
            raise DemoError("files.not_regular", file=file)
        with file.open("rb") as stream:
            data = stream.read(limit + 1)
            size = os.fstat(stream.fileno()).st_size
            if len(data) > limit and data.startswith(ZIP):
                stream.seek(0)  # an archive's index is at its end
                parts, notices = members_of(file.name, stream, limit)
                return Source(file.name, b"", parts[-1].cut, parts, notices), size
    except OSError as error:
        raise DemoError("files.unreadable", file=file, why=error.strerror) from error
    return Source(file.name, data[:limit], len(data) > limit), size
