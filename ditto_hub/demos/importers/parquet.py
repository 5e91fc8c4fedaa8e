"""Rows of a Parquet file: what it unfolds to is known before it is decoded, texts stay shared."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ditto_hub.demos.importers.json_rows import MOST_COLUMNS, MOST_PARTS, many_columns, named_row
from ditto_hub.demos.importers.pairs import Row
from ditto_hub.demos.importers.parquet_pages import PageError, Unfolded
from ditto_hub.demos.importers.reading import LONGEST_PREVIEW, Source
from ditto_hub.errors import DemoError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

MAGIC = b"PAR1"
BATCH = 64
LARGEST_INDEX = 1_000_000  # bytes of the file's own index
MOST_LISTED = 5000  # entries of any list in it: columns, groups of rows
MOST_VALUES = 1_000_000
DEEPEST = 24
LONGEST_FIXED = 256  # bytes of a value of fixed length; such ones cannot stay shared


def is_parquet(data: bytes) -> bool:
    """Tell a Parquet file by its first bytes."""
    return data.startswith(MAGIC)


def parquet_rows(source: Source) -> Iterator[tuple[int, Row | DemoError]]:
    """Yield (number, row).

    Raises:
        DemoError: too large, unfolding to too much, or damaged.
    """
    import pyarrow as pa

    if source.cut:
        raise DemoError("files.parquet_cut", name=source.name, most=len(source.data) / 1e6)
    try:
        yield from _rows(source)
    except (pa.ArrowException, OSError, ValueError, OverflowError, RecursionError) as error:
        if isinstance(error, DemoError):
            raise
        raise DemoError(
            "files.parquet_damaged", name=source.name, kind=type(error).__name__
        ) from error


def _rows(source: Source) -> Iterator[tuple[int, Row]]:
    file, groups = _opened(source)
    number = size = 0
    for group in groups:
        for batch in file.iter_batches(batch_size=BATCH, row_groups=[group], use_threads=False):
            cost = sum((_cost(column) for column in batch.columns), _Cost())
            size += cost.size
            if cost.values > MOST_PARTS or size > LONGEST_PREVIEW:
                raise _unfolds(source)
            for row in batch.to_pylist():
                number += 1
                yield number, named_row(row)
    if len(groups) < file.num_row_groups:
        raise DemoError("files.parquet_rest", name=source.name, rows=number)


def _opened(source: Source) -> tuple[pq.ParquetFile, list[int]]:
    """Open a file, and return the groups of rows that are small enough to be read.

    Raises:
        DemoError: none is, or it has too many columns.
    """
    import pyarrow.parquet as pq

    length = struct.unpack("<I", source.data[-8:-4])[0] if len(source.data) > 12 else 0
    if length > LARGEST_INDEX:
        raise _unfolds(source)

    def opened(names: list[str]) -> pq.ParquetFile:
        return pq.ParquetFile(
            io.BytesIO(source.data),
            read_dictionary=names,
            thrift_string_size_limit=LARGEST_INDEX,
            thrift_container_size_limit=MOST_LISTED,
        )

    file = opened([])
    columns = [file.schema.column(place) for place in range(len(file.schema))]
    if len(columns) > MOST_COLUMNS:
        raise many_columns(source.name, len(columns))
    for column in columns:
        fixed = column.physical_type == "FIXED_LEN_BYTE_ARRAY" and column.length > LONGEST_FIXED
        if fixed or column.max_definition_level > DEEPEST:
            raise _unfolds(source)
    texts = [column.path for column in columns if column.physical_type == "BYTE_ARRAY"]
    return opened(texts), _small_groups(file, source)


def _small_groups(file: pq.ParquetFile, source: Source) -> list[int]:
    """Return the first groups of rows that together unfold to no more than is read.

    Raises:
        DemoError: there is none.
    """
    groups: list[int] = []
    said = Unfolded()
    for place in range(file.num_row_groups):
        group = file.metadata.row_group(place)
        try:
            for number in range(group.num_columns):
                chunk = group.column(number)
                start = chunk.data_page_offset
                if chunk.has_dictionary_page and 0 < chunk.dictionary_page_offset < start:
                    start = chunk.dictionary_page_offset
                said.add_chunk(source.data, start, chunk.total_compressed_size, chunk.num_values)
        except PageError as error:
            raise _unfolds(source) from error
        if said.size > LONGEST_PREVIEW or said.values > MOST_VALUES:
            break
        groups.append(place)
    if file.num_row_groups and not groups:
        raise _unfolds(source)
    return groups


def _unfolds(source: Source) -> DemoError:
    return DemoError("files.parquet_unfolds", name=source.name, most=LONGEST_PREVIEW / 1e6)


class _Cost:
    """Count what an array becomes as Python values: bytes of texts, and how many values."""

    def __init__(self, size: int = 0, values: int = 0) -> None:
        self.size, self.values = size, values

    def __add__(self, other: _Cost) -> _Cost:
        return _Cost(self.size + other.size, self.values + other.values)


def _cost(array: pa.Array) -> _Cost:
    """Return what an array becomes; its shared texts are counted as often as they are used."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind: Any = array.type
    own = _Cost(0, len(array))
    if pa.types.is_dictionary(kind):
        lengths = pc.binary_length(array.dictionary)
        return _Cost(pc.sum(lengths.take(array.indices)).as_py() or 0, len(array))
    if pa.types.is_map(kind):
        return own + _cost(array.keys) + _cost(array.items)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return own + _cost(array.flatten())
    if pa.types.is_struct(kind):
        return sum((_cost(child) for child in array.flatten()), own)
    return _Cost(int(array.nbytes), len(array))
