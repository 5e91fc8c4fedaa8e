"""My runs: open, resume, compare, publish, train on, delete; and what was begun signed out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from ditto_hub import api
from ditto_hub.errors import DittoError, RunBusyError
from ditto_hub.runs import Run
from ditto_hub.ui import kept
from ditto_hub.ui.downloads import files_of
from ditto_hub.ui.render import run_card, run_list_empty, state_of, told
from ditto_hub.ui.session import (
    Shared,
    Visitor,
    changed,
    own_run,
    own_runs,
    token_of,
    visitor,
)
from ditto_hub.ui.words import locale_of, t
from ditto_hub.ui.workshop import Workshop

WORDS = {
    "runs.refresh": "Look again",
    "runs.open": "Open",
    "runs.compare": "Compare",
    "runs.publish": "Publish",
    "runs.again": "Add demonstrations and train on",
    "runs.delete": "Delete",
    "runs.sure": "Delete it with everything it made",
    "runs.keep": "Keep it",
}


@dataclass(frozen=True)
class RunsParts:
    """Hold the components of this step."""

    listed: gr.State
    note: gr.HTML


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


def build(shared: Shared) -> RunsParts:
    """Build the step."""
    refresh = gr.Button(t("runs.refresh"), size="sm", elem_id="runs-refresh")
    note = gr.HTML(elem_id="runs-note")
    kept.build(shared, note)
    listed = gr.State([])
    parts = RunsParts(listed, note)
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}

    def look(
        run_id: str, secret: str, request: gr.Request, profile: gr.OAuthProfile | None
    ) -> list[dict[str, Any]]:
        asking = visitor(request, profile, secret)
        rows = []
        for run in own_runs(asking):
            state = state_of(run, shared.workshop.place(run.record.id))
            here = run.record.id == run_id
            html = run_card(run, state, files_of(run), here, asking.locale)
            rows.append(
                {"id": run.record.id, "html": html, "ready": (run.folder / "adapter").is_dir()}
            )
        return rows or [{"id": "", "html": run_list_empty(asking.locale), "ready": False}]

    inputs = [shared.run_id, shared.secret]
    gr.on([refresh.click, shared.run_changed.change], look, inputs, listed, **quiet)
    with gr.Column(elem_id="runs-list"):

        @gr.render(inputs=[listed], triggers=[listed.change], show_progress="hidden")  # type: ignore[untyped-decorator]
        def rows_of(rows: list[dict[str, Any]]) -> None:
            for number, row in enumerate(rows, start=1):
                with gr.Group(elem_classes="d-card"):
                    gr.HTML(row["html"])
                    if row["id"]:
                        _buttons(number, row, shared, parts)

    return parts


def _buttons(number: int, row: dict[str, Any], shared: Shared, parts: RunsParts) -> None:
    """Put a run's buttons under it; each handler asks anew whose it is."""
    with gr.Row(elem_classes="d-card-foot"):
        names = ["open", "compare", "publish", "again"] if row["ready"] else ["open"]
        buttons = {
            name: gr.Button(t(f"runs.{name}"), size="sm", elem_id=f"runs-{name}-{number}", scale=0)
            for name in names
        }
        delete = gr.Button(t("runs.delete"), size="sm", elem_id=f"runs-delete-{number}", scale=0)
        sure = gr.Button(
            t("runs.sure"), size="sm", variant="stop", visible=False,
            elem_id=f"runs-sure-{number}", scale=0,
        )  # fmt: skip
        keep = gr.Button(
            t("runs.keep"), size="sm", visible=False, elem_id=f"runs-keep-{number}", scale=0
        )
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    asked = {True: [gr.update(visible=v) for v in (False, True, True)],
             False: [gr.update(visible=v) for v in (True, False, False)]}  # fmt: skip
    delete.click(lambda: asked[True], None, [delete, sure, keep], **quiet)
    keep.click(lambda: asked[False], None, [delete, sure, keep], **quiet)
    run_id = gr.State(row["id"])
    for name, step in (("open", "train"), ("compare", "compare"), ("publish", "publish")):
        if name in buttons:
            _wire_open(buttons[name], run_id, step, shared, parts)
    if "again" in buttons:
        _wire_again(buttons["again"], run_id, shared, parts)
    _wire_delete(sure, run_id, shared, parts)


def _wire_open(
    button: gr.Button, run_id: gr.State, step: str, shared: Shared, parts: RunsParts
) -> None:
    def opened(
        wanted: str, secret: str, request: gr.Request, profile: gr.OAuthProfile | None
    ) -> tuple[Any, ...]:
        try:
            own_run(wanted, visitor(request, profile, secret))
        except DittoError as error:
            return (*[gr.skip()] * 4, told(error, locale_of(request)))
        return wanted, wanted, changed(wanted), gr.Tabs(selected=step), ""

    button.click(
        opened,
        [run_id, shared.secret],
        [shared.run_id, shared.last_run, shared.run_changed, shared.tabs, parts.note],
        show_progress="hidden",
        api_visibility="private",
    )


def _wire_again(button: gr.Button, run_id: gr.State, shared: Shared, parts: RunsParts) -> None:
    def again(
        wanted: str, secret: str, request: gr.Request, profile: gr.OAuthProfile | None
    ) -> tuple[Any, ...]:
        try:
            run = own_run(wanted, visitor(request, profile, secret))
        except DittoError as error:
            return (*[gr.skip()] * 5, told(error, locale_of(request)))
        base = str(run.record.base_model["id"])
        return wanted, base, "", changed(""), gr.Tabs(selected="show"), ""

    button.click(
        again,
        [run_id, shared.secret],
        [shared.parent, shared.base, shared.run_id, shared.run_changed, shared.tabs, parts.note],
        show_progress="hidden",
        api_visibility="private",
    )


def _wire_delete(button: gr.Button, run_id: gr.State, shared: Shared, parts: RunsParts) -> None:
    def delete(
        wanted: str,
        shown: str,
        secret: str,
        request: gr.Request,
        profile: gr.OAuthProfile | None,
        token: gr.OAuthToken | None,
    ) -> tuple[Any, ...]:
        try:
            run = own_run(wanted, visitor(request, profile, secret))
            held, mine = api.how_kept(run), token_of(token)
            remove_run(run, shared, token=mine)
        except DittoError as error:
            return (*[gr.skip()] * 3, told(error, locale_of(request)))
        left, note = "" if wanted == shown else shown, ""
        try:
            if held is not None and held.repo_id and mine:
                api.delete_saved(wanted, mine)
        except DittoError as error:  # the run here is gone; its copy is still there
            note = told(error, locale_of(request))
        return left, left, changed(left), note

    button.click(
        delete,
        [run_id, shared.run_id, shared.secret],
        [shared.run_id, shared.last_run, shared.run_changed, parts.note],
        api_visibility="private",
        show_progress="hidden",
    )


def remove_run(
    run: Run, shared: Shared, patience_s: float = 30.0, token: str | None = None
) -> None:
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
