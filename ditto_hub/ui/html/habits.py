"""What a text has in common with a set of examples, by its form alone: pure.

Four habits that can be seen without reading for sense: how it greets, how it signs off, phrases
that come back, and marks of punctuation within a line.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

GREETING = re.compile(r"\s*([^\n,]{1,40}),(?=[^\S\n]+\S)")  # goes on in the same line
WORD = re.compile(r"\w+(?:['’]\w+)*")
MARKS = ":;!?…—"  # of those that a plain text can do without
PAUSE = re.compile(r"[.!?:;,\n]")
LONGEST_GREETING = 3  # words
COMMON = frozenset({
    "a", "an", "and", "are", "as", "at", "be", "but", "by", "for", "from", "has", "have", "i", "in",
    "is", "it", "its", "it's", "not", "of", "on", "or", "that", "the", "to", "was", "we", "with",
    "you", "your",
})  # fmt: skip


@dataclass(frozen=True)
class Span:
    """Mark a part of a text: from `start` to `end`, and of which habit it is."""

    start: int
    end: int
    kind: str


@dataclass(frozen=True)
class Habits:
    """Hold what at least half of some examples do.

    Args:
        greets: they begin with a name and a comma, and go on in the same line.
        sign_off: their last line, "" where it differs.
        phrases: pairs of words, lower case, that come back.
        marks: of punctuation, within a line.
    """

    greets: bool
    sign_off: str
    phrases: frozenset[str]
    marks: str


def habits_of(examples: Sequence[str]) -> Habits:
    """Return what at least half of the examples have in common."""
    half = max(1.0, len(examples) / 2)
    last = Counter(_last_line(text)[0] for text in examples)
    phrases = Counter(p for text in examples for p in {phrase for phrase, _ in _phrases(text)})
    return Habits(
        greets=sum(_greeting(text) is not None for text in examples) >= half,
        sign_off=next((line for line, n in last.most_common(1) if n >= half), ""),
        phrases=frozenset(phrase for phrase, n in phrases.items() if n >= half),
        marks="".join(m for m in MARKS if sum(bool(_within(t, m)) for t in examples) >= half),
    )


def shared(text: str, habits: Habits) -> list[Span]:
    """Return the parts of a text that are as the examples have them, in order and apart."""
    found: list[Span] = []
    greeting = _greeting(text)
    if habits.greets and greeting is not None:
        found.append(greeting)
    found += [span for phrase, span in _phrases(text) if phrase in habits.phrases]
    for mark in habits.marks:
        found += _within(text, mark)
    line, start = _last_line(text)
    if line and line == habits.sign_off:
        found.append(Span(start, start + len(line), "sign_off"))
    return list(_apart(found))


def _greeting(text: str) -> Span | None:
    match = GREETING.match(text)
    if match is None or len(match[1].split()) > LONGEST_GREETING:
        return None
    return Span(match.start(1), match.end(), "greeting")


def _last_line(text: str) -> tuple[str, int]:
    whole = text.rstrip()
    start = whole.rfind("\n") + 1
    return whole[start:], start


def _phrases(text: str) -> Iterable[tuple[str, Span]]:
    """Yield pairs of neighbouring words of which both say something."""
    for one, other in pairwise(WORD.finditer(text)):
        words = one[0].lower(), other[0].lower()
        if not PAUSE.search(text, one.end(), other.start()) and not COMMON & set(words):
            yield " ".join(words), Span(one.start(), other.end(), "phrase")


def _within(text: str, mark: str) -> list[Span]:
    """Return where a mark follows a word and its line goes on after it."""
    found = re.finditer(rf"\w({re.escape(mark)})(?=[^\S\n]+\S)", text)
    return [Span(match.start(1), match.end(1), "mark") for match in found]


def _apart(spans: list[Span]) -> Iterable[Span]:
    """Yield spans in order, leaving out what begins inside an earlier one."""
    end = 0
    for span in sorted(spans, key=lambda span: (span.start, -span.end)):
        if span.start >= end:
            end = span.end
            yield span
