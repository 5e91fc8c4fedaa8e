"""Cards in the making <-> demonstrations; plain dicts, because a browser keeps them. Pure."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from ditto_hub import pocket
from ditto_hub.demos import Demonstration, DemoSet
from ditto_hub.errors import DemoError
from ditto_hub.profiles import Profile

Card = dict[str, Any]
FEWEST_SHOWN = 2  # as many as the least that train, so that the page says by itself what to do


def new_card(prompt: str = "", completion: str = "", origin: str = "typed") -> Card:
    """Return a card with an id of its own; `draft` is what a model wrote, edited or not."""
    return {
        "id": secrets.token_hex(4),
        "prompt": prompt,
        "completion": completion,
        "origin": origin,
        "original": None,
        "draft": None,
    }


def example_cards(name: str) -> list[Card]:
    """Return the cards of an example set that is shipped with the package."""
    lines = pocket.voice_path(name).read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return [new_card(row["prompt"], row["completion"], f"example:{name}") for row in rows]


def is_empty(card: Mapping[str, Any]) -> bool:
    """Tell whether nothing has been written on a card yet."""
    return not str(card["prompt"]).strip() and not str(card["completion"]).strip()


def laid_out(cards: Sequence[Card]) -> list[Card]:
    """Return cards to show: those there are, and empty ones up to the fewest."""
    missing = FEWEST_SHOWN - len(cards)
    return [*cards, *(new_card() for _ in range(missing))]


def read_boxes(ids: str, texts: Sequence[str | None]) -> dict[str, tuple[str, str]]:
    """Return card id -> prompt and completion, of a page's boxes.

    Args:
        ids: of the cards the boxes stand on, in order, with commas between them.
        texts: prompt and completion of each; None of a box that another layout has not.
    """
    pairs = zip(ids.split(","), texts[::2], texts[1::2], strict=False)
    return {name: (p or "", c or "") for name, p, c in pairs if (p, c) != (None, None)}


def merged(
    cards: Sequence[Card], written: Mapping[str, tuple[str, str]], drafted: Mapping[str, str]
) -> list[Card]:
    """Return cards with what stands in their boxes; those without boxes as they are.

    Args:
        cards: as they are laid out last, which the page may not show yet.
        written: what `read_boxes` returns.
        drafted: card id -> what the model wrote for it.
    """
    changed = []
    for card in cards:
        prompt, completion = written.get(card["id"], (card["prompt"], card["completion"]))
        draft = drafted.get(card["id"], card.get("draft") or card.get("original"))
        original = draft if draft and draft != completion else None
        origin = "edited" if original else card["origin"]
        changed.append(
            {**card, "prompt": prompt, "completion": completion, "origin": origin,
             "original": original, "draft": draft}
        )  # fmt: skip
    return changed


def mended(kept: Any, profile: Profile) -> list[Card]:
    """Return cards a browser kept, without what is none: its storage is anybody's to write."""
    found = []
    for row in (kept if isinstance(kept, list) else [])[: profile.max_demos]:
        texts = [row.get(k) for k in ("prompt", "completion")] if isinstance(row, dict) else []
        if len(texts) == 2 and all(isinstance(text, str) for text in texts):
            card = new_card(*(str(t)[: profile.max_text_chars] for t in texts))
            for name in ("original", "draft"):
                if isinstance(row.get(name), str):
                    card[name] = row[name][: profile.max_text_chars]
            found.append({**card, "origin": str(row.get("origin") or "typed")[:40]})
    return found


def to_demos(cards: Sequence[Card], profile: Profile) -> DemoSet:
    """Return the demonstrations that stand on cards; empty cards are left out.

    Raises:
        DemoError: more of them, or longer texts, than the profile allows.
    """
    written = [card for card in cards if not is_empty(card)]
    if len(written) > profile.max_demos:
        raise DemoError(
            f"There are {len(written)} demonstrations; here a run takes {profile.max_demos}.",
            "Keep the most typical ones.",
        )
    for number, card in enumerate(written, start=1):
        longest = max(len(card[k] or "") for k in ("prompt", "completion", "original"))
        if longest > profile.max_text_chars:
            raise DemoError(
                f"Demonstration {number} holds {longest} characters in one text; here"
                f" {profile.max_text_chars} is the most.",
                "Shorten it.",
            )
    return DemoSet(
        tuple(
            Demonstration(
                f"demo-{number}",
                card["prompt"],
                card["completion"],
                origin=card["origin"],
                original=card["original"],
            )
            for number, card in enumerate(written, start=1)
        )
    )
