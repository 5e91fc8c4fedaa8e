"""Runs that their owner keeps on the Hub, found from any device; and what a restart took away."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import gradio as gr

from ditto_hub import api
from ditto_hub.api.keeping import Keeping
from ditto_hub.errors import HubError, RunError
from ditto_hub.tokens import Token
from ditto_hub.ui.html.render import notice
from ditto_hub.ui.i18n.words import t
from ditto_hub.ui.serving.events import Asker, Outputs, on, show_run
from ditto_hub.ui.serving.session import Shared, own_run, own_runs
from ditto_hub.words import say


def build(shared: Shared, note: gr.HTML) -> None:
    """Build the row above My runs; only where somebody can sign in."""
    with gr.Row(visible=shared.sign_in, elem_id="runs-kept"):
        look = gr.Button(t("kept.look"), size="sm", elem_id="runs-kept-look")
        which = gr.Dropdown([], label=t("kept.which"), visible=False, elem_id="runs-kept-which")
        bring = gr.Button(t("kept.bring"), size="sm", visible=False, elem_id="runs-kept-bring")
    _wire_look(shared, look, which, bring, note)
    _wire_bring(shared, which, bring, note)
    _wire_gone(shared, note)


def _wire_gone(shared: Shared, note: gr.HTML) -> None:
    """Say so where the run of the page's address is not here for this visitor, and show theirs.

    One word for all reasons: whether another's run exists is nobody's to know.
    """

    missing = gr.State("")

    def gone(asker: Asker, last: str) -> Outputs:
        named = str(asker.request.query_params.get("run") or "")
        with contextlib.suppress(RunError):
            if named or last:
                own_run(named or last, asker.visitor)
            return {}
        return {missing: "named" if named else "last"}

    def say_gone(asker: Asker, which: str) -> Outputs:
        said = {note: notice(say("kept.gone", asker.locale))} if which else {}
        return {**said, shared.tabs: gr.Tabs(selected="runs")} if which == "named" else said

    on(shared, shared.page.load, gone, [shared.last_run], [missing])
    # a page that is still being laid out forgets what comes with its first answer
    on(shared, missing.change, say_gone, [missing], [note, shared.tabs])


def _wire_look(
    shared: Shared, look: gr.Button, which: gr.Dropdown, bring: gr.Button, note: gr.HTML
) -> None:
    def find(asker: Asker) -> Outputs:
        here = {run.record.id for run in own_runs(asker.visitor)}
        found = [s for s in api.saved_runs(_token(asker)) if s.run_id not in here]
        choices = [(_described(saved, asker.locale), saved.run_id) for saved in found]
        first: dict[str, Any] = {"choices": choices, "value": choices[0][1]} if choices else {}
        none = notice(say("kept.none", asker.locale), "plain")
        return {
            which: gr.update(visible=bool(found), **first),
            bring: gr.update(visible=bool(found)),
            note: "" if found else none,
        }

    on(
        shared, look.click, find, outputs=[which, bring, note], busy=look, kind="queued",
        refused=note, show_progress="full", show_progress_on=note,
    )  # fmt: skip


def _described(saved: Any, locale: str) -> str:
    when = time.strftime("%Y-%m-%d %H:%M", time.gmtime(saved.updated))
    state = say(f"state.{saved.status}", locale)
    return f"{saved.run_id}, {saved.base_model}, {state}, {when} UTC"


def _wire_bring(shared: Shared, which: gr.Dropdown, bring: gr.Button, note: gr.HTML) -> None:
    def fetch(asker: Asker, wanted: str) -> Outputs:
        asking = asker.visitor
        run = api.restore_run(wanted, _token(asker), asking.owner, profile=shared.profile)
        name = asking.name or ""
        api.agree_to_keep(run, Keeping(f"{name}/ditto-hub-run-{wanted}", run.record.updated))
        hidden = gr.update(visible=False)
        return {
            **show_run(shared, wanted),
            shared.tabs: gr.Tabs(selected="train"),
            which: hidden,
            bring: hidden,
            note: "",
        }

    on(
        shared,
        bring.click,
        fetch,
        [which],
        [shared.run_id, shared.last_run, shared.run_changed, shared.tabs, which, bring, note],
        busy=bring,
        kind="queued",
        refused=note,
        show_progress="full",
        show_progress_on=note,
    )


def _token(asker: Asker) -> Token:
    """Return a signed-in user's token.

    Raises:
        HubError: nobody is signed in; in the visitor's language.
    """
    mine = asker.hub_token
    if not mine:
        raise HubError(say("kept.sign_in", asker.locale))
    return mine
