"""Tables and plots of an evaluation, as they are shown."""

from __future__ import annotations

import io
import struct
import sys
from dataclasses import replace

import pytest
from test_comparison import Marker, Ranker, brief, final
from test_methods import Echo

from ditto_hub.evaluation.report import (
    plot_by_round,
    plot_win_rates,
    plots,
    remarks,
    rows,
    to_text,
)
from ditto_hub.evaluation.winrate import win_rate
from ditto_hub.runs.results import Evaluation, JudgedPair, JudgeTally

RATES = [
    win_rate([JudgedPair(f"p{i}", "ditto", m, 0, 0, v, v) for i, v in enumerate("aab")], "ditto", m)
    for m in ("sft", "few-shot")
]


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    made = brief(methods=("zero-shot", "spin", "ditto"))
    return replace(final(made, Echo(), [Marker("ranker")])["ranker"], date="2026-11-22")


def size(png: bytes) -> tuple[int, int]:
    """Read width and height off a PNG's header."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", png[16:24])
    return width, height


def test_rows_of_the_table(evaluation: Evaluation) -> None:
    """Each method that wrote has its row, numbers rounded for reading."""
    assert rows(evaluation) == [
        ["zero-shot", "0%", "0% to 56%", "6", "6.00", "1.50", "0.33", "0%"],
        ["ditto", "100%", "44% to 100%", "6", "9.00", "2.25", "0.22", "0%"],
    ]


def test_table_in_plain_text(evaluation: Evaluation) -> None:
    """The terminal gets aligned columns, then what a reader must know, then the result in words."""
    assert to_text(evaluation) == (
        "method     win rate  95 % interval  n  score  length  distinct-2  copies\n"
        "zero-shot        0%      0% to 56%  6   6.00    1.50        0.33      0%\n"
        "ditto          100%    44% to 100%  6   9.00    2.25        0.22      0%\n"
        "\n"
        "Judge: ranker. 3 prompts given by the user, 2 answers per method and prompt;"
        " ties count half.\n"
        "The sample is small: only large differences mean anything.\n"
        "0 of 6 pairs were ties in every order asked.\n"
        "spin is missing: There is no candidate 'spin'.\n"
        "ditto was preferred to zero-shot in 100% of 6 comparisons on 3 prompts (ties count half;"
        " the true share is likely between 44% and 100%). That does not tell which is better."
        " The sample is small."
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"prompts_independent": False}, "this is not a result"),
        ({"complete": False}, "Not complete"),
        ({"prompts_source": "model-written"}, "written by the base model"),
        ({"grammar_hash": "abc123"}, "Grammar abc123."),
        ({"notes": ("Beware.",)}, "Beware."),
        (
            {"tally": JudgeTally(pairs=9, ties=1, disagreements=4, first=3, second=1)},
            "In 4 the two orders disagreed and count as ties; 3 went to the text shown first, 1 to"
            " the second.",
        ),
        (
            {"tally": JudgeTally(pairs=9, refused=2, unparsable=1)},
            "2 pairs were refused and 1 answers could not be read; those do not count.",
        ),
    ],
)
def test_what_a_reader_must_know(
    evaluation: Evaluation, change: dict[str, object], said: str
) -> None:
    """Each caveat that holds is said under the table."""
    assert any(said in str(line) for line in remarks(replace(evaluation, **change)))  # type: ignore[arg-type]


def test_an_evaluation_without_verdicts_has_a_table(evaluation: Evaluation) -> None:
    """Right after writing there are texts and no numbers yet."""
    bare = replace(evaluation, win_rates=(), scores=(), degeneration={}, tally=JudgeTally())
    assert rows(bare)[0] == ["zero-shot", "-", "-", "-", "-", "-", "-", "-"]
    assert "zero-shot" in to_text(bare)


def test_win_rates_are_drawn() -> None:
    """More rows make a taller picture of the same width."""
    one, two = size(plot_win_rates(RATES[:1])), size(plot_win_rates(RATES, "Judge: grammar"))
    assert one[0] == two[0] == 960
    assert one[1] < two[1]


def test_plots_are_the_same_bytes_again() -> None:
    """Nothing that changes from one drawing to the next goes into the file."""
    assert plot_win_rates(RATES) == plot_win_rates(RATES)
    assert b"Software" not in plot_win_rates(RATES)


def test_plots_differ_with_their_numbers() -> None:
    """Another rate is another picture, and so are another title and another interval."""
    base = plot_win_rates(RATES)
    assert plot_win_rates([replace(RATES[0], rate=0.1), RATES[1]]) != base
    assert plot_win_rates([replace(RATES[0], high=0.99), RATES[1]]) != base
    assert plot_win_rates(RATES, "Title") != base


def test_plots_leave_no_global_state() -> None:
    """Drawing needs no display and does not load pyplot."""
    assert io.BytesIO(plot_win_rates(RATES)).read(4) == b"\x89PNG"
    assert "matplotlib.pyplot" not in sys.modules


BY_ROUND = brief(methods=("few-shot", "sft", "round-1", "round-2"))


def test_rounds_are_drawn_where_two_were_evaluated(evaluation: Evaluation) -> None:
    """Score, length and distinct-2 over the rounds; one round, or none, is no curve."""
    found = final(BY_ROUND, Echo(), [Marker("ranker")])["ranker"]
    width, height = size(plot_by_round(found) or b"")
    assert width > 2 * height
    assert sorted(plots(found)) == ["ranker-rounds.png", "ranker.png"]
    assert list(plots(evaluation)) == ["ranker.png"]


def test_the_curves_by_round_show_the_numbers() -> None:
    """Another score, length or share of different words is another picture."""
    found = final(BY_ROUND, Echo(), [Marker("ranker")])["ranker"]
    base = plot_by_round(found)
    assert plot_by_round(found) == base
    other = [replace(s, mean=s.mean + (s.method == "round-2")) for s in found.scores]
    assert plot_by_round(replace(found, scores=tuple(other))) != base
    for sign in ("length_ratio", "distinct_2"):
        signs = {m: {**v, sign: v[sign] + (m == "sft")} for m, v in found.degeneration.items()}
        assert plot_by_round(replace(found, degeneration=signs)) != base


def test_a_judge_without_marks_is_drawn_by_its_win_rates() -> None:
    """Where single texts are not marked, the curve is the win rate's."""
    found = final(BY_ROUND, Echo(), [Ranker("ranker")])["ranker"]
    other = tuple(replace(r, rate=0.1) if r.method == "round-2" else r for r in found.win_rates)
    assert plot_by_round(found) != plot_by_round(replace(found, win_rates=other))


def test_seen_prompts_are_told_apart(evaluation: Evaluation) -> None:
    """How methods did on the demonstrations' own prompts is said, and said to be no result."""
    old = replace(evaluation, seen_win_rates=evaluation.win_rates)
    said = (
        "On the demonstrations' own prompts, which is not a result, n 6 each: zero-shot 0%, ditto"
    )
    assert f"{said} 100%." in map(str, remarks(old))
