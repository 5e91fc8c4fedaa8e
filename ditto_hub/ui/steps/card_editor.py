"""The cards on the page: a component whose value, the cards, only the browser ever writes.

What the server has for it goes through `window.dittoCards`, in events that run in the browser
(`js=`) and find the cards as they are by then. `card_editor.js` is the whole of it.
"""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from ditto_hub.cost.profiles import Profile
from ditto_hub.ui.html.cards import example_sets
from ditto_hub.words import LANGUAGES, texts

SCRIPT = Path(__file__).parents[1] / "card_editor.js"
TEMPLATE = """<button type="button" class="d-small" id="show-undo" hidden></button>
<p class="d-notice" id="show-message" role="status" hidden></p>
<div class="d-cards"></div>"""
LABELS = (
    "show.undo", "show.card", "show.prompt", "show.prompt_about", "show.completion",
    "show.completion_about", "show.draft", "show.remove", "show.most", "show.draft_needs",
    "show.draft_full", "show.drafting", "show.by_model", "show.by_text",
    "show.up", "show.down", "show.copy", "show.found", "show.fold",
)  # fmt: skip


def card_editor(profile: Profile) -> gr.HTML:
    """Return the component, to be put on the page with `render`."""
    return gr.HTML(
        value=[],
        html_template=TEMPLATE,
        js_on_load=SCRIPT.read_text("utf-8"),
        apply_default_css=False,
        elem_id="show-cards",
        render=False,
        labels={locale: labels(locale) for locale in LANGUAGES},
        examples=example_sets(),
        most=profile.max_demos,
        longest=profile.max_text_chars,
    )


def labels(locale: str) -> dict[str, str]:
    """Return what the cards say by themselves, by the names that the script has for it."""
    said = texts(locale)
    return {key.removeprefix("show."): said[key] for key in LABELS}
