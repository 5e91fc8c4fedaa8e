"""Text as units that make sense in every script: words where there are spaces, else characters.

Chinese, Japanese, Thai, Lao, Khmer and Burmese write no spaces between words; there a unit is one
character with its marks. Elsewhere a unit is a run of letters, marks and digits, or one sign.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import lru_cache

_SPACELESS = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x3040, 0x30FF),  # hiragana, katakana
    (0x3400, 0x9FFF),  # Han
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)
_APOSTROPHES = "'\u2019"


@lru_cache(maxsize=8192)
def kind(character: str) -> str:
    """Return space, mark, sign, spaceless or letter (digits count as letters)."""
    if character.isspace():
        return "space"
    category = unicodedata.category(character)[0]
    if category == "M":
        return "mark"
    if category not in "LN":
        return "sign"
    code = ord(character)
    return "spaceless" if any(low <= code <= high for low, high in _SPACELESS) else "letter"


def split_units(text: str) -> list[str]:
    """Split a text into words, single characters of spaceless scripts, and signs.

    An apostrophe between two letters belongs to the word.

    >>> split_units("Don't wait: 会議は")
    ["Don't", 'wait', ':', '会', '議', 'は']
    """
    units: list[str] = []
    before = "space"
    for i, character in enumerate(text):
        now = kind(character)
        inner = character in _APOSTROPHES and before == "letter" and text[i + 1 : i + 2].isalpha()
        if inner or (now == "letter" and before == "letter"):
            units[-1] += character
            now = "letter"
        elif now == "mark" and before != "space":
            units[-1] += character
            now = before
        elif now != "space":
            units.append(character)
        before = now
    return units


def n_grams(units: Sequence[str], n: int) -> list[tuple[str, ...]]:
    """Return the runs of n units, in order."""
    return [tuple(units[i : i + n]) for i in range(len(units) - n + 1)]
