"""Eq. 2 of the paper: comparisons drawn from D_E > D_t > D_{t-1} > ... > D_0; lists in, lists out.

A row is known by its index in one list of all rows: demonstrations first, then rollouts in the
order they were sampled. A comparison's winner and loser always answer the same demonstration's
prompt, by the demonstration's index and never by prompt text: two demonstrations may share one.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

KINDS = ("online", "replay", "intermodel", "edit")


@dataclass(frozen=True)
class Ranked:
    """Say where a row stands in the ranking.

    Args:
        row: its index in the list of all rows.
        demo: index of the demonstration whose prompt it answers.
        rank: -1 for a demonstration, t for a rollout of round t, -2 for an original that the user
            edited into the demonstration.
    """

    row: int
    demo: int
    rank: int


@dataclass(frozen=True)
class Comparison:
    """Say that row `winner` is preferred over row `loser`, and of which kind the pair is."""

    winner: int
    loser: int
    kind: str


def comparisons(rows: Sequence[Ranked], newest: int) -> dict[str, list[Comparison]]:
    """Return every comparison that the ranking holds, by kind.

    Args:
        rows: all rows that may be compared; near-duplicates are left out by the caller.
        newest: t of the newest samples, whose comparisons are online.

    Returns:
        kind -> its comparisons; a kind that has none is there with an empty list.

    Source: paper, eq. 2 and section 3.2; intermodel pairs take every j > i.
    """
    by_demo: dict[int, list[Ranked]] = {}
    for row in rows:
        by_demo.setdefault(row.demo, []).append(row)
    found: dict[str, list[Comparison]] = {kind: [] for kind in KINDS}
    for group in by_demo.values():
        experts = [r for r in group if r.rank == -1]
        samples = [r for r in group if r.rank >= 0]
        for expert, loser in product(experts, [r for r in group if r.rank != -1]):
            kind = "edit" if loser.rank == -2 else "online" if loser.rank == newest else "replay"
            found[kind].append(Comparison(expert.row, loser.row, kind))
        for winner, loser in product(samples, samples):
            if winner.rank > loser.rank:
                found["intermodel"].append(Comparison(winner.row, loser.row, "intermodel"))
    return found


def present_shares(
    shares: Mapping[str, float], pools: Mapping[str, Sequence[object]]
) -> dict[str, float]:
    """Divide the shares of empty kinds among the others in proportion.

    Returns:
        kind -> share, for kinds with pairs and a share above 0, summing to 1; empty if there is
        none.
    """
    alive = {kind: shares.get(kind, 0.0) for kind in KINDS if pools.get(kind)}
    total = sum(alive.values())
    return {kind: share / total for kind, share in alive.items() if share > 0} if total else {}


def pair_counts(shares: Mapping[str, float], pairs: int) -> Iterator[dict[str, int]]:
    """Yield, step by step, how many comparisons of each kind a batch takes.

    What rounding withholds from a kind in one step it gets in a later one: after any number of
    steps every kind is less than one pair from its exact share, and on it wherever that is whole.

    Args:
        shares: kind -> share, summing to 1.
        pairs: comparisons a batch (B).
    """
    owed = dict.fromkeys(shares, 0.0)
    while True:
        for kind in owed:
            owed[kind] += shares[kind] * pairs
        counts = {kind: max(0, int(value + 1e-9)) for kind, value in owed.items()}
        by_rest = sorted(owed, key=lambda kind: (counts[kind] - owed[kind], KINDS.index(kind)))
        for kind in by_rest[: pairs - sum(counts.values())]:
            counts[kind] += 1
        for kind in owed:
            owed[kind] -= counts[kind]
        yield counts


def draw(
    pools: Mapping[str, Sequence[Comparison]], counts: Mapping[str, int], rng: random.Random
) -> list[Comparison]:
    """Draw a batch: each kind uniformly over its pairs, without replacement while they last."""
    batch: list[Comparison] = []
    for kind, count in counts.items():
        pool = list(pools[kind])
        whole, rest = divmod(count, len(pool))
        batch += pool * whole + rng.sample(pool, rest)
    return batch
