"""The one door to the Hub: what the package asks of it, each call bounded, safe ones repeated."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    constants,
    get_session,
    hf_raise_for_status,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HFValidationError,
    RepositoryNotFoundError,
)
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import (  # type: ignore[attr-defined]
    build_hf_headers,
    validate_repo_id,
)

from ditto_hub.errors import HubBusyError, HubError
from ditto_hub.hub.bounds import TOKENS_PAGE, bound_time, bounds, told, wait_s
from ditto_hub.tokens import Token, as_token
from ditto_hub.words import Message

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Account:
    """Say who a token belongs to and what it may do, as far as the Hub tells.

    Args:
        name: user name.
        organisations: name -> role in it.
        kind: read, write, fineGrained, oauth, or empty where the Hub does not tell.
        expires_s: seconds left to live, or None where the Hub does not tell.
    """

    name: str
    organisations: Mapping[str, str] = field(default_factory=dict)
    kind: str = ""
    expires_s: float | None = None


@dataclass(frozen=True)
class Quota:
    """Hold a user's ZeroGPU quota as the Hub tells it.

    Args:
        day_s: GPU seconds a day.
        left_s: of these, not used yet.
        resets_at: seconds since the epoch; None where nothing is used.
    """

    day_s: float
    left_s: float
    resets_at: float | None = None


@dataclass(frozen=True)
class RemoteFile:
    """Hold a file's size and hash on the Hub: SHA-256 where LFS holds it, git's id elsewhere."""

    size: int
    git_id: str
    sha256: str | None


@dataclass(frozen=True)
class RemoteRepo:
    """Hold a repo's state at one commit."""

    id: str
    commit: str
    private: bool
    files: Mapping[str, RemoteFile]


class HubClient:
    """Talk to one Hub as one user.

    Args:
        token: whose the calls are made with.
        endpoint: of the Hub; None takes HF_ENDPOINT or the public one.
    """

    def __init__(self, token: Token | str, endpoint: str | None = None) -> None:
        bound_time()
        self.whose = as_token(token)
        self.token = self.whose.sent or ""
        self.endpoint = (endpoint or constants.ENDPOINT).rstrip("/")
        self.api = HfApi(endpoint=self.endpoint, token=self.token or False)

    def __repr__(self) -> str:
        return f"HubClient({self.endpoint!r})"

    def repeat(self, doing: Message, call: Callable[[], Answer]) -> Answer:
        """Make a call that is safe to repeat, again after a passing failure.

        Raises:
            HubError: it failed for good.
        """
        for wait in (*bounds().waits_s, None):
            try:
                with told(doing):
                    return call()
            except HubBusyError as error:
                if wait is None:
                    raise
                response = getattr(error.__cause__, "response", None)
                time.sleep(max(wait, wait_s(response) if response is not None else 0.0))
        raise AssertionError("unreachable")

    def who(self) -> Account:
        """Say whose token this is.

        Raises:
            HubError: there is none, or the Hub does not accept it.
        """
        if not self.token:
            raise HubError("hub.no_token", tokens_page=TOKENS_PAGE)
        data = self.repeat(Message("hub.doing.token"), self.api.whoami)
        auth = data.get("auth") or {}
        access = auth.get("accessToken") or {}
        expires = auth.get("expiresAt") or access.get("expiresAt")
        return Account(
            name=str(data["name"]),
            organisations={o["name"]: o.get("roleInOrg", "") for o in data.get("orgs") or []},
            kind="oauth" if auth.get("type") == "oauth" else str(access.get("role", "")),
            expires_s=_seconds_until(str(expires)) if expires else None,
        )

    def zero_gpu_quota(self) -> Quota:
        """Say what the token's user has left of the day's ZeroGPU quota; asked once, in passing.

        Raises:
            HubError: the Hub does not tell, such as without the scope for it.
        """
        with told(Message("hub.doing.quota")):
            found = self.api.get_zero_gpu_quota()
        resets = found.resets_at.timestamp() if found.resets_at else None
        return Quota(float(found.base), max(0.0, float(found.remaining)), resets)

    def info(self, repo_id: str, kind: str = "model", revision: str | None = None) -> Any:
        """Return a repo's info with file sizes, or None where there is none to be seen."""

        def call() -> Any:
            return self.api.repo_info(
                repo_id, repo_type=kind, revision=revision, files_metadata=kind == "model"
            )

        try:
            return self.repeat(Message("hub.doing.read", name=repo_id), call)
        except HubError as error:
            if isinstance(error.__cause__, GatedRepoError):
                raise
            if isinstance(error.__cause__, RepositoryNotFoundError) and not _bad_token(error):
                return None
            raise

    def require_access(self, repo_id: str, write: bool = False) -> None:
        """Refuse unless the token may read (or write) the files of a repo that exists.

        Raises:
            HubError: it may not.
        """
        doing = "hub.doing.write_access" if write else "hub.doing.access"
        self.repeat(Message(doing, name=repo_id), lambda: self.api.auth_check(repo_id, write=write))

    def repo(
        self, repo_id: str, revision: str | None = None, kind: str = "model"
    ) -> RemoteRepo | None:
        """Return a repo's files with their hashes, or None where there is no such repo."""
        info = self.info(repo_id, kind, revision)
        if info is None:
            return None

        def call() -> list[Any]:
            return list(
                self.api.list_repo_tree(repo_id, recursive=True, revision=info.sha, repo_type=kind)
            )

        files = {
            row.path: RemoteFile(row.size, row.blob_id, row.lfs.sha256 if row.lfs else None)
            for row in self.repeat(Message("hub.doing.list", name=repo_id), call)
            if isinstance(row, RepoFile)
        }
        return RemoteRepo(repo_id, info.sha, bool(info.private), files)

    def read(self, repo_id: str, path: str, revision: str, limit: int = 20_000_000) -> bytes | None:
        """Return a small file's bytes past any cache, or None where there is no such file."""
        url = f"{self.endpoint}/{repo_id}/resolve/{quote(revision, safe='')}/{quote(path)}"

        def call() -> bytes:
            headers = build_hf_headers(token=self.token or False)
            with get_session().stream("GET", url, headers=headers) as response:
                if response.status_code >= 400:
                    response.read()
                hf_raise_for_status(response)
                data = b""
                for chunk in response.iter_bytes():
                    data += chunk
                    if len(data) > limit:
                        raise HubError(
                            "hub.file_too_large", path=path, repo_id=repo_id, limit=limit
                        )
                return data

        try:
            return self.repeat(Message("hub.doing.read_file", path=path, name=repo_id), call)
        except HubError as error:
            if isinstance(error.__cause__, EntryNotFoundError):
                return None
            raise

    def create_private(self, repo_id: str) -> None:
        """Make an empty private model repo, or find that it is there already."""
        owner, name = repo_id.split("/")
        data = {"name": name, "organization": owner, "type": "model", "visibility": "private"}

        def call() -> None:  # HfApi.create_repo repeats one kind of 409 for ever, without a pause
            response = get_session().post(
                f"{self.endpoint}/api/repos/create",
                headers=build_hf_headers(token=self.token or False),
                json=data,
            )
            if response.status_code != 409 or "in progress" in response.text:
                hf_raise_for_status(response)

        self.repeat(Message("hub.doing.create", name=repo_id), call)

    def commit(
        self,
        repo_id: str,
        parent: str,
        add: Mapping[str, bytes | Path],
        delete: Sequence[str],
        message: str,
        kind: str = "model",
    ) -> str:
        """Make one commit on top of `parent` and return its id; never tried twice.

        With the parent named, a commit that lands after its answer was lost cannot land twice.
        """
        operations: list[CommitOperationAdd | CommitOperationDelete] = [
            CommitOperationAdd(path, data if isinstance(data, bytes) else str(data))
            for path, data in add.items()
        ]
        operations += [CommitOperationDelete(path) for path in delete]
        with told(Message("hub.doing.upload", name=repo_id)):
            made = self.api.create_commit(
                repo_id,
                operations,
                commit_message=message,
                parent_commit=parent,
                repo_type=kind,
            )
        return str(made.oid)

    def tag(self, repo_id: str, name: str, commit: str, doing: Message, move: bool) -> None:
        """Let a tag name a commit.

        Args:
            move: whether a tag that names another commit already is moved; else it stays.
        """
        refs = self.repeat(doing, lambda: self.api.list_repo_refs(repo_id))
        there = next((ref.target_commit for ref in refs.tags if ref.name == name), None)
        if there == commit or (there is not None and not move):
            return
        with told(doing):
            if there is not None:
                self.api.delete_tag(repo_id, tag=name)
            self.api.create_tag(repo_id, tag=name, revision=commit, exist_ok=True)

    def make_public(self, repo_id: str) -> None:
        """Let everybody see a repo."""
        self.repeat(
            Message("hub.doing.make_public", name=repo_id),
            lambda: self.api.update_repo_settings(repo_id, private=False),
        )


def require_repo_id(repo_id: str) -> None:
    """Refuse what cannot be a repo's id.

    Raises:
        HubError: saying what an id looks like.
    """
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise HubError("hub.not_repo_id", repo_id=repo_id) from error


def _bad_token(error: HubError) -> bool:
    response = getattr(error.__cause__, "response", None)
    said = response.headers.get("X-Error-Message", "") if response is not None else ""
    return "credentials" in said


def _seconds_until(moment: str) -> float | None:
    try:
        then = datetime.fromisoformat(moment.replace("Z", "+00:00"))
    except ValueError:
        return None
    return then.timestamp() - time.time()
