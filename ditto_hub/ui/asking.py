"""Who asks for which run, in the steps after training; and what is written for them, one at a time.

Also the names that methods have in these steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from ditto_hub import api
from ditto_hub.api.trials import Write, comparable_methods
from ditto_hub.runs import Run
from ditto_hub.ui import bases
from ditto_hub.ui.render import candidate_name
from ditto_hub.ui.session import Shared, Visitor, own_run, token_of, visitor
from ditto_hub.ui.words import say

WORDS = {
    "method.zero-shot": "Base model (zero-shot)",
    "method.few-shot": "Few-shot: your examples in its prompt",
    "method.self-prompt": "Your own prompt (self-prompt)",
    "method.sft": "SFT (warm start)",
    "method.sft-long": "SFT, continued",
    "method.round": "DITTO, round {n}",
    "method.ditto": "DITTO",
    "method.kept": "{name}, kept",
}
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
# What writes loads a model: one at a time on this machine, the others wait in Gradio's queue.
WRITING: dict[str, Any] = {
    "concurrency_id": "model",
    "concurrency_limit": 1,
    "api_visibility": "private",
}


def asked(
    run_id: str, secret: str, request: gr.Request, profile: gr.OAuthProfile | None
) -> tuple[Visitor, Run]:
    """Return who asks, and that visitor's own run.

    Raises:
        RunError: there is none of that id, or it is another's.
    """
    asking = visitor(request, profile, secret)
    return asking, own_run(run_id, asking)


def writer(shared: Shared, run: Run, asking: Visitor, token: gr.OAuthToken | None) -> Write:
    """Return what writes texts for a visitor: here, or in one lease."""

    def write(requests: Sequence[api.WriteRequest]) -> list[list[str]]:
        return bases.write(run, requests, shared.profile, asking.owner, token_of(token))

    return write


def short(text: str | None, shared: Shared) -> str:
    """Cut a text at the profile's cap, which the box enforces only in an honest browser."""
    return (text or "")[: shared.profile.max_text_chars or None]


def method_name(method: str, locale: str) -> str:
    """Return a method's name in words."""
    if method.startswith("round-"):
        return say("method.round", locale, n=method.removeprefix("round-"))
    key = f"method.{method}"
    return say(key, locale) if key in WORDS else candidate_name(method, locale)


def method_choices(run: Run, locale: str) -> list[tuple[str, str]]:
    """Return (words, name) of each method that a run can be compared by; the kept one says so."""
    found = []
    for method in comparable_methods(run):
        name = method_name(method, locale)
        kept = method == run.record.chosen
        found.append((say("method.kept", locale, name=name) if kept else name, method))
    return found


def offer_of(run: Run) -> str:
    """Return what changes when there is more to choose from: another run, or a new candidate."""
    return " ".join([run.record.id, *sorted(run.candidates())])


def usual_methods(run: Run) -> list[str]:
    """Return the methods that are ticked at first: the baselines and the kept one."""
    have = comparable_methods(run)
    wanted = ["zero-shot", "few-shot", "sft", run.record.chosen or have[-1]]
    return [m for m in dict.fromkeys(wanted) if m in have]
