"""Win rates and means with their intervals, against numbers computed by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ditto_hub.evaluation.winrate import (
    all_win_rates,
    cluster_bootstrap,
    interval,
    mean_scores,
    turn,
    wilson,
    win_rate,
)
from ditto_hub.runs.results import OTHERS, JudgedPair, Rating


def pairs(verdicts: str, a: str = "ditto", b: str = "sft", start: int = 0) -> list[JudgedPair]:
    """One prompt a letter: a, b, t for a tie, x for a refusal."""
    words = {"a": "a", "b": "b", "t": "tie", "x": "refused"}
    return [
        JudgedPair(f"p{i}", a, b, 0, 0, words[letter], words[letter])
        for i, letter in enumerate(verdicts, start)
    ]


@pytest.mark.parametrize(
    ("rate", "n", "low", "high"),
    [
        (0.5, 10, 0.2366, 0.7634),
        (0.0, 10, 0.0, 0.2775),
        (1.0, 20, 0.8389, 1.0),
        (0.75, 4, 0.3006, 0.9544),
        (0.3, 0, 0.0, 1.0),
    ],
)
def test_wilson_by_hand(rate: float, n: int, low: float, high: float) -> None:
    """Wilson's interval equals the published table's values."""
    assert wilson(rate, n) == pytest.approx((low, high), abs=1e-4)


def test_bootstrap_of_two_clusters_by_hand() -> None:
    """Two clusters of 0 and 1 give 0, a half or 1, so the interval is all of it."""
    assert cluster_bootstrap([[1.0, 1.0], [0.0, 0.0]]) == (0.0, 1.0)


def test_bootstrap_is_as_wide_as_its_clusters() -> None:
    """Ten texts on each of twelve prompts count as twelve prompts, not as 120 texts."""
    groups = [[1.0] * 10] * 6 + [[0.0] * 10] * 6
    low, high = cluster_bootstrap(groups)
    assert low < 0.27
    assert high > 0.73


def test_bootstrap_with_one_seed_is_one_interval() -> None:
    """The seed fixes the interval, and another seed gives another draw."""
    groups = [[i / 7, 1 - i / 9] for i in range(8)]
    assert cluster_bootstrap(groups, 1) == cluster_bootstrap(groups, 1)
    assert cluster_bootstrap(groups, 1) != cluster_bootstrap(groups, 2)


@pytest.mark.parametrize(
    ("points", "how"),
    [
        ([(f"p{i}", float(i % 2)) for i in range(30)], "wilson"),
        ([(f"p{i % 9}", float(i % 2)) for i in range(30)], "wilson"),
        ([(f"p{i % 12}", float(i % 5 == 0)) for i in range(48)], "bootstrap"),
        ([(f"p{i % 12}", 1.0) for i in range(48)], "wilson"),
        ([], "wilson"),
    ],
)
def test_which_interval(points: list[tuple[str, float]], how: str) -> None:
    """One value a cluster, few clusters or full agreement take Wilson's, the rest a bootstrap."""
    assert interval(points)[2] == how


def test_full_agreement_still_has_an_interval() -> None:
    """Winning everything on twelve prompts does not prove winning always."""
    low, high, _ = interval([(f"p{i % 12}", 1.0) for i in range(48)])
    assert (low, high) == pytest.approx((0.7575, 1.0), abs=1e-4)


def test_ties_count_half() -> None:
    """Two wins, one tie and one loss are 2.5 of 4."""
    found = win_rate(pairs("aatb"), "ditto", "sft")
    assert (found.wins, found.ties, found.losses, found.n, found.rate) == (2, 1, 1, 4, 0.625)


def test_rate_of_the_other_side() -> None:
    """The rates of two methods against each other sum to 1."""
    judged = pairs("aatb")
    assert win_rate(judged, "sft", "ditto").rate == 1 - win_rate(judged, "ditto", "sft").rate


def test_a_rate_from_the_other_side_is_that_sides_rate() -> None:
    """Turning a comparison around gives what counting it for the other method gives."""
    judged = pairs("aaaatbbbx")
    turned, counted = turn(win_rate(judged, "ditto", "sft")), win_rate(judged, "sft", "ditto")
    assert (turned.low, turned.high) == pytest.approx((counted.low, counted.high))
    same = replace(counted, low=turned.low, high=turned.high)
    assert turned == same


def test_void_pairs_are_counted_and_left_out() -> None:
    """A refusal changes no rate, and is told."""
    found = win_rate(pairs("aaxx"), "ditto", "sft")
    assert (found.n, found.void, found.rate) == (2, 2, 1.0)
    assert "Without a usable verdict, and not counted: 2." in str(found.sentence())


def test_against_all_others() -> None:
    """A method's overall rate counts its pairs with every other method."""
    judged = pairs("aa") + pairs("bb", "ditto", "few-shot") + pairs("aaaa", "sft", "few-shot")
    found = win_rate(judged, "ditto")
    assert (found.against, found.n, found.rate, found.prompts) == (OTHERS, 4, 0.5, 2)


def test_all_rates_in_the_order_of_the_table() -> None:
    """Each method against all others, then each judged pair of methods."""
    judged = pairs("aa") + pairs("b", "few-shot", "ditto")
    found = all_win_rates(judged, ("few-shot", "sft", "ditto"))
    assert [(r.method, r.against) for r in found] == [
        ("few-shot", OTHERS),
        ("sft", OTHERS),
        ("ditto", OTHERS),
        ("few-shot", "ditto"),
        ("sft", "ditto"),
    ]


def test_another_cluster_widens_the_interval() -> None:
    """Forty prompts of four personas are four observations when clustered by persona."""
    judged = pairs("aaab" * 10)
    by_prompt = win_rate(judged, "ditto", "sft")
    by_persona = win_rate(
        judged, "ditto", "sft", cluster=lambda p: str(int(p.removeprefix("p")) % 4)
    )
    assert by_persona.high - by_persona.low > 1.5 * (by_prompt.high - by_prompt.low)


@pytest.mark.parametrize(("count", "small"), [(19, True), (20, False)])
def test_small_samples_are_called_small(count: int, small: bool) -> None:
    """Fewer than twenty prompts are a small sample, and the sentence says so."""
    found = win_rate(pairs("a" * count), "ditto", "sft")
    assert found.small is small
    assert ("The sample is small" in str(found.sentence())) is small


@pytest.mark.parametrize(
    ("verdicts", "said"),
    [
        (
            "aaaaaaaaaaaaaaabbbbb",
            "ditto was preferred to sft in 75% of 20 comparisons on 20 prompts (ties count half;"
            " the true share is likely between 53% and 89%). Better here: ditto.",
        ),
        (
            "ab",
            "ditto was preferred to sft in 50% of 2 comparisons on 2 prompts (ties count half;"
            " the true share is likely between 9% and 91%). That does not tell which is better."
            " The sample is small.",
        ),
        ("x", "No comparison of ditto with sft gave a usable verdict."),
    ],
)
def test_sentence_for_a_lay_reader(verdicts: str, said: str) -> None:
    """The sentence says who was preferred, how sure that is, and whether it tells anything."""
    assert str(win_rate(pairs(verdicts), "ditto", "sft").sentence()) == said


def test_sentence_names_the_others_where_they_win() -> None:
    """A method that loses to all is told so."""
    said = str(win_rate(pairs("b" * 20), "ditto").sentence())
    assert said.endswith("Better here: the other methods.")


def test_mean_score_by_hand() -> None:
    """Three prompt means .2 .4 .6 give .4 with Student's t over two degrees of freedom."""
    ratings = [Rating("ditto", f"p{i}", 0, {"total": 0.2 * i}) for i in (1, 2, 3)]
    (found,) = mean_scores(ratings, ("ditto",))
    assert (found.mean, found.n, found.prompts) == (pytest.approx(0.4), 3, 3)
    half = 4.303 * 0.2 / 3**0.5
    assert (found.low, found.high) == (pytest.approx(0.4 - half), pytest.approx(0.4 + half))


def test_one_prompt_has_no_interval() -> None:
    """The spread over prompts cannot be known from one, so there is no number."""
    ratings = [Rating("ditto", "p", k, {"total": 0.1 * k}) for k in range(4)]
    (found,) = mean_scores(ratings, ("ditto",))
    assert (found.low, found.high) == (None, None)


def test_each_mark_has_its_score() -> None:
    """Every mark of a judge is averaged for each method, in the methods' order."""
    ratings = [Rating(m, "p", 0, {"total": 1.0, "content": 0.5}) for m in ("ditto", "sft")]
    found = [(s.method, s.mark) for s in mean_scores(ratings, ("sft", "ditto"))]
    assert found == [("sft", "total"), ("sft", "content"), ("ditto", "total"), ("ditto", "content")]
