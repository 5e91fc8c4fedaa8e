"""Keep a run in a private repo of its owner's, a commit at a time, and restore it to its bytes."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ditto_hub.errors import HubError, RunError, RunOwnerError
from ditto_hub.hub.client import HubClient, RemoteRepo
from ditto_hub.hub.kept import (
    EVENTS,
    EXPLANATION,
    FORMAT,
    MANIFEST,
    OWNED,
    PREFIX,
    README,
    RECORD,
    RUN,
    SMALL,
    USUAL,
    Limits,
    download,
    files_of,
    read_manifest,
    repo_of,
)
from ditto_hub.hub.publishing.bundle import Bundle, sha256, size_of
from ditto_hub.hub.targets import Target, put
from ditto_hub.runs.folder import Run, hash_owner, home
from ditto_hub.runs.record import RunRecord
from ditto_hub.runs.storage import from_jsonl, to_json_bytes, to_jsonl_bytes, told_as_storage_error
from ditto_hub.tokens import Token
from ditto_hub.version import VERSION
from ditto_hub.words import Message

Admit = Callable[[RunRecord], None]
DEMOS = "demos.jsonl"
WHAT_IT_IS = ("owner", "base_model", "config", "seed", "parent", "created")


@dataclass(frozen=True)
class SavedRun:
    """Hold what is known of a kept run before anything of it is fetched."""

    run_id: str
    repo_id: str
    status: str
    base_model: str
    chosen: str | None
    updated: float
    bytes: int
    job: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Kept:
    """Say where a run was saved."""

    repo_id: str
    commit: str


# ---- saving --------------------------------------------------------------------------------------


def save_run(run: Run, token: Token | str, namespace: str | None = None) -> str:
    """Keep a run in a private repo; only files that changed are sent, in one commit.

    Call it between two events of whoever drives the run, or when nobody does.

    Args:
        token: of the user.
        namespace: the user's or an organisation's; default the user's.

    Returns:
        The repo's id.

    Raises:
        HubError: the Hub refused, or the repo is public; the run here is untouched.
    """
    client = HubClient(token)
    return save(client, run, namespace or client.who().name).repo_id


def save(
    client: HubClient, run: Run, namespace: str, extra: Mapping[str, bytes] | None = None
) -> Kept:
    """Do what `save_run` does; `extra` are further files of the repo, such as a job's.

    Raises:
        HubError: as `save_run`.
    """
    repo_id = repo_of(run.record.id, namespace)
    remote = _private(client, repo_id)
    old = read_manifest(client, remote)
    files = {path: _data(source) for path, source in files_of(run).items()}
    manifest = _manifest(run, files)
    bundle: Bundle = {RUN + path: data for path, data in files.items()}
    bundle[MANIFEST] = to_json_bytes(manifest)
    bundle.update(extra or {})
    if README not in remote.files:
        bundle[README] = EXPLANATION
    ours = {RUN + path: str(row["sha256"]) for path, row in old.get("files", {}).items()}
    message = f"Keep run {run.record.id}, {run.record.status}"
    commit, _ = put(client, Target(repo_id, remote, ours), bundle, message)
    return Kept(repo_id, commit)


def _private(client: HubClient, repo_id: str) -> RemoteRepo:
    """Return the repo, made where there is none, once it is certain that it is private."""
    remote = client.repo(repo_id)
    if remote is None:
        client.create_private(repo_id)
        remote = client.repo(repo_id)
    if remote is None:
        raise HubError("hub.new_repo_not_visible", repo_id=repo_id)
    if not remote.private:
        raise HubError("hub.kept_repo_is_public", repo_id=repo_id)
    return remote


def _data(path: Path) -> bytes | Path:
    """Return a small file's bytes, so that they are all of one moment, and a large one's path."""
    return path.read_bytes() if path.stat().st_size <= SMALL else path


def _manifest(run: Run, files: Bundle) -> dict[str, Any]:
    record = run.record
    return {
        "format": FORMAT,
        "schema_version": 1,
        "ditto_hub": VERSION,
        "run_id": record.id,
        "status": record.status,
        "base_model": str(record.base_model.get("id", "")),
        "chosen": record.chosen,
        "updated": record.updated,
        "job": record.job,
        "files": {p: {"size": size_of(d), "sha256": sha256(d)} for p, d in files.items()},
    }


# ---- finding -------------------------------------------------------------------------------------


def saved_runs(token: Token | str, namespace: str | None = None, limit: int = 50) -> list[SavedRun]:
    """Return the runs kept in a namespace, newest first; what is damaged is left out.

    Raises:
        HubError: the Hub refused or could not be reached.
    """
    client = HubClient(token)
    where = namespace or client.who().name

    def call() -> list[Any]:
        return list(client.api.list_models(author=where, search=PREFIX, limit=2 * limit))

    found = []
    for info in client.repeat(Message("hub.doing.list_kept", name=where), call):
        if not info.id.startswith(f"{where}/{PREFIX}"):
            continue
        with contextlib.suppress(RunError):
            remote = client.repo(info.id)
            if remote is not None:
                found.append(_saved(remote, read_manifest(client, remote)))
    return sorted((s for s in found if s.run_id), key=lambda s: s.updated, reverse=True)[:limit]


def _saved(remote: RemoteRepo, manifest: Mapping[str, Any]) -> SavedRun:
    return SavedRun(
        run_id=str(manifest.get("run_id", "")),
        repo_id=remote.id,
        status=str(manifest.get("status", "")),
        base_model=str(manifest.get("base_model", "")),
        chosen=manifest.get("chosen"),
        updated=float(manifest.get("updated") or 0.0),
        bytes=sum(file.size for file in remote.files.values()),
        job=manifest.get("job") or {},
    )


# ---- restoring -----------------------------------------------------------------------------------


def restore_run(
    run_id: str,
    token: Token | str,
    owner: str | None = None,
    namespace: str | None = None,
    folder: Path | None = None,
    *,
    admit: Admit = lambda record: None,
    limits: Limits = USUAL,
) -> Run:
    """Bring a kept run to this machine, so that it can be read, resumed and published here.

    Args:
        owner: who asks, as in `Run.create`; None for the machine's own user.
        namespace: where it is kept; default the token's user.
        folder: where to; default `home()/runs/ID`. A newer run there is left as it is.
        admit: refuses a record before anything else is fetched: anybody may have written it.
        limits: of what is fetched.

    Raises:
        RunError: there is none, or what is there is damaged.
        RunOwnerError: it is somebody else's.
        HubError: the Hub refused or could not be reached.
        StorageError: the disk refused.
    """
    client = HubClient(token)
    mine = client.who().name
    where = namespace or mine
    repo_id = repo_of(run_id, where)
    return restore(client, repo_id, folder, owner, where == mine, admit=admit, limits=limits)


def restore(
    client: HubClient,
    repo_id: str,
    folder: Path | None = None,
    owner: str | None = None,
    personal: bool = False,
    *,
    admit: Admit = lambda record: None,
    limits: Limits = USUAL,
) -> Run:
    """Do what `restore_run` does.

    Args:
        personal: the namespace is the asker's own, so a run without an owner becomes theirs.
        admit, limits: as `restore_run`.

    Raises:
        RunError, RunOwnerError, HubError, StorageError: as `restore_run`.
    """
    remote, manifest = _look(client, repo_id, limits)
    run_id = repo_id.split("/")[1].removeprefix(PREFIX)
    record = _read_record(client, remote, manifest, run_id)
    if owner is not None and record.owner != hash_owner(owner):
        if record.owner is not None or not personal:
            raise RunOwnerError("hub.not_your_run", run_id=run_id)
        record.owner = hash_owner(owner)
    folder = folder or home() / "runs" / run_id
    if (folder / RECORD).is_file():
        here = Run.load(folder, owner)
        if here.record.id != run_id:
            raise RunError("hub.folder_of_another_run", folder=folder)
        if here.record.updated >= record.updated:
            return here
    admit(record)
    with told_as_storage_error(folder):
        folder.mkdir(parents=True, exist_ok=True)
    run = Run(folder, record)
    with run.lock():
        _bring(client, remote, manifest, run, own_events=False)
    return run


def fetch(client: HubClient, repo_id: str, run: Run, further: bool = False) -> bool:
    """Bring what a repo holds of a run into its folder; for the holder of the run's lock.

    Where its worker was killed, events that were seen here and never saved there are kept.

    Args:
        further: only where it got further there: is finished, or has more stages behind it.

    Returns:
        Whether it was brought.

    Raises:
        RunError: there is nothing there, or it is damaged.
        HubError, StorageError: as `restore_run`.
    """
    remote, manifest = _look(client, repo_id, USUAL)
    record = _read_record(client, remote, manifest, run.record.id)
    if further and _how_far(record) <= _how_far(run.record):
        return False
    for name in WHAT_IT_IS:  # a repo can be edited while a job works, and changes no run
        setattr(record, name, getattr(run.record, name))
    record.job = {**record.job, **run.record.job}
    killed = record.status in ("created", "running")
    run.record = record
    _bring(client, remote, manifest, run, own_events=killed, own_demos=True)
    return True


def _how_far(record: RunRecord) -> tuple[bool, int]:
    return record.status == "finished", len(record.stages)


def _look(client: HubClient, repo_id: str, limits: Limits) -> tuple[RemoteRepo, dict[str, Any]]:
    remote = client.repo(repo_id)
    manifest = read_manifest(client, remote) if remote else {}
    if remote is None or not manifest:
        raise RunError("hub.no_run_kept", repo_id=repo_id)
    sizes = [row["size"] for row in manifest["files"].values()]
    if (
        len(sizes) > limits.files
        or max(sizes, default=0) > limits.file_bytes
        or sum(sizes) > limits.total_bytes
    ):
        raise RunError("hub.repo_too_large", repo_id=repo_id, count=len(sizes), sum=sum(sizes))
    for path, row in manifest["files"].items():
        there = remote.files.get(RUN + path)
        if there is None or there.size != row["size"]:
            raise RunError("hub.kept_file_cut", repo_id=repo_id, path=path)
    return remote, manifest


def _read_record(
    client: HubClient, remote: RemoteRepo, manifest: Mapping[str, Any], run_id: str
) -> RunRecord:
    data = client.read(remote.id, RUN + RECORD, remote.commit) or b""
    if hashlib.sha256(data).hexdigest() != manifest["files"].get(RECORD, {}).get("sha256"):
        raise RunError("hub.kept_record_not_json", record=RECORD, remote_id=remote.id)
    try:
        record = RunRecord.from_json(json.loads(data), f"{remote.id}/{RECORD}")
    except ValueError as error:
        raise RunError(
            "hub.kept_record_damaged", record=RECORD, remote_id=remote.id, error=error
        ) from error
    if record.id != run_id:
        raise RunError("hub.repo_of_another_run", remote_id=remote.id, run_id=record.id)
    return record


def _bring(
    client: HubClient,
    remote: RemoteRepo,
    manifest: Mapping[str, Any],
    run: Run,
    own_events: bool,
    own_demos: bool = False,
) -> None:
    """Make a folder hold what the manifest lists; the record is written last."""
    files = dict(manifest["files"])
    files.pop(RECORD)
    if own_demos:
        files.pop(DEMOS, None)
    seen = _rows(run.folder / EVENTS) if own_events else []
    for path, row in files.items():
        target = run.folder / path
        same = target.is_file() and target.stat().st_size == row["size"]
        if not same or sha256(target) != row["sha256"]:
            download(client, remote, path, target, row)
    if seen:
        rows = {row["seq"]: row for row in [*seen, *_rows(run.folder / EVENTS)]}
        run.write(EVENTS, to_jsonl_bytes(rows[seq] for seq in sorted(rows)))
    for path in files_of(run):
        if path.split("/")[0] in OWNED and path not in files:
            with told_as_storage_error(run.folder / path):
                (run.folder / path).unlink()
    for name in OWNED:
        with contextlib.suppress(OSError):  # not there, or not empty
            (run.folder / name).rmdir()
    run.write(RECORD, to_json_bytes(asdict(run.record)))


def _rows(path: Path) -> list[Any]:
    with contextlib.suppress(OSError, ValueError):
        rows = from_jsonl(path)
        return [r for r in rows if isinstance(r, dict) and type(r.get("seq")) is int]
    return []


# ---- deleting ------------------------------------------------------------------------------------


def delete_saved(run_id: str, token: Token | str, namespace: str | None = None) -> None:
    """Delete the repo that keeps a run, and nothing that is not one of ours.

    Raises:
        RunError: it holds something else.
        HubError: the Hub refused; deleting may need a wider token than writing.
    """
    client = HubClient(token)
    delete(client, repo_of(run_id, namespace or client.who().name))


def delete(client: HubClient, repo_id: str) -> None:
    """Do what `delete_saved` does; none there is no error."""
    remote = client.repo(repo_id)
    if remote is None:
        return
    read_manifest(client, remote)
    doing = Message("hub.doing.delete", name=repo_id)
    client.repeat(doing, lambda: client.api.delete_repo(repo_id, missing_ok=True))
