"""Show: demonstrations as cards, checked as they are written."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import gradio as gr

from ditto_hub import api
from ditto_hub.demos.demonstrations import as_messages
from ditto_hub.errors import DittoError
from ditto_hub.ui.html.cards import (
    Card,
    edited_from,
    example_sets,
    is_empty,
    read_cards,
    to_demos,
    version_of,
)
from ditto_hub.ui.html.render import difference, failure, findings, notice
from ditto_hub.ui.i18n.words import t
from ditto_hub.ui.serving import base_models
from ditto_hub.ui.serving.base_models import checked, load_libraries, require_base
from ditto_hub.ui.serving.events import Asker, Outputs, go_to, on
from ditto_hub.ui.serving.session import Shared
from ditto_hub.ui.steps import imports, prompting
from ditto_hub.words import say

DRAFT_TOKENS = 400


def build(shared: Shared) -> None:
    """Build the step."""
    gr.HTML(t("show.intro"), elem_id="show-intro", elem_classes="d-intro")
    gr.HTML(t("show.examples"), elem_id="show-examples-about", elem_classes="d-note")
    with gr.Row(elem_id="show-examples", equal_height=True):
        for name in example_sets():
            button = gr.Button(t(f"show.example_{name}"), size="sm", elem_id=f"show-example-{name}")
            button.click(js=f"() => dittoCards.replace('{name}')")
        empty = gr.Button(t("show.empty"), size="sm", elem_id="show-empty")
        empty.click(js="() => dittoCards.replace('')")
    with gr.Accordion(t("show.import"), open=False, elem_id="show-import"):
        imports.build(shared)
    with gr.Row(elem_id="show-body"):
        with gr.Column(scale=4, min_width=300):
            shared.cards.render()  # type: ignore[no-untyped-call]
            with gr.Row(elem_id="show-actions"):
                add = gr.Button(t("show.add"), elem_id="show-add")
                add.click(js="() => dittoCards.add()")
                prompts = gr.Button(t("show.prompts"), elem_id="show-prompts")
                go_on = gr.Button(t("show.next"), variant="primary", elem_id="show-next")
            written = gr.HTML(elem_id="show-prompts-note")
        with gr.Column(scale=1, min_width=260, elem_id="show-side"):
            checks = gr.HTML(elem_id="show-checks", elem_classes="d-checks")
    on(shared, go_on.click, go_to(shared, "train"), outputs=[shared.tabs])
    _wire_checks(shared, checks)
    _wire_draft(shared)
    prompting.wire(shared, prompts, written)


def _wire_checks(shared: Shared, checks: gr.HTML) -> None:
    """Say what the server thinks of the cards, all of them and each."""
    changes = gr.JSON(visible=False)

    def typed(asker: Asker, sent: Any, base: str, parent: str) -> Outputs:
        cards = read_cards(sent)
        said = _checked(cards, base, parent, shared, asker.locale)
        load_libraries()  # the page is whole by now, and what follows needs them
        told = {card["id"]: _change(card, asker.locale) for card in cards}
        return {checks: said, changes: {"version": version_of(sent), "cards": told}}

    on(
        shared,
        [shared.cards.change, shared.base.change, shared.parent.change],
        typed,
        [shared.cards, shared.base, shared.parent],
        [checks, changes],
        kind="check",
        trigger_mode="always_last",
    ).then(None, changes, None, js="(changes) => dittoCards.changes(changes)")


def _change(card: Card, locale: str) -> str:
    """Return what was edited of a model's draft, or that this is one."""
    if before := edited_from(card):
        return difference(before, card["completion"])
    return notice(say("show.draft_about", locale), "good") if card["draft"] else ""


def _wire_draft(shared: Shared) -> None:
    """Let the base model write a first answer, for the person to edit."""
    answer = gr.JSON(visible=False)

    def draft(asker: Asker, sent: Any, base: str) -> Outputs:
        wanted = next((card for card in read_cards(sent) if card["asked"]), None)
        if wanted is None:
            return {answer: None}
        try:
            base = require_base(base, shared.profile)
            text = write_draft(wanted["prompt"], base, shared, asker)
        except DittoError as error:
            return {answer: {"id": wanted["id"], "about": failure(error, asker.locale)}}
        return {answer: {"id": wanted["id"], "text": text}}

    on(
        shared, shared.cards.submit, draft, [shared.cards, shared.base], [answer], kind="model"
    ).then(None, answer, None, js="(answer) => dittoCards.drafted(answer)")


def write_draft(prompt: str, base: str, shared: Shared, asker: Asker) -> str:
    """Return what a base model answers to a prompt.

    Raises:
        DittoError: the base model or the machine refused.
    """
    asked = api.WriteRequest(
        as_messages(prompt[: shared.profile.max_text_chars]), samples=1,
        seed=time.time_ns() % 2**31, max_new_tokens=DRAFT_TOKENS,
    )  # fmt: skip
    owner = prompting.owner_of(asker)
    return base_models.write(base, [asked], shared.profile, owner, asker.hub_token)[0][0]


def _checked(cards: Sequence[Card], base: str, parent: str, shared: Shared, locale: str) -> str:
    """Say what is wrong with the cards and what could be better."""
    try:
        demos = to_demos(cards, shared.profile)
    except DittoError as error:
        return failure(error, locale)
    first, found, tokens = checked(demos, base)
    if parent and len(demos):  # its demonstrations come before these
        found = [f for f in found if f.code not in ("too-few", "few")]
        first = found[0] if found else replace(first, code="good")
    numbers = [number for number, card in enumerate(cards, start=1) if not is_empty(card)]
    return findings(first, found, numbers, tokens, locale)
