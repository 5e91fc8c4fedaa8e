"""What the pages of a Parquet file will unfold to, read from their headers before any is decoded.

A page of a few bytes can say that it holds a gigabyte, and a reader takes its word for it: the
sums in the file's own index prove nothing. So every page's header is read here, which is a struct
of Thrift's compact protocol.

Source: https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

BOOLS, BYTE, INTEGERS, DOUBLE, BINARY, STRUCT = (1, 2), 3, (4, 5, 6), 7, 8, 12
DATA_PAGES = (5, 8)  # fields of a page header: a data page of version 1, of version 2
ENCODING = {5: 2, 7: 2, 8: 4}  # the field of the encoding in each kind of header
# A text in these is written as what it shares with the one before it: it unfolds without bound.
UNBOUNDED = frozenset({7})
DEEPEST = 6
MOST_PAGES = 20_000


class PageError(ValueError):
    """A page's header is damaged, or says more than is read."""


@dataclass
class Unfolded:
    """Sum up what pages say of themselves.

    Args:
        size: bytes when unpacked.
        values: cells, those of lists among them.
        pages: how many there are.
    """

    size: int = 0
    values: int = 0
    pages: int = 0

    def add_chunk(self, data: bytes, start: int, length: int, values: int) -> None:
        """Add the pages of one column in one group of rows.

        Args:
            start: of its first page in the file.
            length: of all of them.
            values: how many cells the index says that they hold.

        Raises:
            PageError: a header is damaged, or there are too many pages.
        """
        at, end, left = start, min(start + length, len(data)), values
        while at < end and left > 0:
            header, at = _read_struct(data, at, 0)
            size, packed = header.get(2), header.get(3)
            if not isinstance(size, int) or not isinstance(packed, int) or min(size, packed) < 0:
                raise PageError("sizes")
            self.size += size
            self.pages += 1
            at += packed
            left -= self._add_values(header)
            if self.pages > MOST_PAGES:
                raise PageError("pages")

    def _add_values(self, header: Mapping[int, Any]) -> int:
        """Add a page's cells, and return how many of them are the column's."""
        counted = 0
        for kind, encoding in ENCODING.items():
            inner = header.get(kind)
            if not isinstance(inner, dict):
                continue
            count = inner.get(1, 0)
            if not isinstance(count, int) or count < 0 or inner.get(encoding) in UNBOUNDED:
                raise PageError("encoding")
            self.values += count
            counted += count if kind in DATA_PAGES else 0
        return counted


def _read_struct(data: bytes, at: int, depth: int) -> tuple[dict[int, Any], int]:
    """Return a struct's fields by their numbers, and where it ends.

    Raises:
        PageError: it is none.
    """
    if depth > DEEPEST:
        raise PageError("depth")
    fields: dict[int, Any] = {}
    number = 0
    try:
        while data[at] != 0:
            step, kind = data[at] >> 4, data[at] & 15
            at += 1
            if step:
                number += step
            else:
                number, at = _integer(data, at)
            fields[number], at = _read_value(data, at, kind, depth)
        return fields, at + 1
    except (IndexError, struct.error) as error:
        raise PageError("cut off") from error


def _read_value(data: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    if kind in BOOLS:
        return kind == BOOLS[0], at
    if kind == BYTE:
        return data[at], at + 1
    if kind in INTEGERS:
        return _integer(data, at)
    if kind == DOUBLE:
        return struct.unpack_from("<d", data, at)[0], at + 8
    if kind == BINARY:
        length, at = _varint(data, at)
        return None, at + length
    if kind == STRUCT:
        return _read_struct(data, at, depth + 1)
    raise PageError("kind")  # page headers hold neither lists nor maps


def _integer(data: bytes, at: int) -> tuple[int, int]:
    value, at = _varint(data, at)
    return (value >> 1) ^ -(value & 1), at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if not byte & 128:
            return value, at
        if shift > 63:
            raise PageError("integer")
