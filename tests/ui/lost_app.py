"""Serve the app with a server that loses what a page says of its cards.

The first time two written cards are sent, and as often as that sending is answered, the answer is
that to an empty page: so a late answer to an older change, or a lost change, looks to the page.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ditto_hub.ui.app import serve
from ditto_hub.ui.steps import show


def main() -> None:
    """Lose one sending, then serve."""
    read, check, version = show.read_cards, show._checked, show.version_of
    lost: list[int] = []
    here: list[int] = []

    def noted(sent: Any) -> Any:
        here[:] = [sent[0].get("sending", 0)] if sent else []
        return read(sent)

    def late(cards: Sequence[dict[str, Any]], *args: Any) -> Any:
        written = [card for card in cards if card["prompt"] and card["completion"]]
        if len(written) == 2 and not lost:
            lost.extend(here)
        return check([] if here == lost else cards, *args)

    show.read_cards, show._checked = noted, late
    show.version_of = lambda sent: 0 if here == lost else version(sent)
    serve()


if __name__ == "__main__":
    main()
