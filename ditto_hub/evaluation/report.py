"""Tables and plots of an evaluation, for the terminal, the card, the README and the app.

Plots are PNG files of the same bytes for the same numbers on one installation: no date, no version
and no random number goes into them. Matplotlib is loaded only when one is drawn.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ditto_hub.evaluation import forgetting
from ditto_hub.evaluation.winrate import turn
from ditto_hub.results import OTHERS, Evaluation, WinRate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, ACCENT, PALE = "#30343b", "#2f6db3", "#c9ced6"
_COLOURS = (ACCENT, "#b3622f", "#3f8f5f", "#7a5ab0")
COLUMNS = ("method", "win rate", "95 % interval", "n", "score", "length", "distinct-2", "copies")


def rows(evaluation: Evaluation) -> list[list[str]]:
    """Return the table's rows, a method each, in the order of `COLUMNS`; "-" where not measured."""
    rates = {r.method: r for r in evaluation.win_rates if r.against == OTHERS}
    scores = {s.method: s for s in evaluation.scores if s.mark == "total"}
    found = []
    for method in evaluation.methods:
        if method in evaluation.missing:
            continue
        rate, score = rates.get(method), scores.get(method)
        signs = evaluation.degeneration.get(method, {})
        found.append(
            [
                method,
                f"{rate.rate:.0%}" if rate else "-",
                f"{rate.low:.0%} to {rate.high:.0%}" if rate else "-",
                str(rate.n) if rate else "-",
                f"{score.mean:.2f}" if score else "-",
                f"{signs['length_ratio']:.2f}" if signs else "-",
                f"{signs['distinct_2']:.2f}" if signs else "-",
                f"{signs['copies']:.0%}" if signs else "-",
            ]
        )
    return found


def remarks(evaluation: Evaluation) -> list[str]:
    """Return the sentences that belong under the table: what was judged, how well, and caveats."""
    new = sum(not prompt.seen for prompt in evaluation.prompts)
    source = {
        "user": "given by the user",
        "model-written": "written by the base model",
        "shipped": "shipped with the package",
    }[evaluation.prompts_source]
    said = [
        f"Judge: {evaluation.judge}. {new} prompts {source}, {evaluation.samples} answers a method"
        " and prompt; ties count half."
    ]
    if not evaluation.prompts_independent:
        said.append("The prompts had a part in training or selection: this is no result.")
    if not evaluation.complete:
        said.append("Not complete: evaluate again to go on.")
    if evaluation.win_rates and any(rate.small for rate in evaluation.win_rates):
        said.append("The sample is small: only large differences mean anything.")
    said.extend(_judge_remarks(evaluation))
    said.extend(filter(None, [forgetting.say(evaluation.forgetting)]))
    said.extend(f"{name} is missing: {why}" for name, why in evaluation.missing.items())
    said.extend(evaluation.notes)
    if evaluation.grammar_hash:
        said.append(f"Grammar {evaluation.grammar_hash}.")
    return said


def to_text(evaluation: Evaluation) -> str:
    """Return the table for a terminal, with the remarks and each comparison in words."""
    table = [list(COLUMNS), *rows(evaluation)]
    widths = [max(len(row[i]) for row in table) for i in range(len(COLUMNS))]
    lines = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]
    return "\n".join([*lines, "", *remarks(evaluation), *headline(evaluation)])


def to_markdown(evaluation: Evaluation) -> str:
    """Return the table for a card or a README, with the remarks under it."""
    head = f"| {' | '.join(COLUMNS)} |\n|---|{'---:|' * (len(COLUMNS) - 1)}"
    body = "\n".join(f"| {' | '.join(row)} |" for row in rows(evaluation))
    notes = "\n".join(f"- {line}" for line in [*remarks(evaluation), *headline(evaluation)])
    return f"{head}\n{body}\n\n{notes}\n"


def plot_win_rates(rates: Sequence[WinRate], title: str = "") -> bytes:
    """Draw win rates with their 95 % intervals, one row each, and a line at one half.

    Args:
        rates: at least one; those against `OTHERS` are named by their method alone.
        title: above the plot.

    Returns:
        A PNG file.
    """
    figure, axes = _figure(height=1.2 + 0.34 * len(rates))
    axes.axvline(0.5, color="#8a909a", linewidth=1, linestyle=(0, (3, 3)), zorder=1)
    for place, rate in enumerate(reversed(rates)):
        axes.plot([rate.low, rate.high], [place, place], color=PALE, linewidth=5, zorder=2)
        axes.plot([rate.rate], [place], "o", color=ACCENT, markersize=7, zorder=4, clip_on=False)
    names = [
        f"{r.method} (n={r.n})" if r.against == OTHERS else f"{r.method} v. {r.against} (n={r.n})"
        for r in reversed(rates)
    ]
    axes.set_yticks(range(len(rates)), names)
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.6, len(rates) - 0.4)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    axes.set_xlabel("preferred to the others, ties half; bar: 95 % interval")
    return _png(figure, axes, title)


def plot_rounds(
    curves: Mapping[str, Sequence[tuple[float, float]]],
    measure: str,
    title: str = "",
    bands: Mapping[str, Sequence[tuple[float, float]]] | None = None,
) -> bytes:
    """Draw a measure by round, a line a curve: score, length ratio, or distinct-n.

    Args:
        curves: name -> (round, value) in order of rounds; not finite values leave a gap.
        measure: name on the vertical axis.
        title: above the plot.
        bands: name -> (low, high) of each point's interval.

    Returns:
        A PNG file.
    """
    return plot_curves(curves, "round", measure, bands, title)


def plot_curves(
    curves: Mapping[str, Sequence[tuple[float, float]]],
    axis: str,
    measure: str,
    bands: Mapping[str, Sequence[tuple[float, float]]] | None = None,
    title: str = "",
) -> bytes:
    """Draw a measure over whatever stands on the horizontal axis; see `plot_rounds`."""
    figure, axes = _figure(height=3.2)
    for i, (name, points) in enumerate(curves.items()):
        colour = _COLOURS[i % len(_COLOURS)]
        places, values = [x for x, _ in points], [y for _, y in points]
        axes.plot(places, values, "-o", color=colour, linewidth=1.6, markersize=4.5, label=name)
        if bands and name in bands:
            low, high = [x for x, _ in bands[name]], [x for _, x in bands[name]]
            axes.fill_between(places, low, high, color=colour, alpha=0.13, linewidth=0)
    axes.set_xticks(sorted({x for points in curves.values() for x, _ in points}))
    axes.set_xlabel(axis)
    axes.set_ylabel(measure)
    if len(curves) > 1:
        axes.legend(frameon=False, fontsize=9)
    return _png(figure, axes, title)


def _judge_remarks(evaluation: Evaluation) -> list[str]:
    seen = evaluation.tally
    if not seen.pairs:
        return []
    said = [f"{seen.ties} of {seen.pairs} pairs were ties in every order asked."]
    if seen.disagreements:
        said.append(
            f"In {seen.disagreements} the two orders disagreed and count as ties; {seen.first} went"
            f" to the text shown first, {seen.second} to the second."
        )
    if seen.refused or seen.unparsable:
        said.append(
            f"{seen.refused} pairs were refused and {seen.unparsable} answers could not be read;"
            " those do not count."
        )
    return said


def headline(evaluation: Evaluation) -> list[str]:
    """Put DITTO against each baseline in words, or the first method against the others."""
    paired = [r for r in evaluation.win_rates if r.against != OTHERS]
    own = [
        r if r.method == "ditto" else turn(r) for r in paired if "ditto" in (r.method, r.against)
    ]
    return [r.sentence for r in own or evaluation.win_rates[:1]]


def _figure(height: float) -> tuple[Figure, Axes]:
    """Return an empty figure in the house's style, without pyplot's global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, height), dpi=150, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(PALE)
    axes.tick_params(colors=INK, labelsize=9, length=0)
    axes.grid(axis="both", color="#eef0f3", linewidth=0.8)
    axes.set_axisbelow(True)
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set_color(INK)
        axis.label.set_fontsize(9)
    return figure, axes


def _png(figure: Figure, axes: Axes, title: str) -> bytes:
    if title:
        axes.set_title(title, loc="left", fontsize=11, color=INK)
    target = io.BytesIO()
    figure.savefig(target, format="png", metadata={"Software": None})
    return target.getvalue()
