"""Try the adapter in a chat; the messages stay in the page."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape, unescape
from typing import Any

import gradio as gr

from ditto_hub import api
from ditto_hub.errors import DittoError
from ditto_hub.ui.asking import QUIET, WRITING, asked, short, writer
from ditto_hub.ui.render import notice, told
from ditto_hub.ui.session import Shared
from ditto_hub.ui.words import locale_of, say, t

WORDS = {
    "try.title": "Try it",
    "try.about": "Ask it for something you would have written yourself. What you write here stays"
    " in this page: it is neither kept nor published.",
    "try.chat": "Chat with the adapter",
    "try.message": "Your message",
    "try.send": "Send",
    "try.clear": "Begin anew",
    "try.writing": "It is writing. The first answer also loads the model.",
}
TURNS = 8  # of the conversation, the latest ones; small models lose the thread before that


def build(shared: Shared) -> gr.Chatbot:
    """Build the chat."""
    gr.HTML(t("try.title"), elem_classes="d-heading")
    gr.HTML(t("try.about"), elem_classes="d-about")
    chat = gr.Chatbot(
        label=t("try.chat"), height=320, render_markdown=False, sanitize_html=True,
        allow_tags=False, feedback_options=None, buttons=["copy"],
        allow_file_downloads=False, elem_id="publish-chat",
    )  # fmt: skip
    with gr.Row():
        message = gr.Textbox(
            label=t("try.message"), lines=1, scale=5, min_width=240, elem_id="publish-message",
            max_length=shared.profile.max_text_chars or None,
        )  # fmt: skip
        send = gr.Button(t("try.send"), scale=1, min_width=100, elem_id="publish-send")
    note = gr.HTML(elem_id="publish-chat-note")
    clear = gr.Button(t("try.clear"), size="sm", elem_id="publish-chat-clear")

    def answer(
        run_id: str, text: str, turns: list[Any], secret: str, request: gr.Request,
        profile: gr.OAuthProfile | None, token: gr.OAuthToken | None,
    ) -> Iterator[tuple[Any, ...]]:  # fmt: skip
        locale = locale_of(request)
        text = short(text, shared).strip()
        if not text:
            yield gr.skip(), gr.skip(), gr.skip()
            return
        said = [*plain_turns(turns), {"role": "user", "content": text}]
        try:
            asking, run = asked(run_id, secret, request, profile)
            yield shown(said), "", notice(say("try.writing", locale), "plain")
            request_ = api.WriteRequest(tuple(said[-TURNS + 1 :]), seed=len(said))
            written = writer(shared, run, asking, token)((request_,))[0][0]
        except DittoError as error:
            yield shown(said[:-1]), text, told(error, locale)
            return
        yield shown([*said, {"role": "assistant", "content": written}]), "", ""

    inputs = [shared.run_id, message, chat, shared.secret]
    options = {**WRITING, "show_progress": "hidden"}
    gr.on([send.click, message.submit], answer, inputs, [chat, message, note], **options)
    clear.click(lambda: ([], ""), None, [chat, note], **QUIET)
    shared.run_changed.change(lambda: ([], ""), None, [chat, note], **QUIET)
    return chat


def plain_turns(turns: list[Any]) -> list[dict[str, str]]:
    """Return a chat's messages as a model takes them: role and text, user first."""
    found = []
    for turn in turns or []:
        content = turn.get("content")
        if isinstance(content, list):
            content = "".join(part.get("text") or "" for part in content if isinstance(part, dict))
        if turn.get("role") in ("user", "assistant") and isinstance(content, str):
            found.append({"role": str(turn["role"]), "content": unescape(content)})
    return found


def shown(turns: list[dict[str, str]]) -> list[dict[str, str]]:
    """Return messages as the chat shows them: what looks like markup stays text."""
    return [{**turn, "content": escape(turn["content"], quote=False)} for turn in turns]
