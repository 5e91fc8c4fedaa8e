"""In which regime DITTO is right, and where SFT or few-shot prompting is: what was measured of it.

A run's own comparison goes first: `prompting_ahead` says where a prompt did better than the adapter
that was kept. What `advice` says of the embedded base model are figures of benchmarks/quality.py: a
total is the share of a persona's traits that a text shows times the share of the content it has
right, a mean over personas that no setting was chosen on. They are in guidance.json, which
`benchmarks/quality.py --advise` writes; tests/test_quality.py counts them again from the committed
results. Runs on any other base model are told what was measured on a real one (real_authors.py).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ditto_hub.evaluation.real_authors import label, read_real_figures, real_advice, scored
from ditto_hub.runs.results import Evaluation
from ditto_hub.runs.storage import to_json_bytes, write_atomic
from ditto_hub.validation import validated
from ditto_hub.words import Message, Text, chained

FIGURES = Path(__file__).with_name("guidance.json")
METHODS = ("few-shot", "sft", "sft-long", "ditto")
PROMPTING = ("zero-shot", "few-shot", "self-prompt", "style-guide")


@dataclass(frozen=True)
class Regime:
    """Hold what was measured in one regime.

    Args:
        trained: demonstrations trained on.
        voice: own (some variety), template or varied.
        totals: method -> mean total.
        ahead: method -> 95 % interval of DITTO's total minus that method's.
        personas: clusters behind the means.
        runs: runs behind them.
    """

    trained: int
    voice: str
    totals: Mapping[str, float]
    ahead: Mapping[str, tuple[float, float]]
    personas: int
    runs: int


def read_figures(path: Path = FIGURES) -> tuple[Regime, ...]:
    """Return what was measured; `write_figures` has written it."""
    rows = json.loads(path.read_text("utf-8"))["regimes"]
    return tuple(validated(Regime, row) for row in rows)


def write_figures(regimes: Sequence[Regime], source: str, path: Path = FIGURES) -> None:
    """Write what was measured, with the committed file that it was counted from."""
    told = {"source": source, "regimes": [asdict(regime) for regime in regimes]}
    write_atomic(path, to_json_bytes(told))


MEASURED: tuple[Regime, ...] = read_figures()


def nearest(trained: int, measured: Sequence[Regime] = MEASURED) -> Regime | None:
    """Return the regime of a voice as people have them whose demonstrations are nearest in number.

    Args:
        trained: demonstrations trained on.
    """
    own = [regime for regime in measured if regime.voice == "own"]
    return min(own, key=lambda r: abs(math.log(r.trained / max(1, trained))), default=None)


def advice(
    trained: int, base_model: str = "pocket", measured: Sequence[Regime] = MEASURED
) -> tuple[Text, ...]:
    """Say which method was right where it was measured, and where that is known to change.

    Args:
        trained: demonstrations trained on.
        base_model: id; pocket's figures are for pocket alone.

    Returns:
        Texts; none where nothing was measured.
    """
    if base_model != "pocket":
        return real_advice(read_real_figures())
    found = nearest(trained, measured)
    if found is None:
        return ()
    return (say(found), *(say(r) for r in measured if r.voice != "own" and r.trained == 4))


def say(regime: Regime) -> Text:
    """Put a regime into words: the scores, and which differences to DITTO are resolved."""
    scores = {m: regime.totals[m] for m in METHODS if m in regime.totals}
    verdicts = {
        "evaluation.regime_better": [m for m, (low, _) in regime.ahead.items() if low > 0],
        "evaluation.regime_worse": [m for m, (_, high) in regime.ahead.items() if high < 0],
        "evaluation.regime_even": [
            m for m, (low, high) in regime.ahead.items() if low <= 0 <= high
        ],
    }
    demos = Message("demos.one" if regime.trained == 1 else "demos.many", count=regime.trained)
    return chained(
        "words.then",
        [
            Message(
                f"evaluation.regime.{regime.voice}",
                demos=demos,
                scores=scored(scores),
                personas=regime.personas,
            ),
            *(
                Message(code, methods=chained("words.and", map(label, methods)))
                for code, methods in verdicts.items()
                if methods
            ),
        ],
    )


def prompting_ahead(evaluations: Iterable[Evaluation], candidate: str) -> tuple[Text, ...]:
    """Say where the base model with a prompt alone scored higher than an adapter.

    Args:
        evaluations: of the run; those that are no results are passed over.
        candidate: whose adapter.

    Returns:
        A text a judge and prompting method that is ahead; none where none is.
    """
    return tuple(
        said
        for found in evaluations
        if found.reportable
        for method in PROMPTING
        if (said := _ahead(found, method, candidate))
    )


def _ahead(found: Evaluation, method: str, candidate: str) -> Text:
    """Compare by mean marks where the judge gives any, else by how often each was preferred."""
    mine = found.method_of(candidate)
    scores = {s.method: s.mean for s in found.scores if s.mark == "total"}
    pair = next((r for r in found.win_rates if {r.method, r.against} == {method, mine}), None)
    if method in scores and mine in scores:
        its, own = scores[method], scores[mine]
        marks = Message("evaluation.ahead_marks", its=its, own=own)
    elif pair:
        its, own = (pair.rate, 1 - pair.rate)[:: 1 if pair.method == method else -1]
        marks = Message("evaluation.ahead_share", share=its)
    else:
        return ""
    if its <= own:
        return ""
    return Message(
        "evaluation.ahead",
        method=Message(f"evaluation.prompting.{method}"),
        candidate=candidate,
        judge=found.judge,
        marks=marks,
        prompts=sum(not prompt.seen for prompt in found.prompts),
        unsure="" if pair and not pair.unresolved else Message("evaluation.ahead_unsure"),
    )
