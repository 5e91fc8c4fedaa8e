"""A base model's files on this disk: fetched before a GPU is asked for, whole, within a bound.

What everybody may read is kept once for all; what a token opened is kept for that visitor alone.
Each model's folder is complete when its `.whole` file is there, and the one that was used longest
ago makes room for the next.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from filelock import FileLock

from ditto_hub.errors import BaseModelError
from ditto_hub.hub.bounds import told
from ditto_hub.hub.client import HubClient, require_repo_id
from ditto_hub.runs.folder import hash_owner, home
from ditto_hub.runs.storage import told_as_storage_error
from ditto_hub.tokens import NOBODY, Token
from ditto_hub.words import Message

PUBLIC = "public"
IN_USE_S = 900.0  # longer than any lease: a folder used so lately is not removed
GB = 1e9
SMALL = ("*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken")
NOT_NEEDED = ("consolidated", "adapter_model")


@dataclass(frozen=True)
class Shelf:
    """Say where fetched base models are kept.

    Args:
        visitor: owner's name or secret; kept only as a hash.
        limit_bytes: of all of them together; 0 for no bound.
        folder: default one under the runs' home.
        endpoint: of the Hub; None takes HF_ENDPOINT or the public one.
    """

    visitor: str
    limit_bytes: int = 0
    folder: Path | None = None
    endpoint: str | None = None

    @property
    def root(self) -> Path:
        """The folder of all shelves."""
        return self.folder or home() / "weights"

    def place(self, base_model: Mapping[str, Any], owner: str) -> Path:
        """Return the folder of one base model, of everybody's or one visitor's.

        Id and revision come from a run's record; neither leads out of the owner's own folder.

        Raises:
            BaseModelError: they are no names.
        """
        parts = str(base_model["id"]), str(base_model.get("revision") or "main")
        name, revision = (quote(part, safe="") for part in parts)
        if {name, revision} & {"", ".", ".."}:
            raise BaseModelError("hub.base_model_unreadable", id=base_model["id"])
        return self.root / owner / name / revision


def fetch(base_model: Mapping[str, Any], shelf: Shelf, token: Token | str) -> Path:
    """Return the folder of a base model's files, downloading them where they are not there.

    Args:
        base_model: {id, revision} on the Hub.
        shelf: where to keep them.
        token: of the visitor; used only for what nobody may read without one.

    Raises:
        BaseModelError: it is larger than all that may be kept.
        HubError: it cannot be had.
        StorageError: the disk refused.
    """
    mine = str(hash_owner(shelf.visitor))
    for owner in (PUBLIC, mine):
        place = shelf.place(base_model, owner)
        if (place / ".whole").is_file():
            _use(place)
            return place
    client, info = opened(base_model, token, shelf.endpoint)
    owner = mine if client.token else PUBLIC
    sizes = {s.rfilename: s.size or 0 for s in info.siblings or []}
    return _download(client, base_model, shelf, shelf.place(base_model, owner), sizes)


def opened(
    base_model: Mapping[str, Any], token: Token | str, endpoint: str | None = None
) -> tuple[HubClient, Any]:
    """Return who may read a base model, nobody where everybody may, and what the Hub says of it.

    Raises:
        BaseModelError: neither everybody nor this visitor may read it.
        HubError: the Hub refused or could not be reached.
    """
    name, revision = str(base_model["id"]), base_model.get("revision")
    require_repo_id(name)
    client = HubClient(NOBODY, endpoint)
    info = client.info(name, revision=revision)
    if info is None or info.gated:
        client = HubClient(token, endpoint)
        info = client.info(name, revision=revision)
    if info is None or (info.gated and not client.token):
        raise BaseModelError("hub.base_model_unreadable", id=name)
    if info.gated:
        client.require_access(name)
    return client, info


def _download(
    client: HubClient,
    base_model: Mapping[str, Any],
    shelf: Shelf,
    place: Path,
    sizes: Mapping[str, int],
) -> Path:
    from huggingface_hub import snapshot_download

    names = wanted(sizes)
    with told_as_storage_error(shelf.root):
        shelf.root.mkdir(parents=True, exist_ok=True)
    with FileLock(shelf.root / ".lock", thread_local=False):
        if not (place / ".whole").is_file():
            make_room(shelf, sum(sizes[name] for name in names))
            with told(Message("hub.doing.fetch", name=base_model["id"])):
                snapshot_download(
                    str(base_model["id"]),
                    revision=base_model.get("revision"),
                    local_dir=place,
                    allow_patterns=names,
                    token=client.token or False,
                    endpoint=client.endpoint,
                    max_workers=1,  # one that fails closes the client under the others
                )
        _use(place)
    return place


def wanted(sizes: Mapping[str, int]) -> list[str]:
    """Return the files that loading needs: the weights once, and what is small at the top."""
    top = [name for name in sizes if "/" not in name]
    weights = [name for name in top if name.endswith(".safetensors")]
    weights = [n for n in weights if n.startswith("model")] or [
        n for n in weights if not n.startswith(NOT_NEEDED)
    ]
    small = [n for n in top if any(Path(n).match(pattern) for pattern in SMALL)]
    return sorted({*weights, *small})


def make_room(shelf: Shelf, needed: int) -> None:
    """Remove the base models used longest ago until another one of that size fits.

    Raises:
        BaseModelError: it would never fit, or those that are there are all in use.
    """
    if not shelf.limit_bytes:
        return
    if needed > shelf.limit_bytes:
        raise BaseModelError(
            "hub.base_model_too_large", needed=needed / GB, limit_bytes=shelf.limit_bytes / GB
        )
    kept = sorted(shelf.root.glob("*/*/*/"), key=_used_at)
    have = {place: _bytes(place) for place in kept}
    for place in kept:
        if sum(have.values()) + needed <= shelf.limit_bytes:
            return
        if time.time() - _used_at(place) < IN_USE_S:
            raise BaseModelError("hub.no_room_for_base")
        with told_as_storage_error(place):
            shutil.rmtree(place)
        del have[place]


def _use(place: Path) -> None:
    with told_as_storage_error(place):
        (place / ".whole").touch()


def _used_at(place: Path) -> float:
    """Return when a folder was used last; 0 for one whose download was cut short."""
    try:
        return (place / ".whole").stat().st_mtime
    except OSError:
        return 0.0


def _bytes(place: Path) -> int:
    return sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
