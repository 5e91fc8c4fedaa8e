"""The prompts that cards lack: the base model writes them onto the cards, to be edited there."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

import gradio as gr

from ditto_hub import api
from ditto_hub.demos.demonstrations import Demonstration, DemoSet
from ditto_hub.errors import DittoError, RunError
from ditto_hub.ui.html.cards import Card, author_of, is_empty, lacks_prompt, read_cards, to_demos
from ditto_hub.ui.html.render import failure, notice
from ditto_hub.ui.serving import base_models
from ditto_hub.ui.serving.base_models import require_base
from ditto_hub.ui.serving.events import Asker, Outputs, on
from ditto_hub.ui.serving.session import Shared
from ditto_hub.words import say, told


def wire(shared: Shared, button: gr.Button, note: gr.HTML) -> None:
    """Let the base model write a prompt for each card with a text and none."""
    answer = gr.JSON(visible=False)

    def write(asker: Asker, sent: Any, base: str) -> Iterator[Outputs]:
        cards, locale = read_cards(sent), asker.locale
        missing = sum(map(lacks_prompt, cards))
        if not missing:
            yield {answer: {}, note: notice(say("show.prompts_none", locale))}
            return
        yield {note: notice(_beginning(missing, shared, locale), "plain")}
        try:
            base = require_base(base, shared.profile)
            to_demos(cards, shared.profile)  # which holds them to its limits
            demos = _numbered(cards, locale)
            owner, token = owner_of(asker), asker.hub_token
            going = base_models.stream_prompts(demos, base, shared.profile, owner, token)
            found = yield from _following(going, note, locale)
        except DittoError as error:
            yield {answer: {}, note: failure(error, locale)}
            return
        prompts = _by_card(cards, found)
        done = notice(say("show.prompts_done", locale, count=len(prompts)), "good")
        lines = (notice(told(said, locale), "plain") for said in found.notices)
        yield {answer: prompts, note: done + "".join(lines)}

    on(
        shared, button.click, write, [shared.cards, shared.base], [answer, note],
        kind="model", busy=button, trigger_mode="once",
    ).then(None, answer, None, js="(answer) => dittoCards.prompted(answer)")  # fmt: skip


def _following(
    going: Generator[api.PromptWritten, None, DemoSet], note: gr.HTML, locale: str
) -> Generator[Outputs, None, DemoSet]:
    """Say each prompt as it is written."""
    while True:
        try:
            step = next(going)
        except StopIteration as end:
            found: DemoSet = end.value
            return found
        values = {"done": step.done, "count": step.count, "prompt": step.demo.prompt_text}
        yield {note: notice(say("show.prompting_at", locale, **values), "plain")}


def owner_of(asker: Asker) -> str:
    """Return whose quota is used: a page's, while its secret is on its way."""
    try:
        return asker.visitor.owner
    except RunError:
        return f"page:{asker.page}"


def _beginning(count: int, shared: Shared, locale: str) -> str:
    """Say what is being done, and what it takes of a visitor's quota where a GPU is leased."""
    said = say("show.prompting", locale, count=count)
    if shared.profile.backend != "zerogpu":
        return said
    return f"{said} " + say("show.prompting_lease", locale, seconds=api.prompts_lease_s(count))


def _numbered(cards: list[Card], locale: str) -> DemoSet:
    """Return the cards as demonstrations that are called as the page calls them."""
    name = say("show.card", locale)
    return DemoSet(
        tuple(
            Demonstration(
                f"{name} {number}", card["prompt"], card["completion"], prompt_by=author_of(card)
            )
            for number, card in enumerate(cards, start=1)
            if not is_empty(card)
        )
    )


def _by_card(cards: list[Card], found: DemoSet) -> dict[str, dict[str, str]]:
    """Return card id -> the prompt that was written for it, and by whom."""
    written = [card for card in cards if not is_empty(card)]
    return {
        card["id"]: {"prompt": demo.prompt_text, "prompt_by": demo.prompt_by}
        for card, demo in zip(written, found, strict=True)
        if lacks_prompt(card) and demo.prompt_text
    }
