"""Is a text in the language of the embedded base model? It knows its grammar's words alone."""

from __future__ import annotations

import json
import re
from functools import cache

from ditto_hub import pocket

KNOWN_SHARE = 0.7  # of words: the shipped voices have .74 to .90, plain English .45 to .65
_WORD = re.compile(r"[^\W\d_]+")


def known_share(text: str) -> float:
    """Return the share of a text's words that the embedded model's tokenizer has whole."""
    words = _WORD.findall(text.casefold())
    return sum(word in vocabulary() for word in words) / len(words) if words else 1.0


def speaks(text: str) -> bool:
    """Tell whether a text is plainly not outside the embedded model's language."""
    return known_share(text) >= KNOWN_SHARE


@cache
def vocabulary() -> frozenset[str]:
    """Return the words that are one token of the embedded model, case folded."""
    data = json.loads((pocket.path() / "tokenizer.json").read_text(encoding="utf-8"))
    return frozenset(token.strip("Ġ▁ ").casefold() for token in data["model"]["vocab"])
