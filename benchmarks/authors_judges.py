"""What the texts of a method are judged by, each in [0, 1], and the one index of them.

    style   share of other authors' real texts that a text beats under the author's own judge
    own     1/2 + 5/2 (1 - loss / base loss), clipped; loss a byte of the author's unseen texts
    fit     how a text's margin of similarity to its own prompt compares with real texts'
    index   (style + own + fit) / 3

style: the stylometric judge knows pieces of the author's unseen texts alone. A real text of another
author beats half of them by definition. own: the base model has 1/2; a loss 20 % lower has 1. fit:
authors_fit.py. Rows without `judges` are of the first version, whose fit asked the base model's
likelihood which of the author's prompts a text answers, and was at its ceiling for every method.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from authors_texts import Author, Split, cut

from ditto_hub.evaluation.degeneration import measure
from ditto_hub.evaluation.stylometric import StylometricJudge

VERSION = 2  # of these judges; rows of different ones are not averaged
OWN_SLOPE = 2.5


class Style:
    """Compare texts with other authors' real ones, as the author's own judge sees them.

    Args:
        mine: the author's split; the judge knows the judged texts.
        others: the other authors of the corpus.
        words: that all texts are cut to.
    """

    def __init__(self, mine: Split, others: Sequence[Author], words: int) -> None:
        self._judge = StylometricJudge(mine.pieces(words))
        self._words = words
        real = [text.completion for author in others for text in author.texts]
        self._marks = [self._judge.score([], text) for text in real]

    def score(self, text: str) -> float:
        """Return the share of other authors' texts that a text beats; 0 for an empty one."""
        if not text.strip():
            return 0.0
        mark = self._judge.score([], cut(text, self._words))
        return fmean((mark > other) + (mark == other) / 2 for other in self._marks)


def own_score(loss: float, base_loss: float) -> float:
    """Return how much better than the base model the author's unseen texts are foreseen."""
    return min(1.0, max(0.0, 0.5 + OWN_SLOPE * (1 - loss / base_loss)))


def index(style: float, own: float, fit: float) -> float:
    """Return the one number that methods are compared by."""
    return (style + own + fit) / 3


def signs(texts: Sequence[str], shown: Sequence[str], ended: Sequence[bool]) -> dict[str, float]:
    """Return signs of degeneration and copying, and the share of texts that came to an end."""
    return {**measure(texts, shown), "ended": fmean(ended)}
