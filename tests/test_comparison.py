"""Comparing methods: order, counting, faults, and going on after an interruption."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from test_methods import Echo

from ditto_hub.errors import ConfigError, JudgeError, RunError
from ditto_hub.evaluation.comparison import Brief, Progress, compare_methods, pairs_to_judge
from ditto_hub.evaluation.judges import JudgeStopped, Messages, PersonJudge, Question
from ditto_hub.evaluation.prompts import prepare_prompts
from ditto_hub.runs.results import OTHERS, Answer, Evaluation

PROMPTS = prepare_prompts([f"Write note {n}." for n in range(3)], [])


@dataclass
class Ranker:
    """Prefers later candidates, by the length of their name; fails after a number of questions."""

    name: str = "ranker"
    asks_once: bool = False
    grammar_hash: str = ""
    fails_after: int = 10**9
    asked: list[tuple[str, str]] = field(default_factory=list)

    def compare(self, prompt: Messages, a: str, b: str) -> str:
        if len(self.asked) >= self.fails_after:
            raise JudgeError("The judge is gone.", "Try later.")
        self.asked.append((a, b))
        return "a" if len(a) > len(b) else "b" if len(b) > len(a) else "tie"


class Marker(Ranker):
    """Can mark single texts too."""

    def marks(self, prompt: Messages, text: str) -> dict[str, float]:
        return {"total": float(len(text))}


def brief(**more: Any) -> Brief:
    given: dict[str, Any] = {"methods": ("zero-shot", "sft", "ditto"), "prompts": PROMPTS}
    return Brief(**{**given, "samples": 2, **more})


def final(
    made: Brief, studio: Echo, judges: Sequence[Ranker], earlier: Sequence[Evaluation] = ()
) -> dict[str, Evaluation]:
    """Run to the end and return each judge's last evaluation."""
    found = compare_methods(made, studio, judges, earlier)
    return {e.judge: e for e in found if isinstance(e, Evaluation)}


def collect(kept: dict[str, Evaluation], judges: Sequence[Ranker]) -> None:
    """Run to the end or to an error, keeping each judge's last evaluation."""
    for item in compare_methods(brief(), Echo(), judges):
        if isinstance(item, Evaluation):
            kept[item.judge] = item


def saved(evaluation: Evaluation) -> Evaluation:
    """Return the evaluation as it is read back from its file."""
    return Evaluation.from_json(json.loads(json.dumps(evaluation.to_json())))


def test_all_methods_are_judged_in_both_orders() -> None:
    """Three methods, three prompts and two samples are 18 pairs and 36 questions."""
    judge = Ranker()
    found = final(brief(), Echo(), [judge])["ranker"]
    assert (len(found.answers), len(found.pairs), len(judge.asked)) == (18, 18, 36)
    assert found.complete


def test_the_winner_is_counted() -> None:
    """Names of 3, 4 and 7 letters: the longest wins all, the shortest none."""
    found = final(brief(), Echo(), [Ranker()])["ranker"]
    rates = {r.method: r.rate for r in found.win_rates if r.against == OTHERS}
    assert rates == {"zero-shot": 0.5, "sft": 0.0, "ditto": 1.0}


def test_a_scoring_judge_marks_every_answer() -> None:
    """Scores come with each method's mean."""
    found = final(brief(), Echo(), [Marker()])["ranker"]
    assert len(found.ratings) == 18
    assert {s.method: s.mean for s in found.scores} == {"zero-shot": 6, "sft": 5, "ditto": 9}


def test_a_judge_that_only_compares_has_no_scores() -> None:
    """No mark is made up for it."""
    found = final(brief(), Echo(), [Ranker()])["ranker"]
    assert (found.ratings, found.scores) == ((), ())


def test_several_judges_see_the_same_texts() -> None:
    """Methods write once, whatever the number of judges."""
    studio = Echo()
    found = final(brief(), studio, [Ranker("one"), Ranker("two")])
    assert found["one"].answers == found["two"].answers
    assert len(studio.asked) == 3


def test_every_method_gets_the_same_prompts_samples_and_seed() -> None:
    """One sampling for all: only the candidate differs."""
    studio = Echo()
    final(brief(seed=5), studio, [Ranker()])
    assert len({json.dumps(asked[:3]) for asked in studio.asked}) == 1


def test_degeneration_is_measured_for_each_method() -> None:
    """Signs of degeneration stand beside the win rates."""
    found = final(brief(), Echo(), [Ranker()])["ranker"]
    assert set(found.degeneration) == {"zero-shot", "sft", "ditto"}


def test_a_missing_adapter_leaves_the_others() -> None:
    """A method that cannot write is named with its reason, and the rest is judged."""
    found = final(brief(methods=("zero-shot", "spin", "ditto")), Echo(), [Ranker()])["ranker"]
    assert list(found.missing) == ["spin"]
    assert {a.method for a in found.answers} == {"zero-shot", "ditto"}
    assert found.complete


def test_no_method_at_all_is_an_error() -> None:
    """If nothing could be written there is nothing to save."""
    with pytest.raises(RunError, match="spin"):
        final(brief(methods=("spin", "dpo-sft")), Echo(), [Ranker()])


def test_seen_prompts_are_counted_apart() -> None:
    """Prompts of the demonstrations count in no score and in no result, and a note says so."""
    prompts = (replace(PROMPTS[0], seen=True), *PROMPTS[1:])
    found = final(brief(prompts=prompts), Echo(), [Marker()])["ranker"]
    new = next(r for r in found.win_rates if r.method == "ditto" and r.against == OTHERS)
    old = next(r for r in found.seen_win_rates if r.method == "ditto" and r.against == OTHERS)
    assert (new.n, new.prompts, old.n, old.prompts) == (8, 2, 4, 1)
    assert {s.n for s in found.scores} == {4}
    assert tuple(map(str, found.notes)) == (
        "1 prompt stood among the demonstrations and counted apart.",
    )


def test_a_judge_that_fails_leaves_its_part_and_lets_others_finish() -> None:
    """What was judged is kept and said, the next judge is heard, and then the error is raised."""
    last: dict[str, Evaluation] = {}
    judges = [Ranker("broken", fails_after=10), Ranker("whole")]
    with pytest.raises(JudgeError, match="is gone"):
        collect(last, judges)
    assert (len(last["broken"].pairs), last["broken"].complete) == (5, False)
    said = [str(note) for note in last["broken"].notes]
    assert said[-2:] == ["The judge is gone.", "5 of 18 pairs were judged."]
    assert last["whole"].complete


def test_going_on_after_a_failure_repeats_nothing() -> None:
    """The second run writes nothing, asks only what is left, and ends as if never interrupted."""
    first: dict[str, Evaluation] = {}
    with pytest.raises(JudgeError):
        collect(first, [Ranker(fails_after=10)])
    studio, judge = Echo(), Ranker()
    again = final(brief(), studio, [judge], [saved(first["ranker"])])["ranker"]
    assert studio.asked == []
    assert len(judge.asked) == 26
    assert again == final(brief(), Echo(), [Ranker()])["ranker"]


@pytest.mark.parametrize("stop", range(0, 49, 4))
def test_stopped_anywhere_it_ends_the_same(stop: int) -> None:
    """Closed after any of its reports, a comparison that goes on ends as one never stopped."""
    whole = final(brief(), Echo(), [Ranker("one", asks_once=True), Ranker("two")])
    kept: dict[str, Evaluation] = {}
    judges = [Ranker("one", asks_once=True), Ranker("two")]
    going = compare_methods(brief(), Echo(), judges)
    for _ in range(stop):
        item = next(going)
        if isinstance(item, Evaluation):
            kept[item.judge] = saved(item)
    going.close()  # type: ignore[attr-defined]
    assert final(brief(), Echo(), judges, list(kept.values())) == whole


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"samples": 1}, {"settings": {"temperature": 2}}, {"prompts": PROMPTS[:2]}],
)
def test_another_question_starts_anew(change: dict[str, Any]) -> None:
    """Texts of another seed, number, setting or prompt are not taken over."""
    before = final(brief(), Echo(), [Ranker()])["ranker"]
    studio = Echo()
    final(brief(**change), studio, [Ranker()], [saved(before)])
    assert len(studio.asked) == 3


def test_another_grammar_judges_anew() -> None:
    """Verdicts under a changed grammar hash are not taken over, the texts are."""
    before = final(brief(), Echo(), [Ranker(grammar_hash="old")])["ranker"]
    studio, judge = Echo(), Ranker(grammar_hash="new")
    final(brief(), studio, [judge], [saved(before)])
    assert (studio.asked, len(judge.asked)) == ([], 36)


def test_one_more_method_writes_only_that() -> None:
    """Adding a method keeps texts and verdicts of the others."""
    before = final(brief(methods=("zero-shot", "ditto")), Echo(), [Ranker()])["ranker"]
    studio, judge = Echo(), Ranker()
    final(brief(), studio, [judge], [saved(before)])
    assert [asked[3] for asked in studio.asked] == ["sft"]
    assert len(judge.asked) == 24


def test_verdicts_on_texts_that_changed_go() -> None:
    """A verdict is kept only with the very texts that it was given on."""
    one, two = (final(brief(), Echo(), [Ranker(name)])[name] for name in ("one", "two"))
    other = tuple(replace(a, text=f"other {a.text}") for a in one.answers)
    judge = Ranker("two")
    final(brief(), Echo(), [judge], [replace(one, answers=other), two])
    assert len(judge.asked) == 36


def test_a_person_is_saved_after_every_answer() -> None:
    """A judge that is asked once loses no verdict when interrupted."""
    lengths = [
        len(item.pairs)
        for item in compare_methods(brief(), Echo(), [Ranker(asks_once=True)])
        if isinstance(item, Evaluation)
    ]
    assert set(range(1, 19)) <= set(lengths)


def test_progress_counts_up() -> None:
    """Writing and judging tell how far they are."""
    found = [p for p in compare_methods(brief(), Echo(), [Ranker()]) if isinstance(p, Progress)]
    assert [(p.step, p.name, p.done, p.total) for p in found] == [
        ("writing", "zero-shot", 1, 3),
        ("writing", "sft", 2, 3),
        ("writing", "ditto", 3, 3),
        ("judging", "ranker", 18, 18),
    ]


ANSWERS = [
    Answer(m, p.id, k, f"{m} {k}")
    for m in ("zero-shot", "sft", "ditto")
    for p in PROMPTS
    for k in (0, 1)
]


def test_focus_keeps_pairs_with_one_method() -> None:
    """Only pairs with the focus are judged, for a judge that costs money."""
    met = pairs_to_judge(brief(focus="ditto"), ANSWERS)
    assert len(met) == 12
    assert all("ditto" in (a.method, b.method) for _, a, b in met)


def test_a_limit_takes_a_fixed_fair_part() -> None:
    """A limit takes the first of a shuffled order that the seed fixes."""
    part = pairs_to_judge(brief(max_pairs=6), ANSWERS)
    assert part == pairs_to_judge(brief(), ANSWERS)[:6]
    assert part != pairs_to_judge(brief(max_pairs=6, seed=1), ANSWERS)
    assert len({a.method for _, a, _ in part}) > 1


def test_samples_meet_their_own_number() -> None:
    """Sample k meets sample k, drawn with the same random numbers."""
    assert all(a.sample == b.sample for _, a, b in pairs_to_judge(brief(), ANSWERS))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"methods": ("magic",)}, "magic"),
        ({"methods": ("sft", "sft")}, "twice"),
        ({"methods": ()}, "nothing to compare"),
        ({"samples": 0}, "nothing to compare"),
        ({"prompts": ()}, "no prompt"),
        ({"focus": "few-shot"}, "not among"),
    ],
)
def test_a_brief_that_asks_nothing_is_refused(change: dict[str, Any], said: str) -> None:
    """Unknown, double or missing methods, and no prompts, are told before anything is written."""
    studio = Echo()
    with pytest.raises(ConfigError, match=said):
        final(brief(**change), studio, [Ranker()])
    assert studio.asked == []


class Dear(Ranker):
    """Says beforehand what it will cost."""

    def plan(self, pairs: Sequence[tuple[Messages, str, str]]) -> str:
        return f"{len(pairs)} pairs at a price"


def test_what_judging_costs_is_said_before_it_begins() -> None:
    """A judge that can plan is asked for its plan, with what is left, before any question."""
    judge = Dear()
    for item in compare_methods(brief(), Echo(), [judge]):
        if isinstance(item, Progress) and item.words:
            break
    assert (item.name, item.words, judge.asked) == ("ranker", "18 pairs at a price", [])
    kept: dict[str, Evaluation] = {}
    with pytest.raises(JudgeError):
        collect(kept, [Dear(fails_after=10)])
    again = compare_methods(brief(), Echo(), [Dear()], [saved(kept["ranker"])])
    words = [item.words for item in again if isinstance(item, Progress) and item.words]
    assert words == ["13 pairs at a price"]


def test_a_limit_holds_for_a_judge_that_costs_something_alone() -> None:
    """The limit is noted, and a judge that costs nothing still judges every pair."""
    found = final(brief(max_pairs=4), Echo(), [Dear("dear"), Ranker("free")])
    assert [len(found[name].pairs) for name in ("dear", "free")] == [4, 18]
    assert tuple(map(str, found["dear"].notes)) == ("4 of 18 pairs, drawn at random, were judged.",)
    assert found["free"].notes == ()
    more = final(brief(max_pairs=9), Echo(), [Dear("dear")], [saved(found["dear"])])["dear"]
    assert more.pairs[:4] == found["dear"].pairs
    assert len(more.pairs) == 9


def test_a_person_is_asked_twenty_questions_at_most() -> None:
    """Seven methods would be 126 pairs; nobody has the patience."""
    asked: list[Question] = []

    def ask(question: Question) -> str:
        asked.append(question)
        return "left"

    methods = ("zero-shot", "few-shot", "sft", "sft-long", "round-1", "round-2", "ditto")
    found = final(brief(methods=methods), Echo(), [PersonJudge(ask, ())])["person"]  # type: ignore[list-item]
    assert len(found.pairs) == 20
    assert len(asked) == sum(pair.backward is None for pair in found.pairs)
    assert found.complete


def test_a_person_who_stops_leaves_a_result() -> None:
    """What was judged counts, the note says how much it is, and the other judges go on."""

    @dataclass
    class Tired(Ranker):
        def compare(self, prompt: Messages, a: str, b: str) -> str:
            if len(self.asked) == 5:
                raise JudgeStopped
            return super().compare(prompt, a, b)

    found = final(brief(), Echo(), [Tired("tired", asks_once=True), Ranker("other")])
    tired = found["tired"]
    assert (len(tired.pairs), tired.complete) == (5, True)
    assert tuple(map(str, tired.notes)) == ("The person stopped after 5 of 18 pairs.",)
    assert len(found["other"].pairs) == 18


def test_repeated_prompts_are_warned_of_before_anything_is_written() -> None:
    """The warning comes first, not only under the table."""
    prompts = (replace(PROMPTS[0], seen=True), *PROMPTS[1:])
    first = next(iter(compare_methods(brief(prompts=prompts), Echo(), [Ranker()])))
    assert isinstance(first, Progress)
    assert str(first.words) == "1 prompt stood among the demonstrations and counted apart."
