"""Which preset a base model starts from: chosen by its size, known before it is loaded."""

from __future__ import annotations

import json
from pathlib import Path

from ditto_hub.cost.shapes import SHAPES, BaseShape, shape_of_config

SMALL_PARAMETERS = 1_000_000_000


def preset_name(base_model: str) -> str:
    """Return the preset of a base model: pocket's own, small up to about 1 B parameters, else fast.

    Args:
        base_model: pocket, smollm2, a Hub id or a folder; an id that is not among the known shapes
            is taken to be large.
    """
    if base_model == "pocket":
        return "pocket"
    shape = known_shape(base_model)
    return "small" if shape and shape.parameters <= SMALL_PARAMETERS else "fast"


def known_shape(base_model: str) -> BaseShape | None:
    """Return a base model's shape where no network is needed for it."""
    if base_model in SHAPES:
        return SHAPES[base_model]
    try:
        config = json.loads((Path(base_model) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return shape_of_config(config) if isinstance(config, dict) else None
