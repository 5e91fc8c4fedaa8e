"""Eq. 2: which comparisons there are, in which shares they are drawn, and by what chance."""

from __future__ import annotations

import random
from collections import Counter
from itertools import islice

import pytest

from ditto_hub.ditto.ranking import (
    Comparison,
    Ranked,
    comparisons,
    draw,
    pair_counts,
    present_shares,
)

PAPER = {"online": 0.7, "replay": 0.2, "intermodel": 0.1}
# Two demonstrations (rows 0 and 1), which may well share a prompt, with one sample each of rounds
# 0, 1 and 2.
ROWS = [
    Ranked(row=0, demo=0, rank=-1),
    Ranked(row=1, demo=1, rank=-1),
    Ranked(row=2, demo=0, rank=0),
    Ranked(row=3, demo=1, rank=0),
    Ranked(row=4, demo=0, rank=1),
    Ranked(row=5, demo=1, rank=1),
    Ranked(row=6, demo=0, rank=2),
    Ranked(row=7, demo=1, rank=2),
]


def edges(rows: list[Ranked], newest: int) -> dict[str, set[tuple[int, int]]]:
    pools = comparisons(rows, newest)
    assert all(p.kind == kind for kind, pool in pools.items() for p in pool)
    assert all(len(pool) == len(set(pool)) for pool in pools.values())
    return {kind: {(p.winner, p.loser) for p in pool} for kind, pool in pools.items()}


def test_pools_of_the_last_round() -> None:
    """Online over the newest, replay over the older, intermodel for every j > i, as by hand."""
    assert edges(ROWS, 2) == {
        "online": {(0, 6), (1, 7)},
        "replay": {(0, 2), (0, 4), (1, 3), (1, 5)},
        "intermodel": {(4, 2), (6, 2), (6, 4), (5, 3), (7, 3), (7, 5)},
        "edit": set(),
    }


def test_pools_of_the_first_round() -> None:
    """In round 0 only online comparisons exist."""
    assert edges(ROWS[:4], 0) == {
        "online": {(0, 2), (1, 3)},
        "replay": set(),
        "intermodel": set(),
        "edit": set(),
    }


def test_demonstrations_of_one_prompt_stay_apart() -> None:
    """Rows meet by their demonstration's index alone: no comparison crosses over."""
    demo_of = {r.row: r.demo for r in ROWS}
    found = [edge for pool in edges(ROWS, 2).values() for edge in pool]
    assert all(demo_of[winner] == demo_of[loser] for winner, loser in found)


def test_samples_of_one_round_are_equals() -> None:
    """Two samples of the same round are not compared with each other."""
    rows = [*ROWS[:4], Ranked(row=8, demo=0, rank=0)]
    assert edges(rows, 0)["intermodel"] == set()
    assert edges(rows, 0)["online"] == {(0, 2), (0, 8), (1, 3)}


def test_original_of_an_edit() -> None:
    """A demonstration beats the output it was edited from, and nothing else meets that output."""
    rows = [*ROWS, Ranked(row=9, demo=1, rank=-2)]
    assert edges(rows, 2) == {**edges(ROWS, 2), "edit": {(1, 9)}}


def test_no_samples() -> None:
    """Without samples every kind is there, and empty."""
    assert edges(ROWS[:2], 0) == {k: set() for k in ("online", "replay", "intermodel", "edit")}


# ---- shares ------------------------------------------------------------------------------------

POOL = [Comparison(0, 1, "online")]


@pytest.mark.parametrize(
    ("shares", "there", "expected"),
    [
        (PAPER, ["online", "replay", "intermodel"], PAPER),
        (PAPER, ["online"], {"online": 1.0}),
        (PAPER, ["online", "intermodel"], {"online": 0.875, "intermodel": 0.125}),
        (PAPER, ["online", "replay", "intermodel", "edit"], PAPER),
        ({**PAPER, "edit": 1.0}, ["online", "edit"], {"online": 0.7 / 1.7, "edit": 1 / 1.7}),
        ({"online": 7, "replay": 3}, ["online", "replay"], {"online": 0.7, "replay": 0.3}),
        ({"online": 0.0, "replay": 1.0}, ["online"], {}),
        (PAPER, [], {}),
    ],
)
def test_empty_kinds_pass_their_share_on(
    shares: dict[str, float], there: list[str], expected: dict[str, float]
) -> None:
    """What an empty kind would get goes to the others in proportion; the sum is 1."""
    found = present_shares(
        shares, {kind: POOL if kind in there else [] for kind in PAPER | {"edit": 0}}
    )
    assert found == pytest.approx(expected)
    assert list(found) == list(expected)


def totals(shares: dict[str, float], pairs: int, steps: int) -> list[Counter[str]]:
    running: Counter[str] = Counter()
    found = []
    for counts in islice(pair_counts(shares, pairs), steps):
        assert sum(counts.values()) == pairs
        assert min(counts.values()) >= 0
        running.update(counts)
        found.append(Counter(running))
    return found


def test_paper_shares_are_exact() -> None:
    """Every five steps of 24 pairs hold 84 online, 24 replay and 12 intermodel comparisons."""
    after = totals(PAPER, 24, 40)[4::5]
    assert after == [Counter(online=84 * n, replay=24 * n, intermodel=12 * n) for n in range(1, 9)]


def test_first_step_by_hand() -> None:
    """A first batch of 24 rounds 16.8, 4.8 and 2.4 to 17, 5 and 2."""
    assert totals(PAPER, 24, 1) == [Counter(online=17, replay=5, intermodel=2)]


CASES = [
    (PAPER, 24),
    (PAPER, 1),
    ({"online": 1.0}, 24),
    ({"online": 1 / 3, "replay": 1 / 3, "intermodel": 1 / 3}, 7),
    ({"online": 0.6, "replay": 0.2, "intermodel": 0.1, "edit": 0.1}, 5),
    ({"online": 0.96, "replay": 0.02, "intermodel": 0.02}, 3),
]


@pytest.mark.parametrize(("shares", "pairs"), CASES)
def test_never_off_by_a_pair(shares: dict[str, float], pairs: int) -> None:
    """After any number of steps each kind is less than one pair from its exact share."""
    for step, counts in enumerate(totals(shares, pairs, 200), start=1):
        off = [abs(counts[kind] - share * pairs * step) for kind, share in shares.items()]
        assert max(off) < 1


def test_never_off_by_a_pair_for_any_shares() -> None:
    """The same for five hundred shares drawn at random."""
    rng = random.Random(0)
    for _ in range(500):
        weights = {k: rng.random() ** 3 + 1e-6 for k in ("online", "replay", "intermodel", "edit")}
        shares = {k: w / sum(weights.values()) for k, w in weights.items()}
        pairs = rng.choice([1, 2, 5, 24])
        for step, counts in enumerate(totals(shares, pairs, 30), start=1):
            assert all(abs(counts[k] - s * pairs * step) < 1 for k, s in shares.items())


# ---- drawing -----------------------------------------------------------------------------------


def pool_of(n: int, kind: str = "online") -> list[Comparison]:
    return [Comparison(0, i + 1, kind) for i in range(n)]


def test_drawn_without_replacement() -> None:
    """While a pool lasts, a batch holds no comparison twice."""
    for seed in range(50):
        batch = draw({"online": pool_of(10)}, {"online": 9}, random.Random(seed))
        assert len(set(batch)) == 9


def test_a_small_pool_is_used_evenly() -> None:
    """A pool smaller than its count is used up before anything in it comes again."""
    batch = draw({"online": pool_of(5)}, {"online": 13}, random.Random(0))
    assert sorted(Counter(batch).values()) == [2, 2, 3, 3, 3]


def test_kinds_come_in_their_counts() -> None:
    """A batch holds as many of each kind as it was told."""
    pools = {"online": pool_of(9), "replay": pool_of(9, "replay")}
    batch = draw(pools, {"online": 5, "replay": 3}, random.Random(0))
    assert Counter(p.kind for p in batch) == {"online": 5, "replay": 3}


def test_a_count_of_none() -> None:
    """A kind that gets nothing in a batch is not in it."""
    assert draw({"online": pool_of(2)}, {"online": 0}, random.Random(0)) == []


def test_same_seed_same_batch() -> None:
    """The random state alone decides, and another one decides otherwise."""
    one, again, other = (
        draw({"online": pool_of(50)}, {"online": 10}, random.Random(seed)) for seed in (1, 1, 2)
    )
    assert one == again != other


def test_each_comparison_is_as_likely() -> None:
    """Over many batches every comparison of a kind is drawn about as often as any other."""
    rng = random.Random(0)
    counts = Counter(
        p for _ in range(4000) for p in draw({"online": pool_of(8)}, {"online": 2}, rng)
    )
    assert len(counts) == 8
    assert all(900 < n < 1100 for n in counts.values())  # 1,000 expected, deviation 27
