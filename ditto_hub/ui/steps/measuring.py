"""What was measured: the evaluations of a run with their plots, and the cheap one where none is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from ditto_hub.api import reports, trials
from ditto_hub.runs import results
from ditto_hub.runs.folder import Run
from ditto_hub.runs.results import OTHERS, Evaluation
from ditto_hub.ui.html import side_by_side
from ditto_hub.ui.html.render import notice
from ditto_hub.ui.i18n.words import t
from ditto_hub.ui.serving.events import Asker, Outputs, on
from ditto_hub.ui.serving.requests import method_name, short, writer
from ditto_hub.ui.serving.session import Shared, changed
from ditto_hub.words import say


@dataclass(frozen=True)
class MeasuringParts:
    """Hold the components of the report."""

    report: gr.HTML
    prompts: gr.Textbox
    start: gr.Button
    note: gr.HTML


def build(shared: Shared) -> MeasuringParts:
    """Build the report."""
    gr.HTML(t("measure.about"), elem_classes="d-about")
    report = gr.HTML(elem_id="compare-report")
    with gr.Row():
        prompts = gr.Textbox(
            label=t("measure.prompts"), info=t("measure.prompts_about"), lines=2, scale=4,
            elem_id="compare-measure-prompts",
        )  # fmt: skip
    start = gr.Button(t("measure.start"), variant="primary", elem_id="compare-measure")
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
        return side_by_side.no_report(locale)
    kept = run.record.chosen or ""
    return "".join(_section(evaluation, kept, locale) for evaluation in found)


def _section(evaluation: Evaluation, kept: str, locale: str) -> str:
    heads = [
        say("tally.method", locale), say("tally.rate", locale), say("tally.interval", locale),
        "n", say("score.mark", locale), say("score.length", locale), "distinct-2", "copies",
    ]  # fmt: skip
    rates = [r for r in evaluation.win_rates if r.against == OTHERS]
    plots = [("report.plot", reports.plot_win_rates(rates))] if rates else []
    if by_round := reports.plot_by_round(evaluation):
        plots.append(("report.plot_rounds", by_round))
    rows = [[method_name(row[0], locale), *row[1:]] for row in reports.rows(evaluation)]
    ahead = reports.prompting_ahead([evaluation], kept)
    said = ([*ahead, *reports.headline(evaluation)], reports.remarks(evaluation))
    return side_by_side.report(evaluation, rows, heads, said, plots, locale)


def _wire_report(shared: Shared, parts: MeasuringParts) -> None:
    """Show what there is, whenever another run is shown or it has changed."""

    def opened(asker: Asker, run_id: str) -> Outputs:
        found = report_of(asker.run(run_id), asker.locale) if run_id else ""
        return {parts.report: found, parts.note: ""}

    on(
        shared, shared.run_changed.change, opened, [shared.run_id], [parts.report, parts.note],
        refused=parts.report,
    )  # fmt: skip


def _wire_measure(shared: Shared, parts: MeasuringParts) -> None:
    """Write the texts in one go, judge them, and show the report."""

    def measure(asker: Asker, run_id: str, lines: str) -> Iterator[Outputs]:
        run = asker.run(run_id)
        prompts = [short(line, shared) for line in (lines or "").splitlines()]
        write = writer(shared, run, asker)
        for item in trials.measure(run, write, prompts=[p for p in prompts if p.strip()]):
            if not isinstance(item, Evaluation):
                yield {parts.note: _progress(item, asker.locale)}
        found = report_of(run, asker.locale)
        yield {parts.note: "", parts.report: found, shared.run_changed: changed(run_id)}

    on(
        shared,
        parts.start.click,
        measure,
        [shared.run_id, parts.prompts],
        [parts.note, parts.report, shared.run_changed],
        busy=parts.start,
        refused=parts.note,
        kind="model",
        show_progress="minimal",
        show_progress_on=parts.note,
    )


def _progress(item: Any, locale: str) -> str:
    if item.step == "writing":
        return notice(say("measure.writing", locale, n=item.total), "plain")
    return notice(say("measure.judging", locale, done=item.done, total=item.total), "plain")
