"""The visitor's language, and the catalogues' texts for what the browser translates.

`t` is for text that stands in the page from the start. It works in labels, placeholders, infos,
choices, Markdown, HTML, and the captions of buttons, tabs, steps and accordions; not in a
Dataframe's headers nor in a plot's axes (tried on Gradio 6.31): these take `words.say`, as does
everything that is told while the app runs.
"""

from __future__ import annotations

import gradio as gr
from gradio.i18n import I18nData
from starlette.requests import Request

from ditto_hub.words import ENGLISH, LANGUAGES, Message, Text, texts

TRADITIONAL = ("zh-hant", "zh-tw", "zh-hk", "zh-mo")


def t(code: str) -> I18nData:
    """Return a mark that the browser replaces by the text of a code in its language."""
    return I18nData(code)


def marked(text: Text) -> I18nData | str:
    """Return the mark of a message without values; a plain text as it is."""
    return t(text.code) if isinstance(text, Message) else text


def i18n() -> gr.I18n:
    """Return what `launch(i18n=...)` takes: all texts but those of errors, which no page has."""
    return gr.I18n(
        **{
            language: {
                code: text
                for code, text in texts(language).items()
                if not code.endswith((".what", ".remedy", ".page"))
            }
            for language in LANGUAGES
        }
    )


def locale_of(request: gr.Request | Request | None) -> str:
    """Return the language, of those the app speaks, that a visitor's browser asks for first."""
    header = (request.headers.get("accept-language") or "") if request is not None else ""
    wanted: list[tuple[float, str]] = []
    for part in header[:500].split(","):
        tag, _, quality = part.strip().lower().partition(";q=")
        try:
            wanted.append((-float(quality or 1), tag))
        except ValueError:
            continue
    for weight, tag in sorted(wanted, key=lambda entry: entry[0]):
        if weight < 0 and (found := _nearest(tag)):
            return found
    return ENGLISH


def _nearest(tag: str) -> str | None:
    if tag.startswith(TRADITIONAL):
        return "zh-TW"
    language = tag.split("-")[0]
    return {"zh": "zh-CN", "en": ENGLISH}.get(language)
