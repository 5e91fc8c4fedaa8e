"""What a lease writes into its run from the outside: who holds it, its events, its end."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace

from filelock import FileLock, Timeout

from ditto_hub import events as ev
from ditto_hub.backends.zerogpu.lease import STOP_FILE
from ditto_hub.demos.prompting import TRIES_A_PROMPT
from ditto_hub.errors import RunBusyError
from ditto_hub.runs.folder import Run
from ditto_hub.runs.progress import TEACHING_ROWS
from ditto_hub.runs.storage import told_as_storage_error
from ditto_hub.words import Message


@contextlib.contextmanager
def alone(run: Run) -> Iterator[None]:
    """Hold a run for this lease, so that a second tab or program does not ask for one too.

    Raises:
        RunBusyError: somebody else is working on it.
    """
    path = run.folder / ".lease"
    lock = FileLock(path, timeout=0, thread_local=False)
    with told_as_storage_error(path):
        try:
            lock.acquire()
        except Timeout:  # an OSError too
            raise RunBusyError("backends.run_busy", run_id=run.record.id) from None
    try:
        (run.folder / STOP_FILE).unlink(missing_ok=True)
        with run.lock():
            pass
        mend(run, "interrupted")
        yield
    finally:
        lock.release()


def mend(run: Run, why: str) -> None:
    """Pause a run whose worker was taken away before it could say so itself."""
    with contextlib.suppress(RunBusyError), run.lock():
        run.record = Run.load(run.folder).record
        if run.record.status == "running":
            run.record.status = "paused"
            run.save_record()
            stamp(run, ev.RunPaused(reason=why))


def note(run: Run, event: ev.Event) -> ev.Event:
    """Write a lease's event down among the run's; a run that could not begin is paused."""
    with contextlib.suppress(RunBusyError), run.lock():
        if run.record.status == "created":
            run.record.status = "paused"
            run.save_record()
        return stamp(run, event)
    return replace(event, run_id=run.record.id)


def stamp(run: Run, event: ev.Event) -> ev.Event:
    """Number an event and append it; for the lock's holder."""
    event = replace(event, run_id=run.record.id, seq=run.next_seq(), time=time.time())
    run.append_events([event])
    return event


def halve_rows(run: Run) -> bool:
    """Draw half as many completions side by side from now on, where no lease holds a batch.

    Only before the first batch of a stage, for the batches of one stage are counted. The run then
    makes other bytes than one that was never cut, which is recorded.

    Returns:
        Whether there was something to halve.
    """
    place: tuple[str, int | None] = ("", None)
    batches = 0
    for event in run.events():
        if isinstance(event, ev.StageStarted) and (event.stage, event.round) != place:
            place, batches = (event.stage, event.round), 0
        batches += isinstance(event, ev.BatchSampled)
    config = run.config
    demos = len(run.demos())
    drawn = {
        "drafting": config.warm_start.prompts * TRIES_A_PROMPT,
        "teaching": TEACHING_ROWS,
        "sampling": demos * config.sampling.samples,
        "scoring": demos * config.selection.samples,
    }
    rows = min(drawn.get(place[0], 0), config.sampling.batch_rows) // 2
    if batches or not rows:
        return False
    with contextlib.suppress(RunBusyError), run.lock():
        run.record.config = config.with_value("sampling.batch_rows", rows).to_json()
        words = Message("backends.lease_rows", rows=rows)
        run.record.notices.append({"code": "lease-rows", "message": words})
        run.save_record()
        stamp(run, ev.Noticed(code="lease-rows", message=words))
        return True
    return False


def saved_at(run: Run) -> tuple[int, int]:
    """Return what changes whenever a run's state is saved."""
    try:
        found = (run.folder / "state" / "state.safetensors").stat()
    except OSError:
        return (0, 0)
    return found.st_mtime_ns, found.st_ino
