"""How far texts are from a voice, from a few examples of it: plain counts, no network, no fit.

Two things are measured, both against what the demonstrations show among themselves: habits (pieces
of text that stand in several demonstrations, whatever their topic) and layout (lengths, casing,
punctuation, lines, emoji). It ranks candidates where too few demonstrations are held out; the
judge for reporting is evaluate's and never this one.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

HABIT_LENGTHS = (3, 5, 8)


def habits(text: str) -> set[str]:
    """Return the text's pieces of three, five and eight characters, edges marked."""
    marked = f"\n{text.strip()}\n"
    return {marked[i : i + n] for n in HABIT_LENGTHS for i in range(len(marked) - n + 1)}


def layout(text: str) -> dict[str, float]:
    """Return rates that say how a text looks, each about 0 to 1."""
    n = max(1, len(text))
    letters = [c for c in text if c.isalpha()]
    words = re.findall(r"\w+", text)
    lines = [line for line in text.splitlines() if line.strip()]
    counts = Counter(unicodedata.category(c)[0] for c in text)
    return {
        "length": min(1.0, n / 2000),
        "upper": sum(c.isupper() for c in letters) / max(1, len(letters)),
        "capital_lines": sum(line.lstrip()[:1].isupper() for line in lines) / max(1, len(lines)),
        "shouted": sum(len(w) > 1 and w.isupper() for w in words) / max(1, len(words)),
        "word_length": min(1.0, sum(map(len, words)) / max(1, len(words)) / 12),
        "line_length": min(1.0, n / max(1, len(lines)) / 200),
        "blank_lines": min(1.0, text.count("\n\n") / 8),
        "punctuation": min(1.0, 5 * counts["P"] / n),
        "symbols": min(1.0, 20 * counts["S"] / n),
        "digits": min(1.0, 10 * counts["N"] / n),
        "exclaims": min(1.0, 20 * text.count("!") / n),
        "asks": min(1.0, 20 * text.count("?") / n),
        "bullets": sum(line.lstrip()[:1] in "-*•" for line in lines) / max(1, len(lines)),
    }


def style_distance(samples: Sequence[str], demos: Sequence[str]) -> float:
    """Return how far samples are from the demonstrations' voice; 0 is as close as they themselves.

    Args:
        samples: texts of one candidate.
        demos: at least two texts of the voice.

    Returns:
        The mean of the habits missed (0 to 1) and the layout's mean gap, in units of about 0 to 1.
    """
    if not samples:
        return 1.0
    shared = Counter(piece for demo in demos for piece in habits(demo))
    weight = {piece: n - 1 for piece, n in shared.items() if n > 1}
    mine = sum(_kept(habits(text), weight) for text in samples) / len(samples)
    own = sum(_kept(habits(text), _without(weight, text)) for text in demos) / len(demos)
    missed = max(0.0, own - mine) / own if own else 0.0
    return 0.5 * (missed + _layout_gap(samples, demos))


def _without(weight: dict[str, int], text: str) -> dict[str, int]:
    """Return the weights as the other demonstrations alone would give them."""
    own = habits(text)
    less = {piece: n - (piece in own) for piece, n in weight.items()}
    return {piece: n for piece, n in less.items() if n > 0}


def _kept(pieces: set[str], weight: dict[str, int]) -> float:
    total = sum(weight.values())
    return sum(n for piece, n in weight.items() if piece in pieces) / total if total else 0.0


def _layout_gap(samples: Sequence[str], demos: Sequence[str]) -> float:
    theirs = [layout(text) for text in demos]
    ours = [layout(text) for text in samples]
    gaps = []
    for name in theirs[0]:
        a = sum(row[name] for row in theirs) / len(theirs)
        b = sum(row[name] for row in ours) / len(ours)
        spread = math.sqrt(sum((row[name] - a) ** 2 for row in theirs) / len(theirs))
        gaps.append(min(1.0, abs(a - b) / (2 * spread + 0.1)))
    return sum(gaps) / len(gaps)


def distinct(texts: Sequence[str], n: int = 2) -> float:
    """Return the share of different n-grams of words (or characters, without spaces) among all.

    Each text is counted alone, so more texts do not lower it.
    """
    shares = []
    for text in texts:
        words = re.findall(r"\S+", text)
        units = words if len(words) > len(text) / 15 else list(text)
        grams = [tuple(units[i : i + n]) for i in range(len(units) - n + 1)]
        shares.append(len(set(grams)) / len(grams) if grams else 1.0)
    return sum(shares) / len(shares) if shares else 0.0
