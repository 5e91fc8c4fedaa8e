"""Zip archives: of a chat export its conversations, and nothing else, never more than asked for."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Sequence

from ditto_hub.demos.importers.reading import LONGEST_PREVIEW, ZIP, Source
from ditto_hub.errors import DemoError
from ditto_hub.words import Message

# Compressions that are unpacked piece by piece; zipfile unpacks the others whole.
BOUNDED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
END, END_64 = b"PK\x05\x06", b"PK\x06\x06"
LONGEST_END = 70_000
LARGEST_INDEX = 1_000_000
DAMAGED = (
    zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError,
    struct.error, OverflowError,
)  # fmt: skip


def unpack(
    source: Source, limit: int = LONGEST_PREVIEW
) -> tuple[tuple[Source, ...], tuple[Message, ...]]:
    """Return the conversations of a zipped chat export, in order; any other file as it is.

    Nothing else in an archive is opened, nothing is written to disk, and no more than `limit`
    bytes come out, whatever the archive says of itself; parts that are not read are named.

    Raises:
        DemoError: an archive without them, damaged, locked, or compressed in another way.
    """
    if source.parts:
        return source.parts, source.notices
    if not source.data.startswith(ZIP):
        return (source,), ()
    return members_of(source.name, io.BytesIO(source.data), limit)


def members_of(
    name: str, stream: io.BufferedIOBase, limit: int
) -> tuple[tuple[Source, ...], tuple[Message, ...]]:
    """Return the conversations in an archive, and what a reader should know of them.

    Raises:
        DemoError: as `unpack`.
    """
    read: list[Source] = []
    unread: list[str] = []
    room = limit
    try:
        _require_small_index(name, stream)
        with zipfile.ZipFile(stream) as archive:  # type: ignore[arg-type]
            for info in _wanted(archive.infolist()):
                if info.compress_type not in BOUNDED:
                    raise DemoError("files.zip_method", name=name)
                if room <= 0:
                    unread.append(info.filename[:100])
                    continue
                with archive.open(info) as member:
                    data = member.read(room + 1)
                inside = info.filename.rpartition("/")[2]
                read.append(Source(inside, data[:room], len(data) > room))
                room -= len(data)
    except DAMAGED as error:
        if isinstance(error, DemoError):
            raise
        raise DemoError("files.zip_damaged", name=name, kind=type(error).__name__) from error
    if not read:
        raise DemoError("files.zip_other", name=name)
    notices = (Message("files.unread_parts", names=", ".join(unread)),) if unread else ()
    return tuple(read), notices


def _require_small_index(name: str, stream: io.BufferedIOBase) -> None:
    """Refuse an archive whose list of files is long, before it is read.

    Raises:
        DemoError: it is.
    """
    size = stream.seek(0, io.SEEK_END)
    stream.seek(max(0, size - LONGEST_END))
    tail = stream.read()
    stream.seek(0)
    at, at_64 = tail.rfind(END), tail.rfind(END_64)
    index = struct.unpack_from("<L", tail, at + 12)[0] if at >= 0 else 0
    if index == 0xFFFFFFFF and at_64 >= 0:
        index = struct.unpack_from("<Q", tail, at_64 + 40)[0]
    if index > LARGEST_INDEX:
        raise DemoError("files.zip_index", name=name)


def _wanted(infos: Sequence[zipfile.ZipInfo]) -> list[zipfile.ZipInfo]:
    """Return the files that hold conversations, those of the first kind that there is."""
    files = {info.filename: info for info in infos if not info.is_dir()}
    names = sorted(name for name in files if not _base(name).startswith((".", "._")))
    for fits in (_is_conversations, _is_chat_text, _is_result):
        if found := [files[name] for name in names if fits(_base(name))]:
            return found
    return []


def _base(name: str) -> str:
    return name.rpartition("/")[2]


def _is_conversations(name: str) -> bool:
    return name.startswith("conversations") and name.endswith(".json")


def _is_chat_text(name: str) -> bool:
    return name == "_chat.txt" or (name.startswith("WhatsApp") and name.endswith(".txt"))


def _is_result(name: str) -> bool:
    return name == "result.json"
