"""Which types of models were trained, by which engine: a table of what really ran.

`make families` builds a tiny model of every type, takes it through a run, and writes the table.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

TABLE = Path(__file__).with_name("families.json")


@dataclass(frozen=True)
class Family:
    """Hold what became of a type of models.

    Args:
        trained_by: fast or plain, the engine that trains it; nobody where neither does; unknown
            where it was not tried.
        why: why not by a faster one.
    """

    trained_by: Literal["fast", "plain", "nobody", "unknown"] = "unknown"
    why: str = ""


@cache
def families() -> dict[str, Family]:
    """Return the table: transformers' name of a type -> what became of it."""
    found = json.loads(TABLE.read_text(encoding="utf-8"))["types"]
    return {name: Family(**entry) for name, entry in found.items()}


def family(model_type: str) -> Family:
    """Return what became of a type of models; unknown where it was never tried."""
    return families().get(model_type, Family())
