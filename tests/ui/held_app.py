"""Serve the app; as long as there is a `hold` in its home, a run waits after each of its steps."""

from __future__ import annotations

import time

from ditto_hub.backends.driver import Driver
from ditto_hub.events import Event
from ditto_hub.runs.folder import home
from ditto_hub.ui.app import serve


def main() -> None:
    """Hold runs where they are, then serve."""
    put = Driver._put

    def held(self: Driver, event: Event) -> Event:
        done = put(self, event)
        while event.step and (home() / "hold").is_file():
            time.sleep(0.05)
        return done

    Driver._put = held  # type: ignore[method-assign]
    serve()


if __name__ == "__main__":
    main()
