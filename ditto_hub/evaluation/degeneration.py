"""Signs that a method's texts have gone wrong, whoever wins: too long, repetitive, or copied.

A win by a memorised demonstration is not a win, and a preference loss pushed too far shows in
lengths and repeated phrases first. All measures are pure, and in units that suit every script.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean

from ditto_hub.evaluation.text_units import n_grams, split_units

REPEAT_N = 4
COPY_LIMIT = 0.5
REPEAT_LIMIT = 0.5
LEAST_COPIED = 6  # units; a greeting is nobody's
MEASURES = {
    "length_ratio": "mean length over the demonstrations' mean length, in characters",
    "distinct_1": "different words over all words, all texts together",
    "distinct_2": "different word pairs over all word pairs, all texts together",
    "self_repetition": f"share of {REPEAT_N}-word runs that stood earlier in the same text",
    "longest_copied_run": "longest run of words also found in a demonstration",
    "copied_share": "that run as a share of its text, mean over texts",
    "copies": f"share of texts in which such a run is more than {COPY_LIMIT:.0%} of the text",
    "empty": "share of empty texts",
}


def measure(texts: Sequence[str], demonstrations: Sequence[str]) -> dict[str, float]:
    """Measure one method's texts.

    Args:
        texts: its answers, at least one.
        demonstrations: completions that trained it or stood in its prompt.

    Returns:
        Every name of `MEASURES` with its value.
    """
    split = [split_units(text) for text in texts]
    copied = [longest_copied_run(text, demonstrations) for text in texts]
    shares = [run / max(len(units), 1) for run, units in zip(copied, split, strict=True)]
    return {
        "length_ratio": length_ratio(texts, demonstrations),
        "distinct_1": distinct(split, 1),
        "distinct_2": distinct(split, 2),
        "self_repetition": fmean(self_repetition(units) for units in split),
        "longest_copied_run": float(max(copied)),
        "copied_share": fmean(shares),
        "copies": fmean(share > COPY_LIMIT for share in shares),
        "empty": fmean(not text.strip() for text in texts),
    }


def spoiled(texts: Iterable[str], demonstrations: Sequence[str]) -> dict[str, int]:
    """Count the texts that have gone wrong, each under the first that is true of it.

    Returns:
        Of texts with characters that no encoding has, of empty ones, of those that go round in
        circles, and of those more than half of which a demonstration holds word for word.
    """
    found = dict.fromkeys(("gibberish", "empty", "repeating", "copied"), 0)
    for text in texts:
        if kind := _spoiled(text, demonstrations):
            found[kind] += 1
    return found


def _spoiled(text: str, demonstrations: Sequence[str]) -> str:
    units = split_units(text)
    if "\ufffd" in text:
        return "gibberish"
    if not text.strip():
        return "empty"
    if self_repetition(units) > REPEAT_LIMIT:
        return "repeating"
    copied = longest_copied_run(text, demonstrations) > COPY_LIMIT * max(len(units), 1)
    return "copied" if copied and len(units) >= LEAST_COPIED else ""


def length_ratio(texts: Sequence[str], demonstrations: Sequence[str]) -> float:
    """Return the mean length in characters over the demonstrations'; 1 where they have none."""
    own = fmean(len(d) for d in demonstrations) if demonstrations else 0.0
    return fmean(len(t) for t in texts) / own if own else 1.0


def distinct(split: Sequence[Sequence[str]], n: int) -> float:
    """Return distinct-n: different n-grams over all n-grams, counted over all texts together.

    Returns:
        From 0 to 1; 1 where the texts are too short to hold an n-gram.

    Source: Li et al. 2016, arXiv 1510.03055, section 5.
    """
    grams = [gram for units in split for gram in n_grams(_folded(units), n)]
    return len(set(grams)) / len(grams) if grams else 1.0


def self_repetition(units: Sequence[str]) -> float:
    """Return the share of a text's 4-grams that stood in it before; 0 for short texts."""
    grams = n_grams(_folded(units), REPEAT_N)
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def longest_copied_run(text: str, demonstrations: Sequence[str]) -> int:
    """Return the length in units of the longest run that a demonstration holds as well."""
    units = split_units(text)
    others = [split_units(d) for d in demonstrations]
    low, high = 0, len(units)
    while low < high:  # a run of n implies one of n - 1, so the length can be bisected
        middle = (low + high + 1) // 2
        mine = set(n_grams(units, middle))
        if any(not mine.isdisjoint(n_grams(other, middle)) for other in others):
            low = middle
        else:
            high = middle - 1
    return low


def _folded(units: Sequence[str]) -> list[str]:
    return [unit.casefold() for unit in units]
