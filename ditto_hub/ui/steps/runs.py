"""My runs: open, resume, name, try, publish, train on, delete; and what was begun signed out."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from functools import partial

import gradio as gr

from ditto_hub import api
from ditto_hub.errors import DittoError, RunBusyError, RunError
from ditto_hub.runs.folder import LONGEST_NAME, Run, tidy_name
from ditto_hub.runs.storage import size_of
from ditto_hub.tokens import Token
from ditto_hub.ui.html.render import failure, notice, state_of
from ditto_hub.ui.html.run_list import Row, parent_panel, run_list
from ditto_hub.ui.i18n.words import t
from ditto_hub.ui.serving.events import PRESS_JS, Asker, Outputs, on, show_run
from ditto_hub.ui.serving.queue import Workshop
from ditto_hub.ui.serving.samples import latest_text
from ditto_hub.ui.serving.session import Shared, Visitor, changed, own_runs
from ditto_hub.ui.steps import kept, remote
from ditto_hub.words import say

MANY = 4  # runs, from which one looks for one


def claim(asking: Visitor, workshop: Workshop) -> None:
    """Give a visitor who has signed in what this browser began signed out.

    A run that is worked on at the moment is claimed when that has ended.
    """
    before = asking.before
    if before is None:
        return
    for run in Run.all(owner=before):
        try:
            run.claim(before, asking.owner)
        except RunBusyError:
            workshop.afterwards(run.record.id, partial(run.claim, before, asking.owner))


def build(shared: Shared) -> None:
    """Build the step."""
    note = gr.HTML(elem_id="runs-note")
    kept.build(shared, note)
    wanted = gr.Textbox(
        label=t("runs.filter"), max_length=LONGEST_NAME, visible=False, elem_id="runs-filter"
    )
    listed = gr.HTML(elem_id="runs-list", js_on_load=PRESS_JS)

    def look(asker: Asker, run_id: str, words: str) -> Outputs:
        rows = list[Row]()
        for run in own_runs(asker.visitor):
            with contextlib.suppress(RunError):  # of a run that is deleted meanwhile
                rows.append(row_of(run, shared.workshop))
        html = run_list(rows, short_name(words), run_id, asker.locale)
        return {listed: html, wanted: gr.update(visible=len(rows) >= MANY)}

    on(
        shared,
        [shared.run_changed.change, shared.tab.select, wanted.change],
        look,
        [shared.run_id, wanted],
        [listed, wanted],
        trigger_mode="always_last",
    )
    _wire_open(listed, shared, note)
    _wire_rename(listed, shared, note)
    _wire_again(listed, shared, note)
    _wire_delete(listed, shared, note)


def row_of(run: Run, workshop: Workshop) -> Row:
    """Return what My runs shows of a run."""
    state = state_of(run, workshop.place(run.record.id))
    return Row(run, state, size_of(run.folder), latest_text(run))


def short_name(text: object) -> str:
    """Return what somebody wrote as a name, whatever the browser sent."""
    return tidy_name(text) if isinstance(text, str) else ""


def _wire_open(listed: gr.HTML, shared: Shared, note: gr.HTML) -> None:
    """Show a run at a step, or let it go on from where it stopped and show that."""

    def opened(asker: Asker) -> Outputs:
        run_id, step = asker.run(asker.pressed("run")).record.id, asker.pressed("step")
        return {**show_run(shared, run_id), shared.tabs: gr.Tabs(selected=step), note: ""}

    def resumed(asker: Asker) -> Outputs:
        run, mine = asker.run(asker.pressed("run")), asker.hub_token
        if api.has_job(run):
            remote.follow_job(shared, run, mine, asker.locale)
        elif shared.profile.backend == "local":
            shared.workshop.put(run, asker.visitor.owner, mine)
        leased = shared.profile.backend != "local" and not api.has_job(run)
        return {
            **show_run(shared, run.record.id),
            shared.tabs: gr.Tabs(selected="train"),
            shared.lease: time.time_ns() if leased else gr.skip(),
            note: "",
        }

    for event, act in ((listed.select, opened), (listed.retry, resumed)):
        on(
            shared,
            event,
            act,
            outputs=[
                shared.run_id, shared.last_run, shared.run_changed, shared.tabs, shared.lease, note,
            ],
            refused=note,
        )  # fmt: skip


def _wire_rename(listed: gr.HTML, shared: Shared, note: gr.HTML) -> None:
    def renamed(asker: Asker, run_id: str) -> Outputs:
        asker.run(asker.pressed("run")).rename(short_name(asker.pressed("value")))
        return {shared.run_changed: changed(run_id), note: ""}

    on(shared, listed.apply, renamed, [shared.run_id], [shared.run_changed, note], refused=note)


def _wire_again(listed: gr.HTML, shared: Shared, note: gr.HTML) -> None:
    """Go on from a run: its demonstrations stay where they are, and the cards are for new ones."""
    begun = gr.JSON(visible=False)

    def again(asker: Asker) -> Outputs:
        record = asker.run(asker.pressed("run")).record
        return {
            shared.base: str(record.base_model["id"]),
            shared.parent: record.id,
            shared.run_id: "",
            shared.run_changed: changed(""),
            shared.tabs: gr.Tabs(selected="show"),
            begun: {"run": record.id},
            note: "",
        }

    on(
        shared,
        listed.edit,
        again,
        outputs=[
            shared.parent, shared.base, shared.run_id, shared.run_changed, shared.tabs, begun, note,
        ],
        refused=note,
    ).then(None, begun, None, js="(begun) => { if (begun) dittoCards.replace(''); }")  # fmt: skip


def build_parent(shared: Shared) -> None:
    """Build what says, above the cards, which run the next one goes on from."""
    panel = gr.HTML(visible=False, elem_id="show-parent")
    drop = gr.Button(t("train.parent_drop"), size="sm", visible=False, elem_id="show-parent-drop")

    def parented(asker: Asker, parent: str) -> Outputs:
        there = gr.update(visible=bool(parent))
        html = parent_panel(asker.run(parent), asker.locale) if parent else ""
        return {panel: gr.update(value=html, visible=bool(parent)), drop: there}

    on(shared, shared.parent.change, parented, [shared.parent], [panel, drop], refused=panel)
    on(shared, drop.click, lambda asker: {shared.parent: ""}, outputs=[shared.parent])


def _wire_delete(listed: gr.HTML, shared: Shared, note: gr.HTML) -> None:
    def delete(asker: Asker, open_id: str, parent: str) -> Iterator[Outputs]:
        wanted = asker.pressed("run")
        run, mine, said = asker.run(wanted), asker.hub_token, ""
        yield {note: notice(say("runs.deleting", asker.locale, name=run.title), "plain")}
        held = api.how_kept(run)
        remove_run(run, shared, token=mine)
        if parent == wanted:  # what was being prepared has nothing to go on from any more
            said = notice(say("runs.parent_gone", asker.locale))
        try:
            if held is not None and held.repo_id and mine:
                api.delete_saved(wanted, mine)
        except DittoError as error:  # the run here is gone; its copy is still there
            said += failure(error, asker.locale)
        shown = show_run(shared, "" if wanted == open_id else open_id)
        yield {**shown, shared.parent: "" if parent == wanted else gr.skip(), note: said}

    on(
        shared,
        listed.delete,
        delete,
        [shared.run_id, shared.parent],
        [shared.run_id, shared.last_run, shared.run_changed, shared.parent, note],
        kind="queued",
        refused=note,
    )


def remove_run(run: Run, shared: Shared, patience_s: float = 30.0, *, token: Token | str) -> None:
    """Delete a run with all it made; one under work is stopped first.

    Raises:
        RunBusyError: it did not stop in time, or another process works on it.
        StorageError: the disk refused.
        HubError: its job could not be stopped.
    """
    run_id = run.record.id
    if not shared.workshop.take_out(run_id) and shared.workshop.place(run_id) == 0:
        api.cancel(run, token)  # in a lease, or in a job
    shared.workshop.wait_for(run_id, patience_s)
    run.delete()
