"""Before and beside a publication: whose token it is, the card, and a zip to take home."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

from filelock import FileLock, Timeout

from ditto_hub.errors import HubError, RunBusyError
from ditto_hub.runs import Run

if TYPE_CHECKING:
    from ditto_hub.hub.client import Account
    from ditto_hub.hub.packing import CardPreview

PUBLISHING_SCOPES = ("contribute-repos", "write-repos", "manage-repos")


def who(token: str) -> Account:
    """Say whose token this is, and refuse one that cannot serve for publishing.

    Raises:
        HubError: the Hub does not accept it, it may only read, or it is about to expire.
    """
    from ditto_hub.hub.client import HubClient
    from ditto_hub.hub.targets import require_alive

    account = HubClient(token).who()
    require_alive(account)
    return account


def local_token() -> str | None:
    """Return the token that the machine's user has saved with `hf auth login`, or None."""
    from huggingface_hub import get_token

    return get_token()


def require_scope(scope: str) -> None:
    """Refuse a sign-in that may not make repos.

    Args:
        scope: of the sign-in, words with spaces between; "" where it is not known.

    Raises:
        HubError: it lacks every scope that publishing can do with.
    """
    if scope and not set(scope.split()) & set(PUBLISHING_SCOPES):
        raise HubError(
            "This sign-in may not make repos.",
            f"Sign out, sign in again, and grant {PUBLISHING_SCOPES[0]}.",
        )


@contextlib.contextmanager
def publishing(run: Run) -> Iterator[None]:
    """Hold a run's publication, so that a second press beside it changes nothing.

    Raises:
        RunBusyError: it is being published already.
    """
    # a generator's steps run in different threads, and the lock goes with the generator
    lock = FileLock(run.folder / ".publishing.lock", timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        raise RunBusyError(
            f"Run {run.record.id} is being published already.", "Wait for that to end."
        ) from None
    try:
        yield
    finally:
        lock.release()


def preview(run: Run, repo_id: str, **options: Any) -> CardPreview:
    """Return the card that `publish` would make with these options, without any network.

    Raises:
        RunError, ConfigError, HubError: as `publish` does.
    """
    from ditto_hub.hub.packing import preview_card
    from ditto_hub.hub.publish import PublishOptions

    return preview_card(run, repo_id, PublishOptions(**options))


def pack(run: Run, target: BinaryIO, candidate: str | None = None) -> None:
    """Write an adapter with its card and a script that loads it into a zip, without any network.

    Raises:
        RunError: the run has no whole adapter.
    """
    from ditto_hub.hub.packing import pack as pack_files

    pack_files(run, target, candidate)
