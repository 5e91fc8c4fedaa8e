"""A repo to write to: may we, is it ours, and how does it get exactly one whole version."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ditto_hub.errors import HubBusyError, HubError
from ditto_hub.hub.bounds import TOKENS_PAGE, bounds
from ditto_hub.hub.bundle import CARD, FORMAT, RECORD, Bundle, Data, git_id, sha256, size_of
from ditto_hub.hub.client import Account, HubClient, RemoteFile, RemoteRepo, require_repo_id

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
    notices: tuple[str, ...] = ()


def require_alive(account: Account) -> tuple[str, ...]:
    """Refuse a token that may only read or is about to expire; return what should be said.

    Raises:
        HubError: it cannot serve for publishing.
    """
    if account.kind == "read":
        raise HubError(
            f"The token of {account.name} may only read.",
            f"Make one that may write at {TOKENS_PAGE}.",
        )
    if account.expires_s is None:
        return ()
    if account.expires_s < SOON_S:
        raise HubError(
            f"The sign-in of {account.name} expires in {max(0, account.expires_s):.0f} s.",
            "Sign in again, then publish.",
        )
    minutes = account.expires_s / 60
    return (f"The sign-in expires in {minutes:.0f} minutes.",) if minutes < 60 else ()


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
                    f"{account.name} has only the role {role!r} in {organisation}.",
                    "Ask an admin of the organisation for the right to write.",
                )
            return f"{organisation}/{name}"
    mine = ", ".join([account.name, *account.organisations])
    raise HubError(
        f"{account.name} may not publish under {owner!r}.",
        f"Use one of: {mine}, as in NAME/{name}.",
    )


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
                raise HubError(f"{repo_id} is a {kind} already.", "Choose another name.")
        return Target(repo_id, None)
    client.require_access(repo_id, write=True)
    if not remote.private and not public:
        raise HubError(
            f"{repo_id} is public, and this publication is to be private.",
            "Add --public, or make the repo private on its settings page.",
        )
    if set(remote.files) <= set(OF_THE_HUB):
        return Target(repo_id, remote)
    manifest = _manifest(client, remote)
    strange = [p for p in paths if p in remote.files and p not in manifest and p != RECORD]
    if strange:
        raise HubError(
            f"{repo_id} holds a {strange[0]} that ditto-hub did not put there.",
            "Rename or delete it on the Hub, or publish under another name.",
        )
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
                f"{remote.id} was published by a newer ditto-hub ({data.get('ditto_hub')}).",
                "Install that version, or publish under another name.",
            )
        if data.get("format") == FORMAT and isinstance(data.get("files"), dict):
            return {str(path): str(digest) for path, digest in data["files"].items()}
    except (ValueError, AttributeError, TypeError):
        pass
    others = sorted(set(remote.files) - set(OF_THE_HUB))
    told = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
    raise HubError(
        f"{remote.id} holds something else ({told}).",
        "Nothing of it is touched: choose another name, or empty it yourself.",
    )


def _edits(client: HubClient, remote: RemoteRepo, manifest: Mapping[str, str]) -> Iterable[str]:
    card = client.read(remote.id, CARD, remote.commit)
    if card is not None and hashlib.sha256(card).hexdigest() != manifest.get(CARD):
        yield (
            f"The card of {remote.id} was edited on the Hub; an update replaces it, and the old"
            " text stays in the repo's history."
        )


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
            raise HubError(
                f"{target.repo_id} is not to be seen with this token, though it should be there.",
                "Was it deleted meanwhile, or may the token only see other repos?",
            )
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
        raise HubError(f"{target.repo_id} does not hold what was sent.", "Publish again.")
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
