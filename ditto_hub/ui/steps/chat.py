"""Chat with a version of the run; beside it, at a switch, what it is compared with answers too.

The messages stay in the page.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape, unescape
from typing import Any

import gradio as gr

from ditto_hub import api
from ditto_hub.errors import DittoError
from ditto_hub.ui.html import side_by_side
from ditto_hub.ui.html.render import failure, notice
from ditto_hub.ui.i18n.words import t
from ditto_hub.ui.serving.events import Asker, Outputs, on
from ditto_hub.ui.serving.requests import method_name, short, writer
from ditto_hub.ui.serving.session import Shared
from ditto_hub.words import say

TURNS = 8  # of the conversation, the latest ones; small models lose the thread before that
BASELINES = ("zero-shot", "few-shot")


@dataclass(frozen=True)
class ChatParts:
    """Hold the components of the chat."""

    chat: gr.Chatbot
    message: gr.Textbox
    send: gr.Button
    clear: gr.Button
    beside: gr.Checkbox
    others: gr.HTML
    note: gr.HTML


def build(shared: Shared) -> ChatParts:
    """Build the chat."""
    with gr.Row(elem_id="try-chat-row"):
        with gr.Column(scale=3, min_width=300):
            chat = gr.Chatbot(
                label=t("try.chat"), height=300, render_markdown=False, sanitize_html=True,
                allow_tags=False, feedback_options=None, buttons=["copy"],
                allow_file_downloads=False, elem_id="try-chat",
            )  # fmt: skip
        others = gr.HTML(visible=False, elem_id="try-others")
    note = gr.HTML(elem_id="try-note")
    with gr.Row(elem_id="try-ask"):
        message = gr.Textbox(
            label=t("try.message"), info=t("try.about"), lines=1, scale=5, min_width=240,
            max_length=shared.profile.max_text_chars or None, elem_id="try-message",
        )  # fmt: skip
        send = gr.Button(
            t("try.send"), variant="primary", scale=1, min_width=100, elem_id="try-send"
        )
    with gr.Row(elem_id="try-beside-row"):
        beside = gr.Checkbox(False, label=t("try.beside"), scale=4, elem_id="try-beside")
        clear = gr.Button(t("try.clear"), size="sm", scale=1, elem_id="try-clear")
    return ChatParts(chat, message, send, clear, beside, others, note)


def wire(shared: Shared, parts: ChatParts, version: gr.Radio) -> None:
    """Let the candidate that is ticked answer."""
    _wire_answer(shared, parts, version)
    _wire_clear(shared, parts)


def _wire_answer(shared: Shared, parts: ChatParts, version: gr.Radio) -> None:
    """Answer a message in one go, whoever answers; a refusal leaves the message in its box."""

    def answer(
        asker: Asker, run_id: str, text: str, turns: list[Any], candidate: str | None,
        beside: bool,
    ) -> Iterator[Outputs]:  # fmt: skip
        text, locale = short(text, shared).strip(), asker.locale
        if not text:
            return
        said = [*plain_turns(turns), {"role": "user", "content": text}]
        try:
            run = asker.run(run_id)
            writing = notice(say("try.writing", locale), "plain")
            yield {parts.chat: shown(said), parts.message: "", parts.note: writing}
            asked = requests(said, candidate or "", beside is True)
            texts = [drawn[0] for drawn in writer(shared, run, asker)(asked)]
        except DittoError as error:
            back = {parts.chat: shown(said[:-1]), parts.message: text}
            yield {**back, parts.note: failure(error, locale)}
            return
        whole = shown([*said, {"role": "assistant", "content": texts[0]}])
        yield {parts.chat: whole, parts.others: _others(texts[1:], locale), parts.note: ""}

    on(
        shared,
        [parts.send.click, parts.message.submit],
        answer,
        [shared.run_id, parts.message, parts.chat, version, parts.beside],
        [parts.chat, parts.message, parts.others, parts.note],
        kind="model",
        trigger_mode="once",
    )


def requests(
    said: Sequence[dict[str, str]], candidate: str, beside: bool
) -> tuple[api.WriteRequest, ...]:
    """Return who is asked about a conversation's last message: the version, and the baselines."""
    turns, seed = tuple(said[-TURNS + 1 :]), len(said)
    own = api.WriteRequest(turns, seed=seed, candidate=candidate)
    base = api.WriteRequest(turns, seed=seed, candidate=None)
    few = api.WriteRequest(turns, seed=seed, candidate=None, few_shot=True)
    return (own, base, few) if beside else (own,)


def _others(texts: Sequence[str], locale: str) -> Any:
    """Show what the baselines answered; hidden where they were not asked."""
    heads = [method_name(name, locale) for name in BASELINES]
    found = list(zip(heads, texts, strict=False))
    html = side_by_side.side_by_side(found, "", locale) if found else ""
    return gr.update(value=html, visible=bool(found))


def _wire_clear(shared: Shared, parts: ChatParts) -> None:
    """Begin anew when asked to, and whenever another run is shown."""
    seen = gr.State("")
    empty: Outputs = {
        parts.chat: [],
        parts.others: gr.update(value="", visible=False),
        parts.note: "",
    }

    def another(asker: Asker, run_id: str, before: str) -> Outputs:
        return {} if run_id == before else {**empty, seen: run_id}

    on(shared, parts.clear.click, lambda asker: empty, outputs=list(empty))
    on(
        shared, shared.run_changed.change, another, [shared.run_id, seen], [*empty, seen]
    )  # fmt: skip


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
