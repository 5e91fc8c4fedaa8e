"""The card's picture: how the candidates scored, as PNG bytes."""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from ditto_hub.errors import RunError
from ditto_hub.hub.publishing.card_sections import SCORES

log = logging.getLogger(__name__)
SHOWN = ("held_out_loss", "style_distance", "length_ratio", "distinct_2", "margin")
Row = tuple[str, tuple[tuple[str, float], ...]]


def plot_candidates(candidates: Mapping[str, Mapping[str, Any]], published: str) -> bytes | None:
    """Draw the scores of every candidate, the published one marked by shape and colour.

    Returns:
        A PNG, the same bytes for the same scores and version of matplotlib; None where fewer than
        two candidates were scored, or it cannot be drawn.

    Raises:
        RunError: the scores are none.
    """
    try:
        rows = tuple(_row(name, entry.get("scores") or {}) for name, entry in candidates.items())
    except (AttributeError, TypeError, ValueError) as error:
        raise RunError("hub.candidates_unusable", error=error) from error
    scored = tuple(row for row in rows if row[1])
    try:
        return _draw(scored, published) if len(scored) > 1 else None
    except (ImportError, OSError, RuntimeError, ValueError):  # a card without it is a card too
        log.exception("the candidates' picture could not be drawn")
        return None


def _row(name: str, scores: Mapping[str, Any]) -> Row:
    return name, tuple((k, float(scores[k])) for k in SHOWN if scores.get(k) is not None)


@lru_cache(maxsize=8)
def _draw(rows: tuple[Row, ...], published: str) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    keys = [k for k in SHOWN if any(k in dict(scores) for _, scores in rows)]
    figure = Figure(figsize=(3.2 * len(keys), 2.6), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    names = [name for name, _ in rows]
    for place, key in enumerate(keys, start=1):
        axes = figure.add_subplot(1, len(keys), place)
        values = [dict(scores).get(key, float("nan")) for _, scores in rows]
        axes.plot(range(len(names)), values, "o-", color="#4477aa", markersize=4)
        if published in names:
            at = names.index(published)
            axes.plot([at], [values[at]], "D", color="#cc3311", markersize=8, label="published")
            axes.legend(fontsize=7)
        axes.set_title(SCORES[key], fontsize=8)
        axes.set_xticks(range(len(names)), names, rotation=40, ha="right", fontsize=7)
        axes.tick_params(axis="y", labelsize=7)
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()
