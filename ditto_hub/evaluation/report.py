"""Tables and plots of an evaluation, for the terminal, the card, the README and the app.

Plots are PNG files of the same bytes for the same numbers on one installation: no date, no version
and no random number goes into them. Matplotlib is loaded only when one is drawn.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ditto_hub.evaluation import forgetting
from ditto_hub.evaluation.winrate import turn
from ditto_hub.runs.results import OTHERS, Evaluation, WinRate
from ditto_hub.words import Message, Text, told

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, ACCENT, PALE = "#30343b", "#2f6db3", "#c9ced6"
SOURCES = {
    "user": "evaluation.prompts_given",
    "model-written": "evaluation.prompts_of_base",
    "shipped": "evaluation.prompts_shipped",
}
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


def remarks(evaluation: Evaluation) -> list[Text]:
    """Return the sentences that belong under the table: what was judged, how well, and caveats."""
    new = sum(not prompt.seen for prompt in evaluation.prompts)
    source = Message(SOURCES[evaluation.prompts_source])
    said: list[Text] = [
        Message(
            "evaluation.judged",
            judge=evaluation.judge,
            count=new,
            source=source,
            samples=evaluation.samples,
        )
    ]
    if not evaluation.prompts_independent:
        said.append(Message("evaluation.prompts_not_independent"))
    if not evaluation.complete:
        said.append(Message("evaluation.not_complete"))
    if evaluation.win_rates and any(rate.small for rate in evaluation.win_rates):
        said.append(Message("evaluation.small_sample"))
    said.extend(_judge_remarks(evaluation))
    said.extend(_seen_remarks(evaluation))
    said.extend(forgetting.say(evaluation.forgetting))
    said.extend(
        Message("evaluation.method_missing", method=name, why=why)
        for name, why in evaluation.missing.items()
    )
    said.extend(evaluation.notes)
    if evaluation.grammar_hash:
        said.append(Message("evaluation.grammar", hash=evaluation.grammar_hash))
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
    return "\n".join([*lines, "", *map(told, [*remarks(evaluation), *headline(evaluation)])])


def plot_win_rates(rates: Sequence[WinRate], title: str = "") -> bytes:
    """Draw win rates with their 95 % intervals, one row each, and a line at one half.

    Args:
        rates: at least one; those against `OTHERS` are named by their method alone.
        title: above the plot.

    Returns:
        A PNG file.
    """
    figure, (axes,) = new_figure(height=1.2 + 0.34 * len(rates))
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
    return to_png(figure, axes, title)


def plots(evaluation: Evaluation) -> dict[str, bytes]:
    """Return an evaluation's pictures as file name -> PNG, those that it has the numbers for."""
    found = {}
    rates = [rate for rate in evaluation.win_rates if rate.against == OTHERS]
    if rates:
        found[f"{evaluation.name}.png"] = plot_win_rates(rates, f"Judge: {evaluation.judge}")
    if by_round := plot_by_round(evaluation):
        found[f"{evaluation.name}-rounds.png"] = by_round
    return found


def plot_by_round(evaluation: Evaluation) -> bytes | None:
    """Draw score, length and distinct-2 over the rounds that were evaluated, SFT being round 0.

    Returns:
        A PNG file; None where fewer than two rounds were evaluated.
    """
    at = {
        place: method
        for method in evaluation.methods
        if method in evaluation.degeneration and (place := _round_of(method)) >= 0
    }
    at = {place: at[place] for place in sorted(at)}
    if sum(place > 0 for place in at) < 2:
        return None
    name, values = _by_method(evaluation)
    score = [values.get(method, (math.nan,) * 3) for method in at.values()]
    signs = [evaluation.degeneration[method] for method in at.values()]
    figure, all_axes = new_figure(height=2.8, columns=3)
    drawn = {
        name: [mean for mean, _, _ in score],
        "length / demonstrations'": [s["length_ratio"] for s in signs],
        "distinct-2": [s["distinct_2"] for s in signs],
    }
    low, high = [row[1] for row in score], [row[2] for row in score]
    all_axes[0].fill_between(list(at), low, high, color=ACCENT, alpha=0.13, linewidth=0)
    for axes, (label, points) in zip(all_axes, drawn.items(), strict=True):
        axes.plot(list(at), points, "-o", color=ACCENT, linewidth=1.6, markersize=4.5)
        axes.set_xticks(list(at), ["SFT" if place == 0 else str(place) for place in at])
        axes.set_xlabel("round")
        axes.set_title(label, fontsize=9, color=INK)
    return _bytes(figure)


def _by_method(evaluation: Evaluation) -> tuple[str, dict[str, tuple[float, float, float]]]:
    """Return what is drawn by round, with intervals: the mean mark, or the win rate without one."""
    marks = [s for s in evaluation.scores if s.mark == "total"]
    if not marks:
        rates = [r for r in evaluation.win_rates if r.against == OTHERS]
        return "win rate", {r.method: (r.rate, r.low, r.high) for r in rates}
    return "score", {
        s.method: (
            s.mean,
            math.nan if s.low is None else s.low,
            math.nan if s.high is None else s.high,
        )
        for s in marks
    }


def _round_of(method: str) -> int:
    """Return a method's place on the axis of rounds, SFT being 0; -1 for one that has none."""
    if method == "sft":
        return 0
    return int(method.removeprefix("round-")) if method.startswith("round-") else -1


def _judge_remarks(evaluation: Evaluation) -> list[Message]:
    seen = evaluation.tally
    if not seen.pairs:
        return []
    said = [Message("evaluation.ties", ties=seen.ties, pairs=seen.pairs)]
    if seen.disagreements:
        said.append(
            Message(
                "evaluation.orders_disagreed",
                count=seen.disagreements,
                first=seen.first,
                second=seen.second,
            )
        )
    if seen.refused or seen.unparsable:
        said.append(
            Message("evaluation.pairs_void", refused=seen.refused, unreadable=seen.unparsable)
        )
    return said


def _seen_remarks(evaluation: Evaluation) -> list[Message]:
    """Say how the methods did on the demonstrations' own prompts, which is no result."""
    rates = [r for r in evaluation.seen_win_rates if r.against == OTHERS and r.n]
    if not rates:
        return []
    each = ", ".join(f"{r.method} {r.rate:.0%}" for r in rates)
    return [Message("evaluation.own_prompts", n=rates[0].n, rates=each)]


def headline(evaluation: Evaluation) -> list[Text]:
    """Put DITTO against each baseline in words, or the first method against the others."""
    paired = [r for r in evaluation.win_rates if r.against != OTHERS]
    own = [
        r if r.method == "ditto" else turn(r) for r in paired if "ditto" in (r.method, r.against)
    ]
    return [r.sentence() for r in own or evaluation.win_rates[:1]]


def new_figure(height: float, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """Return an empty figure in the package's style, without pyplot's global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width = 6.4 if columns == 1 else 3 * columns
    figure = Figure(figsize=(width, height), dpi=150, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    found = [figure.add_subplot(1, columns, place) for place in range(1, columns + 1)]
    for axes in found:
        _style(axes)
    return figure, found


def _style(axes: Axes) -> None:
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


def to_png(figure: Figure, axes: Axes, title: str) -> bytes:
    """Return a figure as a PNG file with a title above its axes."""
    if title:
        axes.set_title(title, loc="left", fontsize=11, color=INK)
    return _bytes(figure)


def _bytes(figure: Figure) -> bytes:
    target = io.BytesIO()
    figure.savefig(target, format="png", metadata={"Software": None})
    return target.getvalue()
