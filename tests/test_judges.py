"""Judging a pair: both orders, the grammar's judge, and a person who is blind."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from voices import voice_traits

from ditto_hub import pocket
from ditto_hub.demos.demonstrations import Message
from ditto_hub.demos.importers import load_demos
from ditto_hub.errors import JudgeError
from ditto_hub.evaluation.judges import (
    Messages,
    PersonJudge,
    Question,
    ScoringJudge,
    TraitJudge,
    compare_marks,
    judge_pair,
)
from ditto_hub.pocket.grammar import grammar_hash
from ditto_hub.runs.results import Answer, EvaluationPrompt, JudgedPair

TURNS: tuple[Message, ...] = ({"role": "user", "content": "Write a note."},)
PROMPT = EvaluationPrompt("p", TURNS)


@dataclass
class Scripted:
    """Prefers by a rule, and writes down what it was shown."""

    replies: dict[tuple[str, str], str]
    asks_once: bool = False
    name: str = "scripted"
    grammar_hash: str = ""
    shown: list[tuple[str, str]] = field(default_factory=list)

    def compare(self, prompt: Messages, a: str, b: str) -> str:
        self.shown.append((a, b))
        return self.replies[a, b]


def judged(judge: Scripted, x: str = "x", y: str = "y") -> JudgedPair:
    return judge_pair(judge, PROMPT, Answer("ditto", "p", 1, x), Answer("sft", "p", 2, y))


@pytest.mark.parametrize(
    ("first", "second", "verdict"),
    [
        ("a", "b", "a"),
        ("b", "a", "b"),
        ("a", "a", "tie"),
        ("tie", "b", "tie"),
        ("tie", "tie", "tie"),
    ],
)
def test_both_orders_must_agree(first: str, second: str, verdict: str) -> None:
    """A text wins where it is preferred whichever place it stands in."""
    judge = Scripted({("x", "y"): first, ("y", "x"): second})
    assert judged(judge).verdict == verdict
    assert judge.shown == [("x", "y"), ("y", "x")]


def test_backward_is_told_in_the_same_letters() -> None:
    """A judge that always takes the first text is recorded as a, then b."""
    found = judged(Scripted({("x", "y"): "a", ("y", "x"): "a"}))
    assert (found.forward, found.backward, found.favoured_place) == ("a", "b", "first")


def test_a_pair_names_its_answers() -> None:
    """A judged pair says which samples of which methods met on which prompt."""
    found = judged(Scripted({("x", "y"): "a", ("y", "x"): "b"}))
    assert (found.prompt_id, found.a, found.b, found.sample_a, found.sample_b) == (
        "p",
        "ditto",
        "sft",
        1,
        2,
    )


def test_equal_texts_are_a_tie_without_asking() -> None:
    """Nobody is asked to choose between two texts that are the same."""
    judge = Scripted({})
    assert judged(judge, "same", " same\n").verdict == "tie"
    assert judge.shown == []


def test_a_judge_may_be_asked_once() -> None:
    """A judge whose time is dear sees each pair once."""
    judge = Scripted({("x", "y"): "b"}, asks_once=True)
    assert judged(judge).verdict == "b"
    assert len(judge.shown) == 1


@pytest.mark.parametrize(
    ("first", "forward"), [("refused", "refused"), ("A!", "unparsable"), ("", "unparsable")]
)
def test_no_verdict_is_none(first: str, forward: str) -> None:
    """A refusal or a word that is no verdict makes the pair void."""
    found = judged(Scripted({("x", "y"): first, ("y", "x"): "b"}))
    assert (found.forward, found.verdict) == (forward, None)


@pytest.mark.parametrize(("a", "b", "verdict"), [(2.0, 1.0, "a"), (0.1, 0.2, "b"), (1, 1, "tie")])
def test_marks_compare(a: float, b: float, verdict: str) -> None:
    """More is better and equal marks are a tie."""
    assert compare_marks(a, b) == verdict


@pytest.mark.parametrize("voice", pocket.voices())
def test_grammar_prefers_the_voice_to_another(voice: str) -> None:
    """Given a voice's traits, its own texts beat any other voice's rewritten to its prompts."""
    judge = TraitJudge(voice_traits(voice))
    other = next(v for v in pocket.voices() if v != voice)
    foreign = load_demos(pocket.voice_path(other)).demos[0].completion
    for demo in load_demos(pocket.voice_path(voice)):
        assert judge.compare(demo.prompt, demo.completion, foreign) == "a"
        assert judge.compare(demo.prompt, foreign, demo.completion) == "b"


def test_grammar_marks_are_shares_and_their_product() -> None:
    """The total is persona times content, and a voice's own demonstration is whole."""
    voice = pocket.voices()[0]
    judge = TraitJudge(voice_traits(voice))
    demo = load_demos(pocket.voice_path(voice)).demos[0]
    assert judge.marks(demo.prompt, demo.completion) == {
        "total": 1.0,
        "persona": 1.0,
        "content": 1.0,
        "whole": 1.0,
    }
    bad = judge.marks(demo.prompt, "Nothing to say.")
    assert bad["total"] == bad["persona"] * bad["content"]
    assert bad["total"] < 0.5


def test_grammar_judge_says_its_grammar() -> None:
    """Results carry the hash of the grammar that judged."""
    assert TraitJudge(voice_traits(pocket.voices()[0])).grammar_hash == grammar_hash()


def test_grammar_judge_scores() -> None:
    """The grammar's judge can mark a single text, a person cannot."""
    assert isinstance(TraitJudge(voice_traits(pocket.voices()[0])), ScoringJudge)
    assert not isinstance(PersonJudge(lambda _: "tie", []), ScoringJudge)


@pytest.mark.parametrize("traits", [None, {}])
def test_grammar_refuses_an_unknown_voice(traits: dict[str, object] | None) -> None:
    """Without traits there is no judge, and the message says what to give."""
    with pytest.raises(JudgeError, match=r"traits\.json"):
        TraitJudge(traits)


@pytest.mark.parametrize("prompt", [(), ({"role": "user", "content": "Tell me a joke."},)])
def test_grammar_refuses_other_prompts(prompt: Messages) -> None:
    """A prompt that is none of the grammar's cannot be judged by it."""
    judge = TraitJudge(voice_traits(pocket.voices()[0]))
    with pytest.raises(JudgeError):
        judge.compare(prompt, "x", "y")


def test_a_person_is_shown_texts_and_no_names() -> None:
    """The question holds prompt, two texts and the author's examples, nothing else."""
    seen: list[Question] = []

    def ask(question: Question) -> str:
        seen.append(question)
        return "tie"

    assert PersonJudge(ask, ["mine"]).compare(TURNS, "x", "y") == "tie"
    assert {seen[0].left, seen[0].right} == {"x", "y"}
    assert (seen[0].prompt, seen[0].examples) == (TURNS, ("mine",))


def test_sides_are_shuffled_and_turned_back() -> None:
    """Over many pairs about half are swapped, and the one preferred text always wins."""
    lefts = []

    def prefers_x(question: Question) -> str:
        lefts.append(question.left.startswith("x"))
        return "left" if question.left.startswith("x") else "right"

    judge = PersonJudge(prefers_x, [], seed=5)
    verdicts = {judge.compare(TURNS, f"x{i}", f"y{i}") for i in range(100)}
    assert verdicts == {"a"}
    assert 30 < sum(lefts) < 70


def test_sides_depend_on_the_seed() -> None:
    """The same seed shows the same sides, and another seed others."""

    def sides(seed: int) -> list[str]:
        shown: list[str] = []

        def ask(question: Question) -> str:
            shown.append(question.left)
            return "tie"

        judge = PersonJudge(ask, [], seed)
        for i in range(40):
            judge.compare(TURNS, f"x{i}", f"y{i}")
        return shown

    assert sides(1) == sides(1)
    assert sides(1) != sides(2)


@pytest.mark.parametrize(("reply", "verdict"), [("skip", "refused"), ("maybe", "unparsable")])
def test_a_person_may_skip(reply: str, verdict: str) -> None:
    """A skipped question is a refusal, and any other word is none."""
    assert PersonJudge(lambda _: reply, []).compare(TURNS, "x", "y") == verdict
