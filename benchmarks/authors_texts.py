"""Authors of a corpus: which texts are shown to a run and which judge it, all cut to one length."""

from __future__ import annotations

import json
import random
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ditto_hub.demos.demonstrations import DemoSet

CORPORA = ("cmcc", "ccat50")
TUNING = 4  # the first authors of each corpus; the others are for reporting
JUDGED = 4  # texts of an author, at least, that no run is shown; whole topics of them
CUT_WORDS = 80
PIECES = 3  # of each unseen text that the judge of style knows
NEWS = "Write an article that starts with the following: "
NEXT = "Write the next sentences of a news article that starts with the following: "


@dataclass(frozen=True)
class Text:
    """Hold a text with the prompt it answers.

    Args:
        topic: what it is about; texts of one topic are never on both sides of a split.
        whole: all of it, where `completion` is its beginning.
    """

    prompt: str
    completion: str
    topic: str
    whole: str


@dataclass(frozen=True)
class Author:
    """Hold all texts of an author, in the order of the file."""

    corpus: str
    number: int
    texts: tuple[Text, ...]

    @property
    def name(self) -> str:
        """The corpus with the author's number, which is all that rows say."""
        return f"{self.corpus}-{self.number}"

    @property
    def tuning(self) -> bool:
        """Whether settings may be chosen by this author."""
        return self.number < TUNING


@dataclass(frozen=True)
class Split:
    """Say which texts of an author are shown and which judge, for one seed."""

    pool: tuple[Text, ...]
    judged: tuple[Text, ...]

    def shown(self, count: int) -> tuple[Text, ...]:
        """Return the texts that a run is given, of as many topics as there are."""
        return self.pool[:count]

    def demos(self, count: int) -> DemoSet:
        """Return them as demonstrations."""
        return DemoSet.from_pairs([(t.prompt, t.completion) for t in self.shown(count)])

    def pieces(self, words: int) -> list[str]:
        """Return pieces of the unseen texts, for the judge of style."""
        return [p for t in self.judged for p in list(cut_all(t.whole, words))[:PIECES]]


def read_authors(folder: Path, corpus: str, words: int = CUT_WORDS) -> list[Author]:
    """Read a corpus: a line a text with author, prompt and completion.

    Args:
        folder: holds CORPUS.jsonl.
        words: of a text that are kept, up to the end of a sentence.

    Raises:
        SystemExit: the file is missing, or a line of it lacks a field.
    """
    path = folder / f"{corpus}.jsonl"
    found: dict[str, list[Text]] = {}
    try:
        for line in path.read_text(encoding="utf-8").split("\n"):
            if line:
                row = json.loads(line)
                text = _text(str(row["prompt"]), str(row["completion"]), words)
                found.setdefault(str(row["author"]), []).append(text)
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.exit(f"{path} is not in the benchmark's layout: {type(error).__name__}: {error}.")
    if not found:
        sys.exit(f"{path} holds no author.")
    return [Author(corpus, k, tuple(texts)) for k, texts in enumerate(found.values())]


def _text(prompt: str, completion: str, words: int) -> Text:
    """Cut a text; news goes on after the sentence that its prompt quotes, or quoting would pay."""
    if prompt.startswith(NEWS):
        lead = prompt.removeprefix(NEWS)
        completion = completion.strip().removeprefix(lead.strip()).strip()
        return Text(NEXT + lead, cut(completion, words), lead, completion)
    return Text(prompt, cut(completion, words), prompt.partition(": ")[2] or prompt, completion)


def split(author: Author, seed: int) -> Split:
    """Draw which topics judge; the pool goes through the other topics in turn."""
    chance = random.Random(f"{author.name}/{seed}")
    topics: dict[str, list[Text]] = {}
    for text in author.texts:
        topics.setdefault(text.topic, []).append(text)
    names = sorted(topics)
    chance.shuffle(names)
    for texts in topics.values():
        chance.shuffle(texts)
    judged: list[Text] = []
    while names and len(judged) < JUDGED:
        judged += topics[names.pop()]
    most = max((len(topics[n]) for n in names), default=0)
    pool = [topics[n][k] for k in range(most) for n in names if k < len(topics[n])]
    return Split(tuple(pool), tuple(judged))


def cut(text: str, words: int) -> str:
    """Return the beginning of a text: whole sentences of at most so many words, or the words."""
    return next(cut_all(text, words), "")


def cut_all(text: str, words: int) -> Iterator[str]:
    """Yield a text in pieces: whole sentences of at most so many words, never under half of it."""
    piece = ""
    for sentence in _sentences(text):
        if piece and _count(piece + sentence) > words:
            if _count(piece) < words // 2:
                piece = _first_words(piece + sentence, words)
            yield piece.strip()
            piece = sentence
        else:
            piece += sentence
        if _count(piece) > words:
            yield _first_words(piece, words).strip()
            piece = ""
    if piece.strip():
        yield piece.strip()


def _sentences(text: str) -> Sequence[str]:
    return re.findall(r".+?(?:[.!?]+[\"')]*\s+|\n+|$)", text.strip(), flags=re.DOTALL)


def _count(text: str) -> int:
    return len(text.split())


def _first_words(text: str, words: int) -> str:
    ends = [m.end() for m in re.finditer(r"\S+", text)]
    return text[: ends[words - 1]] if len(ends) > words else text
