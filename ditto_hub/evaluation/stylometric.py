"""A judge of style that needs no network and no model: is this text like the demonstrations?

Four views of a text, each compared with the demonstrations' own spread, weighed alike:

    words         the demonstrations' recurring words (their function words, in any language)
    characters    character n-grams, 2 to 4
    punctuation   shapes: signs, spaces, line breaks and capitals, letters blanked out
    layout        lengths of text, sentences and lines; number of lines; variety of words

Counts are compared as distributions, by Bhattacharyya distance. A view's mark is own distance /
distance: 1 where a text is as far from the demonstrations as they are from each other. The nearest
demonstration is left out of every distance, so a text that copies one is marked by the others and
gains nothing by it. The total is the views' geometric mean.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ditto_hub.errors import JudgeError
from ditto_hub.evaluation.judges import Messages, compare_marks
from ditto_hub.evaluation.text_units import kind, split_units

if TYPE_CHECKING:
    import numpy as np

RECURRING_SHARE = 0.4  # a word in this share of the demonstrations, and in two at least
SMALLEST_DISTANCE = 0.002  # of the demonstrations from each other, however alike they are
LEAST_SHARED = 1e-4  # of two distributions, however unlike they are
HASH_FEATURES = 2**18
_SENTENCE_END = re.compile(r"[.!?\u3002\uff01\uff1f\u0964\u061f\u06d4\n]+")
# What a difference of 1 means for each entry of `_layout`: by a factor of e**.3 = 1.35 in length...
_LAYOUT_SCALE = (0.3, 0.3, 0.3, 0.5, 0.1, 0.1)

Analyzer = Callable[[str], Iterable[str]]


class StylometricJudge:
    """Compare a text's style with the demonstrations'.

    Args:
        demonstrations: completions the user wants, at least one with text.

    Raises:
        JudgeError: there is none.
    """

    name = "stylometric"
    asks_once = False
    grammar_hash = ""

    def __init__(self, demonstrations: Sequence[str]) -> None:
        texts = [text for text in demonstrations if text.strip()]
        if not texts:
            raise JudgeError("evaluation.stylometric_without_demonstrations")
        recurring = _recurring(texts)
        self._views: dict[str, View] = {
            "words": CountView(lambda t: _masked_words(t, recurring), texts),
            "characters": CountView(lambda t: _character_grams(t, 2, 4), texts),
            "punctuation": CountView(_shapes, texts),
            "layout": LayoutView(texts),
        }
        self._seen: dict[str, dict[str, float]] = {}

    def marks(self, prompt: Messages, text: str) -> dict[str, float]:
        """Return each view's mark and their mean, "total": 0 is far, 1 like a demonstration.

        0.5 is twice as far from them as they are from each other; over 1 can happen.
        """
        if text not in self._seen:
            marks = {name: view.mark(text) for name, view in self._views.items()}
            self._seen[text] = {"total": math.prod(marks.values()) ** (1 / len(marks)), **marks}
        return self._seen[text]

    def score(self, prompt: Messages, text: str) -> float:
        """Return the total alone."""
        return self.marks(prompt, text)["total"]

    def compare(self, prompt: Messages, a: str, b: str) -> str:
        """Return a, b, or tie."""
        return compare_marks(self.score(prompt, a), self.score(prompt, b))


class View:
    """Look at texts in one way, and mark how far one is from the demonstrations.

    Args:
        texts: the demonstrations.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._demos = self._vectors(texts)  # (N, F)
        rows = self._distances(self._demos)
        others = [[d for j, d in enumerate(row) if j != i] for i, row in enumerate(rows)]
        own = sum(map(_far, others)) / len(others) if len(texts) > 1 else 1.0
        self._own = max(own, SMALLEST_DISTANCE)

    def mark(self, text: str) -> float:
        """Return own distance / distance."""
        distance = _far(self._distances(self._vectors([text]))[0])
        return self._own / max(distance, SMALLEST_DISTANCE)

    def _vectors(self, texts: Sequence[str]) -> Any:
        raise NotImplementedError

    def _distances(self, vectors: Any) -> list[list[float]]:
        """Return (M, N): distance of each vector to each demonstration."""
        raise NotImplementedError


class CountView(View):
    """Compare distributions of features by Bhattacharyya distance: -log of the sum of sqrt(p q)."""

    def __init__(self, analyzer: Analyzer, texts: Sequence[str]) -> None:
        from sklearn.feature_extraction.text import HashingVectorizer

        self._vectorizer = HashingVectorizer(
            analyzer=analyzer, n_features=HASH_FEATURES, alternate_sign=False, norm="l1"
        )
        super().__init__(texts)

    def _vectors(self, texts: Sequence[str]) -> Any:
        return self._vectorizer.transform(list(texts)).sqrt()

    def _distances(self, vectors: Any) -> list[list[float]]:
        import numpy as np

        shared = (vectors @ self._demos.T).toarray()  # (M, N), sum of sqrt(p q), from 0 to 1
        rows: list[list[float]] = (-np.log(np.clip(shared, LEAST_SHARED, 1))).tolist()
        return rows


class LayoutView(View):
    """Compare lengths and layout: mean absolute difference, each entry on its own scale."""

    def _vectors(self, texts: Sequence[str]) -> np.ndarray:
        import numpy as np

        scaled: np.ndarray = np.array([_layout(t) for t in texts]) / np.array(_LAYOUT_SCALE)
        return scaled

    def _distances(self, vectors: np.ndarray) -> list[list[float]]:
        import numpy as np

        differences = np.abs(vectors[:, None] - self._demos[None]).mean(-1)  # (M, N)
        rows: list[list[float]] = np.log1p(differences).tolist()
        return rows


def _far(distances: Sequence[float]) -> float:
    """Return the mean distance to all but the nearest; to the only one where there is one."""
    kept = sorted(distances)[1:] or distances
    return sum(kept) / len(kept)


def _recurring(texts: Sequence[str]) -> frozenset[str]:
    """Find the words that recur over the demonstrations whatever they are about."""
    seen = Counter(word for text in texts for word in set(_words(text)))
    least = min(len(texts), max(2, math.ceil(RECURRING_SHARE * len(texts))))
    return frozenset(word for word, count in seen.items() if count >= least)


def _words(text: str) -> list[str]:
    return [u.casefold() for u in split_units(text) if kind(u[0]) in ("letter", "spaceless")]


def _masked_words(text: str, recurring: frozenset[str]) -> list[str]:
    return [word if word in recurring else "" for word in _words(text)] or [""]


def _character_grams(text: str, low: int, high: int) -> list[str]:
    padded = f" {text} "
    sizes = range(low, high + 1)
    return [padded[i : i + n] for n in sizes for i in range(len(padded) - n + 1)]


def _shapes(text: str) -> list[str]:
    """Blank out letters and digits, keep capitals and signs, and take runs of 1 to 3."""
    blanked = "".join(_shape(character) for character in text)
    squeezed = re.sub(r"a+", "a", blanked)
    return [g for n in (1, 2, 3) for g in _runs(squeezed, n)] or [""]


def _runs(text: str, n: int) -> list[str]:
    return [text[i : i + n] for i in range(len(text) - n + 1)]


def _shape(character: str) -> str:
    if kind(character) in ("space", "sign"):
        return character
    if character.isdigit():
        return "9"
    return "U" if character.isupper() else "a"


def _layout(text: str) -> tuple[float, ...]:
    words = _words(text)
    sentences = [s for s in _SENTENCE_END.split(text) if s.strip()]
    return (
        math.log1p(len(text)),
        math.log1p(len(text) / max(len(sentences), 1)),
        math.log1p(len(sentences)),
        math.log1p(text.count("\n")),
        math.log1p(sum(map(len, words)) / max(len(words), 1)),
        len(set(words)) / max(len(words), 1) ** 0.8,
    )
