"""In which regime DITTO is right, and where SFT or few-shot prompting is: what was measured of it.

A run's own comparison goes first: `prompting_ahead` says where a prompt did better than the adapter
that was kept. What `advice` knows are figures of benchmarks/quality.py on the embedded base model,
and nothing else: a total is the share of a persona's traits that a text shows times the share of
the content it has right, a mean over personas that no setting was chosen on. tests/test_quality.py
counts them again from the committed results. On a larger model none of this was measured, and that
is said with it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ditto_hub.results import Evaluation, WinRate

SOURCE = "benchmarks/results/quality-2026-11-25-strength.json"
LABELS = {
    "few-shot": "few-shot prompting",
    "sft": "SFT",
    "sft-long": "SFT continued",
    "ditto": "DITTO",
}


@dataclass(frozen=True)
class Regime:
    """Hold what was measured in one regime.

    Args:
        words: what it is, as it follows "with".
        trained: demonstrations trained on.
        voice: own (some variety), template or varied.
        totals: method -> mean total.
        ahead: method -> 95 % interval of DITTO's total minus that method's.
        personas: clusters behind the means.
        runs: runs behind them.
    """

    words: str
    trained: int
    voice: str
    totals: Mapping[str, float]
    ahead: Mapping[str, tuple[float, float]]
    personas: int
    runs: int


MEASURED: tuple[Regime, ...] = (
    Regime(
        words="one demonstration",
        trained=1,
        voice="own",
        totals={"few-shot": 0.566, "sft": 0.585, "sft-long": 0.756, "ditto": 0.758},
        ahead={"few-shot": (0.169, 0.215), "sft": (0.112, 0.234), "sft-long": (-0.088, 0.093)},
        personas=3,
        runs=3,
    ),
    Regime(
        words="two demonstrations",
        trained=2,
        voice="own",
        totals={"few-shot": 0.547, "sft": 0.571, "sft-long": 0.721, "ditto": 0.762},
        ahead={"few-shot": (0.121, 0.308), "sft": (0.059, 0.323), "sft-long": (-0.073, 0.154)},
        personas=3,
        runs=3,
    ),
    Regime(
        words="four demonstrations",
        trained=4,
        voice="own",
        totals={"few-shot": 0.559, "sft": 0.625, "sft-long": 0.776, "ditto": 0.769},
        ahead={"few-shot": (0.188, 0.229), "sft": (0.122, 0.165), "sft-long": (-0.02, 0.005)},
        personas=12,
        runs=36,
    ),
    Regime(
        words="seven demonstrations",
        trained=7,
        voice="own",
        totals={"few-shot": 0.501, "sft": 0.612, "sft-long": 0.762, "ditto": 0.772},
        ahead={"few-shot": (0.065, 0.477), "sft": (-0.11, 0.429), "sft-long": (-0.086, 0.106)},
        personas=3,
        runs=3,
    ),
    Regime(
        words="four demonstrations of a voice that varies a great deal",
        trained=4,
        voice="varied",
        totals={"few-shot": 0.663, "sft": 0.66, "sft-long": 0.761, "ditto": 0.752},
        ahead={"few-shot": (0.067, 0.107), "sft": (0.074, 0.105), "sft-long": (-0.025, 0.008)},
        personas=12,
        runs=24,
    ),
    Regime(
        words="four demonstrations of a voice that follows one template",
        trained=4,
        voice="template",
        totals={"few-shot": 0.499, "sft": 0.69, "sft-long": 0.8, "ditto": 0.789},
        ahead={"few-shot": (0.036, 0.544), "sft": (0.045, 0.153), "sft-long": (-0.144, 0.121)},
        personas=3,
        runs=3,
    ),
)


def nearest(trained: int, measured: Sequence[Regime] = MEASURED) -> Regime | None:
    """Return the regime of a voice as people have them whose demonstrations are nearest in number.

    Args:
        trained: demonstrations trained on.
    """
    own = [regime for regime in measured if regime.voice == "own"]
    return min(own, key=lambda r: abs(math.log(r.trained / max(1, trained))), default=None)


def advice(
    trained: int, base_model: str = "pocket", measured: Sequence[Regime] = MEASURED
) -> tuple[str, ...]:
    """Say which method is right for so many demonstrations, and where that is known to change.

    Args:
        trained: demonstrations trained on.
        base_model: id; any but pocket is told that nothing was measured on it.

    Returns:
        Sentences; none where nothing was measured.
    """
    found = nearest(trained, measured)
    if found is None:
        return ()
    said = [say(found), *(say(r) for r in measured if r.voice != "own" and r.trained == 4)]
    if base_model == "pocket":
        return tuple(said)
    own = "Measured on the embedded 2 M model only; on this base model, go by its own comparison."
    return (*said, own)


def say(regime: Regime) -> str:
    """Put a regime into a sentence: the scores, and which differences to DITTO are resolved."""
    scores = ", ".join(f"{LABELS[m]} {regime.totals[m]:.2f}" for m in LABELS if m in regime.totals)
    better = [LABELS[m] for m, (low, _) in regime.ahead.items() if low > 0]
    worse = [LABELS[m] for m, (_, high) in regime.ahead.items() if high < 0]
    even = [LABELS[m] for m, (low, high) in regime.ahead.items() if low <= 0 <= high]
    verdicts = [
        f"better than {_list(better)}" if better else "",
        f"worse than {_list(worse)}" if worse else "",
        f"not told apart from {_list(even)}" if even else "",
    ]
    return (
        f"With {regime.words}: {scores} ({regime.personas} personas); DITTO is"
        f" {', '.join(filter(None, verdicts))}."
    )


PROMPTING = {
    "zero-shot": "the bare prompt",
    "few-shot": "few-shot prompting",
    "self-prompt": "the user's own prompt",
    "style-guide": "a style guide that the model wrote",
}


def prompting_ahead(evaluations: Iterable[Evaluation], candidate: str) -> tuple[str, ...]:
    """Say where the base model with a prompt alone scored higher than an adapter.

    Args:
        evaluations: of the run; those that are no results are passed over.
        candidate: whose adapter.

    Returns:
        A sentence a judge and prompting method that is ahead; none where none is.
    """
    return tuple(
        said
        for found in evaluations
        if found.reportable
        for method in PROMPTING
        if (said := _ahead(found, method, candidate))
    )


def _ahead(found: Evaluation, method: str, candidate: str) -> str:
    """Compare by mean marks where the judge gives any, else by how often each was preferred."""
    mine = found.method_of(candidate)
    scores = {s.method: s.mean for s in found.scores if s.mark == "total"}
    pair = next((r for r in found.win_rates if {r.method, r.against} == {method, mine}), None)
    if method in scores and mine in scores:
        its, own = scores[method], scores[mine]
        told = f"{its:.2f} against {own:.2f}"
    elif pair:
        its, own = (pair.rate, 1 - pair.rate)[:: 1 if pair.method == method else -1]
        told = f"preferred in {its:.0%}"
    else:
        return ""
    if its <= own:
        return ""
    prompts = sum(not prompt.seen for prompt in found.prompts)
    sure = "" if pair and _resolved(pair) else ", which is too few to be sure"
    return (
        f"{_capital(PROMPTING[method])} scores higher than the adapter {candidate} under the judge"
        f" {found.judge} ({told}, on {prompts} prompts{sure}): it may serve you as well, with no"
        " adapter."
    )


def _resolved(rate: WinRate) -> bool:
    return rate.low > 0.5 or rate.high < 0.5


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def _list(names: Sequence[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
