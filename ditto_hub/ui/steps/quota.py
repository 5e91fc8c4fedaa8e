"""What is left of the day's GPU quota, where the sign-in may read it."""

from __future__ import annotations

import gradio as gr

from ditto_hub import api
from ditto_hub.api.leasing import QUOTA_SCOPE
from ditto_hub.ui.html.estimates import quota_words
from ditto_hub.ui.html.render import notice
from ditto_hub.ui.serving.events import Asker, Outputs, on
from ditto_hub.ui.serving.session import Shared


def build_quota(shared: Shared) -> None:
    """Build the line that says so; nothing where GPUs are not leased or the Hub does not tell."""
    if shared.profile.backend != "zerogpu":
        return
    line = gr.HTML(elem_id="train-quota")

    def looked(asker: Asker) -> Outputs:
        return {line: quota_line(shared, asker)}

    events = [shared.page.load, shared.tab.select, shared.run_changed.change]
    on(shared, events, looked, outputs=[line], kind="hub", trigger_mode="always_last")


def quota_line(shared: Shared, asker: Asker) -> str:
    """Return what the signed-in user has left, as HTML; "" where the Hub does not tell."""
    token = asker.hub_token
    if asker.profile is None or QUOTA_SCOPE not in token.scopes:
        return ""
    found = api.standing(shared.profile, asker.visitor.owner, token)
    if not found.sure:
        return ""
    words = quota_words(found.left_s, found.renewed_at, asker.profile.username, asker.locale)
    return notice(words, "plain")
