"""A blind vote: sides, resuming, twenty at most, ties of equal texts, counting, tampering."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ditto_hub.errors import JudgeError
from ditto_hub.evaluation import trial as trials
from ditto_hub.evaluation.comparison import Brief
from ditto_hub.runs.results import OTHERS, Answer, Evaluation, EvaluationPrompt

PROMPTS = tuple(
    EvaluationPrompt(f"prompt-{n}", ({"role": "user", "content": f"Task {n}"},)) for n in (1, 2)
)
METHODS = ("zero-shot", "few-shot", "sft", "round-1")


def begun(methods: tuple[str, ...] = METHODS, seed: int = 0, same: bool = False) -> Evaluation:
    answers = [
        Answer(m, p.id, 0, "the same" if same else f"{m} on {p.id}")
        for m in methods
        for p in PROMPTS
    ]
    return trials.begin(Brief(methods, PROMPTS, samples=1, seed=seed), answers)


def vote_for(trial: Evaluation, favourite: str) -> Evaluation:
    """Vote to the end for one method, looking at the texts alone, as a person does."""
    while question := trials.ballot(trial, ()):
        reply = "tie"
        if question.left.startswith(favourite):
            reply = "left"
        elif question.right.startswith(favourite):
            reply = "right"
        trial = trials.vote(trial, trials.votes(trial), reply)
    return trial


def test_votes_are_counted_for_the_method_and_not_for_the_side() -> None:
    """Whoever votes for one method's texts, wherever they stand, finds it on top."""
    trial = vote_for(begun(), "round-1")
    rate = next(r for r in trial.win_rates if (r.method, r.against) == ("round-1", OTHERS))
    assert (rate.wins, rate.ties, rate.losses, rate.n) == (6, 0, 0, 6)
    assert trial.complete
    assert "the true share is likely between" in str(rate.sentence())


def test_sides_are_shuffled() -> None:
    """A method's text stands on either side."""
    lefts = set()
    trial = begun()
    while question := trials.ballot(trial, ()):
        if "round-1" in question.left + question.right:
            lefts.add(question.left.startswith("round-1"))
        trial = trials.vote(trial, trials.votes(trial), "tie")
    assert lefts == {True, False}


def test_a_question_names_no_method() -> None:
    """The question holds the task, two texts and the author's own, and nothing else."""
    question = trials.ballot(begun(), ("mine",))
    assert question is not None
    assert set(vars(question)) == {"prompt", "left", "right", "examples"}


def test_a_vote_goes_on_from_its_file() -> None:
    """Written to JSON and read again in the middle, the next question is the same."""
    trial = trials.vote(begun(), 0, "left")
    again = Evaluation.from_json(trial.to_json())
    assert trials.ballot(again, ()) == trials.ballot(trial, ())
    assert trials.votes(again) == 1


def test_a_second_click_is_no_second_vote() -> None:
    """A vote whose number was cast already changes nothing."""
    once = trials.vote(begun(), 0, "left")
    assert trials.vote(once, 0, "right") == once


def test_twenty_votes_at_most() -> None:
    """Seven methods make 42 pairs; a person is asked about twenty."""
    methods = ("zero-shot", "few-shot", "self-prompt", "sft", "sft-long", "round-1", "round-2")
    assert trials.planned(begun(methods)) == trials.MAX_VOTES == 20


def test_no_record_asks_for_more_than_twenty() -> None:
    """A file that was edited to ask for more still asks for twenty."""
    methods = ("zero-shot", "few-shot", "self-prompt", "sft", "sft-long", "round-1", "round-2")
    trial = begun(methods)
    assert trials.planned(replace(trial, settings={**trial.settings, "votes": 99})) == 20


def test_equal_texts_are_ties_that_nobody_is_asked_about() -> None:
    """Where all texts are the same there is nothing to vote on."""
    trial = begun(same=True)
    assert trials.ballot(trial, ()) is None
    assert trials.votes(trial) == trials.planned(trial) == 0
    assert trial.tally.ties == 12


def test_a_skipped_question_is_cast_but_does_not_count() -> None:
    """Skipping goes on to the next question and counts for nobody."""
    trial = trials.vote(begun(), 0, "skip")
    assert trials.votes(trial) == 1
    assert trial.tally.refused == 1
    assert all(rate.n == 0 for rate in trial.win_rates)


def test_stopping_early_says_so() -> None:
    """What was judged counts, nothing more is asked, and a note says how many votes there were."""
    trial = trials.close(trials.vote(begun(), 0, "left"))
    assert trial.complete
    assert str(trial.notes[-1]) == "The person stopped after 1 of 12 votes."
    assert trials.ballot(trial, ()) is None
    assert trials.vote(trial, 1, "left") == trial


def test_an_unknown_reply_is_refused() -> None:
    """Only the four replies are votes."""
    with pytest.raises(JudgeError, match="is not a vote"):
        trials.vote(begun(), 0, "both")


def test_a_new_vote_overwrites_no_old_one() -> None:
    """Names that are taken are counted on."""
    brief = Brief(METHODS, PROMPTS, samples=1)
    answers = [Answer(m, p.id, 0, m) for m in METHODS for p in PROMPTS]
    assert trials.begin(brief, answers, ["person", "person-2"]).name == "person-3"
