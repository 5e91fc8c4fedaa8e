"""What the quality benchmark says: estimates with intervals, the paper's figures, plain verdicts.

Pure: numbers in, words out. An estimate is a mean over personas; runs and texts of one persona are
not independent, so its interval comes from whole personas drawn again (bootstrap), or from
Student's t over personas where there are fewer than ten.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ditto_hub.evaluation.winrate import mean_interval

AGREES, DISAGREES, UNTOLD = "agrees", "disagrees", "cannot tell with this n"
LEAST_LIFT = 0.3  # few-shot's over zero-shot in persona score; below it the table is void

# Win rates in per cent (PAPER.md): CMCC, CCAT50; the mean of the two is what is compared.
PAPER_WINS = {
    "ditto": (71.67, 82.50),
    "sft": (56.78, 73.89),
    "spin": (51.56, 62.13),
    "few-shot": (46.89, 40.37),
}
PAPER_ABLATIONS = {"reference": 45.8, "once": 57.3, "no-replay": 63.6, "no-intermodel": 68.1}
PAPER_FULL = 70.1


@dataclass(frozen=True)
class Estimate:
    """Hold a mean with its 95 % interval over personas.

    Args:
        mean: over all runs, each persona counting alike.
        low: of the interval; None with one persona.
        high: likewise.
        personas: clusters behind it.
        runs: values behind it.
    """

    mean: float
    low: float | None
    high: float | None
    personas: int
    runs: int

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.mean:+.3f} (one persona)"
        return f"{self.mean:+.3f} ({self.low:+.3f} to {self.high:+.3f})"


@dataclass(frozen=True)
class Claim:
    """Hold a claim beside what was found.

    Args:
        name: what is claimed, in words.
        paper: its figure, in the paper's own unit, or "-" for a target of this project.
        found: ours.
        verdict: agrees, disagrees, or cannot tell with this n.
        unit: of ours.
    """

    name: str
    paper: str
    found: Estimate
    verdict: str
    unit: str = "difference in total"


def estimate(points: Iterable[tuple[object, float]]) -> Estimate | None:
    """Return the mean of (persona, value) with its interval over personas; None without values.

    >>> estimate([(1, 0.0), (1, 1.0), (2, 1.0)])
    Estimate(mean=0.75, low=-2.4265, high=3.9265, personas=2, runs=3)
    """
    groups: dict[object, list[float]] = {}
    for persona, value in points:
        groups.setdefault(persona, []).append(value)
    if not groups:
        return None
    means = [[statistics.fmean(values)] for _, values in sorted(groups.items(), key=str)]
    low, high = mean_interval(means, 0)
    return Estimate(
        mean=statistics.fmean(m for (m,) in means),
        low=None if low is None else round(low, 5),
        high=None if high is None else round(high, 5),
        personas=len(groups),
        runs=sum(map(len, groups.values())),
    )


def verdict(found: Estimate | None, bar: float = 0.0, above: bool = True) -> str:
    """Say whether an estimate agrees with a claim that the truth lies above (or below) a bar.

    It agrees where the whole interval lies on the claimed side, disagrees where the whole of it
    lies on the other, and nothing can be told where the interval holds the bar.
    """
    if found is None or found.low is None or found.high is None:
        return UNTOLD
    low, high = (found.low, found.high) if above else (2 * bar - found.high, 2 * bar - found.low)
    if low > bar:
        return AGREES
    return DISAGREES if high < bar else UNTOLD


def claim(
    name: str,
    paper: str,
    points: Iterable[tuple[object, float]],
    *,
    bar: float = 0.0,
    above: bool = True,
    unit: str = "difference in total",
) -> Claim | None:
    """Set (persona, value) points against a claim; None where there are none."""
    found = estimate(points)
    if found is None:
        return None
    return Claim(name, paper, found, verdict(found, bar, above), unit)


def in_paper_direction(claims: Sequence[Claim]) -> int:
    """Count the claims whose mean lies on the paper's side of zero, whatever the interval."""
    return sum(c.found.mean > 0 for c in claims)


def void_reason(lift: Estimate | None) -> str:
    """Return why the table of methods is void, or nothing."""
    if lift is None:
        return "few-shot or zero-shot was not measured"
    if lift.mean < LEAST_LIFT:
        return (
            f"few-shot lifts the persona score by {lift.mean:.3f}, less than {LEAST_LIFT}, so the"
            " base model does not take a voice from its prompt and is no rival"
        )
    return ""
