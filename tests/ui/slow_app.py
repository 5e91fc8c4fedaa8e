"""Serve the app with a server that answers late, and not in the order it was asked in.

A check of cards of which one is still empty, as right after one was added, takes longest: by the
time it is answered, more has been typed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from ditto_hub.ui.app import serve
from ditto_hub.ui.html.cards import is_empty
from ditto_hub.ui.steps import show

SLOW_S, LESS_SLOW_S = 2.5, 0.2


def main() -> None:
    """Slow the check down, then serve."""
    check = show._checked

    def slow(cards: Sequence[dict[str, Any]], *args: Any) -> Any:
        time.sleep(SLOW_S if any(map(is_empty, cards)) else LESS_SLOW_S)
        return check(cards, *args)

    show._checked = slow
    serve()


if __name__ == "__main__":
    main()
