"""A file's bytes and text: bounded, decoded, and named for what they are where they are no text."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from pathlib import Path

from ditto_hub.errors import DemoError
from ditto_hub.words import Message

LONGEST_PREVIEW = 20_000_000
ZIP = b"PK\x03\x04"
ENCODINGS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins like UTF-16's, so it is looked for first
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# What a file that is no text begins with, by the code of its name.
BINARY = (
    (ZIP, "files.kind.zip"),
    (b"\x1f\x8b", "files.kind.gzip"),
    (b"BZh", "files.kind.bzip2"),
    (b"\xfd7zXZ", "files.kind.xz"),
    (b"7z\xbc\xaf", "files.kind.7z"),
    (b"Rar!", "files.kind.rar"),
    (b"\x28\xb5\x2f\xfd", "files.kind.zstd"),
    (b"%PDF", "files.kind.pdf"),
    (b"\xd0\xcf\x11\xe0", "files.kind.office"),
    (b"\x89PNG", "files.kind.picture"),
    (b"\xff\xd8\xff", "files.kind.picture"),
    (b"GIF8", "files.kind.picture"),
    (b"SQLite format 3", "files.kind.database"),
    (b"ARROW1", "files.kind.arrow"),
    (b"Obj\x01", "files.kind.avro"),
)
ASCII = bytes(range(128))


@dataclass(frozen=True)
class Source:
    """Hold a file's beginning.

    Args:
        name: for people and for its suffix; never opened again.
        data: bytes, all of them or the first ones.
        cut: whether the file goes on after them.
        parts: what was taken out of an archive, where the file is one and was opened as such.
        notices: what a reader should know of these.
    """

    name: str
    data: bytes
    cut: bool = False
    parts: tuple[Source, ...] = ()
    notices: tuple[Message, ...] = ()

    @property
    def suffix(self) -> str:
        """The name's ending, in small letters, with its dot."""
        return Path(self.name).suffix.lower()


def decode(source: Source) -> tuple[str, tuple[Message, ...]]:
    """Return a file's text and what a reader should know of it.

    Text is UTF-8 unless its first bytes say otherwise; where it is not, it is read as Western
    European, and that is said.

    Raises:
        DemoError: binary, empty, or most likely in yet another encoding.
    """
    encoding = next((e for mark, e in ENCODINGS if source.data.startswith(mark)), None)
    encoding = encoding or _unmarked(source.data[:400])
    _refuse_binary(source, encoding)
    notices: tuple[Message, ...] = ()
    try:
        decoder = codecs.getincrementaldecoder(encoding or "utf-8")()
        text = decoder.decode(source.data, final=not source.cut)
    except UnicodeDecodeError as error:
        text, notices = _western(source, error), (Message("files.western", name=source.name),)
    if "\0" in text:
        raise DemoError("files.nul", name=source.name)
    if not text or text.isspace():
        raise DemoError("files.empty", name=source.name)
    return text, notices


def _unmarked(start: bytes) -> str | None:
    """Return UTF-16 without its mark, in which every other byte of a Latin text is zero."""
    half = len(start) // 2
    if half < 8:
        return None
    low, high = start[1::2].count(0), start[::2].count(0)
    return (
        "utf-16-le" if low > 0.8 * half > high else "utf-16-be" if high > 0.8 * half > low else None
    )


def _western(source: Source, error: UnicodeDecodeError) -> str:
    """Return a text as Windows-1252 has it.

    Raises:
        DemoError: it is most likely in another encoding, which cannot be told.
    """
    high = len(source.data.translate(None, ASCII))
    marked = any(source.data.startswith(mark) for mark, _ in ENCODINGS)
    if marked or high > len(source.data) / 5 or b"\0" in source.data:
        place = error.start + len(source.data) - len(error.object)  # a BOM may be cut off already
        raise DemoError(
            "files.not_encoding",
            name=source.name,
            encoding=error.encoding.upper(),
            place=place,
            byte=source.data[place],
        ) from error
    return source.data.decode("cp1252", errors="replace")


def _refuse_binary(source: Source, encoding: str | None) -> None:
    kind = next((kind for mark, kind in BINARY if source.data.startswith(mark)), None)
    if kind is not None and encoding is None:
        raise DemoError("files.binary", name=source.name, kind=Message(kind))
    if encoding is None and source.data[:200].lstrip()[:1] == b"<":
        raise DemoError("files.markup", name=source.name)
