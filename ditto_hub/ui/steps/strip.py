"""The strip over the steps: the run that is under way, on whichever step its visitor is."""

from __future__ import annotations

import contextlib

import gradio as gr

from ditto_hub.errors import RunError
from ditto_hub.runs.folder import Run
from ditto_hub.ui.html.render import state_of
from ditto_hub.ui.html.story import Tails
from ditto_hub.ui.html.strip import run_strip
from ditto_hub.ui.i18n.words import t
from ditto_hub.ui.serving.events import Asker, Outputs, on, show_run
from ditto_hub.ui.serving.session import Shared

EVERY_S = 3.0
ALIVE = ("running", "waiting")


def under_way(shared: Shared, asker: Asker, *first: str) -> str:
    """Return the id of a run of the asker's that is worked on or waits, "" for none.

    Args:
        first: ids to ask for before any other.
    """
    for run_id in (*first, *shared.workshop.under_work()):
        run = _own(asker, run_id)
        if run is not None and state_of(run, shared.workshop.place(run_id)) in ALIVE:
            return run_id
    return ""


def build(shared: Shared) -> None:
    """Build the strip; hidden while there is nothing to say. It asks only while a run goes on."""
    with gr.Row(visible=False, elem_id="run-strip") as row:
        said = gr.HTML(elem_id="run-strip-text")
        opened = gr.Button(t("strip.open"), size="sm", elem_id="run-strip-open", scale=0)
    watched, timer, tails = gr.State(""), gr.Timer(EVERY_S, active=False), Tails()

    def look(asker: Asker, run_id: str) -> Outputs:
        run = _own(asker, run_id)
        if run is None:
            return {row: gr.update(visible=False), timer: gr.Timer(active=False)}
        place = shared.workshop.place(run_id)
        state, story = state_of(run, place), tails.story(run)
        return {
            row: gr.update(visible=True),
            said: run_strip(story, state, place, asker.locale),
            timer: gr.Timer(active=state in ALIVE),
        }

    def chosen(asker: Asker, run_id: str, before: str) -> Outputs:
        now = under_way(shared, asker, before, run_id) or before  # one that has ended says so
        return {**look(asker, now), watched: now}

    def open_run(asker: Asker, run_id: str) -> Outputs:
        asker.run(run_id)
        kept = under_way(shared, asker, run_id)
        return {
            **show_run(shared, run_id),
            shared.tabs: gr.Tabs(selected="train"),
            watched: kept,
            row: gr.update(visible=bool(kept)),
        }

    on(shared, timer.tick, look, [watched], [row, said, timer])
    on(
        shared, shared.run_changed.change, chosen, [shared.run_id, watched],
        [row, said, timer, watched],
    )  # fmt: skip
    on(
        shared, opened.click, open_run, [watched],
        [shared.run_id, shared.last_run, shared.run_changed, shared.tabs, watched, row],
    )  # fmt: skip


def _own(asker: Asker, run_id: str) -> Run | None:
    with contextlib.suppress(RunError):
        return asker.run(run_id) if run_id else None
    return None
