"""A repo to write to: may we, is it ours, and how does it get exactly one whole version."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ditto_hub.errors import HubBusyError, HubError
from ditto_hub.hub.bounds import TOKENS_PAGE, bounds
from ditto_hub.hub.client import Account, HubClient, RemoteFile, RemoteRepo, require_repo_id
from ditto_hub.hub.publishing.bundle import (
    CARD,
    FORMAT,
    RECORD,
    Bundle,
    Data,
    git_id,
    sha256,
    size_of,
)
from ditto_hub.words import Message, Text

WRITERS = ("admin", "write", "contributor")
OF_THE_HUB = (".gitattributes",)
SOON_S = 300.0


@dataclass(frozen=True)
class Target:
    """Hold a repo that may be written to.

    Args:
        repo_id: of the repo.
        remote: its state, or None where it is not there yet.
        manifest: path -> SHA-256 of the files that ditto-hub put there last.
        notices: what the user should know.
    """

    repo_id: str
    remote: RemoteRepo | None
    manifest: Mapping[str, str] = field(default_factory=dict)
    notices: tuple[Text, ...] = ()


def require_alive(account: Account) -> tuple[Text, ...]:
    """Refuse a token that may only read or is about to expire; return what should be said.

    Raises:
        HubError: it cannot serve for publishing.
    """
    if account.kind == "read":
        raise HubError("hub.token_may_read", account=account.name, tokens_page=TOKENS_PAGE)
    if account.expires_s is None:
        return ()
    if account.expires_s < SOON_S:
        raise HubError("hub.sign_in_expires", account=account.name, value=max(0, account.expires_s))
    minutes = account.expires_s / 60
    return (Message("hub.sign_in_minutes", minutes=minutes),) if minutes < 60 else ()


def resolve_repo_id(repo_id: str, account: Account) -> str:
    """Return the full id, in a namespace that the user may write to.

    Raises:
        HubError: it is no id, or the namespace is somebody else's.
    """
    require_repo_id(repo_id)
    owner, _, name = repo_id.rpartition("/")
    if not owner or owner.lower() == account.name.lower():
        return f"{account.name}/{name}"
    for organisation, role in account.organisations.items():
        if organisation.lower() == owner.lower():
            if role and role not in WRITERS:
                raise HubError(
                    "hub.role_may_not_write",
                    account=account.name,
                    role=role,
                    organisation=organisation,
                )
            return f"{organisation}/{name}"
    mine = ", ".join([account.name, *account.organisations])
    raise HubError("hub.may_not_publish", account=account.name, owner=owner, mine=mine, name=name)


def examine(client: HubClient, repo_id: str, paths: Iterable[str], public: bool) -> Target:
    """Look at a repo before anything is written to it.

    Args:
        paths: names that are about to be written.
        public: the user asked for a public repo.

    Raises:
        HubError: it holds something else, or may not be written to.
    """
    remote = client.repo(repo_id)
    if remote is None:
        for kind in ("dataset", "space"):
            if client.info(repo_id, kind) is not None:
                raise HubError("hub.repo_of_another_kind", repo_id=repo_id, kind=kind)
        return Target(repo_id, None)
    client.require_access(repo_id, write=True)
    if not remote.private and not public:
        raise HubError("hub.repo_is_public", repo_id=repo_id)
    if set(remote.files) <= set(OF_THE_HUB):
        return Target(repo_id, remote)
    manifest = _manifest(client, remote)
    strange = [p for p in paths if p in remote.files and p not in manifest and p != RECORD]
    if strange:
        raise HubError("hub.repo_holds_strange_file", repo_id=repo_id, strange=strange[0])
    return Target(repo_id, remote, manifest, tuple(_edits(client, remote, manifest)))


def _manifest(client: HubClient, remote: RemoteRepo) -> dict[str, str]:
    """Return the hashes that our last version wrote down.

    Raises:
        HubError: the repo is not one of ours.
    """
    record = client.read(remote.id, RECORD, remote.commit) if RECORD in remote.files else None
    try:
        data = json.loads(record or b"{}")
        if data.get("format") == FORMAT and int(data.get("schema_version", 0)) > 1:
            raise HubError(
                "hub.published_by_newer_version", remote_id=remote.id, data=data.get("ditto_hub")
            )
        if data.get("format") == FORMAT and isinstance(data.get("files"), dict):
            return {str(path): str(digest) for path, digest in data["files"].items()}
    except (ValueError, AttributeError, TypeError):
        pass
    others = sorted(set(remote.files) - set(OF_THE_HUB))
    told = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
    raise HubError("hub.repo_not_ours", remote_id=remote.id, told=told)


def _edits(client: HubClient, remote: RemoteRepo, manifest: Mapping[str, str]) -> Iterable[Text]:
    card = client.read(remote.id, CARD, remote.commit)
    if card is not None and hashlib.sha256(card).hexdigest() != manifest.get(CARD):
        yield Message("hub.card_edited", repo_id=remote.id)


def put(client: HubClient, target: Target, bundle: Bundle, message: str) -> tuple[str, bool]:
    """Make a repo hold exactly the bundle (besides strangers' files), by one commit at most.

    Whatever is lost on the way, the repo's files are compared with ours before anything is tried
    again, and the commit names its parent: it cannot land twice.

    Returns:
        The commit that holds it, and whether it had to be made.

    Raises:
        HubError: it could not be brought there; the repo is as it was, or empty.
    """
    if target.remote is None:
        client.create_private(target.repo_id)
    waits = (*bounds().waits_s, None)
    tried = False
    for wait in waits:
        remote = client.repo(target.repo_id)
        if remote is None:
            raise HubError("hub.repo_not_visible", repo_id=target.repo_id)
        add, delete = difference(bundle, remote, target.manifest)
        if not add and not delete:
            return remote.commit, tried
        tried = True
        try:
            client.commit(target.repo_id, remote.commit, add, delete, message)
        except HubBusyError:
            if wait is None:
                raise
            time.sleep(wait)
    remote = client.repo(target.repo_id)
    if remote is None or any(difference(bundle, remote, target.manifest)):
        raise HubError("hub.upload_differs", repo_id=target.repo_id)
    return remote.commit, True


def difference(
    bundle: Bundle, remote: RemoteRepo, manifest: Mapping[str, str]
) -> tuple[Bundle, list[str]]:
    """Return what has to be added to a repo, and which of our old files to take away."""
    add = {p: d for p, d in bundle.items() if not _same(d, remote.files.get(p))}
    delete = [p for p in manifest if p in remote.files and p not in bundle]
    return add, delete


def _same(data: Data, remote: RemoteFile | None) -> bool:
    if remote is None or remote.size != size_of(data):
        return False
    if remote.sha256 is not None:
        return remote.sha256 == sha256(data)
    return remote.git_id == git_id(data)
