"""Runs kept in their owner's own private repos, and found there from any device."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ditto_hub.runs import Run

if TYPE_CHECKING:
    from ditto_hub.hub.transfer import SavedRun


def save_run(run: Run, token: str | None = None, namespace: str | None = None) -> str:
    """Keep a run in a private repo of its owner's; only what changed is sent.

    Call it after a stage, between two events of the run, or when nobody works on it.

    Args:
        token: of the user; None takes the one saved on this machine.
        namespace: whose repo; default the user's own.

    Returns:
        The repo's id, NAMESPACE/ditto-hub-run-ID.

    Raises:
        HubError: the Hub refused or the repo is public; the run here is untouched.
    """
    from ditto_hub.hub import transfer

    return transfer.save_run(run, token, namespace)


def saved_runs(token: str | None = None, namespace: str | None = None) -> list[SavedRun]:
    """Return the runs that are kept in a namespace, newest first.

    Raises:
        HubError: the Hub refused or could not be reached.
    """
    from ditto_hub.hub import transfer

    return transfer.saved_runs(token, namespace)


def restore_run(
    run_id: str,
    token: str | None = None,
    owner: str | None = None,
    *,
    namespace: str | None = None,
    output: str | Path | None = None,
) -> Run:
    """Bring a kept run here; it resumes, writes and publishes as if it had always been.

    Args:
        owner: who asks, as in `create_run`.
        output: the run's folder; default where new runs go. A newer run there stays as it is.

    Raises:
        RunError, RunOwnerError: there is none, it is damaged, or somebody else's.
        HubError, StorageError: the Hub or the disk refused.
    """
    from ditto_hub.hub import transfer

    return transfer.restore_run(run_id, token, owner, namespace, Path(output) if output else None)


def delete_saved(run_id: str, token: str | None = None, namespace: str | None = None) -> None:
    """Delete the repo that keeps a run; the run here, if any, stays.

    Raises:
        RunError: the repo holds something else.
        HubError: the Hub refused.
    """
    from ditto_hub.hub import transfer

    transfer.delete_saved(run_id, token, namespace)
