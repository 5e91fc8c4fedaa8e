"""Runs that their owner keeps on the Hub, found from any device; and what a restart took away."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import gradio as gr

from ditto_hub import api
from ditto_hub.api.keeping import Keeping
from ditto_hub.errors import DittoError, HubError, RunError
from ditto_hub.ui.render import notice, told
from ditto_hub.ui.session import Shared, changed, own_run, own_runs, token_of, visitor
from ditto_hub.ui.words import locale_of, say, t

WORDS = {
    "kept.look": "Look for runs that I keep on the Hub",
    "kept.which": "Kept on the Hub",
    "kept.bring": "Bring it here",
    "kept.none": "There is no run of yours on the Hub that is not here.",
    "kept.sign_in": "Sign in with Hugging Face first.",
    "kept.gone": "Run {run} is not here for you: it belongs to another sign-in, or this machine was"
    " restarted, or the run's time was over. If you kept it on the Hub, sign in and bring it here:"
    " My runs.",
}


def build(shared: Shared, note: gr.HTML) -> None:
    """Build the row above My runs; only where somebody can sign in."""
    with gr.Row(visible=shared.sign_in, elem_id="runs-kept"):
        look = gr.Button(t("kept.look"), size="sm", elem_id="runs-kept-look")
        which = gr.Dropdown([], label=t("kept.which"), visible=False, elem_id="runs-kept-which")
        bring = gr.Button(t("kept.bring"), size="sm", visible=False, elem_id="runs-kept-bring")
    _wire_look(shared, look, which, bring, note)
    _wire_bring(shared, which, bring, note)
    shared.page.load(
        gone,
        [shared.secret, shared.last_run],
        None,
        show_progress="hidden",
        api_visibility="private",
    )


def gone(secret: str, last: str, request: gr.Request, profile: gr.OAuthProfile | None) -> None:
    """Say so where the run that this page showed last is not here for this visitor.

    One word for all reasons: whether another's run exists is nobody's to know.
    """
    run_id = str(request.query_params.get("run") or "") or last
    if not run_id:
        return
    with contextlib.suppress(RunError):
        asking = visitor(request, profile, secret)
        with contextlib.suppress(RunError):
            own_run(run_id, asking)
            return
        gr.Warning(say("kept.gone", asking.locale, run=run_id[:40]), duration=8)


def _wire_look(
    shared: Shared, look: gr.Button, which: gr.Dropdown, bring: gr.Button, note: gr.HTML
) -> None:
    def find(
        secret: str,
        request: gr.Request,
        profile: gr.OAuthProfile | None,
        token: gr.OAuthToken | None,
    ) -> tuple[Any, Any, str]:
        hidden = gr.update(visible=False)
        try:
            asking = visitor(request, profile, secret)
            here = {run.record.id for run in own_runs(asking)}
            on_hub = api.saved_runs(_token(token, asking.locale))
        except DittoError as error:
            return hidden, hidden, told(error, locale_of(request))
        found = [s for s in on_hub if s.run_id not in here]
        if not found:
            return hidden, hidden, notice(say("kept.none", asking.locale), "plain")
        choices = [
            (
                f"{s.run_id}, {s.base_model}, {say(f'state.{s.status}', asking.locale)},"
                f" {time.strftime('%Y-%m-%d %H:%M', time.gmtime(s.updated))} UTC",
                s.run_id,
            )
            for s in found
        ]
        chosen = gr.update(choices=choices, value=choices[0][1], visible=True)
        return chosen, gr.update(visible=True), ""

    look.click(
        find, [shared.secret], [which, bring, note], show_progress_on=note, api_visibility="private"
    )


def _wire_bring(shared: Shared, which: gr.Dropdown, bring: gr.Button, note: gr.HTML) -> None:
    def fetch(
        wanted: str,
        secret: str,
        request: gr.Request,
        profile: gr.OAuthProfile | None,
        token: gr.OAuthToken | None,
    ) -> tuple[Any, ...]:
        try:
            asking = visitor(request, profile, secret)
            mine = _token(token, asking.locale)
            run = api.restore_run(wanted, mine, asking.owner)
            name = asking.name or ""
            api.agree_to_keep(run, Keeping(f"{name}/ditto-hub-run-{wanted}", run.record.updated))
        except DittoError as error:
            return (*[gr.skip()] * 6, told(error, locale_of(request)))
        hidden = gr.update(visible=False)
        return wanted, wanted, changed(wanted), gr.Tabs(selected="train"), hidden, hidden, ""

    bring.click(
        fetch,
        [which, shared.secret],
        [shared.run_id, shared.last_run, shared.run_changed, shared.tabs, which, bring, note],
        show_progress_on=note,
        api_visibility="private",
    )


def _token(token: gr.OAuthToken | None, locale: str) -> str:
    """Return a signed-in user's token.

    Raises:
        HubError: nobody is signed in; in the visitor's language.
    """
    mine = token_of(token)
    if not mine:
        raise HubError(say("kept.sign_in", locale))
    return mine
