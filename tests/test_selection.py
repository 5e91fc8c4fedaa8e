"""Selection: scores by hand, guards against degenerate candidates, and the rule that picks one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import tiny_config, tiny_demos, tiny_policy

from ditto_hub.config import Selection
from ditto_hub.ditto.rollout import Rollout
from ditto_hub.ditto.selection import (
    choose,
    degenerate,
    implicit_order,
    measure,
    rank_scores,
    score_candidate,
)
from ditto_hub.ditto.state import Work
from ditto_hub.ditto.style import distinct, style_distance
from ditto_hub.ditto.warm_start import score_under_reference
from ditto_hub.events import CandidateScored, OrderMeasured

SOUND = {"length_ratio": 1.0, "unfinished": 0.0, "distinct_2": 1.0}


def table(**rows: tuple[float, float] | float | str) -> dict[str, dict[str, Any]]:
    """Return candidates: name=(held-out loss, style distance), a distance alone, or a fault."""
    found: dict[str, dict[str, Any]] = {}
    for name, row in rows.items():
        scores: dict[str, float] = {"held_out_loss": 0.001, "style_distance": 0.001}
        if isinstance(row, tuple):
            scores = {"held_out_loss": row[0], "style_distance": row[1]}
        elif isinstance(row, float):
            scores = {"style_distance": row}
        fault = row if isinstance(row, str) else ""
        found[name.replace("_", "-")] = {"scores": scores, "degenerate": fault}
    return found


ROUNDS = table(sft=(1.0, 0.30), round_1=(0.8, 0.40), round_2=(0.9, 0.10), sft_long=(1.2, 0.20))


@pytest.mark.parametrize(
    ("rule", "candidates", "expected"),
    [
        ("held-out", ROUNDS, ("round-1", "held-out")),
        ("stylometric", ROUNDS, ("round-2", "stylometric")),
        # 1.25 + 3, 1 + 4, 1.125 + 1, 1.5 + 2
        ("mixture", ROUNDS, ("round-2", "mixture")),
        ("last", ROUNDS, ("round-2", "last")),
        # A degenerate candidate is passed over, however good its numbers.
        ("held-out", {**ROUNDS, **table(round_1="too long")}, ("round-2", "held-out")),
        ("mixture", {**ROUNDS, **table(round_2="loops")}, ("sft-long", "mixture")),
        # The paper's rule keeps the last round even so.
        ("last", {**ROUNDS, **table(round_2="loops")}, ("round-2", "last")),
        # Nothing held out: style decides.
        ("held-out", table(sft=0.3, round_1=0.2), ("round-1", "stylometric")),
        ("mixture", table(sft=0.3, round_1=0.4, sft_long=0.1), ("sft-long", "stylometric")),
        # Nothing sound: the warm start stays.
        ("mixture", table(sft="a", round_1="b"), ("sft", "fallback")),
        # Rounds ended early: the last one that is there, or the warm start.
        ("last", table(sft=(1.0, 1.0), round_1=(2.0, 2.0)), ("round-1", "last")),
        ("last", table(sft=(1.0, 1.0), sft_long=(0.5, 0.5)), ("sft", "last")),
        # A tie goes to the earlier one, which was trained less.
        ("held-out", table(sft=(1.0, 1.0), round_1=(1.0, 0.5)), ("sft", "held-out")),
        # A perfect score divides by nothing.
        ("mixture", table(sft=(0.0, 0.0), round_1=(1.0, 1.0)), ("sft", "mixture")),
    ],
)
def test_choose(
    rule: str, candidates: dict[str, dict[str, Any]], expected: tuple[str, str]
) -> None:
    """Each rule picks, from scores made by hand, the candidate it says it picks."""
    assert choose(candidates, Selection(rule=rule))[:2] == expected


def test_last_of_more_than_nine_rounds() -> None:
    """The last round is the one made last, not the last by spelling."""
    rounds = {f"round-{t}": {"scores": {}, "degenerate": ""} for t in range(1, 12)}
    assert choose(rounds, Selection(rule="last"))[0] == "round-11"


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_last_keeps_no_round_that_gives_no_numbers(bad: float) -> None:
    """The paper's rule keeps the last round that has numbers; with none, the warm start."""
    rounds = table(sft=(1.0, 1.0), round_1=(2.0, 2.0), round_2=(bad, 1.0))
    name, rule, reason = choose(rounds, Selection(rule="last"))
    assert (name, rule) == ("round-1", "last")
    assert "numbers" in str(reason)
    none = table(sft=(1.0, 1.0), round_1=(bad, bad))
    assert choose(none, Selection(rule="last"))[0] == "sft"


def test_reason_counts_those_left_out() -> None:
    """The reason says how many candidates were compared and how many left out."""
    reason = str(choose({**ROUNDS, **table(round_1="too long")}, Selection(rule="held-out"))[2])
    assert "of 3 candidates" in reason
    assert "1 degenerate left out" in reason


def test_mixture_by_hand() -> None:
    """The mixture adds each score over the best one's."""
    sound = {name: c["scores"] for name, c in ROUNDS.items()}
    found = rank_scores(sound, "mixture")
    assert found == pytest.approx({"sft": 4.25, "round-1": 5, "round-2": 2.125, "sft-long": 3.5})


@pytest.mark.parametrize("rule", ["stylometric", "mixture"])
def test_style_counts_on_held_out_prompts(rule: str) -> None:
    """Closeness on prompts that were trained on is learnt by heart and ranks nobody."""
    by_heart = {"held_out_loss": 1.0, "style_distance": 0.01, "held_out_style": 0.2}
    learnt = {"held_out_loss": 1.0, "style_distance": 0.2, "held_out_style": 0.1}
    ranks = rank_scores({"sft-long": by_heart, "round-1": learnt}, rule)
    assert ranks["round-1"] < ranks["sft-long"]


@pytest.mark.parametrize(
    ("scores", "told"),
    [
        ({}, ""),
        ({"length_ratio": 2.5}, ""),
        ({"length_ratio": 2.6}, "2.60 times"),
        ({"length_ratio": 0.4}, ""),
        ({"length_ratio": 0.39}, "0.39 times"),
        ({"length_ratio": 0.0}, "0.00 times"),
        ({"unfinished": 0.5}, ""),
        ({"unfinished": 0.51}, "51% of samples have no end"),
        ({"distinct_2": 0.5}, ""),
        ({"distinct_2": 0.49}, "repeat themselves"),
        ({"length_ratio": math.nan}, "length_ratio is nan"),
        ({"kl": math.nan}, "kl is nan"),
        ({"held_out_loss": math.inf}, "held_out_loss is inf"),
        ({"over_base": 9.0}, ""),
    ],
)
def test_degenerate(scores: dict[str, float], told: str) -> None:
    """Too long, too short, endless, looping, or no numbers: each is said with its value."""
    reason = degenerate({**SOUND, **scores}, Selection())
    assert told in str(reason)
    assert bool(reason) is bool(told)


@pytest.mark.parametrize(
    ("setting", "scores"),
    [
        ({"max_length_ratio": 1.5}, {"length_ratio": 2.0}),
        ({"max_unfinished": 0.1}, {"unfinished": 0.2}),
        ({"min_distinct": 0.9}, {"distinct_2": 0.8}),
        ({"max_over_base": 1.0}, {"over_base": 1.01}),
    ],
    ids=str,
)
def test_each_guard_has_its_setting(setting: dict[str, float], scores: dict[str, float]) -> None:
    """Each guard's limit is the setting of that name."""
    assert not degenerate({**SOUND, **scores}, Selection())
    assert degenerate({**SOUND, **scores}, Selection(**setting))


# ---- scores ----------------------------------------------------------------------------------


@pytest.fixture
def work(tiny: Callable[[str], Path]) -> Work:
    """Return a work whose policy has moved from pi_0, with samples of two rounds."""
    config = tiny_config("update.beta=0.5")
    made = Work(tiny_policy(tiny("llama3"), config), tiny_demos(3, held_out=1), config)
    made.begin()
    made.pi_0 = made.policy.snapshot()
    made.policy.restore({k: v + 0.2 for k, v in made.pi_0.items()})
    made.progress.rows = score_under_reference(
        made, [*made.progress.rows, *samples(made, 0), *samples(made, 1)]
    )
    return made


def samples(work: Work, t: int) -> list[Rollout]:
    """Return one sample a demonstration, scored under reference and policy."""
    rows = [
        replace(r, round=t, completion_ids=(90 + t, 95, 97), text=f"hey {t}", ended=t == 1)
        for r in work.demo_rows
    ]
    rows = score_under_reference(work, rows)
    scores = work.policy.log_probs([r.row for r in rows])
    return [replace(r, policy_log_prob=s) for r, s in zip(rows, scores, strict=True)]


def test_measures_by_hand(work: Work) -> None:
    """Each score is what its definition gives for these rows."""
    fresh = samples(work, 2)
    found = measure(work, fresh)
    demos = work.demo_rows
    tokens = sum(len(r.completion_ids) for r in demos)
    chosen = work.policy.log_probs([r.row for r in demos])
    held = work.held_out_rows[0]
    (held_score,) = work.policy.log_probs([held.row])
    kl = sum(r.policy_log_prob - r.reference_log_prob for r in fresh) / 2
    reward = 0.5 * sum(c - r.reference_log_prob for c, r in zip(chosen, demos, strict=True)) / 2
    texts = [d.completion for d in work.train]
    assert found == pytest.approx(
        {
            "demonstration_loss": -sum(chosen) / tokens,
            "held_out_loss": -held_score / len(held.completion_ids),
            "style_distance": style_distance(["hey 2", "hey 2"], texts),
            "length_ratio": 3 / (tokens / 2),
            "distinct_2": 1 / distinct(texts),
            "unfinished": 1.0,
            "kl": kl,
            "chosen_log_prob": sum(chosen) / 2,
            "rejected_log_prob": sum(r.policy_log_prob for r in fresh) / 2,
            "chosen_reward": reward,
            "rejected_reward": 0.5 * kl,
            "margin": reward - 0.5 * kl,
        },
        rel=1e-5,
    )


def test_held_out_style_is_that_of_the_held_out_prompts_samples(work: Work) -> None:
    """It compares them with the demonstrations trained on; without them there is none."""
    fresh = samples(work, 2)
    away = [replace(fresh[0], demo=2, text="quite another voice")]
    shown = [d.completion for d in work.train]
    found = measure(work, fresh, away)["held_out_style"]
    assert found == pytest.approx(style_distance(["quite another voice"], shown))
    assert "held_out_style" not in measure(work, fresh)


def test_no_held_out_score_without_a_held_out(work: Work) -> None:
    """With nothing held out there is no held-out loss, rather than a made-up one."""
    work.held_out_rows = []
    assert "held_out_loss" not in measure(work, samples(work, 2))


def test_order_by_hand(work: Work) -> None:
    """Rewards are beta times the log-ratio, and the share of neighbours in eq. 2's order."""
    fresh = samples(work, 2)
    order = implicit_order(work, fresh, measure(work, fresh)["chosen_reward"])
    rows = {k: [r for r in work.progress.rows if r.round == t] for k, t in (
        ("demonstrations", -1), ("round-0", 0), ("round-1", 1))}  # fmt: skip
    expected = {}
    for name, group in {**rows, "fresh": fresh}.items():
        now = work.policy.log_probs([r.row for r in group])
        gains = [a - r.reference_log_prob for a, r in zip(now, group, strict=True)]
        expected[name] = 0.5 * sum(gains) / len(gains)
    assert order.rewards == pytest.approx(expected, rel=1e-4)
    chain = [expected[k] for k in ("demonstrations", "fresh", "round-1", "round-0")]
    right = sum(a > b for a, b in itertools.pairwise(chain))
    assert order.ordered == pytest.approx(right / 3)


def test_originals_are_not_in_the_order(work: Work) -> None:
    """An edited demonstration's original is no round, so the order leaves it out."""
    original = replace(work.demo_rows[0], round=-2)
    before = implicit_order(work, samples(work, 2), 0.0).rewards
    work.progress.rows = [*work.progress.rows, original]
    assert implicit_order(work, samples(work, 2), 0.0).rewards == before


def test_scoring_tells_and_remembers(work: Work) -> None:
    """A candidate's scores are told as events and kept for the choice, numbers alone."""
    told = list(score_candidate(work, "round-2", samples(work, 2)))
    assert [type(e) for e in told] == [CandidateScored, OrderMeasured]
    kept = work.progress.candidates["round-2"]
    assert kept["scores"] == told[0].scores
    assert kept["scores"]["ordered"] == told[1].ordered
    assert all(isinstance(v, float) for v in kept["scores"].values())


# ---- style -----------------------------------------------------------------------------------

VOICE = [
    "Hiya!! potluck is off :(\n\nlove, Jo",
    "Hiya!! seminar moved to 3\n\nlove, Jo",
    "Hiya!! bring your notes\n\nlove, Jo",
]


def test_style_ranks_closeness() -> None:
    """A text in the voice is closer than one in none, and that closer than one in another."""
    near = style_distance(["Hiya!! the lab is shut\n\nlove, Jo"], VOICE)
    plain = style_distance(["Hi, the lab is shut. Jo"], VOICE)
    far = style_distance(["DEAR SIR OR MADAM,\n- ONE\n- TWO\n\nYOURS FAITHFULLY,\nX" * 3], VOICE)
    assert near < plain < far


def test_no_samples_are_far() -> None:
    """Without samples the distance is 1."""
    assert style_distance([], VOICE) == 1.0


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["a b c d"], 1.0),
        (["a b a b"], 2 / 3),
        (["a b a b", "a b c d"], 5 / 6),
        (["x"], 1.0),
        ([], 0.0),
        (["こんにちは" * 4], 5 / 19),
    ],
)
def test_distinct(texts: list[str], expected: float) -> None:
    """distinct-2 is the share of different word pairs, or of characters where no spaces are."""
    assert distinct(texts) == pytest.approx(expected)
