"""What the package says, by code: one catalogue a language, English one of them.

`words/<language>/<wing>.toml` holds each text under its code, with its values open as
`{name}`: `say("runs.busy.what", "zh-TW", run_id="abc")`. A `Message` is a code with its values, to
be said later in a language that is not known yet; it goes through pickle and JSON. What has no code
(another program's words, the words of an older run folder) is a plain string, the same in every
language. Nothing here or elsewhere compares sentences.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from numbers import Integral, Real
from pathlib import Path
from typing import Any

ENGLISH = "en"
LANGUAGES = (ENGLISH, "zh-TW", "zh-CN")
FOLDER = Path(__file__).parent
DEEPEST = 20  # messages in one another


@dataclass(frozen=True)
class Message:
    """Hold what is to be said: a code of the catalogues and the values in its text.

    Args:
        code: such as `runs.busy.what`.
        values: by the names in the text; JSON's plain types, and messages. Anything else is kept
            as its text; an exception made with a message, as that.
    """

    code: str
    values: Mapping[str, Any]

    def __init__(self, code: str, /, **values: Any) -> None:
        object.__setattr__(self, "code", code)
        object.__setattr__(self, "values", {name: plain(v) for name, v in values.items()})

    def __hash__(self) -> int:
        return hash((self.code, *self.values))

    def __str__(self) -> str:
        return self.say()

    def say(self, language: str = ENGLISH) -> str:
        """Return the text in a language; an unknown code, as in another version's run, is shown."""
        try:
            return say(self.code, language, **self.values)
        except (KeyError, ValueError, TypeError):
            return " ".join([self.code, *(f"{k}={v}" for k, v in self.values.items())])

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types; `text_from_json` reads them."""
        return {"code": self.code, "values": {k: text_to_json(v) for k, v in self.values.items()}}


Text = str | Message


class Bare(str):
    """Hold what a thing that is no text says of itself, never put in quotation marks."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def say(code: str, language: str = ENGLISH, /, **values: Any) -> str:
    """Return the text of a code in a language, English where that has none.

    Args:
        code: such as `app.title`.
        language: one of LANGUAGES; any other is answered in English.
        values: by the names in the text; a message among them is said in the same language.

    Raises:
        KeyError: there is no such code, or a value that the text asks for is missing.
    """
    return texts(language)[code].format_map({k: told(v, language) for k, v in values.items()})


def told(text: Text, language: str = ENGLISH) -> str:
    """Return a message in a language; a plain string as it is."""
    return text.say(language) if isinstance(text, Message) else text


def for_page(text: Text) -> Text:
    """Return what a page says in place of a remedy that names a command or its options."""
    if isinstance(text, Message) and text.code.endswith(".remedy"):
        code = f"{text.code.removesuffix('remedy')}page"
        return Message(code, **text.values) if known(code) else text
    return text


def chained(code: str, several: Iterable[Text]) -> Text:
    """Return texts as one, put together by a code's text of {one} and {other}.

    Args:
        code: such as `words.list`, `words.and`, `words.or`.
        several: at least one.
    """
    texts = list(several)
    if len(texts) == 1:
        return texts[0]
    half = len(texts) // 2  # of a hundred texts none is then nested a hundred times
    return Message(code, one=chained(code, texts[:half]), other=chained(code, texts[half:]))


def known(code: str) -> bool:
    """Return whether the catalogues have a code."""
    return code in texts(ENGLISH)


@cache
def texts(language: str = ENGLISH) -> Mapping[str, str]:
    """Return code -> text of a language; where it has none, the English one."""
    return catalogue(ENGLISH) | (catalogue(language) if language in LANGUAGES[1:] else {})


@cache
def catalogue(language: str) -> dict[str, str]:
    """Read a language's files; a code that two of them give is an error."""
    found: dict[str, str] = {}
    for path in sorted((FOLDER / language).glob("*.toml")):
        for code, text in _flat(tomllib.loads(path.read_text("utf-8"))):
            if code in found:
                raise ValueError(f"{path.name} gives {code} a second text.")
            found[code] = text
    return found


def plain(value: Any) -> Any:
    """Return a value as a message may hold it."""
    if value is None or isinstance(value, str | int | float | Message):
        return value
    if isinstance(value, Real):  # NumPy's, which neither JSON nor every format takes
        return int(value) if isinstance(value, Integral) else float(value)
    if isinstance(value, Exception) and value.args and isinstance(value.args[0], Message):
        return value.args[0]
    return Bare(value)


def text_from_json(data: Any, depth: int = DEEPEST) -> Text:
    """Build a text from `Message.to_json`'s form or from a plain string.

    Raises:
        ValueError: messages in messages are nested too deep to be said.
    """
    if not isinstance(data, Mapping):
        return str(data)
    if not depth:
        raise ValueError("it is nested too deep")
    values = {
        name: text_from_json(value, depth - 1) if isinstance(value, Mapping) else value
        for name, value in data.get("values", {}).items()
    }
    return Message(str(data.get("code", "")), **values)


def text_to_json(text: Text) -> Any:
    """Return plain JSON types for a text."""
    return text.to_json() if isinstance(text, Message) else text


def _flat(table: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value
