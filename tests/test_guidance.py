"""Advice on methods: what was measured, the nearest regime, no more than its intervals say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ditto_hub.evaluation.guidance import (
    MEASURED,
    METHODS,
    Regime,
    advice,
    nearest,
    prompting_ahead,
    say,
)
from ditto_hub.evaluation.real_authors import read_real_figures, real_advice
from ditto_hub.runs.results import Evaluation, EvaluationPrompt, Score, WinRate

TOTALS = {"few-shot": 0.5, "sft": 0.55, "sft-long": 0.64, "ditto": 0.61}
AHEAD = {"few-shot": (0.02, 0.2), "sft": (0.01, 0.11), "sft-long": (-0.09, 0.03)}
FOUR = Regime(4, "own", TOTALS, AHEAD, 12, 36)
TWO = Regime(2, "own", TOTALS, {"sft": (-0.2, -0.1)}, 4, 4)
FIXED = Regime(4, "template", TOTALS, {"sft": (0.1, 0.2)}, 4, 4)
MADE_UP = (FOUR, TWO, FIXED)


def test_a_sentence_says_which_differences_are_resolved() -> None:
    """Whole intervals on one side of zero, and those across it."""
    assert str(say(FOUR)) == (
        "With 4 demonstrations: few-shot prompting 0.50, SFT 0.55, SFT continued 0.64, DITTO"
        " 0.61 (12 personas). DITTO is better than few-shot prompting and SFT. DITTO is not told"
        " apart from SFT continued."
    )
    assert str(say(TWO)).endswith("DITTO is worse than SFT.")


@pytest.mark.parametrize(("trained", "taken"), [(1, 2), (2, 2), (3, 4), (4, 4), (20, 4)])
def test_the_nearest_number_of_demonstrations_is_taken(trained: int, taken: int) -> None:
    """Nearest in ratio: three is nearer to four than to two."""
    found = nearest(trained, MADE_UP)
    assert found is not None
    assert found.trained == taken


def test_other_voices_are_named_beside_it() -> None:
    """A template is another regime, and that is said."""
    assert [str(line).partition(":")[0] for line in advice(2, measured=MADE_UP)] == [
        "With 2 demonstrations", "With 4 demonstrations of a voice that follows one template",
    ]  # fmt: skip


def test_no_other_base_model_is_told_pockets_figures() -> None:
    """It is told what was measured on a real one, with its name, and to compare."""
    said = [*map(str, advice(4, "some/7b", MADE_UP))]
    assert "SmolLM2" in said[0]
    assert not set(said) & {*map(str, advice(4, "pocket", MADE_UP))}
    assert "personas" not in " ".join(said)


@pytest.mark.parametrize(
    ("interval", "word"),
    [((-0.06, -0.01), "was better than the adapter alone"), ((-0.1, 0.1), "told apart"),
     ((0.01, 0.1), "adapter alone was better")],
)  # fmt: skip
def test_the_verdict_on_real_authors_is_its_interval(
    interval: tuple[float, float], word: str
) -> None:
    """Whole on one side of zero, or across it."""
    figures = replace(read_real_figures(), over_prompting={"ditto": interval})
    assert word in str(real_advice(figures)[1])


def test_nothing_measured_is_nothing_said() -> None:
    """No advice is made up."""
    assert advice(4, measured=()) == ()


def test_what_is_measured_names_known_methods() -> None:
    """Every regime scores DITTO, and compares it with methods that it scores."""
    for regime in MEASURED:
        assert set(regime.totals) <= set(METHODS)
        assert set(regime.ahead) == set(regime.totals) - {"ditto"}


def compared(**totals: float) -> Evaluation:
    """Return a whole evaluation in which methods have these means."""
    scores = [Score(n.replace("_", "-"), "total", v, None, None, 8, 4) for n, v in totals.items()]
    prompts = tuple(EvaluationPrompt(f"p{i}", (), seen=i > 3) for i in range(5))
    return Evaluation(
        "grammar", "grammar", "2026-11-25", "user", True, tuple(s.method for s in scores), prompts,
        settings={"ditto": "round-4"}, scores=tuple(scores), complete=True,
    )  # fmt: skip


def rate(method: str, against: str, low: float, mean: float, high: float) -> WinRate:
    return WinRate(method, against, 4, 0, 4, 8, 0, mean, low, high, 4, "wilson", True)


def test_few_shot_ahead_of_the_kept_adapter_is_said() -> None:
    """Where the base model with a prompt scores higher, and under which judge, on how many."""
    found = compared(few_shot=0.7, sft=0.5, ditto=0.6)
    assert tuple(map(str, prompting_ahead([found], "round-4"))) == (
        "Few-shot prompting scores higher than the adapter round-4 under the judge grammar (0.70"
        " against 0.60, on 4 prompts, which is too few to be sure): it may serve you as well, with"
        " no adapter.",
    )
    assert prompting_ahead([found], "round-3") == ()  # "ditto" was round-4 there
    assert len(prompting_ahead([found], "sft")) == 1


def test_a_resolved_difference_is_not_called_uncertain() -> None:
    """The pair's interval decides, from whichever side it is told."""
    for pair in (
        rate("few-shot", "ditto", 0.6, 0.8, 0.9),
        rate("ditto", "few-shot", 0.1, 0.2, 0.4),
    ):
        found = replace(compared(few_shot=0.7, ditto=0.6), win_rates=(pair,))
        assert "too few" not in str(prompting_ahead([found], "round-4")[0])
        bare = replace(found, scores=())
        assert "(preferred in 80%, on 4 prompts)" in str(prompting_ahead([bare], "round-4")[0])


@pytest.mark.parametrize(
    "change",
    [{"complete": False}, {"prompts_independent": False}, {"scores": ()}],
)
def test_what_is_no_result_says_nothing(change: dict[str, Any]) -> None:
    """An unfinished comparison, or one on prompts that selected, is not leant on."""
    found = replace(compared(few_shot=0.7, ditto=0.6), **change)
    assert prompting_ahead([found], "round-4") == ()


def test_nothing_is_said_where_the_adapter_is_ahead() -> None:
    """An equal score is not higher, and trained methods are no prompting."""
    found = compared(few_shot=0.6, sft_long=0.9, ditto=0.6)
    assert prompting_ahead([found], "round-4") == ()
