"""What is removed when its time has come."""

from __future__ import annotations

import logging
import threading
import time

from ditto_hub.errors import DittoError
from ditto_hub.profiles import Profile
from ditto_hub.runs import Run

log = logging.getLogger(__name__)
SWEEP_EVERY_S = 900


def sweep(profile: Profile, now: float | None = None) -> list[str]:
    """Remove runs that nobody has worked on for the profile's hours, and return their ids."""
    before = (now or time.time()) - profile.keep_hours * 3600
    removed = []
    for run in Run.all():
        if run.record.updated < before:
            try:
                run.delete()
            except DittoError as error:  # under work, or a file that cannot go: next time
                log.info("run %s stays for now: %s", run.record.id, type(error).__name__)
            else:
                removed.append(run.record.id)
    return removed


def start_sweeper(profile: Profile) -> threading.Thread | None:
    """Sweep now and then for as long as the server runs; not on one's own machine."""
    if profile.name == "own":
        return None

    def every_now_and_then() -> None:
        while True:
            sweep(profile)
            time.sleep(SWEEP_EVERY_S)

    thread = threading.Thread(target=every_now_and_then, name="sweeper", daemon=True)
    thread.start()
    return thread
