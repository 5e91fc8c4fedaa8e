"""Guess a text's language from its script and its commonest short words; no model, no network."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

# The commonest short words, enough to tell these languages apart in a few sentences.
COMMON = {
    "English": "the and to of is that for you with we this are be have on it not",
    "German": "der die und das ist nicht ich wir mit zu den ein für auf es sie dass",
    "French": "le la les et est des une pour que nous vous dans pas du qui sur je",
    "Spanish": "el los y es una para que con por las del se no nos está más su",
    "Italian": "il di che è una per con non sono della gli nel ci si anche più lo",
    "Portuguese": "o os e é uma para que com não por da do em você mais se nos",
    "Dutch": "de het een en van is dat niet wij je met voor op zijn ik aan te",
}


def language_of(text: str) -> str | None:
    """Name the language or, outside the Latin script, the script; None where unsure."""
    script, count, letters = _commonest(text)
    if script == "JAPANESE":
        return "Japanese"
    if count < 8 or count < letters / 2:
        return None
    if script != "LATIN":
        return script.capitalize()
    words = Counter(word.lower() for word in re.findall(r"[^\W\d_]+", text[:4000]))
    scores = Counter({name: sum(words[w] for w in kept.split()) for name, kept in COMMON.items()})
    (best, hits), (_, next_hits) = scores.most_common(2)
    return best if hits >= 4 and hits >= 1.5 * next_hits else None


def script_of(text: str) -> str:
    """Name the script that most letters of a text are of, as Unicode does; "" without letters."""
    return _commonest(text)[0]


def _commonest(text: str) -> tuple[str, int, int]:
    """Return the commonest script, how many letters are of it, and how many there are."""
    letters = [letter for letter in text[:4000] if letter.isalpha()]
    scripts: Counter[str] = Counter()
    for letter, count in Counter(letters).items():
        scripts[unicodedata.name(letter, "?").split()[0]] += count
    if "HIRAGANA" in scripts or "KATAKANA" in scripts:
        return "JAPANESE", len(letters), len(letters)
    script, count = max(scripts.items(), key=lambda item: item[1], default=("", 0))
    return script, count, len(letters)
