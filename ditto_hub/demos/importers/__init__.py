"""Files of demonstrations: read whatever shape people have, write one shape.

A file is JSONL, a JSON array, CSV or Parquet, a chat or its export, or mail; a `Shape` turns one
row into prompt and completion. To learn a further shape, add one to `SHAPES`.
"""

from ditto_hub.demos.importers.finding import Choice
from ditto_hub.demos.importers.loading import (
    columns,
    load_demos,
    load_table,
    load_texts,
    pick_demos,
    save_demos,
)
from ditto_hub.demos.importers.opening import MAX_BYTES
from ditto_hub.demos.importers.preview import Preview, PreviewRow, preview, preview_bytes
from ditto_hub.demos.importers.reading import LONGEST_PREVIEW
from ditto_hub.demos.importers.shapes import SHAPES, Shape

__all__ = [
    "LONGEST_PREVIEW",
    "MAX_BYTES",
    "SHAPES",
    "Choice",
    "Preview",
    "PreviewRow",
    "Shape",
    "columns",
    "load_demos",
    "load_table",
    "load_texts",
    "pick_demos",
    "preview",
    "preview_bytes",
    "save_demos",
]
