"""Plots of the quality benchmark: PNG files, the same bytes for the same units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from quality_tables import ALWAYS, Cell, ordinary, points, wins
from quality_verdicts import Estimate, estimate

from ditto_hub.evaluation.report import ACCENT, new_figure, plot_win_rates, to_png
from ditto_hub.runs.results import OTHERS

COLOURS = (ACCENT, "#b3622f", "#3f8f5f", "#7a5ab0")

Curve = Sequence[tuple[float, Estimate | None]]


def plots(cells: Sequence[Cell]) -> dict[str, bytes]:
    """Return file name -> PNG for every plot that the units at hand allow."""
    mine = ordinary(cells)
    found: dict[str, bytes] = {}
    whole = [c for c in mine if set(ALWAYS) <= set(c.truth)]
    if whole:
        rates = [wins(whole, method, OTHERS, ALWAYS) for method in ALWAYS]
        title = "Which text is more like the persona's? Grammar's judge"
        found["win-rates.png"] = plot_win_rates(rates, title)
    total = "persona x content"
    rounds = {"DITTO, four rounds": _rounds(mine, 4, ""), "six rounds": _rounds(mine, 6, " of 6")}
    found |= _curve("rounds.png", "round", total, rounds)
    found |= _curve("samples.png", "samples a demonstration", total, {"DITTO": _samples(mine)})
    demos = {
        name: [(n - 1, estimate(_totals(cells, n, name))) for n in (2, 3, 5, 8)]
        for name in ("ditto", "sft-long", "few-shot")
    }
    found |= _curve("demonstrations.png", "training demonstrations", total, demos)
    pairs = {
        f"DPO, pairs of {words}": [
            (0, estimate(points(mine, zero))),
            *((n, estimate(points(mine, f"{name}:{n}"))) for n in (20, 100, 500)),
        ]
        for name, words, zero in (
            ("dpo-base", "the base model", "zero-shot"), ("dpo-sft", "the SFT model", "sft"),
        )
    }  # fmt: skip
    have = [c for c in mine if "dpo-sft:500" in c.truth]
    ditto = estimate(points(have, "ditto"))
    pairs["DITTO, no labels"] = [(0, ditto), (500, ditto)]
    return found | _curve("pairs.png", "labelled pairs", total, pairs)


def _rounds(cells: Sequence[Cell], count: int, total: str) -> Curve:
    whole = [c for c in cells if f"round-{count}{total}" in c.truth]
    soft = [f"round-{t}, softened" for t in range(1, count)]  # all rounds at one strength
    soft = soft if any(soft[0] in c.truth for c in whole) and not total else []
    names = ["sft", *(soft or (f"round-{t}{total}" for t in range(1, count)))]
    names.append(f"round-{count}{total}")
    return [(t, estimate(points(whole, name))) for t, name in enumerate(names)]


def _samples(cells: Sequence[Cell]) -> Curve:
    whole = [c for c in cells if "samples:1" in c.truth]
    names = [(1, "samples:1"), (2, "samples:2"), (5, "samples:5"), (10, "ditto")]
    return [(m, estimate(points(whole, name))) for m, name in names]


def _totals(cells: Sequence[Cell], given: int, method: str) -> list[tuple[int, float]]:
    few = {c.persona for c in cells if c.setup["given"] == 3}
    plain = {"voice": "own", "length": "own", "quality": "clean", "given": given}
    mine = [
        c
        for c in cells
        if c.persona in few and c.setup["seed"] == 0 and plain.items() <= c.setup.items()
    ]
    return points(mine, method)


def _curve(file: str, axis: str, measure: str, curves: Mapping[str, Curve]) -> dict[str, bytes]:
    """Draw curves with intervals; nothing where no curve has two points."""
    lines: dict[str, list[tuple[float, float]]] = {}
    bands: dict[str, list[tuple[float, float]]] = {}
    for name, curve in curves.items():
        there = [(x, e) for x, e in curve if e is not None]
        if len(there) < 2:
            continue
        lines[name] = [(x, e.mean) for x, e in there]
        if all(e.low is not None and e.high is not None for _, e in there):
            bands[name] = [(e.low or 0.0, e.high or 0.0) for _, e in there]
    return {file: plot_curves(lines, axis, measure, bands)} if lines else {}


def plot_curves(
    curves: Mapping[str, Sequence[tuple[float, float]]],
    axis: str,
    measure: str,
    bands: Mapping[str, Sequence[tuple[float, float]]] | None = None,
    title: str = "",
) -> bytes:
    """Draw a measure over whatever stands on the horizontal axis, a line a curve.

    Args:
        curves: name -> (place, value) in order; not finite values leave a gap.
        axis: name of the horizontal axis.
        measure: name of the vertical axis.
        bands: name -> (low, high) of each point's interval.
        title: above the plot.

    Returns:
        A PNG file.
    """
    figure, (axes,) = new_figure(height=3.2)
    for i, (name, line) in enumerate(curves.items()):
        colour = COLOURS[i % len(COLOURS)]
        places, values = [x for x, _ in line], [y for _, y in line]
        axes.plot(places, values, "-o", color=colour, linewidth=1.6, markersize=4.5, label=name)
        if bands and name in bands:
            low, high = [x for x, _ in bands[name]], [x for _, x in bands[name]]
            axes.fill_between(places, low, high, color=colour, alpha=0.13, linewidth=0)
    axes.set_xticks(sorted({x for line in curves.values() for x, _ in line}))
    axes.set_xlabel(axis)
    axes.set_ylabel(measure)
    if len(curves) > 1:
        axes.legend(frameon=False, fontsize=9)
    return to_png(figure, axes, title)
