"""A file's bytes and text: bounded, decoded, and named for what they are where they are no text."""

from __future__ import annotations

import codecs
import io
import lzma
import os
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ditto_hub.errors import DemoError

MAX_BYTES = 5_000_000
LONGEST_PREVIEW = 20_000_000
EXPORT_MEMBER = "conversations.json"

ENCODINGS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins like UTF-16's, so it is looked for first
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# What a file that is no text begins with.
BINARY = (
    (b"PK\x03\x04", "a zip archive or an office document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ", "an xz archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"Rar!", "a rar archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (b"%PDF", "a PDF"),
    (b"\xd0\xcf\x11\xe0", "an old office document"),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
    (b"GIF8", "a picture"),
    (b"SQLite format 3", "a database"),
    (b"ARROW1", "an Arrow file"),
)


@dataclass(frozen=True)
class Source:
    """Hold a file's beginning.

    Args:
        name: for people and for its suffix; never opened again.
        data: bytes, all of them or the first ones.
        cut: whether the file goes on after them.
    """

    name: str
    data: bytes
    cut: bool = False

    @property
    def suffix(self) -> str:
        """The name's ending, in small letters, with its dot."""
        return Path(self.name).suffix.lower()


def read_whole(path: str | Path, limit: int = MAX_BYTES) -> Source:
    """Read a file of demonstrations, all of it.

    Raises:
        DemoError: there is none, it cannot be read, or it has more than `limit` bytes.
    """
    source, size = _read(Path(path), limit)
    if source.cut:
        raise DemoError(
            f"{source.name} has {size / 1e6:.1f} MB, and {limit / 1e6:.0f} MB is the most.",
            "A few demonstrations are enough: keep the 4 to 7 most typical ones.",
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
            raise DemoError(f"{file} is a folder.", "Give a file of demonstrations in it.")
        if not file.exists():
            raise DemoError(f"There is no file {file}.", "Check the spelling and the folder.")
        if not file.is_file():
            raise DemoError(f"{file} is not a regular file.", "Save the demonstrations in a file.")
        with file.open("rb") as stream:
            data = stream.read(limit + 1)
            size = os.fstat(stream.fileno()).st_size
            if len(data) > limit and data.startswith(b"PK\x03\x04"):
                stream.seek(0)  # an archive's index stands at its end
                return _member(file.name, stream, limit), size
    except OSError as error:
        raise DemoError(
            f"{file} cannot be read ({error.strerror}).", "Give another file, or mend its rights."
        ) from error
    return Source(file.name, data[:limit], len(data) > limit), size


def unpack(source: Source, limit: int = LONGEST_PREVIEW) -> Source:
    """Return the conversations of a zipped ChatGPT or Claude export; any other file as it is.

    Nothing else in an archive is opened, nothing is written to disk, and no more than `limit`
    bytes come out, whatever the archive says of itself.

    Raises:
        DemoError: an archive without them, damaged, or locked.
    """
    if not source.data.startswith(b"PK\x03\x04"):
        return source
    return _member(source.name, io.BytesIO(source.data), limit)


def _member(name: str, stream: io.IOBase, limit: int) -> Source:
    try:
        with zipfile.ZipFile(stream) as archive:  # type: ignore[arg-type]
            inside = min(_conversations(archive.namelist()), default=None)
            if inside is None:
                raise DemoError(
                    f"{name} is an archive or an office document without {EXPORT_MEMBER} in it.",
                    "Unpack it and give one file; save a spreadsheet as CSV.",
                )
            with archive.open(inside) as member:
                data = member.read(limit + 1)
    except (
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
        EOFError,
        NotImplementedError,
        RuntimeError,
        ValueError,
    ) as error:
        if isinstance(error, DemoError):
            raise
        raise DemoError(
            f"{name} is a zip archive that cannot be unpacked ({type(error).__name__}).",
            f"Unpack it yourself and give {EXPORT_MEMBER}.",
        ) from error
    return Source(EXPORT_MEMBER, data[:limit], len(data) > limit)


def _conversations(names: Iterable[str]) -> list[str]:
    files = [name for name in names if name.rpartition("/")[2].startswith("conversations")]
    return [name for name in files if name.endswith(".json")]


def decode(source: Source) -> str:
    """Return a file's text, in UTF-8 unless its first bytes say otherwise.

    Raises:
        DemoError: binary, another encoding, or empty.
    """
    encoding = next((e for mark, e in ENCODINGS if source.data.startswith(mark)), None)
    _refuse_binary(source, encoding)
    encoding = encoding or "utf-8"
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(source.data, final=not source.cut)
    except UnicodeDecodeError as error:
        place = error.start + len(source.data) - len(error.object)  # a BOM may be cut off already
        raise DemoError(
            f"{source.name} is not {error.encoding.upper()} text: byte offset {place}"
            f" (0x{source.data[place]:02X}) does not belong there.",
            "Save the file as UTF-8 text.",
        ) from error
    if "\0" in text:
        raise DemoError(
            f"{source.name} holds NUL characters: it is no text.", "Save the file as UTF-8 text."
        )
    if not text.strip():
        raise DemoError(f"{source.name} is empty.", "Two demonstrations are the least.")
    return text


def decode_leniently(source: Source) -> tuple[str, tuple[str, ...]]:
    """Return a file's text, read as Western European where it is not UTF-8, and say so.

    Raises:
        DemoError: binary, empty, or most likely in yet another encoding.
    """
    try:
        return decode(source), ()
    except DemoError as error:
        if not isinstance(error.__cause__, UnicodeDecodeError):
            raise
        high = sum(byte > 0x7F for byte in source.data)
        if high > len(source.data) / 5 or b"\0" in source.data:
            raise  # so many are Big5, GBK and the like, which one cannot be told
        text = source.data.decode("cp1252", errors="replace")
        return text, (
            f"{source.name} is not UTF-8 text; it was read as Western European (Windows-1252)."
            " Look at accents and quotation marks.",
        )


def _refuse_binary(source: Source, encoding: str | None) -> None:
    kind = next((kind for mark, kind in BINARY if source.data.startswith(mark)), None)
    if kind is not None and encoding is None:
        raise DemoError(
            f"{source.name} is {kind}, not text.",
            "Give JSONL, JSON, CSV, Parquet, an mbox, or a chat export.",
        )
    if encoding is None and source.data[:200].lstrip()[:1] == b"<":
        raise DemoError(
            f"{source.name} is HTML or XML.",
            f"Of a chat export, {EXPORT_MEMBER} is the file; else give JSONL, JSON or CSV.",
        )
