"""The app's words in the visitor's language: English, Chinese of Taiwan, Chinese of the mainland.

English stands where it is used: each module of the app has a dict `WORDS` of key -> English text,
and what the rest of the package says (errors, findings, advice) is English prose. The translations
stand in `locales/<language>.toml`: `[words]` by key, `[sentences]` by the English sentence with its
values left open, as `There is no file {0}.`, which is how a sentence with values in it is found.

`t` is for text that stands in the page from the start: the browser translates it. It works in
labels, placeholders, infos, choices, Markdown, HTML, and the captions of buttons, tabs, steps and
accordions; not in a Dataframe's headers nor in a plot's axes (tried on Gradio 6.31): these take
`say`, as does everything that is told while the app runs.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.i18n import I18nData

from ditto_hub.errors import DittoError, LeaseError, describe
from ditto_hub.lease_words import WORDS as LEASE_WORDS
from ditto_hub.lease_words import Around, lease_line
from ditto_hub.profiles import PROFILE_NAMES, load_profile

ENGLISH = "en"
LOCALES = (ENGLISH, "zh-TW", "zh-CN")
TRADITIONAL = ("zh-hant", "zh-tw", "zh-hk", "zh-mo")
LONGEST = 2000  # characters of what is looked up
VALUE = re.compile(r"\{(\d+)\}")
TELLING = 12  # characters from which a sentence is known by them, whatever its values are
SHORT_VALUE = re.compile(r"\S+|of type \S+|'[^']*'|.+\.\w{2,7}")
SENTENCE_END = re.compile(r"(?<=[.!?]) (?=\S)")
FOLDER = Path(__file__).parent / "locales"


def t(key: str) -> I18nData:
    """Return a mark that the browser replaces by the text of `key` in its language."""
    return I18nData(key)


def say(key: str, locale: str, **values: Any) -> str:
    """Return the text of `key` in a language, with values put in; the caller escapes for HTML.

    Raises:
        KeyError: no module has such a key, or a value that the text asks for is missing.
    """
    told = words()[key]
    return told.get(locale, told[ENGLISH]).format_map(values)


def tell(sentence: str, locale: str) -> str:
    """Return an English sentence of this package in a language; one that is not known, as it is."""
    return _translated(sentence, locale) or sentence


def tell_error(error: BaseException, locale: str) -> tuple[str, str]:
    """Say what happened and what to do next in a language.

    A message that no translation is known for stays in English behind a summary of its kind.
    """
    if isinstance(error, LeaseError) and error.refusal is not None:
        return lease_line(error.refusal, Around(writing=True)).put(texts(locale)), ""
    what, remedy = describe(error)
    if locale not in LOCALES[1:]:
        return what, remedy
    told = _translated(what, locale)
    if told is None:
        kinds = (kind.__name__ for kind in type(error).__mro__)
        known = catalogue(locale).kinds
        summary = next((known[kind] for kind in kinds if kind in known), known["DittoError"])
        told = f"{summary}{what}" if isinstance(error, DittoError) else what
    return told, tell(remedy, locale)


def texts(locale: str) -> Mapping[str, str]:
    """Return every key's text in a language, English where it has none."""
    return {key: told.get(locale, told[ENGLISH]) for key, told in words().items()}


def locale_of(request: gr.Request | None) -> str:
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


@cache
def words() -> Mapping[str, Mapping[str, str]]:
    """Return every key with its text in each language that has one; English always is there."""
    found = {key: {ENGLISH: text} for key, text in LEASE_WORDS.items()}
    package = __name__.rpartition(".")[0]
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        told = getattr(importlib.import_module(f"{package}.{module.name}"), "WORDS", {})
        clash = [key for key in found.keys() & told.keys() if found[key][ENGLISH] != told[key]]
        assert not clash, f"{module.name} gives another module's words anew: {clash}"
        found |= {key: {ENGLISH: text} for key, text in told.items()}
    for locale in LOCALES[1:]:
        for key, text in catalogue(locale).words.items():
            if key in found:
                found[key][locale] = text
    return found


def i18n() -> gr.I18n:
    """Return what `launch(i18n=...)` takes; text that lacks a translation stays in English.

    What the profiles say of their base models is its own key: `t(offer.words)`.
    """
    offers = {b.words for name in PROFILE_NAMES for b in load_profile(name).base_models}
    return gr.I18n(
        **{
            locale: {**texts(locale), **{words: tell(words, locale) for words in offers}}
            for locale in LOCALES
        }
    )


@dataclass(frozen=True)
class Sentence:
    """Know one sentence by what stands around its values, and its translation with `{0}` ..."""

    parts: tuple[str, ...]
    translation: str

    @property
    def literals(self) -> int:
        """How many characters it is known by."""
        return sum(map(len, self.parts))

    def values(self, said: str) -> list[str] | None:
        """Return the values in a sentence that is this one, each as short as can be, or None."""
        first, last = self.parts[0], self.parts[-1]
        if len(self.parts) == 1:
            return [] if said == first else None
        at, end = len(first), len(said) - len(last)
        if at > end or not said.startswith(first) or not said.endswith(last):
            return None
        found = []
        for part in self.parts[1:-1]:
            place = said.find(part, at, end)
            if place < 0:
                return None
            found.append(said[at:place])
            at = place + len(part)
        return [*found, said[at:end]]


@dataclass(frozen=True)
class Catalogue:
    """Hold one language: texts by key, summaries by kind of error, sentences."""

    words: Mapping[str, str]
    kinds: Mapping[str, str]
    sentences: tuple[Sentence, ...]


@cache
def catalogue(locale: str) -> Catalogue:
    """Read a language's file."""
    data = tomllib.loads((FOLDER / f"{locale}.toml").read_text("utf-8"))
    sentences = (_sentence(english, told) for english, told in data["sentences"].items())
    by_length = sorted(sentences, key=lambda sentence: -sentence.literals)
    return Catalogue(data["words"], data["kinds"], tuple(by_length))


def _sentence(english: str, translation: str) -> Sentence:
    return Sentence(tuple(VALUE.split(english)[::2]), translation)


def _translated(said: str, locale: str) -> str | None:
    """Find known sentences one after the other, or the one with the most words in common."""
    if locale not in LOCALES[1:] or len(said) > LONGEST:
        return None
    several = SENTENCE_END.split(said)
    each = [_translated(one, locale) for one in several] if len(several) > 1 else [None]
    if None not in each:
        return "".join(filter(None, each))
    for known in catalogue(locale).sentences:
        values = known.values(said)
        told = None if values is None else _filled(known, values, locale)
        if told is not None:
            return told
    return None


def _filled(known: Sentence, values: Sequence[str], locale: str) -> str | None:
    """Put values in, which may be known sentences too; None where these words prove nothing."""
    told = [_translated(value, locale) for value in values]
    if known.literals < TELLING and not all(
        new or SHORT_VALUE.fullmatch(value) for new, value in zip(told, values, strict=True)
    ):
        return None
    filled = [new or value for new, value in zip(told, values, strict=True)]
    return VALUE.sub(lambda place: filled[int(place[1])], known.translation)
