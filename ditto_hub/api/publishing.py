"""Publishing: whose token it is, the card, the steps to the Hub, and a zip to take home."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from filelock import FileLock, Timeout

from ditto_hub.errors import HubError, RunBusyError
from ditto_hub.events import run_to_end
from ditto_hub.hub.publishing.options import PublishOptions as PublishOptions
from ditto_hub.hub.publishing.options import PublishStep
from ditto_hub.runs.folder import Run
from ditto_hub.tokens import MACHINE, Token

if TYPE_CHECKING:
    from ditto_hub.hub.client import Account
    from ditto_hub.hub.publishing.packing import CardPreview as CardPreview
    from ditto_hub.hub.publishing.receipt import Receipt as Receipt

PUBLISHING_SCOPES = ("contribute-repos", "write-repos", "manage-repos")


def who(token: Token | str) -> Account:
    """Say whose token this is, and refuse one that cannot serve for publishing.

    Raises:
        HubError: the Hub does not accept it, it may only read, or it is about to expire.
    """
    from ditto_hub.hub.client import HubClient
    from ditto_hub.hub.targets import require_alive

    account = HubClient(token).who()
    require_alive(account)
    return account


def has_local_token() -> bool:
    """Tell whether the machine's user has saved a token with `hf auth login`."""
    return bool(MACHINE.sent)


def require_scope(scope: str) -> None:
    """Refuse a sign-in that may not make repos.

    Args:
        scope: of the sign-in, words with spaces between; "" where it is not known.

    Raises:
        HubError: it lacks every scope that publishing can do with.
    """
    if scope and not set(scope.split()) & set(PUBLISHING_SCOPES):
        raise HubError("api.sign_in_may_not_publish", publishing_scopes=PUBLISHING_SCOPES[0])


@contextlib.contextmanager
def publishing(run: Run) -> Iterator[None]:
    """Hold a run's publication, so that a second press beside it changes nothing.

    Raises:
        RunBusyError: it is being published already.
        RunError: it is part of the package.
    """
    run.require_writable()
    # a generator's steps run in different threads, and the lock goes with the generator
    lock = FileLock(run.folder / ".publishing.lock", timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        raise RunBusyError("api.run_being_published", run_id=run.record.id) from None
    try:
        yield
    finally:
        lock.release()


def publish(
    run: Run,
    repo_id: str,
    *,
    token: Token | str = MACHINE,
    public: bool = False,
    include_demos: bool = False,
    include_outputs: bool = False,
    candidate: str | None = None,
    base_model_id: str | None = None,
    replaces: str | None = None,
    dry_run: Path | None = None,
) -> Receipt:
    """Publish a run's adapter to the user's own Hub repo, and check that it loads from there.

    Args:
        run: with an `adapter/`.
        repo_id: USER/NAME, or NAME in the user's own namespace.
        token: of the user; default the one saved on this machine.
        public: make the repo public; private otherwise.
        include_demos: put the demonstrations into the repo, readable by whoever may see it.
        include_outputs: show prompts of the evaluation with what the adapter wrote, in the card.
        candidate: name of the candidate to publish; None for the chosen one.
        base_model_id: the base model's id on the Hub, for a run on a local folder.
        replaces: id of the repo with an earlier version, whose card is to name the new repo.
        dry_run: folder to write everything to instead; the Hub is read at most.

    Raises:
        RunError, ConfigError, BaseModelError, HubError: the run is untouched; another call goes on.
    """
    options = PublishOptions(
        public=public,
        include_demos=include_demos,
        include_outputs=include_outputs,
        candidate=candidate,
        base_model_id=base_model_id,
        replaces=replaces,
        dry_run=dry_run,
    )
    return run_to_end(stream_publish(run, repo_id, options, token=token))


def stream_publish(
    run: Run,
    repo_id: str,
    options: PublishOptions | None = None,
    *,
    token: Token | str = MACHINE,
) -> Generator[PublishStep, None, Receipt]:
    """Do what `publish` does, saying each step before it is taken.

    Args:
        run: with an `adapter/`.
        repo_id: USER/NAME, or NAME in the user's own namespace.
        options: what `publish` takes by name, and where the load-back check runs.
        token: of the user; default the one saved on this machine.

    Returns:
        The receipt, as the generator's value.

    Raises:
        RunError, ConfigError, BaseModelError, HubError: the run is untouched; another call goes on.
    """
    from ditto_hub.hub.publishing.publish import publish_steps

    run.require_writable()
    return (yield from publish_steps(run, repo_id, token=token, options=options))


def receipt_words(receipt: Receipt) -> str:
    """Return a receipt as a terminal shows it."""
    from ditto_hub.hub.publishing.receipt import render_receipt

    return render_receipt(receipt)


def preview(run: Run, repo_id: str, options: PublishOptions, *, token: Token | str) -> CardPreview:
    """Return the card that `publish` would make with these options; nothing is written.

    Args:
        token: of the user, with which the Hub is read; without one nothing is asked.

    Raises:
        RunError, ConfigError, HubError: as `publish` does.
    """
    from ditto_hub.hub.publishing.packing import preview_card

    return preview_card(run, repo_id, options, token)


def pack(run: Run, target: BinaryIO, candidate: str | None = None) -> None:
    """Write an adapter with its card and a script that loads it into a zip, without any network.

    Raises:
        RunError: the run has no whole adapter.
    """
    from ditto_hub.hub.publishing.packing import pack as pack_files

    pack_files(run, target, candidate)


def write_card(run: Run) -> None:
    """Write the adapter's README.md and its pictures from the record and the evaluations."""
    from ditto_hub.hub.publishing.publish import local_card

    files = local_card(run)
    for name, data in files.items():
        run.write(f"adapter/{name}", data)
    for old in (run.folder / "adapter").glob("*.png"):
        if old.name not in files:
            old.unlink()
