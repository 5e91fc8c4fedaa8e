"""What an evaluation says, for whoever shows it: tables, plots, sentences, prompts from a file."""

from __future__ import annotations

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
    "to_text",
    "turn",
]
