"""What an evaluation says, for whoever shows it: tables, plots, sentences, prompts from a file."""

from __future__ import annotations

from ditto_hub.evaluation.degeneration import spoiled
from ditto_hub.evaluation.guidance import advice, prompting_ahead
from ditto_hub.evaluation.methods import RIVALS
from ditto_hub.evaluation.prompts import read_prompts
from ditto_hub.evaluation.report import (
    headline,
    plot_by_round,
    plot_win_rates,
    remarks,
    rows,
    to_text,
)
from ditto_hub.evaluation.winrate import turn
from ditto_hub.runs.folder import Run
from ditto_hub.runs.storage import from_jsonl

__all__ = [
    "RIVALS",
    "advice",
    "headline",
    "plot_by_round",
    "plot_win_rates",
    "prompting_ahead",
    "read_prompts",
    "remarks",
    "rows",
    "spoiled_texts",
    "to_text",
    "turn",
]


def spoiled_texts(run: Run, candidate: str) -> tuple[dict[str, int], int]:
    """Count what has gone wrong with the texts that a candidate wrote while it was trained.

    Returns:
        What `degeneration.spoiled` counts, and how many texts there are.
    """
    file = "round-0" if candidate == "sft" else candidate
    path = run.folder / "rollouts" / f"{file}.jsonl"
    texts = [str(row["text"]) for row in (from_jsonl(path) if path.is_file() else [])]
    return spoiled(texts, [demo.completion for demo in run.demos()]), len(texts)
