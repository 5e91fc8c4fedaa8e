"""What was measured on a real language model and real authors, for runs on any base but pocket.

The figures are in real_authors.json, which `benchmarks/authors.py --advise` writes from committed
rows; tests/test_authors.py counts them again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from ditto_hub.runs.storage import to_json_bytes, write_atomic
from ditto_hub.validation import validated
from ditto_hub.words import Message, Text, chained

FIGURES = Path(__file__).with_name("real_authors.json")
METHODS = ("zero-shot", "few-shot", "sft", "sft-long", "ditto", "ditto-few-shot")


@dataclass(frozen=True)
class RealFigures:
    """Hold what a benchmark on real authors found.

    Args:
        source: the committed file of rows.
        model: the base model's name.
        texts: demonstrations of an author.
        authors: behind each mean.
        index: method -> mean index, from 0 to 1 (benchmarks/authors_judges.py).
        over_prompting: method -> 95 % interval of its index less few-shot prompting's.
    """

    source: str
    model: str
    texts: int
    authors: int
    index: Mapping[str, float]
    over_prompting: Mapping[str, tuple[float, float]]


def read_real_figures(path: Path = FIGURES) -> RealFigures:
    """Return what was measured."""
    return validated(RealFigures, json.loads(path.read_text("utf-8")))


def write_real_figures(found: RealFigures, path: Path = FIGURES) -> None:
    """Write what was measured."""
    write_atomic(path, to_json_bytes(asdict(found)))


def real_advice(found: RealFigures) -> tuple[Message, ...]:
    """Say what was measured on real authors, and whether prompting with the examples was better."""
    return (
        Message(
            "evaluation.real.figures",
            model=found.model, texts=found.texts, authors=found.authors,
            scores=scored({m: found.index[m] for m in METHODS if m in found.index}),
        ),
        Message(_verdict(*found.over_prompting["ditto"])),
        Message("evaluation.real.own"),
    )  # fmt: skip


def label(method: str) -> Message:
    """Return a method's name in words."""
    return Message(f"evaluation.label.{method}")


def scored(scores: Mapping[str, float]) -> Text:
    """List methods with their scores."""
    several = (Message("evaluation.scored", method=label(m), score=s) for m, s in scores.items())
    return chained("words.list", several)


def _verdict(low: float, high: float) -> str:
    if high < 0:
        return "evaluation.real.prompting_better"
    return "evaluation.real.ditto_better" if low > 0 else "evaluation.real.no_difference"
