"""What the local Hub of the tests holds: users, tokens, repos, commits; and who may do what."""

from __future__ import annotations

import hashlib
import json
import struct
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import yaml

GITATTRIBUTES = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"
LFS_ENDINGS = (".safetensors", ".bin", ".gguf", ".png", ".pt", ".model", ".whl")
WRITERS = ("admin", "write", "contributor")
LICENCES = ("apache-2.0", "mit", "llama3.2", "gemma", "cc-by-nc-4.0", "openrail", "other")


class Refusal(Exception):
    """Answer a request with a status, the Hub's error headers and a JSON body."""

    def __init__(self, status: int, message: str, code: str = "", **body: Any) -> None:
        super().__init__(message)
        self.status = status
        self.headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self.body = {"error": message, **body}


@dataclass
class Fault:
    """Break some requests.

    Args:
        kind: status, lost-before, lost-after, stalled, slow, truncated or expire.
        match: regular expression that "METHOD /path" must contain.
        at: only the request of this number, counted from 1 since `Hub.forget()`; None for any.
        since: the request of this number and all after it.
        times: how many requests it breaks.
        status: of kind status.
        headers: of kind status.
        message: of kind status.
        seconds: of kinds stalled and slow.
    """

    kind: str
    match: str = ""
    at: int | None = None
    since: int = 0
    times: int = 1
    status: int = 503
    headers: dict[str, str] = field(default_factory=dict)
    message: str = "fault on demand"
    seconds: float = 30.0


@dataclass
class Token:
    """Hold a token: role is read, write, fineGrained or oauth."""

    user: str
    role: str = "write"
    scopes: tuple[str, ...] = ()  # fineGrained: "user:alice", "model:alice/x"; oauth: its scopes
    expires: float | None = None
    dead: bool = False


@dataclass(frozen=True)
class Blob:
    """Hold a file's bytes as git or LFS would."""

    data: bytes
    lfs: bool = False

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def oid(self) -> str:
        """Git's id: of the content, or of the LFS pointer that stands for it."""
        data = self.data
        if self.lfs:
            data = f"version https://git-lfs\noid sha256:{self.sha256}\nsize {len(data)}\n".encode()
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()

    def to_json(self, path: str) -> dict[str, Any]:
        row = {"type": "file", "path": path, "size": len(self.data), "oid": self.oid}
        if self.lfs:
            row["lfs"] = {"oid": self.sha256, "size": len(self.data), "pointerSize": 130}
        return row


@dataclass(frozen=True)
class Commit:
    """Hold one commit's whole tree."""

    oid: str
    title: str
    files: dict[str, Blob]


@dataclass
class Repo:
    """Hold a repo with its commits on main, oldest first."""

    kind: str
    id: str
    private: bool = False
    gated: str | bool = False
    allowed: set[str] = field(default_factory=set)
    by_app: bool = False
    commits: list[Commit] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)  # name -> commit

    def commit(self, title: str, files: dict[str, Blob]) -> Commit:
        seed = f"{self.id} {len(self.commits)} {title} {sorted(files)} {time.time_ns()}"
        self.commits.append(Commit(hashlib.sha1(seed.encode()).hexdigest(), title, files))
        return self.commits[-1]

    @property
    def head(self) -> Commit:
        return self.commits[-1]

    def at(self, revision: str) -> Commit:
        if revision in ("main", "HEAD"):
            return self.head
        for commit in self.commits:
            if commit.oid == self.tags.get(revision, revision):
                return commit
        raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")

    def to_json(self, commit: Commit) -> dict[str, Any]:
        """What the info call answers, computed from the files as the Hub does."""
        files = commit.files
        config = json.loads(files["config.json"].data) if "config.json" in files else {}
        card = front_matter(files["README.md"].data.decode()) if "README.md" in files else {}
        siblings = []
        for path, blob in files.items():
            row: dict[str, Any] = {"rfilename": path, "size": len(blob.data), "blobId": blob.oid}
            lfs = {"sha256": blob.sha256, "size": len(blob.data), "pointerSize": 130}
            siblings.append(row | ({"lfs": lfs} if blob.lfs else {}))
        answer = {
            "_id": "0" * 24,
            "id": self.id,
            "modelId": self.id,
            "sha": commit.oid,
            "private": self.private,
            "gated": self.gated,
            "disabled": False,
            "siblings": siblings,
            "tags": card.get("tags") or [],
            "config": {k: v for k, v in config.items() if k in ("architectures", "model_type")},
        }
        if isinstance(card, dict) and card:
            answer["cardData"] = card
        counts = [count_parameters(b.data) for p, b in files.items() if p.endswith(".safetensors")]
        if counts and "config.json" in files:
            total = {k: sum(c.get(k, 0) for c in counts) for c in counts for k in c}
            answer["safetensors"] = {"parameters": total, "total": sum(total.values())}
        if any(p.endswith(".gguf") for p in files):
            answer["gguf"] = {"total": 1}
        return answer


@dataclass
class HubState:
    """Hold all of the local Hub; one lock, for the server answers in threads."""

    users: dict[str, dict[str, str]] = field(default_factory=dict)  # name -> org -> role
    tokens: dict[str, Token] = field(default_factory=dict)
    repos: dict[tuple[str, str], Repo] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)  # LFS, by SHA-256
    quota: int | None = None
    quotas: dict[str, dict[str, Any]] = field(default_factory=dict)  # of ZeroGPU, by user
    lock: threading.RLock = field(default_factory=threading.RLock)

    def add_repo(self, repo_id: str, files: dict[str, bytes], **settings: Any) -> Repo:
        """Put a repo there, as somebody else would have before the test."""
        repo = Repo(settings.pop("kind", "model"), repo_id, **settings)
        blobs = {p: Blob(d, p.endswith(LFS_ENDINGS)) for p, d in files.items()}
        repo.commit("initial commit", {".gitattributes": Blob(GITATTRIBUTES)})
        if blobs:
            repo.commit("files", repo.head.files | blobs)
        self.repos[repo.kind, repo.id] = repo
        return repo

    def token(self, header: str | None) -> Token | None:
        """Return the caller's token, or None for an anonymous caller."""
        if not header:
            return None
        token = self.tokens.get(header.removeprefix("Bearer ").strip())
        if token is None or token.dead or (token.expires and token.expires < time.time()):
            raise Refusal(401, "Invalid credentials in Authorization header")
        return token

    def find(self, kind: str, repo_id: str, token: Token | None) -> Repo:
        """Return a repo the caller may know of."""
        repo = self.repos.get((kind, repo_id))
        if repo is None or (repo.private and not self.is_member(token, repo_id)):
            raise Refusal(404 if token else 401, "Repository not found", "RepoNotFound")
        return repo

    def is_member(self, token: Token | None, repo_id: str) -> bool:
        owner = repo_id.split("/")[0]
        return token is not None and (token.user == owner or owner in self.users[token.user])

    def require_read(self, repo: Repo, token: Token | None) -> None:
        if repo.gated and not self.is_member(token, repo.id):
            if token is None:
                raise Refusal(401, "Access to this repo is restricted.", "GatedRepo")
            if token.user not in repo.allowed:
                raise Refusal(403, "Access to this repo is restricted.", "GatedRepo")

    def require_write(self, token: Token | None, repo_id: str, repo: Repo | None = None) -> None:
        """Refuse as the Hub does: role, then scopes, then membership."""
        if token is None:
            raise Refusal(401, "Invalid username or password.")
        owner = repo_id.split("/")[0]
        role = "admin" if token.user == owner else self.users[token.user].get(owner, "none")
        if role not in WRITERS:
            raise Refusal(403, f"You don't have the rights to write under the namespace {owner}")
        if token.role == "read":
            raise Refusal(403, "This token has read-only access; a write token is needed")
        scopes = set(token.scopes)
        if token.role == "fineGrained" and not scopes & {
            f"user:{owner}", f"org:{owner}", f"model:{repo_id}"
        }:  # fmt: skip
            raise Refusal(403, "Forbidden: you must use a token with the right permissions")
        if token.role == "oauth" and not scopes & {"write-repos", "manage-repos"}:
            mine = repo is None or repo.by_app
            if not ("contribute-repos" in scopes and mine):
                raise Refusal(403, "Forbidden: missing scope contribute-repos or write-repos")

    def whoami(self, token: Token | None) -> dict[str, Any]:
        if token is None:
            raise Refusal(401, "Invalid username or password.")
        auth: dict[str, Any] = {"type": "access_token"}
        if token.role == "oauth":
            auth = {"type": "oauth"}
            if token.expires:
                when = time.gmtime(token.expires)
                auth["expiresAt"] = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", when)
        else:
            auth["accessToken"] = {"displayName": "test", "role": token.role}
        if token.role == "fineGrained":
            entities = [scope.split(":", 1) for scope in token.scopes]
            auth["accessToken"]["fineGrained"] = {
                "global": [],
                "scoped": [
                    {"entity": {"type": kind, "name": name}, "permissions": ["repo.write"]}
                    for kind, name in entities
                ],
            }
        orgs = [
            {"type": "org", "name": n, "roleInOrg": r} for n, r in self.users[token.user].items()
        ]
        return {"type": "user", "name": token.user, "orgs": orgs, "auth": auth}


def front_matter(text: str) -> dict[str, Any]:
    """Return a card's metadata, as the Hub checks it.

    Raises:
        Refusal: no mapping, or a field of another form than the Hub takes.
    """
    parts = text.split("---\n", 2)
    if len(parts) < 3 or parts[0]:
        return {}
    try:
        data = yaml.safe_load(parts[1])
    except yaml.YAMLError as error:
        raise _invalid(f"YAML: {error}") from error
    if not isinstance(data, dict):
        raise _invalid("not a mapping")
    if "license" in data and data["license"] not in LICENCES:
        raise _invalid(f'"license" must be one of {LICENCES}')
    if data.get("license") == "other" and not data.get("license_name"):
        raise _invalid('"license_name" is required with "license: other"')
    if not isinstance(data.get("tags", []), list):
        raise _invalid('"tags" must be an array')
    if (
        not isinstance(data.get("base_model", ""), str)
        or str(data.get("base_model")).count("/") > 1
    ):
        raise _invalid('"base_model" must be a repo id')
    return data


def _invalid(message: str) -> Refusal:
    return Refusal(400, "Invalid metadata", errors=[{"message": message}], warnings=[])


def count_parameters(data: bytes) -> dict[str, int]:
    """Return dtype -> number of parameters, from a safetensors header."""
    try:
        (length,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + length])
    except (ValueError, struct.error):
        return {}
    if not isinstance(header, dict):
        return {}
    counts: dict[str, int] = {}
    for name, tensor in header.items():
        if name != "__metadata__":
            size = 1
            for n in tensor["shape"]:
                size *= n
            counts[tensor["dtype"]] = counts.get(tensor["dtype"], 0) + size
    return counts
