"""Win rates with intervals, from judged pairs; means with intervals, from ratings.

Ties count as half a win. Texts that answer one prompt are not independent, so the interval is
clustered: by prompt, or by whatever the caller names (the benchmark clusters by persona).
Nothing here draws a number that the seed does not fix.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import combinations

from ditto_hub.runs.results import OTHERS, JudgedPair, Rating, Score, WinRate

Z_95 = 1.959963984540054
FEW_CLUSTERS = 10  # below it a bootstrap over clusters is too narrow, and Wilson's is taken
SMALL_SAMPLE = 20  # prompts (clusters) below which a result is called small
RESAMPLES = 2000

Cluster = Callable[[str], str]
Point = tuple[str, float]  # cluster, and 1 for a win, 0.5 for a tie, 0 for a loss


def wilson(rate: float, n: int) -> tuple[float, float]:
    """Return Wilson's 95 % score interval of a share.

    Args:
        rate: from 0 to 1.
        n: independent observations; with none the interval is 0 to 1.

    Source: Wilson 1927, Journal of the American Statistical Association 22, 209.
    """
    if n <= 0:
        return 0.0, 1.0
    z2 = Z_95**2
    middle = (rate + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 / (1 + z2 / n) * math.sqrt(rate * (1 - rate) / n + z2 / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def cluster_bootstrap(
    groups: Sequence[Sequence[float]], seed: int = 0, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """Return the 95 % percentile interval of the mean when whole groups are drawn again.

    Args:
        groups: the values of each cluster, at least one cluster.
        seed: the same seed gives the same interval on every machine.
        resamples: draws with replacement.
    """
    generator = random.Random(seed)
    sums = [(sum(group), len(group)) for group in groups]
    means = []
    for _ in range(resamples):
        drawn = generator.choices(sums, k=len(sums))
        means.append(sum(total for total, _ in drawn) / sum(count for _, count in drawn))
    means.sort()
    return means[int(0.025 * resamples)], means[min(int(0.975 * resamples), resamples - 1)]


def interval(points: Iterable[Point], seed: int = 0) -> tuple[float, float, str]:
    """Return the 95 % interval of a mean of shares, and how it was found.

    Wilson's where each cluster has one value, where there are few clusters, or where all clusters
    agree, with the clusters as its n: a cluster's mean varies no more than a coin, so that is on
    the safe side. Otherwise a bootstrap over clusters.
    """
    groups: dict[str, list[float]] = defaultdict(list)
    for cluster, value in points:
        groups[cluster].append(value)
    if not groups:
        return 0.0, 1.0, "wilson"
    values = [value for group in groups.values() for value in group]
    mean = sum(values) / len(values)
    if len(groups) >= FEW_CLUSTERS and len(groups) < len(values):
        low, high = cluster_bootstrap(list(groups.values()), seed)
        if low < high:
            return low, high, "bootstrap"
    return *wilson(mean, len(groups)), "wilson"


def win_rate(
    pairs: Iterable[JudgedPair],
    method: str,
    against: str = OTHERS,
    *,
    seed: int = 0,
    cluster: Cluster = str,
) -> WinRate:
    """Count how often a method was preferred.

    Args:
        pairs: judged; those of other methods are left out.
        method: whose rate.
        against: one other method, or `OTHERS`.
        seed: of the bootstrap.
        cluster: prompt id -> the cluster it belongs to; each prompt is its own by default.

    Returns:
        The rate with its interval; rate 0.5 from 0 to 1 where no pair was usable.
    """
    points: list[Point] = []
    prompts = set()
    void = 0
    for pair in pairs:
        if method not in (pair.a, pair.b) or against not in (OTHERS, pair.a, pair.b):
            continue
        value = _points_of(pair, method)
        if value is None:
            void += 1
        else:
            prompts.add(pair.prompt_id)
            points.append((cluster(pair.prompt_id), value))
    low, high, how = interval(points, seed)
    values = [value for _, value in points]
    rate = sum(values) / len(values) if values else 0.5
    return WinRate(
        method=method,
        against=against,
        wins=values.count(1.0),
        ties=values.count(0.5),
        losses=values.count(0.0),
        n=len(values),
        void=void,
        rate=rate,
        low=low,
        high=high,
        prompts=len(prompts),
        interval=how,
        small=len({name for name, _ in points}) < SMALL_SAMPLE,
    )


def all_win_rates(
    pairs: Sequence[JudgedPair],
    methods: Sequence[str],
    *,
    seed: int = 0,
    cluster: Cluster = str,
) -> tuple[WinRate, ...]:
    """Return each method against all others, then each pair of methods, in the methods' order.

    Combinations that no pair was judged for are left out.
    """
    wanted = [(m, OTHERS) for m in methods] + list(combinations(methods, 2))
    found = (win_rate(pairs, a, b, seed=seed, cluster=cluster) for a, b in wanted)
    return tuple(rate for rate in found if rate.n + rate.void)


def turn(rate: WinRate) -> WinRate:
    """Return the same comparison of two methods from the other one's side."""
    return replace(
        rate,
        method=rate.against,
        against=rate.method,
        wins=rate.losses,
        losses=rate.wins,
        rate=1 - rate.rate,
        low=1 - rate.high,
        high=1 - rate.low,
    )


def mean_scores(
    ratings: Iterable[Rating],
    methods: Sequence[str],
    *,
    seed: int = 0,
    cluster: Cluster = str,
) -> tuple[Score, ...]:
    """Return the mean of each mark for each method, with intervals clustered by prompt."""
    table: dict[tuple[str, str], list[Point]] = defaultdict(list)
    for rating in ratings:
        for mark, value in rating.marks.items():
            table[rating.method, mark].append((cluster(rating.prompt_id), value))
    rows = [(m, mark) for m in methods for name, mark in table if name == m]
    return tuple(_score(method, mark, table[method, mark], seed) for method, mark in rows)


def _points_of(pair: JudgedPair, method: str) -> float | None:
    verdict = pair.verdict
    if verdict is None or verdict == "tie":
        return None if verdict is None else 0.5
    return 1.0 if (pair.a if verdict == "a" else pair.b) == method else 0.0


def _score(method: str, mark: str, points: Sequence[Point], seed: int) -> Score:
    groups: dict[str, list[float]] = defaultdict(list)
    for name, value in points:
        groups[name].append(value)
    values = [value for _, value in points]
    mean = sum(values) / len(values)
    low, high = mean_interval(list(groups.values()), seed)
    return Score(method, mark, mean, low, high, len(values), len(groups))


def mean_interval(
    groups: Sequence[Sequence[float]], seed: int = 0
) -> tuple[float | None, float | None]:
    """Return a 95 % interval of a mean: Student's t over few clusters, none over one.

    Args:
        groups: the values of each cluster.
        seed: of the bootstrap over ten clusters and more.
    """
    if len(groups) >= FEW_CLUSTERS:
        return cluster_bootstrap(groups, seed)
    if len(groups) < 2:
        return None, None
    means = [sum(group) / len(group) for group in groups]
    centre = sum(means) / len(means)
    variance = sum((m - centre) ** 2 for m in means) / (len(means) - 1)
    half = _STUDENT_T[len(groups) - 2] * math.sqrt(variance / len(groups))
    return centre - half, centre + half


# Student's t, two-sided 95 %, for 1 to 8 degrees of freedom.
_STUDENT_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306)
