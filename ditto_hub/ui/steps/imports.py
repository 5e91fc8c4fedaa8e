"""The ways in beside typing: a file, a chat log, sent mail, a dataset of the Hub.

What they offer is shown to pick from. A file that was dropped is read once and deleted; what it
held stays in the page's session until the page is closed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder

from ditto_hub.api.importing import preview_apart, preview_dataset
from ditto_hub.cost.profiles import Profile
from ditto_hub.demos.importers import Preview, PreviewRow
from ditto_hub.errors import DittoError
from ditto_hub.tokens import MACHINE
from ditto_hub.ui.html.cards import Card, is_empty, lacks_prompt, new_card, read_cards
from ditto_hub.ui.html.render import failure, notice
from ditto_hub.ui.i18n.words import t
from ditto_hub.ui.serving.events import Asker, Outputs, on
from ditto_hub.ui.serving.session import Shared
from ditto_hub.words import say, told

TICKED_FIRST = 7  # a file of no more than that many is one of demonstrations: all are ticked
SNIPPET = 90


@dataclass(frozen=True)
class ImportParts:
    """Hold the components of this panel."""

    file: gr.File
    dataset: gr.Textbox
    look: gr.Button
    saved_token: gr.Checkbox
    prompt_column: gr.Dropdown
    completion_column: gr.Dropdown
    voice: gr.Radio
    rows: gr.CheckboxGroup
    text: gr.Textbox
    add: gr.Button
    message: gr.HTML
    found: gr.State = field(default_factory=lambda: gr.State(None))

    @property
    def shown(self) -> list[Any]:
        """What changes when something new is looked at."""
        return [
            self.found,
            self.message,
            self.prompt_column,
            self.completion_column,
            self.voice,
            *self.picking,
        ]

    @property
    def picking(self) -> list[Any]:
        """What changes with the rows."""
        return [self.rows, self.text, self.add]

    @property
    def choice(self) -> list[Any]:
        """What says how the file is read."""
        return [self.found, self.prompt_column, self.completion_column, self.voice]


def build(shared: Shared) -> ImportParts:
    """Build the panel and wire it."""
    local = shared.profile.name == "own" and not shared.sign_in
    file = gr.File(label=t("imports.file"), elem_id="imports-file", height=110)
    gr.HTML(t("imports.file_about"), elem_id="imports-file-about", elem_classes="d-soft")
    with gr.Row():
        dataset = gr.Textbox(
            label=t("imports.dataset"), info=t("imports.dataset_about"), max_length=300,
            placeholder="USER/NAME", elem_id="imports-dataset", scale=3, min_width=280,
        )  # fmt: skip
        look = gr.Button(t("imports.dataset_look"), elem_id="imports-dataset-look", scale=0)
    saved_token = gr.Checkbox(
        label=t("imports.saved_token"), visible=local, elem_id="imports-saved-token"
    )
    message = gr.HTML(elem_id="imports-message")
    with gr.Row():
        prompt_column = gr.Dropdown(
            label=t("imports.prompt_column"), visible=False, elem_id="imports-prompt-column"
        )
        completion_column = gr.Dropdown(
            label=t("imports.completion_column"), visible=False, elem_id="imports-completion-column"
        )
    voice = gr.Radio(label=t("imports.voice"), visible=False, elem_id="imports-voice")
    rows = gr.CheckboxGroup(label=t("imports.rows"), visible=False, elem_id="imports-rows")
    text = gr.Textbox(
        label=t("imports.text"), visible=False, interactive=False, lines=4, max_lines=12,
        elem_id="imports-text",
    )  # fmt: skip
    add = gr.Button(t("imports.add"), variant="primary", visible=False, elem_id="imports-add")
    parts = ImportParts(
        file, dataset, look, saved_token, prompt_column, completion_column, voice, rows, text, add,
        message,
    )  # fmt: skip
    _wire_looking(shared, parts)
    _wire_choosing(shared, parts)
    _wire_adding(shared, parts)
    return parts


def _wire_looking(shared: Shared, parts: ImportParts) -> None:
    """Show what a dropped file or a named dataset offers."""

    def look_at_file(asker: Asker, dropped: dict[str, Any] | None) -> Outputs:
        found, said = None, ""
        if dropped:
            try:
                found = preview_apart(dropped["path"], asker.page)
            except DittoError as error:
                said = failure(error, asker.locale)
            finally:
                forget(dropped["path"])
        return {parts.file: None, **_shown(parts, found, said, shared.profile, asker.locale)}

    on(
        shared,
        parts.file.upload,
        look_at_file,
        [parts.file],
        [parts.file, *parts.shown],
        kind="upload",
        preprocess=False,  # which would leave an empty file behind; the path is checked without it
        show_progress="full",
        show_progress_on=parts.file,
    )

    def look_at_dataset(asker: Asker, dataset: str, saved: bool) -> Outputs:
        found, said = None, notice(say("imports.dataset_empty", asker.locale))
        local = saved and shared.profile.name == "own" and not shared.sign_in
        if (dataset or "").strip():
            try:
                whose = MACHINE if local else asker.hub_token
                found = preview_dataset(dataset, whose, asker.page)
            except DittoError as error:
                said = failure(error, asker.locale)
        return _shown(parts, found, said, shared.profile, asker.locale)

    on(
        shared,
        [parts.look.click, parts.dataset.submit],
        look_at_dataset,
        [parts.dataset, parts.saved_token],
        parts.shown,
        kind="hub",
        trigger_mode="once",
        show_progress="full",
        show_progress_on=parts.dataset,
    )


def _wire_choosing(shared: Shared, parts: ImportParts) -> None:
    """Lay the rows out anew for other columns or another voice; show one in full."""

    def choose(
        asker: Asker, found: Preview | None, prompt: str, completion: str, voice: str
    ) -> Outputs:
        rows = _rows(
            parts, chosen_rows(found, prompt, completion, voice, shared.profile), asker.locale
        )
        if found is None:
            return {parts.message: "", **rows}
        read = _by_columns(found, prompt, completion)
        return {parts.message: _about(read, shared.profile, asker.locale), **rows}

    on(
        shared,
        [parts.prompt_column.input, parts.completion_column.input, parts.voice.input],
        choose,
        parts.choice,
        [parts.message, *parts.picking],
        trigger_mode="always_last",  # the second column may be chosen before the first is read
    )

    def show_in_full(
        found: Preview | None, prompt: str, completion: str, voice: str, event: gr.SelectData
    ) -> str:
        rows = chosen_rows(found, prompt, completion, voice, shared.profile)
        row = next((row for row in rows if row.number == event.value), None)
        return f"{row.prompt_text}\n\n---\n\n{row.completion}" if row else ""

    parts.rows.select(
        show_in_full,
        parts.choice,
        parts.text,
        queue=False,
        show_progress="hidden",
        api_visibility="private",
    )


def _wire_adding(shared: Shared, parts: ImportParts) -> None:
    """Put the ticked rows onto cards."""
    picked = gr.JSON(visible=False)

    def add(
        asker: Asker, found: Preview | None, prompt: str, completion: str, voice: str,
        ticked: list[int], sent: Any,
    ) -> Outputs:  # fmt: skip
        rows = chosen_rows(found, prompt, completion, voice, shared.profile)
        wanted = [row for row in rows if row.number in (ticked or [])]
        cards, said = added(wanted, sent, shared.profile.max_demos, asker.locale)
        none = {parts.rows: gr.update(value=[])} if cards else {}
        return {picked: cards, parts.message: said, **none}

    on(
        shared,
        parts.add.click,
        add,
        [*parts.choice, parts.rows, shared.cards],
        [picked, parts.message, parts.rows],
        trigger_mode="once",
    ).success(None, picked, None, js="(picked) => { if (picked.length) dittoCards.add(picked) }")


def added(
    wanted: Sequence[PreviewRow], sent: Any, most: int, locale: str
) -> tuple[list[Card], str]:
    """Return the cards to add, none where that may not be, and what to say of it.

    Args:
        wanted: the rows that are ticked.
        sent: the cards on the page.
        most: demonstrations a run takes.
    """
    count = len(wanted) + sum(not is_empty(card) for card in read_cards(sent))
    if not wanted:
        return [], notice(say("imports.none_ticked", locale))
    if count > most:
        return [], notice(say("imports.too_many", locale, count=count, most=most))
    about = say("imports.added", locale, count=len(wanted))
    if turns := sum(len(row.prompt) > 1 for row in wanted):
        about += " " + say("imports.flattened", locale, count=turns)
    cards = [card_of(row) for row in wanted]
    if bare := sum(map(lacks_prompt, cards)):
        about += " " + say("imports.no_prompts", locale, count=bare)
    return cards, notice(about, "good")


def card_of(row: PreviewRow) -> Card:
    """Return a row as a card; what it was preferred to comes along."""
    return new_card(row.prompt_text, row.completion, "file", row.original, row.prompt_by)


def chosen_rows(
    found: Preview | None, prompt: str, completion: str, voice: str, profile: Profile
) -> list[PreviewRow]:
    """Return the rows that a choice of columns and voice leaves, without what is too long."""
    if found is None:
        return []
    found = _by_columns(found, prompt, completion)
    rows = found.of_voice(voice or next(iter(found.voices), ""))
    return [row for row in rows if _longest(row) <= profile.max_text_chars]


def _by_columns(found: Preview, prompt: str, completion: str) -> Preview:
    """Return what was found as two columns read it, once they are chosen."""
    if completion and completion in found.columns:
        return found.from_columns(prompt or "", completion)
    return found


def forget(path: str | Path) -> None:
    """Delete an uploaded file; a path from anywhere else is left alone."""
    folder = Path(get_upload_folder()).resolve()
    file = Path(path).resolve()
    if folder in file.parents:
        with contextlib.suppress(OSError):
            file.unlink(missing_ok=True)
            file.parent.rmdir()


def _longest(row: PreviewRow) -> int:
    return max(len(row.prompt_text), len(row.completion), len(row.original or ""))


def _shown(
    parts: ImportParts, found: Preview | None, message: str, profile: Profile, locale: str
) -> Outputs:
    """Return what shows what was found, or why nothing was."""
    if found is None:
        choosing = (parts.prompt_column, parts.completion_column, parts.voice)
        hidden = {box: gr.update(visible=False) for box in choosing}
        return {parts.found: None, parts.message: message, **hidden, **_rows(parts, [], locale)}
    by_columns = not found.rows
    rows = chosen_rows(found, "", "", "", profile)
    names = list(found.columns)
    prompts = [(say("imports.no_column", locale), ""), *((name, name) for name in names)]
    voices = [(_voice(voice, locale), voice) for voice in found.voices]
    first = voices[0][1] if voices else None
    return {
        parts.found: found,
        parts.message: _about(found, profile, locale),
        parts.prompt_column: gr.update(choices=prompts, value="", visible=by_columns),
        parts.completion_column: gr.update(choices=names, value=None, visible=by_columns),
        parts.voice: gr.update(choices=voices, value=first, visible=bool(voices)),
        **_rows(parts, rows, locale),
    }


def _about(found: Preview, profile: Profile, locale: str) -> str:
    """Say what was found, and what a person should know about it."""
    shown = len(found.rows)
    if not shown:
        said = [say("imports.choose_columns", locale, name=found.name)]
    elif shown < found.total:
        said = [say("imports.shown", locale, name=found.name, count=found.total, shown=shown)]
    else:
        said = [say("imports.found", locale, name=found.name, count=found.total)]
    said += [told(sentence, locale) for sentence in found.notices]
    most = profile.max_text_chars
    if too_long := sum(_longest(row) > most for row in found.rows):
        said.append(say("imports.too_long", locale, count=too_long, most=most))
    kind = "warning" if found.unusable else "good"
    return notice(" ".join(said), kind if shown else "plain")


def _rows(parts: ImportParts, rows: Sequence[PreviewRow], locale: str) -> Outputs:
    """Return what shows rows to pick from."""
    ticked = [row.number for row in rows] if len(rows) <= TICKED_FIRST else []
    choices = [(_label(row, locale), row.number) for row in rows]
    return {
        parts.rows: gr.update(choices=choices, value=ticked, visible=bool(rows)),
        parts.text: gr.update(value="", visible=bool(rows)),
        parts.add: gr.update(visible=bool(rows)),
    }


def _label(row: PreviewRow, locale: str) -> str:
    doubts = " ".join(f"⚠ {told(warning, locale)}" for warning in row.warnings)
    text = f"{row.number}. {_snippet(row.prompt[-1]['content'])} → {_snippet(row.completion)}"
    return f"{text} {doubts}".strip()


def _snippet(text: str) -> str:
    plain = " ".join(text[: SNIPPET * 4].split())
    return plain if len(plain) <= SNIPPET else f"{plain[:SNIPPET]}…"


def _voice(voice: str, locale: str) -> str:
    if voice in ("user", "assistant"):
        return say(f"imports.voice_{voice}", locale)
    return voice or say("imports.voice_unknown", locale)
