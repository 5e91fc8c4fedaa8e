"""The four charts of a run: warm start, updates, log-probabilities, candidates; pure."""

from __future__ import annotations

from html import escape

from ditto_hub.ui.html.charts import Line, chart
from ditto_hub.ui.html.story import Story
from ditto_hub.words import say


def charts(story: Story, locale: str) -> str:
    """Return the charts of a run that have something to draw; "" while none has."""

    def word(key: str) -> str:
        return say(f"chart.{key}", locale)

    steps = sorted(story.updates)
    place = {key: n for n, key in enumerate(steps, start=1)}

    def of(name: str) -> list[tuple[float, float]]:
        return [(place[k], story.updates[k][name]) for k in steps if name in story.updates[k]]

    warm = sorted(story.warm.items())
    rounds = [
        (0 if n == "sft" else int(n.removeprefix("round-")), s)
        for n, s in story.scores.items()
        if n != "sft-long"
    ]
    loss = "held_out_loss" if any("held_out_loss" in s for _, s in rounds) else "demonstration_loss"
    by_round = [(t, s[loss]) for t, s in rounds if loss in s]
    length = [(t, s["length_ratio"]) for t, s in rounds if "length_ratio" in s]
    losses = [Line(word("loss"), [(n, one) for n, (one, _) in warm])]
    held = [(n, two) for n, (_, two) in warm if two is not None]
    if held:
        losses.append(Line(word("held_out"), held))
    drawn = [
        (word("warm"), losses, word("step")),
        (
            word("update"),
            [Line(word("loss"), of("loss")), Line(word("margin"), of("margin"))],
            word("step"),
        ),
        (
            word("log_prob"),
            [
                Line(word("chosen"), of("chosen_log_prob")),
                Line(word("rejected"), of("rejected_log_prob")),
            ],
            word("step"),
        ),
        (
            word("scores"),
            [
                Line(word("held_out" if loss == "held_out_loss" else "demo_loss"), by_round),
                Line(word("length"), length),
            ],
            word("round"),
        ),
    ]
    shown = [one for one in drawn if any(line.points for line in one[1])]
    if not shown:
        return ""
    inside = "".join(chart(title, lines, x, word("empty")) for title, lines, x in shown)
    return (
        f'<details class="d-curves"><summary>{escape(say("run.curves", locale))}</summary>'
        f'<div class="d-charts">{inside}</div></details>'
    )
