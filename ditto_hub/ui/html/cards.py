"""Cards of the page -> demonstrations; plain dicts, because the browser holds them. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ditto_hub import pocket
from ditto_hub.cost.admission import require_demos
from ditto_hub.cost.profiles import Profile
from ditto_hub.demos.demonstrations import AUTHORS, Demonstration, DemoSet

Card = dict[str, Any]
LONGEST_ORIGIN = 40


def new_card(
    prompt: str = "",
    completion: str = "",
    origin: str = "typed",
    draft: str | None = None,
    prompt_by: str = "user",
) -> Card:
    """Return a card. The page gives it an id.

    Args:
        draft: what a model wrote as the completion, edited or not.
        prompt_by: who wrote the prompt; while it is not edited, `written` is the same.
    """
    card = {"prompt": prompt, "completion": completion, "origin": origin, "draft": draft}
    return {**card, "written": None if prompt_by == "user" else prompt, "prompt_by": prompt_by}


def example_cards(name: str) -> list[Card]:
    """Return the cards of an example set that is shipped with the package."""
    lines = pocket.voice_path(name).read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return [new_card(row["prompt"], row["completion"], f"example:{name}") for row in rows]


def example_sets() -> dict[str, list[Card]]:
    """Return the cards of every example set, by its name."""
    return {name: example_cards(name) for name in pocket.voices()}


def is_empty(card: Mapping[str, Any]) -> bool:
    """Return whether nothing has been written on a card yet."""
    return not card["prompt"].strip() and not card["completion"].strip()


def edited_from(card: Mapping[str, Any]) -> str | None:
    """Return what a model wrote where the person changed it, else None."""
    draft: str | None = card["draft"]
    return draft if draft and draft != card["completion"] else None


def lacks_prompt(card: Mapping[str, Any]) -> bool:
    """Return whether a card has a text and no prompt."""
    return bool(card["completion"].strip()) and not card["prompt"].strip()


def author_of(card: Mapping[str, Any]) -> Any:
    """Return who wrote a card's prompt: the person, once it is edited."""
    mine = card["written"] != card["prompt"] or card["prompt_by"] not in AUTHORS
    return "user" if mine else card["prompt_by"]


def read_cards(sent: Any) -> list[Card]:
    """Return the cards in what a browser sends, without what is none: anybody may send anything."""
    found = []
    for row in sent if isinstance(sent, list) else []:
        row = row if isinstance(row, dict) else {}
        prompt, completion, draft = (row.get(k) for k in ("prompt", "completion", "draft"))
        if isinstance(prompt, str) and isinstance(completion, str):
            origin = str(row.get("origin") or "typed")[:LONGEST_ORIGIN]
            card = new_card(prompt, completion, origin, draft if isinstance(draft, str) else None)
            asked = row.get("asked") is True
            by = {"prompt_by": str(row.get("prompt_by") or "user"), "written": row.get("written")}
            found.append({**card, **by, "id": str(row.get("id") or ""), "asked": asked})
    return found


def version_of(sent: Any) -> int:
    """Return the number that a browser gave its cards when it sent them; 0 for none."""
    first = sent[0] if isinstance(sent, list) and sent else None
    version = first.get("version") if isinstance(first, dict) else None
    return version if type(version) is int else 0


def to_demos(sent: Any, profile: Profile) -> DemoSet:
    """Return the demonstrations on the cards a browser sends; empty cards are left out.

    Raises:
        DemoError: more of them, or longer texts, than the profile allows.
    """
    written = [card for card in read_cards(sent) if not is_empty(card)]
    demos = DemoSet(
        tuple(
            Demonstration(
                f"demo-{number}",
                card["prompt"],
                card["completion"],
                origin="edited" if edited_from(card) else card["origin"],
                original=edited_from(card),
                prompt_by=author_of(card),
            )
            for number, card in enumerate(written, start=1)
        )
    )
    return require_demos(demos, profile)
