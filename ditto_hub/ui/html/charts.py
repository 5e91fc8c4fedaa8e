"""Line charts as plain SVG and HTML: they follow the theme, shrink to a phone, and load nothing.

The drawing stretches with the page; numbers and labels are HTML beside it, so they keep their size.
Lines differ in dash as well as in colour, and every line's last value stands in words.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

HEIGHT, WIDTH = 100.0, 300.0
MOST_POINTS = 400


@dataclass(frozen=True)
class Line:
    """Hold one line of a chart.

    Args:
        label: what it is, in the visitor's language.
        points: (x, y), x ascending; numbers that are none are left out.
    """

    label: str
    points: Sequence[tuple[float, float]]


def chart(title: str, lines: Sequence[Line], x_label: str, empty: str) -> str:
    """Return a chart as HTML.

    Args:
        title: what it shows.
        lines: three at most.
        x_label: what goes along the bottom, with its unit.
        empty: what stands in its place while there is no point; the height is the same.
    """
    lines = [Line(line.label, _sound(line.points)) for line in lines]
    every = [point for line in lines for point in line.points]
    head = f'<figcaption class="d-chart-title">{escape(title)}</figcaption>'
    if not every:
        body = f'<div class="d-chart-empty">{escape(empty)}</div>'
        return f'<figure class="d-chart">{head}<div class="d-chart-body">{body}</div></figure>'
    (left, right), (low, high) = _bounds([x for x, _ in every]), _ticks([y for _, y in every])
    paths = "".join(
        _path(line.points, n, (left, right), (low, high)) for n, line in enumerate(lines)
    )
    told = "; ".join(f"{line.label} {_number(line.points[-1][1])}" for line in lines if line.points)
    svg = (
        f'<svg viewBox="0 0 {WIDTH:g} {HEIGHT:g}" preserveAspectRatio="none" role="img"'
        f' aria-label="{escape(f"{title}: {told}", quote=True)}">{_grid()}{paths}</svg>'
    )
    axis = f"<span>{_number(high)}</span><span>{_number((low + high) / 2)}</span>"
    scale = f'<div class="d-chart-y" aria-hidden="true">{axis}<span>{_number(low)}</span></div>'
    foot = (
        f'<div class="d-chart-x" aria-hidden="true"><span>{_number(left)}</span>'
        f"<span>{escape(x_label)}</span><span>{_number(right)}</span></div>"
    )
    body = f'<div class="d-chart-body">{scale}<div class="d-chart-plot">{svg}</div></div>{foot}'
    return f'<figure class="d-chart">{head}{body}{_legend(lines)}</figure>'


def _sound(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Leave out what is no number, and thin what a screen cannot show."""
    sound = [(x, y) for x, y in points if math.isfinite(y)]
    every = -(-len(sound) // MOST_POINTS) or 1
    return sound[::every] if sound[-1:] == sound[::every][-1:] else [*sound[::every], sound[-1]]


def _bounds(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 1, high + 1)


def _ticks(values: Sequence[float]) -> tuple[float, float]:
    """Return bounds that are round numbers, with the data inside."""
    low, high = _bounds(values)
    step = 10 ** math.floor(math.log10(high - low)) / 2
    return math.floor(low / step) * step, math.ceil(high / step) * step


def _path(
    points: Sequence[tuple[float, float]],
    number: int,
    across: tuple[float, float],
    up: tuple[float, float],
) -> str:
    if not points:
        return ""
    (left, right), (low, high) = across, up
    places = [
        (
            (x - left) / (right - left) * WIDTH,
            HEIGHT - (y - low) / (high - low) * HEIGHT,
        )
        for x, y in points
    ]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    if len(places) == 1:  # a point is a line of no length with a round end
        path += "h0.01"
    return f'<path class="d-line d-line-{number}" d="{path}" vector-effect="non-scaling-stroke"/>'


def _grid() -> str:
    rows = (0, HEIGHT / 2, HEIGHT)
    return "".join(
        f'<line class="d-grid" x1="0" x2="{WIDTH:g}" y1="{y:g}" y2="{y:g}"'
        ' vector-effect="non-scaling-stroke"/>'
        for y in rows
    )


def _legend(lines: Sequence[Line]) -> str:
    rows = "".join(
        f'<li><svg class="d-key" viewBox="0 0 24 6" aria-hidden="true">'
        f'<path class="d-line d-line-{n}" d="M0 3H24"/></svg>{escape(line.label)}'
        f" <b>{_number(line.points[-1][1]) if line.points else '–'}</b></li>"
        for n, line in enumerate(lines)
    )
    return f'<ul class="d-legend">{rows}</ul>'


def _number(value: float) -> str:
    if value == int(value) and abs(value) < 1e6:
        return f"{int(value)}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
