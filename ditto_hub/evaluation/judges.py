"""Judges: which of two texts for a prompt is more like the author's, and how a pair is judged.

    grammar       TraitJudge, here; the ground truth for `pocket`
    person        PersonJudge, here; blind, sides shuffled
    stylometric   StylometricJudge, in stylometric.py; no network, no model
    llm:MODEL     LanguageModelJudge, in language_judge.py

A judge compares; one that can also mark a single text has `marks`. Every pair is judged in both
orders by `judge_pair`, a disagreement being a tie, except by judges that are asked only once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ditto_hub import words
from ditto_hub.demos.demonstrations import Message
from ditto_hub.errors import ConfigError, JudgeError
from ditto_hub.pocket.grammar import grammar_hash
from ditto_hub.pocket.judge import GrammarJudge
from ditto_hub.runs.results import VERDICTS, Answer, EvaluationPrompt, JudgedPair
from ditto_hub.words import Text

Messages = Sequence[Mapping[str, str]]
QUESTIONS = 20  # to a person, at most, as in the paper's study

_MIRRORED = {"a": "b", "b": "a"}


class Judge(Protocol):
    """Say which of two texts is more like the author's.

    Attributes:
        name: as on the command line.
        asks_once: ask in one order only, for a judge whose time is dear and whose sides are
            shuffled.
        grammar_hash: of the grammar where it judges, else empty.
    """

    name: str
    asks_once: bool
    grammar_hash: str

    def compare(self, prompt: Messages, a: str, b: str) -> str:
        """Return a, b, tie, refused or unparsable; a is the text shown first.

        Raises:
            JudgeError: it cannot be reached, or cannot judge such a prompt.
        """


@runtime_checkable
class ScoringJudge(Protocol):
    """A judge that can mark one text by itself."""

    def marks(self, prompt: Messages, text: str) -> dict[str, float]:
        """Return name of a mark -> value; "total" ranks texts and more is better."""


@runtime_checkable
class DearJudge(Protocol):
    """A judge whose answers cost money or somebody's time, and that can say how much beforehand."""

    def plan(self, pairs: Sequence[tuple[Messages, str, str]]) -> Text:
        """Say what judging these pairs will take; asks nothing."""


class JudgeStopped(Exception):
    """A person has had enough; what was judged so far counts."""


def judge_pair(judge: Judge, prompt: EvaluationPrompt, a: Answer, b: Answer) -> JudgedPair:
    """Judge two answers to one prompt in both orders.

    Equal texts are a tie that needs no judge.

    Raises:
        JudgeError: the judge cannot be reached, or cannot judge such a prompt.
    """
    backward: str | None
    if a.text.strip() == b.text.strip():
        forward = backward = "tie"
    else:
        forward = _known(judge.compare(prompt.messages, a.text, b.text))
        backward = None
        if not judge.asks_once:
            turned = _known(judge.compare(prompt.messages, b.text, a.text))
            backward = _MIRRORED.get(turned, turned)
    return JudgedPair(prompt.id, a.method, b.method, a.sample, b.sample, forward, backward)


def compare_marks(a: float, b: float) -> str:
    """Return a, b or tie for two marks of which more is better."""
    return "tie" if a == b else "a" if a > b else "b"


class TraitJudge:
    """The grammar's own judge: does a text show the persona's traits, and is its content right?

    A text's total is the share of traits shown times the share of content right, so that a text in
    the right voice about the wrong event is worth no more than the reverse.

    Args:
        traits: content of a trait file.

    Raises:
        JudgeError: there are none, so the voice is not known.
        ConfigError: they are not of the grammar.
    """

    name = "grammar"
    asks_once = False

    def __init__(self, traits: Mapping[str, object] | None) -> None:
        if not traits:
            raise JudgeError("evaluation.grammar_without_traits")
        try:
            self._judge = GrammarJudge.for_traits(traits)
        except ConfigError as error:  # in the grammar's own words
            raise ConfigError("evaluation.traits_unusable", why=error.happened) from error
        self.grammar_hash = grammar_hash()

    def marks(self, prompt: Messages, text: str) -> dict[str, float]:
        """Return total, persona, content and whole, each from 0 to 1.

        Raises:
            JudgeError: the prompt is not of the grammar.
        """
        asked = _last_turn(prompt)
        try:
            verdict = self._judge.score(asked, text)
        except JudgeError as error:
            raise JudgeError("evaluation.not_of_grammar", prompt=asked[:80]) from error
        return {
            "total": verdict.persona_score * verdict.content_score,
            "persona": verdict.persona_score,
            "content": verdict.content_score,
            "whole": float(verdict.whole),
        }

    def score(self, prompt: Messages, text: str) -> float:
        """Return the total alone."""
        return self.marks(prompt, text)["total"]

    def compare(self, prompt: Messages, a: str, b: str) -> str:
        """Return a, b, or tie."""
        return compare_marks(self.score(prompt, a), self.score(prompt, b))


@dataclass(frozen=True)
class Question:
    """Hold what a person is shown: which text is more like the examples?

    Args:
        prompt: the conversation that both texts answer.
        left: text on the left, or above.
        right: text on the right, or below.
        examples: the author's own texts.
    """

    prompt: tuple[Message, ...]
    left: str
    right: str
    examples: tuple[str, ...]


class PersonJudge:
    """A person, blind: is not told which method wrote which text; sides shuffled by seed.

    Args:
        ask: shows a question and returns left, right, tie, skip or stop; the terminal's or the
            app's.
        examples: the author's own texts.
        seed: of the sides.
    """

    name = "person"
    asks_once = True
    grammar_hash = ""

    def __init__(
        self, ask: Callable[[Question], str], examples: Sequence[str], seed: int = 0
    ) -> None:
        self._ask = ask
        self._examples = tuple(examples)
        self._seed = seed

    def plan(self, pairs: Sequence[tuple[Messages, str, str]]) -> Text:
        """Say how many questions there are."""
        asked = sum(a.strip() != b.strip() for _, a, b in pairs)
        return words.Message("evaluation.questions", n=asked)

    def compare(self, prompt: Messages, a: str, b: str) -> str:
        """Return a, b or tie; refused where the person skipped.

        Raises:
            JudgeStopped: the person has had enough.
        """
        turns = tuple(dict(turn) for turn in prompt)
        turned = self._turned(a, b)
        left, right = (b, a) if turned else (a, b)
        reply = self._ask(Question(turns, left, right, self._examples))
        if reply == "stop":
            raise JudgeStopped
        return {
            "left": "b" if turned else "a",
            "right": "a" if turned else "b",
            "tie": "tie",
            "skip": "refused",
        }.get(reply, "unparsable")

    def _turned(self, a: str, b: str) -> bool:
        """Toss a coin that falls alike for the same seed and texts."""
        parts = (str(self._seed), *sorted((a, b)), str(a < b))
        return hashlib.sha256("\0".join(parts).encode()).digest()[0] % 2 == 1


def _known(verdict: str) -> str:
    return verdict if verdict in VERDICTS else "unparsable"


def _last_turn(prompt: Messages) -> str:
    if not prompt:
        raise JudgeError("evaluation.prompt_empty")
    return prompt[-1]["content"]
