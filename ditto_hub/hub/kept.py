"""What the private repo of a kept run looks like, and what of it is believed.

NAMESPACE/ditto-hub-run-ID        a model repo, never written to unless it is private
    ditto-hub-run.json            what it is, and each file's size and SHA-256
    run/...                       the run folder, without locks, caches and half-written files
    job/...                       what a Hub Job needs besides
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from huggingface_hub import get_session, hf_raise_for_status
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

from ditto_hub.errors import HubBusyError, RunError
from ditto_hub.hub.client import HubClient, RemoteRepo, require_repo_id
from ditto_hub.runs.folder import Run
from ditto_hub.runs.storage import told_as_storage_error
from ditto_hub.words import Message

PREFIX, MANIFEST, RUN, README = "ditto-hub-run-", "ditto-hub-run.json", "run/", "README.md"
FORMAT = "ditto-hub-run"
RECORD, EVENTS = "run.json", "events.jsonl"
LEFT_HERE = ("publish", "evaluation/cache")  # made again from the rest at any time
OWNED = ("state", "adapter", "candidates", "rollouts", "lessons", "parent", "probe.safetensors")
SMALL = 1_000_000
EXPLANATION = b"""---
tags: [ditto-hub]
---
A run of DITTO Hub, kept so that it can go on elsewhere: demonstrations, checkpoints, adapters. It
is private and should stay so. Deleting it deletes the run here and nothing that was published.
"""


@dataclass(frozen=True)
class Limits:
    """Bound what is taken from a repo: its content may be anybody's or damaged.

    Args:
        files: at most so many.
        file_bytes: of one file.
        total_bytes: of all.
    """

    files: int = 5_000
    file_bytes: int = 8_000_000_000
    total_bytes: int = 40_000_000_000


USUAL = Limits()


def repo_of(run_id: str, namespace: str) -> str:
    """Return the id of the repo that keeps a run.

    Raises:
        RunError: that is no run's id.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]{0,60}", run_id) or "--" in run_id:
        raise RunError("hub.not_a_run_id", run_id=run_id)
    require_repo_id(f"{namespace}/{PREFIX}{run_id}")
    return f"{namespace}/{PREFIX}{run_id}"


def files_of(run: Run) -> dict[str, Path]:
    """Return path -> file of all that belongs to a run, in a fixed order."""
    found = {}
    for path in sorted(run.folder.rglob("*")):
        name = path.relative_to(run.folder).as_posix()
        hidden = any(part.startswith(".") for part in name.split("/"))
        left = any(name == part or name.startswith(f"{part}/") for part in LEFT_HERE)
        if path.is_file() and not path.is_symlink() and not hidden and not left:
            found[name] = path
    return found


def read_manifest(client: HubClient, remote: RemoteRepo) -> dict[str, Any]:
    """Return what a repo says it holds, checked; empty where nothing was kept there yet.

    Raises:
        RunError: it holds something else, or is damaged, or was written by a newer version.
    """
    if MANIFEST not in remote.files:
        others = sorted(set(remote.files) - {".gitattributes", README})
        if others:
            raise RunError("hub.not_a_kept_run", remote_id=remote.id, others=others[0])
        return {}
    try:
        data = json.loads(client.read(remote.id, MANIFEST, remote.commit) or b"")
        if data["format"] != FORMAT or not isinstance(data["files"], dict):
            raise ValueError(Message("hub.not_kept_format"))
        for path, row in data["files"].items():
            require_plain(path)
            if type(row["size"]) is not int or not re.fullmatch("[0-9a-f]{64}", row["sha256"]):
                raise ValueError(Message("hub.entry_damaged", path=path))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(
            "hub.manifest_damaged", manifest=MANIFEST, remote_id=remote.id, error=error
        ) from error
    if data.get("schema_version") != 1:
        raise RunError("hub.kept_by_newer_version", remote_id=remote.id, data=data.get("ditto_hub"))
    return dict(data)


def require_plain(path: str) -> None:
    """Refuse a path that could lead out of a run's folder, or into its hidden files.

    Raises:
        ValueError: naming it.
    """
    parts = PurePosixPath(path).parts
    odd = any(c in path for c in "\\:\0") or len(path) > 300
    if not parts or odd or path != "/".join(parts) or any(p.startswith((".", "/")) for p in parts):
        raise ValueError(Message("hub.path_leads_out", path=path))


def download(
    client: HubClient, remote: RemoteRepo, path: str, target: Path, row: Mapping[str, Any]
) -> None:
    """Bring one file, checked, under its name; a broken one never stands under it."""
    url = f"{client.endpoint}/{remote.id}/resolve/{remote.commit}/{quote(RUN + path)}"
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")

    def call() -> None:
        digest, size = hashlib.sha256(), 0
        headers = build_hf_headers(token=client.token or False)
        with get_session().stream("GET", url, headers=headers) as response:
            if response.status_code >= 400:
                response.read()
            hf_raise_for_status(response)
            with told_as_storage_error(target):
                file = temporary.open("wb")
            with file:
                for chunk in response.iter_bytes():
                    size += len(chunk)
                    if size > row["size"]:
                        break
                    digest.update(chunk)
                    with told_as_storage_error(target):
                        file.write(chunk)
        if size != row["size"] or digest.hexdigest() != row["sha256"]:
            raise HubBusyError("hub.download_cut", path=path, remote_id=remote.id)

    with told_as_storage_error(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    try:
        client.repeat(Message("hub.doing.read_file", path=path, name=remote.id), call)
        with told_as_storage_error(target):
            os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
