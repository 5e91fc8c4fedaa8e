"""Runs kept in their owner's own private repos, and found there from any device.

Whether an owner agreed to that stands in a hidden file of the run's folder, which never leaves it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ditto_hub.cost.admission import require_demos, require_record
from ditto_hub.cost.limits import room_left, starting
from ditto_hub.cost.profiles import Profile
from ditto_hub.errors import DittoError
from ditto_hub.events import Event, StageFinished
from ditto_hub.runs.folder import Run
from ditto_hub.runs.record import RunRecord
from ditto_hub.tokens import Token
from ditto_hub.validation import Moment, Name, Sentence, validated

if TYPE_CHECKING:
    from ditto_hub.hub.transfer import SavedRun

log = logging.getLogger(__name__)
AGREED = ".keep"


@dataclass(frozen=True)
class Keeping:
    """Say how it stands with keeping a run.

    Args:
        repo_id: of the private repo that holds it; empty before the first time.
        at: seconds since the epoch when it was kept last.
        error: what the Hub said since then, where it could not be kept.
    """

    repo_id: Name = ""
    at: Moment = 0.0
    error: Sentence = ""


def agree_to_keep(run: Run, found: Keeping | None = None) -> None:
    """Note that a run's owner wants it in a private repo of theirs, and how that stands."""
    run.write(AGREED, json.dumps(asdict(found or Keeping())).encode())


def how_kept(run: Run) -> Keeping | None:
    """Return how it stands with keeping a run, or None where its owner did not agree."""
    try:
        return validated(Keeping, json.loads((run.folder / AGREED).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return Keeping()


def keep_along(
    run: Run, events: Iterator[Event], token: Token | str, between: bool = True
) -> Iterator[Event]:
    """Yield a run's events; where its owner agreed, keep it after each stage and at the end.

    A Hub that refuses stops nothing: the next stage tries again, and `how_kept` tells.

    Args:
        token: of the owner; without one nothing is kept.
        between: keep after a stage too, and not at the end alone: where another process writes
            into the run as its events come, a copy could be of two moments.
    """
    with contextlib.ExitStack() as last:
        last.callback(_keep_at_rest, run, token)
        last.enter_context(contextlib.closing(events))  # type: ignore[type-var]
        due = False
        for event in events:
            if due:
                _keep(run, token)
            # the driver saves its state after a stage's last event, before the next one
            due = between and isinstance(event, StageFinished)
            yield event


def _keep_at_rest(run: Run, token: Token | str) -> None:
    """Keep a run that nobody works on."""
    with contextlib.suppress(DittoError):
        if how_kept(run) is None or not token:
            return
        with run.lock():
            run.record = Run.load(run.folder).record
            _keep(run, token)


def _keep(run: Run, token: Token | str) -> None:
    before = how_kept(run)
    if before is None or not token or before.at >= run.record.updated:
        return
    now = time.time()
    try:
        found = Keeping(save_run(run, token), now)
    except DittoError as error:
        log.warning("run %s could not be kept: %s", run.record.id, type(error).__name__)
        found = replace(before, error=error.what)
    with contextlib.suppress(DittoError):
        agree_to_keep(run, found)


def save_run(run: Run, token: Token | str, namespace: str | None = None) -> str:
    """Keep a run in a private repo of its owner's; only what changed is sent.

    Call it after a stage, between two events of the run, or when nobody works on it.

    Args:
        token: of the user.
        namespace: whose repo; default the user's own.

    Returns:
        The repo's id, NAMESPACE/ditto-hub-run-ID.

    Raises:
        HubError: the Hub refused or the repo is public; the run here is untouched.
    """
    from ditto_hub.hub import transfer

    return transfer.save_run(run, token, namespace)


def saved_runs(token: Token | str, namespace: str | None = None) -> list[SavedRun]:
    """Return the runs that are kept in a namespace, newest first.

    Raises:
        HubError: the Hub refused or could not be reached.
    """
    from ditto_hub.hub import transfer

    return transfer.saved_runs(token, namespace)


def restore_run(
    run_id: str,
    token: Token | str,
    owner: str | None = None,
    *,
    namespace: str | None = None,
    output: str | Path | None = None,
    profile: Profile | None = None,
) -> Run:
    """Bring a kept run here; it resumes, writes and publishes as if it had always been.

    Args:
        owner: who asks, as in `create_run`.
        output: the run's folder; default where new runs go. A newer run there stays as it is.
        profile: of an app that serves visitors. A run that it would not have made is refused, and
            one that is not finished counts as a start.

    Raises:
        BaseModelError, ConfigError, DemoError: the profile does not let it in.
        RunError, RunOwnerError: there is none, it is damaged, or somebody else's.
        HubError, StorageError: the Hub or the disk refused.
    """
    from ditto_hub.hub import transfer
    from ditto_hub.hub.kept import Limits

    folder = Path(output) if output else None
    if profile is None:
        return transfer.restore_run(run_id, token, owner, namespace, folder)
    with contextlib.ExitStack() as claim:

        def admit(record: RunRecord) -> None:
            require_record(record, profile)
            if record.status != "finished":
                claim.enter_context(starting(owner or "", True, profile, time.time()))

        room = room_left(owner or "", profile)
        limits = Limits(total_bytes=min(profile.max_run_bytes or Limits.total_bytes, room))
        run = transfer.restore_run(
            run_id, token, owner, namespace, folder, admit=admit, limits=limits
        )
        with contextlib.ExitStack() as undo:
            undo.callback(run.delete)
            require_demos(run.demos(), profile)
            undo.pop_all()
    return run


def delete_saved(run_id: str, token: Token | str, namespace: str | None = None) -> None:
    """Delete the repo that keeps a run; the run here, if any, stays.

    Raises:
        RunError: the repo holds something else.
        HubError: the Hub refused.
    """
    from ditto_hub.hub import transfer

    transfer.delete_saved(run_id, token, namespace)
