"""Rows of a Parquet file, read in small batches."""

from __future__ import annotations

import io
from collections.abc import Iterator

from ditto_hub.errors import DemoError
from ditto_hub.importers.pairs import Row
from ditto_hub.importers.reading import Source

MAGIC = b"PAR1"
BATCH = 64


def is_parquet(data: bytes) -> bool:
    """Tell a Parquet file by its first bytes."""
    return data.startswith(MAGIC)


def parquet_rows(source: Source) -> Iterator[tuple[int, Row | DemoError]]:
    """Yield (number, row).

    Raises:
        DemoError: too large, or damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if source.cut:
        raise DemoError(
            f"{source.name} has more than {len(source.data) / 1e6:.0f} MB, and Parquet cannot be"
            " read in part.",
            "Give a smaller file, or JSONL.",
        )
    number = 0
    try:
        for batch in pq.ParquetFile(io.BytesIO(source.data)).iter_batches(batch_size=BATCH):
            for row in batch.to_pylist():
                number += 1
                yield number, {str(name).lower(): value for name, value in row.items()}
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DemoError(
            f"{source.name} is not a Parquet file that can be read ({type(error).__name__}).",
            "Make it anew, or give JSONL.",
        ) from error
