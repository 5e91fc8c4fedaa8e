"""Files made to take a reader's memory or time, each small in the making: written when asked for.

`python tests/security/hostile.py FOLDER` writes them all, for trying them by hand.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import struct
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

MOST = 20_000_000  # bytes that are read of a file
Q, A = "prompt", "completion"
Maker = Callable[[], bytes]


def parquet(table: pa.Table, **how: Any) -> bytes:
    """Return a table as a Parquet file."""
    stream = io.BytesIO()
    pq.write_table(table, stream, compression="zstd", **how)
    return stream.getvalue()


def one_text(megabytes: int, rows: int = 64) -> bytes:
    """Return a table whose every cell is the same long text, stored once."""
    text = pa.DictionaryArray.from_arrays(
        pa.array([0] * rows, pa.int32()), ["a" * megabytes * 10**6]
    )
    return parquet(pa.table({Q: ["q"] * rows, A: text}))


def lying_page() -> bytes:
    """Return a table whose page says in its own header that it unpacks to a gigabyte."""
    data = bytearray(parquet(pa.table({Q: ["q"] * 64, A: ["a"] * 64}), use_dictionary=False))
    # A page's header begins with its kind (field 1) and its size unpacked (field 2).
    place = data.index(b"\x15\x00\x15", 4)
    length = 1
    while data[place + 2 + length] & 128:
        length += 1
    size = varint(2 * 10**9)
    return bytes(data[: place + 3] + size + data[place + 3 + length :])


def varint(value: int) -> bytes:
    """Return an integer as Thrift writes it."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def pairs_of_text(rows: int) -> bytes:
    """Return a table of different texts of four kilobytes, as large as is read."""
    texts = [f"👍{row}" + "a" * 4000 for row in range(rows)]
    stream = io.BytesIO()
    table = pa.table({Q: [f"q{row}" for row in range(rows)], A: texts})
    pq.write_table(table, stream, compression="none", use_dictionary=False)
    return stream.getvalue()


def nested(depth: int) -> bytes:
    """Return a table of structs inside structs."""
    kind: pa.DataType = pa.string()
    value: Any = "x"
    for _ in range(depth):
        kind, value = pa.struct([("a", kind)]), {"a": value}
    return parquet(pa.table({Q: pa.array([value], kind)}))


def zipped(name: str, data: bytes, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return an archive of one file."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        archive.writestr(name, data)
    return stream.getvalue()


def many_members(count: int) -> bytes:
    """Return an archive of very many empty files."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for number in range(count):
            archive.writestr(f"{number}", b"")
        archive.writestr("conversations.json", b"[]")
    return stream.getvalue()


def many_letters() -> bytes:
    """Return an mbox of very many letters."""
    return b"From a\nTo: b\nSubject: c\n\nhi\n\n" * (MOST // 30)


def deep_letter() -> bytes:
    """Return a letter of parts inside parts, with many lines in the innermost."""
    parts = b"".join(
        b"--b%d\nContent-Type: multipart/mixed; boundary=b%d\n\n" % (n, n + 1) for n in range(500)
    )
    return b"From: a\nContent-Type: multipart/mixed; boundary=b0\n\n" + parts + b"a\n" * 400_000


def chatgpt(nodes: int, role: str = "user", text: str = "hi") -> bytes:
    """Return a conversation of very many messages of one role."""
    mapping = {
        f"{n}": {
            "parent": f"{n - 1}", "children": [f"{n + 1}"],
            "message": {
                "author": {"role": role}, "content": {"content_type": "text", "parts": [text]},
            },
        }
        for n in range(nodes)
    }  # fmt: skip
    export = [{"title": "t", "mapping": mapping, "current_node": f"{nodes - 1}"}]
    return json.dumps(export).encode()


def filled(start: str, piece: str, end: str = "", size: int = MOST) -> bytes:
    """Return a text that repeats a piece up to a size."""
    return (start + piece * ((size - len(start) - len(end)) // len(piece.encode())) + end).encode()


def repeated_lists() -> bytes:
    """Return a table of few rows, each a list that names one long text very often."""
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 6400, pa.int32()), ["a" * 1_000_000])
    lists = pa.ListArray.from_arrays(pa.array(range(0, 6401, 100), pa.int32()), text)
    return parquet(pa.table({"messages": lists}))


def fixed_length() -> bytes:
    """Return a table of values of a fixed great length, stored once."""
    values = pa.array([b"a" * 1_000_000] * 64, pa.binary(1_000_000))
    return parquet(pa.table({Q: ["q"] * 64, A: values}))


def shared_prefixes() -> bytes:
    """Return a table whose texts are written as what they share with the one before."""
    table = pa.table({Q: ["q"] * 300, A: ["a" * 100_000] * 300})
    return parquet(table, use_dictionary=False, column_encoding={A: "DELTA_BYTE_ARRAY", Q: "PLAIN"})


def large_index() -> bytes:
    """Return what says that nearly all of it is the index of a Parquet file."""
    body = b"\x19\xfc" + b"\xff" * (MOST - 100)
    return b"PAR1" + body + struct.pack("<I", len(body)) + b"PAR1"


FILES: dict[str, Maker] = {
    "one-text-40.parquet": lambda: one_text(40),
    "one-text-100.parquet": lambda: one_text(100),
    "one-text-19.parquet": lambda: one_text(19),
    "one-text-1.parquet": lambda: one_text(1, 5000),
    "repeated-lists.parquet": repeated_lists,
    "fixed-length.parquet": fixed_length,
    "shared-prefixes.parquet": shared_prefixes,
    "nulls.parquet": lambda: parquet(pa.table({Q: pa.nulls(5_000_000, pa.string())})),
    "empty-lists.parquet": lambda: parquet(
        pa.table({"messages": pa.array([[None] * 1_000_000] * 2, pa.list_(pa.string()))})
    ),
    "lying-page.parquet": lying_page,
    "nested.parquet": lambda: nested(60),
    "columns.parquet": lambda: parquet(pa.table({f"c{n}": ["x"] for n in range(3000)})),
    "index.parquet": large_index,
    "bomb.zip": lambda: zipped("conversations.json", b"[" + b" " * 80_000_000),
    "bomb-bz2.zip": lambda: zipped("conversations.json", b" " * 30_000_000, zipfile.ZIP_BZIP2),
    "bomb-lzma.zip": lambda: zipped("conversations.json", b" " * 30_000_000, zipfile.ZIP_LZMA),
    "nested.zip": lambda: zipped("a.zip", zipped("conversations.json", b"[]" * 1_000_000)),
    "members.zip": lambda: many_members(20_000),
    "bomb.gz": lambda: gzip.compress(b" " * 20_000_000, 1),
    "bomb.xz": lambda: lzma.compress(b" " * 5_000_000, preset=0),
    "bomb.bz2": lambda: bz2.compress(b" " * 5_000_000),
    "lists.json": lambda: filled("[", "[],", "[]]"),
    "objects.json": lambda: filled("[", '{"a":{}},', "{}]"),
    "one-object.json": lambda: filled('[{"a":[', '{"a":1},', "{}]}]"),
    "numbers.json": lambda: filled("[[", "1.5,", "1]]"),
    "turns.json": lambda: filled('[{"messages":[', '{"role":"user","content":""},', "{}]}]"),
    "deep.json": lambda: filled("", "["),
    "deep-objects.jsonl": lambda: filled("", '{"a":', size=2_000_000),
    "long-text.json": lambda: filled('[{"prompt":"a","completion":"', "b", '"}]'),
    "long-wide-text.json": lambda: filled('[{"prompt":"👍","completion":"', "b", '"}]'),
    "long-line.jsonl": lambda: filled('{"prompt":"👍","completion":"', "b", '"}'),
    "lines.jsonl": lambda: filled("", "{}\n"),
    "open-lines.jsonl": lambda: filled("", "{\n", size=2_000_000),
    "short-rows.jsonl": lambda: filled("", '{"prompt":"a","completion":"b"}\n'),
    "many-turns.jsonl": lambda: filled(
        "", '{"messages":[' + '{"role":"user","content":"a"},' * 900
        + '{"role":"assistant","content":"b"}]}\n',
    ),
    "chatgpt.json": lambda: chatgpt(80_000),
    "digits.jsonl": lambda: filled('{"prompt":', "9", "}"),
    "columns.csv": lambda: filled("", "a,", "\n"),
    "same-columns.csv": lambda: b"a," * 20_000 + b"b\n" + b"1," * 20_000 + b"1\n",
    "cells.csv": lambda: filled("prompt,completion\n", ",", "\n"),
    "quote.csv": lambda: filled('prompt,completion\n"', "a,\n", "\n"),
    "quoted-cells.csv": lambda: filled("prompt,completion\n", '"\n",,,,,,,,,', "\n"),
    "wide-text.csv": lambda: filled("prompt,completion\n👍,b\n", "a,b\n"),
    "blank.jsonl": lambda: filled('{"prompt":"a","completion":"b"}\n', "\n", "{}\n"),
    "blank.csv": lambda: filled("prompt,completion\n", "\n"),
    "discord.csv": lambda: filled("AuthorID,Author,Date,Content\n", "1,a,2,b\n2,b,2,c\n"),
    "chat.txt": lambda: filled("", "01/03/2025, 10:00 - A: b\n01/03/2025, 10:00 - B: c\n"),
    "blank-chat.txt": lambda: filled("01/03/2025, 10:00 - A: b\n", "\n"),
    "wide-chat.txt": lambda: filled("", "01/03/2025, 10:00 - A: 👍\n01/03/2025, 10:00 - B: 👍\n"),
    "wide-message.txt": lambda: filled(
        "01/03/2025, 10:00 - A: 👍\n01/03/2025, 10:00 - B: 👍", "b", "\n",
    ),
    "wide-rows.jsonl": lambda: filled(
        "", '{"prompt":"👍","completion":"👍' + "b" * 4000 + '"}\n',
    ),
    "wide-old-lines.jsonl": lambda: filled(
        "", '{"prompt":"👍","completion":"' + "b" * 400 + '"}\r',
    ),
    "keys.jsonl": lambda: "".join(
        json.dumps({f"{row}-{key}": "x" for key in range(500)}) + "\n" for row in range(2000)
    ).encode(),
    "plain.parquet": lambda: pairs_of_text(4500),
    "letters.mbox": many_letters,
    "deep.eml": deep_letter,
    "header.eml": lambda: filled("From: a\nContent-Type: text/plain", ';a="', "\n\nhi", 900_000),
    "tags.eml": lambda: filled("From: a\nContent-Type: text/html\n\n", "<!-", "", 900_000),
    "wide.txt": lambda: "a\U0001f44d".encode("utf-16") * (MOST // 8),
}  # fmt: skip


def write(folder: Path) -> Iterator[Path]:
    """Write every file into a folder, one after the other."""
    for name, make in FILES.items():
        file = folder / name
        file.write_bytes(make()[: MOST + 1000])
        yield file


if __name__ == "__main__":
    for written in write(Path(sys.argv[1])):
        print(f"{written.stat().st_size:12,} {written}")
