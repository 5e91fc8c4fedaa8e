"""What the steps after training write for a visitor, and the names that methods have there."""

from __future__ import annotations

from collections.abc import Sequence

from ditto_hub import api
from ditto_hub.api.trials import Write, comparable_methods
from ditto_hub.runs.folder import Run
from ditto_hub.ui.html.render import candidate_name
from ditto_hub.ui.serving import base_models
from ditto_hub.ui.serving.events import Asker
from ditto_hub.ui.serving.session import Shared
from ditto_hub.words import known, say


def writer(shared: Shared, run: Run, asker: Asker) -> Write:
    """Return what writes texts for a visitor: here, or in one lease."""
    owner = asker.visitor.owner

    def write(requests: Sequence[api.WriteRequest]) -> list[list[str]]:
        return base_models.write(run, requests, shared.profile, owner, asker.hub_token)

    return write


def short(text: str | None, shared: Shared) -> str:
    """Cut a text at the profile's cap, which the box enforces only in an honest browser."""
    return (text or "")[: shared.profile.max_text_chars or None]


def method_name(method: str, locale: str) -> str:
    """Return a method's name in words."""
    if method.startswith("round-"):
        return say("method.round", locale, n=method.removeprefix("round-"))
    key = f"method.{method}"
    return say(key, locale) if known(key) else candidate_name(method, locale)


def method_choices(run: Run, locale: str) -> list[tuple[str, str]]:
    """Return (words, name) of each method that a run can be compared by; the kept one says so."""
    found = []
    for method in comparable_methods(run):
        name = method_name(method, locale)
        kept = method == run.record.chosen
        found.append((say("method.kept", locale, name=name) if kept else name, method))
    return found


def version_choices(run: Run, locale: str) -> list[tuple[str, str]]:
    """Return (words, name) of each candidate that is there, the newest round last."""
    return [
        (words, name) for words, name in method_choices(run, locale) if name in run.candidates()
    ]


def offer_of(run: Run) -> str:
    """Return what changes when there is more to choose from: another run, or a new candidate."""
    return " ".join([run.record.id, *sorted(run.candidates())])


def usual_methods(run: Run) -> list[str]:
    """Return the methods that are ticked at first: the baselines and the kept one."""
    have = comparable_methods(run)
    wanted = ["zero-shot", "few-shot", "sft", run.record.chosen or have[-1]]
    return [m for m in dict.fromkeys(wanted) if m in have]
