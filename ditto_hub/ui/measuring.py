"""What was measured: the evaluations of a run with their plots, and the cheap one where none is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from ditto_hub import regimes, results
from ditto_hub.api import trials
from ditto_hub.errors import DittoError, RunError
from ditto_hub.results import OTHERS, Evaluation
from ditto_hub.runs import Run
from ditto_hub.ui import columns
from ditto_hub.ui.asking import QUIET, WRITING, asked, method_name, short, writer
from ditto_hub.ui.render import notice, told
from ditto_hub.ui.session import Shared, changed
from ditto_hub.ui.words import locale_of, say, t

WORDS = {
    "measure.title": "Measured",
    "measure.about": "The same prompts, none of them trained on, answered by the baselines and by"
    " DITTO, and judged by a program: no network, no other model.",
    "measure.prompts": "Prompts to measure on, one a line",
    "measure.prompts_about": "None of them a demonstration's. Leave it empty where the run comes"
    " with prompts of its own.",
    "measure.start": "Measure",
    "measure.writing": "Writing the texts of {n} methods.",
    "measure.judging": "Judging: {done} of {total} pairs.",
}


@dataclass(frozen=True)
class MeasuringParts:
    """Hold the components of the report."""

    report: gr.HTML
    prompts: gr.Textbox
    start: gr.Button
    note: gr.HTML


def build(shared: Shared) -> MeasuringParts:
    """Build the report."""
    gr.HTML(t("measure.title"), elem_classes="d-heading")
    gr.HTML(t("measure.about"), elem_classes="d-about")
    report = gr.HTML(elem_id="compare-report")
    with gr.Row():
        prompts = gr.Textbox(
            label=t("measure.prompts"), info=t("measure.prompts_about"), lines=2, scale=4,
            elem_id="compare-measure-prompts",
        )  # fmt: skip
    start = gr.Button(t("measure.start"), elem_id="compare-measure")
    note = gr.HTML(elem_id="compare-measure-note")
    parts = MeasuringParts(report, prompts, start, note)
    _wire_report(shared, parts)
    _wire_measure(shared, parts)
    return parts


def report_of(run: Run, locale: str) -> str:
    """Return all that was found out about a run, each judge in turn; votes have a place of theirs.

    Raises:
        RunError: a record of it is damaged.
    """
    found = [e for e in results.load_all(run) if "votes" not in e.settings]
    if not found:
        return columns.no_report(locale)
    kept = run.record.chosen or ""
    return "".join(_section(evaluation, kept, locale) for evaluation in found)


def _section(evaluation: Evaluation, kept: str, locale: str) -> str:
    from ditto_hub.evaluation import report

    heads = [
        say("tally.method", locale), say("tally.rate", locale), say("tally.interval", locale),
        "n", say("score.mark", locale), say("score.length", locale), "distinct-2", "copies",
    ]  # fmt: skip
    rates = [r for r in evaluation.win_rates if r.against == OTHERS]
    plots = [("report.plot", report.plot_win_rates(rates))] if rates else []
    if by_round := report.plot_by_round(evaluation):
        plots.append(("report.plot_rounds", by_round))
    rows = [[method_name(row[0], locale), *row[1:]] for row in report.rows(evaluation)]
    ahead = regimes.prompting_ahead([evaluation], kept)
    said = ([*ahead, *report.headline(evaluation)], report.remarks(evaluation))
    return columns.report(evaluation, rows, heads, said, plots, locale)


def _wire_report(shared: Shared, parts: MeasuringParts) -> None:
    """Show what there is, whenever another run is shown or it has changed."""

    def opened(
        run_id: str, secret: str, request: gr.Request, profile: gr.OAuthProfile | None
    ) -> tuple[str, str]:
        if not run_id:
            return "", ""
        try:
            asking, run = asked(run_id, secret, request, profile)
            return report_of(run, asking.locale), ""
        except RunError as error:
            return told(error, locale_of(request)), ""

    shared.run_changed.change(
        opened, [shared.run_id, shared.secret], [parts.report, parts.note], **QUIET
    )


def _wire_measure(shared: Shared, parts: MeasuringParts) -> None:
    """Write the texts in one go, judge them, and show the report."""

    def measure(
        run_id: str, lines: str, secret: str, request: gr.Request,
        profile: gr.OAuthProfile | None, token: gr.OAuthToken | None,
    ) -> Iterator[tuple[Any, ...]]:  # fmt: skip
        locale = locale_of(request)
        try:
            asking, run = asked(run_id, secret, request, profile)
            prompts = [short(line, shared) for line in (lines or "").splitlines()]
            write = writer(shared, run, asking, token)
            for item in trials.measure(run, write, prompts=[p for p in prompts if p.strip()]):
                if not isinstance(item, Evaluation):
                    yield _progress(item, locale), gr.skip(), gr.skip()
            yield "", report_of(run, locale), changed(run_id)
        except DittoError as error:
            yield told(error, locale), gr.skip(), gr.skip()

    parts.start.click(
        measure,
        [shared.run_id, parts.prompts, shared.secret],
        [parts.note, parts.report, shared.run_changed],
        show_progress="minimal",
        show_progress_on=parts.note,
        **WRITING,
    )


def _progress(item: Any, locale: str) -> str:
    if item.step == "writing":
        return notice(say("measure.writing", locale, n=item.total), "plain")
    return notice(say("measure.judging", locale, done=item.done, total=item.total), "plain")
