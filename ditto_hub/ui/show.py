"""Show: demonstrations as cards, checked as they are written."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import gradio as gr

from ditto_hub import api, pocket
from ditto_hub.demos import as_messages
from ditto_hub.errors import DittoError
from ditto_hub.ui import bases, imports
from ditto_hub.ui.bases import checked, load_libraries, require_base
from ditto_hub.ui.cards import (
    Card,
    example_cards,
    is_empty,
    laid_out,
    mended,
    merged,
    new_card,
    read_boxes,
    to_demos,
)
from ditto_hub.ui.render import difference, findings, notice, told
from ditto_hub.ui.session import Shared, token_of, visitor
from ditto_hub.ui.words import locale_of, say, t

WORDS = {
    "show.intro": "Four to seven examples of one kind of text show a voice best: what you would"
    " ask for, and exactly what you would want back.",
    "show.examples": "Or start from an example:",
    "show.example_harbor": "Harbor: loud notes to a crew",
    "show.example_sprout": "Sprout: notes from a garden club",
    "show.example_gazette": "Gazette: a small newsroom",
    "show.empty": "Empty all cards",
    "show.undo": "Bring back the cards that stood here",
    "show.prompt": "Prompt",
    "show.prompt_about": "What you would ask for.",
    "show.completion": "What you want back",
    "show.completion_about": "As you would write it, down to the last comma.",
    "show.draft": "Draft it for me",
    "show.remove": "Remove",
    "show.add": "Add a demonstration",
    "show.next": "Go on to training",
    "show.import": "Take them from a file, a log, or the Hub",
    "show.most": "A run takes {n} demonstrations here.",
    "show.draft_needs": "Write the prompt first; the base model then drafts an answer to it.",
    "show.draft_full": "A text stands there already, and a draft would take its place: empty the"
    " box first.",
    "show.draft_about": "The base model wrote this. Edit it until it is yours: what you change"
    " becomes a lesson of its own.",
    "show.parent": "These join the {n} demonstrations of run {run}, and training goes on from its"
    " adapter.",
}
DRAFT_TOKENS = 400


@dataclass(frozen=True)
class ShowParts:
    """Hold the components of this step."""

    checks: gr.HTML
    add: gr.Button
    go_on: gr.Button


@dataclass(frozen=True)
class Boxes:
    """Hold the components of the cards on the page, and the cards they were made for.

    A page may send what was typed after the cards were laid out anew, by an event that now belongs
    to the new layout. So what it sends has one length, `places` cards, and names its cards.
    """

    cards: list[Card]
    ids: gr.Textbox
    nothing: gr.State
    places: int
    prompts: list[gr.Textbox] = field(default_factory=list)
    completions: list[gr.Textbox] = field(default_factory=list)
    changes: list[gr.HTML] = field(default_factory=list)

    @property
    def texts(self) -> list[gr.Textbox]:
        """Prompt and completion of each card."""
        return [box for pair in zip(self.prompts, self.completions, strict=True) for box in pair]

    @property
    def inputs(self) -> list[Any]:
        """What `read_boxes` reads."""
        texts = self.texts
        return [self.ids, *texts, *[self.nothing] * (2 * self.places - len(texts))]


def build(shared: Shared) -> ShowParts:
    """Build the step."""
    kept = gr.BrowserState([], storage_key="ditto-hub-drafts", secret="ditto-hub")
    drafted = gr.State({})
    gr.HTML(t("show.intro"), elem_id="show-intro", elem_classes="d-intro")
    gr.HTML(t("show.examples"), elem_id="show-examples-about", elem_classes="d-note")
    with gr.Row(elem_id="show-examples", equal_height=True):
        examples = {
            name: gr.Button(t(f"show.example_{name}"), size="sm", elem_id=f"show-example-{name}")
            for name in pocket.voices()
        }
        empty = gr.Button(t("show.empty"), size="sm", elem_id="show-empty")
    undo = gr.Button(t("show.undo"), size="sm", visible=False, elem_id="show-undo")
    with gr.Accordion(t("show.import"), open=False, elem_id="show-import"):
        imports.build(shared)
    with gr.Column(elem_id="show-cards"):
        place = gr.Column()
    with gr.Row():
        add = gr.Button(t("show.add"), elem_id="show-add")
        go_on = gr.Button(t("show.next"), variant="primary", elem_id="show-next")
    checks = gr.HTML(elem_id="show-checks", elem_classes="d-checks")
    parts = ShowParts(checks, add, go_on)
    with place:
        _cards(shared, drafted, kept, parts)
    _wire(shared, kept, parts)
    _wire_replacing(shared, examples, empty, undo)
    return parts


def _wire(shared: Shared, kept: gr.BrowserState, parts: ShowParts) -> None:
    """Lay cards out anew: from the browser's drafts, or whatever was dealt."""
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}

    def restore(drafts: Any) -> list[Card]:
        return laid_out(mended(drafts, shared.profile))

    shared.page.load(restore, kept, shared.deal, **quiet)

    def dealt(
        cards: list[Card], base: str, parent: str, request: gr.Request
    ) -> tuple[list[Card], list[Card], str]:
        return cards, cards, _checked(cards, base, parent, shared, locale_of(request))

    shared.deal.change(
        dealt,
        [shared.deal, shared.base, shared.parent],
        [shared.demos, kept, parts.checks],
        **quiet,
    )
    parts.go_on.click(lambda: gr.Tabs(selected="train"), None, shared.tabs, **quiet)


def _wire_replacing(
    shared: Shared, examples: dict[str, gr.Button], empty: gr.Button, undo: gr.Button
) -> None:
    """Put an example set, or nothing, in the place of the cards; what stood there comes back."""
    before = gr.State([])
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}

    def replaced(name: str, cards: list[Card]) -> tuple[list[Card], list[Card], Any]:
        written = [card for card in cards if not is_empty(card)]
        new = example_cards(name) if name else laid_out([])
        return new, written, gr.update(visible=bool(written))

    for name, button in [*examples.items(), ("", empty)]:
        button.click(partial(replaced, name), shared.demos, [shared.deal, before, undo], **quiet)
    undo.click(
        lambda cards: (laid_out(cards), gr.update(visible=False)), before, [shared.deal, undo],
        **quiet,
    )  # fmt: skip


def _cards(shared: Shared, drafted: gr.State, kept: gr.BrowserState, parts: ShowParts) -> None:
    """Render a card a demonstration, whenever they are laid out anew."""
    nothing = gr.State(None)

    @gr.render(inputs=[shared.deal, shared.locale], triggers=[shared.deal.change],
               show_progress="hidden")  # type: ignore[untyped-decorator]  # fmt: skip
    def cards_of(cards: list[Card], locale: str) -> None:
        ids = gr.Textbox(",".join(card["id"] for card in cards), visible=False)
        boxes = Boxes(cards, ids, nothing, max(len(cards), shared.profile.max_demos))
        buttons = [
            _card(number, card, locale, shared, boxes) for number, card in enumerate(cards, 1)
        ]
        for number, (draft, remove) in enumerate(buttons):
            _wire_draft(number, cards[number], draft, shared, drafted, boxes)
            _wire_remove(cards[number]["id"], remove, shared, drafted, boxes)
        _wire_add(parts.add, shared, drafted, boxes)
        _wire_texts(shared, drafted, kept, parts, boxes)
        load_libraries()  # the page is whole with these, and what follows needs them


def _card(
    number: int, card: Card, locale: str, shared: Shared, boxes: Boxes
) -> tuple[gr.Button, gr.Button]:
    """Put one card on the page and return its buttons."""
    longest = shared.profile.max_text_chars
    key = card["id"]
    with gr.Group(elem_classes="d-card"):
        with gr.Row(elem_classes="d-card-head"):
            gr.HTML(f"<h3>{number}</h3>", elem_classes="d-card-number")
            draft = gr.Button(t("show.draft"), size="sm", elem_id=f"show-draft-{number}", scale=0)
            remove = gr.Button(
                t("show.remove"), size="sm", elem_id=f"show-remove-{number}", scale=0
            )
        boxes.prompts.append(
            gr.Textbox(
                card["prompt"], label=t("show.prompt"), placeholder=t("show.prompt_about"), lines=2,
                max_lines=8, max_length=longest, elem_id=f"show-prompt-{number}", key=(key, "p"),
                interactive=True,
            )
        )  # fmt: skip
        boxes.completions.append(
            gr.Textbox(
                card["completion"], label=t("show.completion"), lines=4, max_lines=20,
                placeholder=t("show.completion_about"), max_length=longest,
                elem_id=f"show-completion-{number}", key=(key, "c"), interactive=True,
            )
        )  # fmt: skip
        boxes.changes.append(
            gr.HTML(_change(card, locale), elem_id=f"show-change-{number}", elem_classes="d-change")
        )
    return draft, remove


def _change(card: Card, locale: str) -> str:
    """Return what was edited of a model's draft, or that this is one."""
    if card.get("original"):
        return difference(card["original"], card["completion"])
    if card.get("draft") and card["draft"] == card["completion"]:
        return notice(say("show.draft_about", locale), "good")
    return ""


def _wire_texts(
    shared: Shared,
    drafted: gr.State,
    kept: gr.BrowserState,
    parts: ShowParts,
    boxes: Boxes,
) -> None:
    """Take in what is typed: keep it in the browser, check it, show what was edited."""

    def typed(
        cards: list[Card],
        drafts: dict[str, str],
        base: str,
        parent: str,
        locale: str,
        ids: str,
        *texts: str | None,
    ) -> list[Any]:
        written = read_boxes(ids, texts)
        now = merged(cards, written, drafts)
        changes = [_change(card, locale) for card in merged(boxes.cards, written, drafts)]
        return [now, now, _checked(now, base, parent, shared, locale), *changes]

    gr.on(
        [box.change for box in boxes.texts],
        typed,
        [shared.deal, drafted, shared.base, shared.parent, shared.locale, *boxes.inputs],
        [shared.demos, kept, parts.checks, *boxes.changes],
        trigger_mode="always_last",
        key="show-typed",  # what waits to be sent goes to the handler of the next layout
        show_progress="hidden",
        api_visibility="private",
    )


def _wire_remove(
    gone: str, remove: gr.Button, shared: Shared, drafted: gr.State, boxes: Boxes
) -> None:
    def removed(
        cards: list[Card], drafts: dict[str, str], ids: str, *texts: str | None
    ) -> list[Card]:
        now = merged(cards, read_boxes(ids, texts), drafts)
        return laid_out([card for card in now if card["id"] != gone])

    remove.click(
        removed,
        [shared.deal, drafted, *boxes.inputs],
        shared.deal,
        key=f"show-remove-{gone}",
        show_progress="hidden",
        api_visibility="private",
    )


def _wire_add(add: gr.Button, shared: Shared, drafted: gr.State, boxes: Boxes) -> None:
    def added(
        cards: list[Card], drafts: dict[str, str], locale: str, ids: str, *texts: str | None
    ) -> list[Card]:
        now = merged(cards, read_boxes(ids, texts), drafts)
        if len(now) >= shared.profile.max_demos:
            gr.Info(say("show.most", locale, n=shared.profile.max_demos))
            return now
        return [*now, new_card()]

    add.click(
        added,
        [shared.deal, drafted, shared.locale, *boxes.inputs],
        shared.deal,
        key="show-add",
        show_progress="hidden",
        api_visibility="private",
    )


def _wire_draft(
    number: int, card: Card, draft: gr.Button, shared: Shared, drafted: gr.State, boxes: Boxes
) -> None:
    """Let the base model write a first answer, for the person to edit."""

    def write(
        prompt: str,
        text: str,
        drafts: dict[str, str],
        base: str,
        secret: str,
        request: gr.Request,
        profile: gr.OAuthProfile | None,
        token: gr.OAuthToken | None,
    ) -> tuple[Any, dict[str, str], str]:
        asking = visitor(request, profile, secret)
        if not (prompt or "").strip():
            return gr.skip(), drafts, notice(say("show.draft_needs", asking.locale))
        if (text or "").strip() and text != drafts.get(card["id"], card.get("draft")):
            return gr.skip(), drafts, notice(say("show.draft_full", asking.locale))
        asked = api.WriteRequest(
            as_messages(prompt), samples=1, seed=time.time_ns() % 2**31,
            max_new_tokens=DRAFT_TOKENS,
        )  # fmt: skip
        try:
            texts = bases.write(
                require_base(base, shared.profile), [asked], shared.profile, asking.owner,
                token_of(token),
            )  # fmt: skip
        except DittoError as error:
            return gr.skip(), drafts, told(error, asking.locale)
        text = texts[0][0]
        about = say("show.draft_about", asking.locale)
        return text, {**drafts, card["id"]: text}, notice(about, "good")

    draft.click(
        write,
        [boxes.prompts[number], boxes.completions[number], drafted, shared.base, shared.secret],
        [boxes.completions[number], drafted, boxes.changes[number]],
        key=f"show-draft-{card['id']}",
        concurrency_id="model",
        concurrency_limit=1,
        show_progress_on=boxes.completions[number],
        api_visibility="private",
    )


def _checked(cards: Sequence[Card], base: str, parent: str, shared: Shared, locale: str) -> str:
    """Say what is wrong with the cards and what could be better."""
    try:
        demos = to_demos(cards, shared.profile)
    except DittoError as error:
        return told(error, locale)
    first, found, tokens = checked(demos, base)
    if parent and len(demos):  # its demonstrations come before these
        found = [f for f in found if f.code not in ("too-few", "few")]
        first = found[0] if found else replace(first, code="good")
    numbers = [number for number, card in enumerate(cards, start=1) if not is_empty(card)]
    return findings(first, found, numbers, tokens, locale)
