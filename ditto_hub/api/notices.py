"""What shows a finished run may fail without ending it: a failure becomes a notice of the run."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from ditto_hub.api.publishing import write_card
from ditto_hub.errors import DittoError, RunError
from ditto_hub.runs.folder import Run
from ditto_hub.words import Message, Text, told

log = logging.getLogger(__name__)
NO_CARD, NO_PICTURES = "no-card", "no-pictures"
WORDS = {NO_CARD: "api.no_card", NO_PICTURES: "api.no_pictures"}


@contextlib.contextmanager
def noticed(run: Run, code: str) -> Iterator[list[Message]]:
    """Keep a failure of the block in the run's record, as a notice, and go on.

    Args:
        run: it is about; a notice that it had of this code goes when the block succeeds.
        code: of the notice, a key of WORDS.

    Yields:
        A list that gets what is to be said of a failure.
    """
    failed: list[Message] = []
    try:
        yield failed
    except Exception as error:  # whatever it is, the adapter is there
        log.exception("run %s: %s", run.record.id, code)
        why = error.happened if isinstance(error, DittoError) else type(error).__name__
        failed.append(Message(WORDS[code], why=why, run=str(run.folder)))
        with contextlib.suppress(RunError):  # the disk may be full
            _keep(run, code, failed[0])
    else:
        _keep(run, code)


def refresh_card(run: Run) -> Text:
    """Write the card again; return what is to be said where that fails, and nothing otherwise."""
    with noticed(run, NO_CARD) as failed:
        write_card(run)
    return failed[0] if failed else ""


def notices(run: Run) -> dict[str, str]:
    """Return what could not be shown of a run: code -> words, in English."""
    kept = run.record.notices
    return {str(n["code"]): told(n["message"]) for n in kept if n.get("code") in WORDS}


def _keep(run: Run, code: str, message: Message | None = None) -> None:
    if message is None and code not in notices(run):
        return
    run.record = Run.load(run.folder).record  # another process may have worked meanwhile
    run.record.notices = [n for n in run.record.notices if n.get("code") != code]
    if message is not None:
        run.record.notices.append({"code": code, "message": message})
    run.save_record()
