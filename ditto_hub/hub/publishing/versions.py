"""The versions of an adapter on the Hub: which one comes before, its tag, a card that points on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator
from dataclasses import replace
from typing import Any

from huggingface_hub import ModelCard

from ditto_hub.errors import HubError
from ditto_hub.hub.client import HubClient, RemoteRepo
from ditto_hub.hub.publishing.bases import Base
from ditto_hub.hub.publishing.bundle import CARD, METRICS, RECORD
from ditto_hub.hub.publishing.lineage import Earlier, describe, read_earlier, tag_of
from ditto_hub.hub.publishing.options import PublishStep
from ditto_hub.hub.targets import Target, difference, examine
from ditto_hub.runs.storage import to_json_bytes
from ditto_hub.words import Message, Text


def replaced(client: HubClient, repo_id: str | None, by: str) -> Target | None:
    """Look at the repo whose adapter a new one replaces, before anything is written.

    Args:
        repo_id: of the earlier version; None for no such.
        by: the new repo's id.

    Raises:
        HubError: it is not there, holds no adapter of ours, or may not be written to.
    """
    if not repo_id:
        return None
    if repo_id == by:
        raise HubError("hub.replaces_itself", repo_id=repo_id)
    target = examine(client, repo_id, (), public=True)
    if target.remote is None or not target.manifest:
        raise HubError("hub.replaced_not_there", repo_id=repo_id)
    return target


def earlier_version(
    client: HubClient, target: Target, run_id: str, old: Target | None
) -> Earlier | None:
    """Return the version that a run's adapter follows, or None for a first one.

    It is the one in the repo itself, made by another run; else the one that is replaced. A run that
    is published again follows what it followed before.
    """
    if target.remote is not None and target.manifest:
        record = _json(client, target.remote, RECORD)
        if dict(record.get("run") or {}).get("id") != run_id:
            return _described(client, target.remote, record)
        if record.get("earlier"):
            return read_earlier(record["earlier"])
    if old is not None and old.remote is not None:
        return _described(client, old.remote, _json(client, old.remote, RECORD))
    return None


def as_published(client: HubClient, base: Base) -> Base:
    """Return the embedded base model at the commit that holds it already, if one does.

    Raises:
        HubError: the Hub cannot be asked.
    """
    remote = client.repo(base.id) if base.bundle else None
    if remote is None or difference(base.bundle, remote, {})[0]:
        return base
    return replace(base, revision=remote.commit)


def finish(
    client: HubClient,
    repo_id: str,
    commit: str,
    earlier: Earlier | None,
    old: Target | None,
    private: bool,
) -> Generator[PublishStep, None, list[Text]]:
    """Tag a version that follows another, and let the card it replaces point to it.

    The adapter is published by then: where the Hub refuses, the notices returned say so.

    Args:
        old: the repo that is replaced, if one is.
        private: whether the new repo is.
    """
    said: list[Text] = []
    if earlier is not None:
        name = tag_of(earlier.version + 1)
        yield PublishStep("tag", Message("hub.step_tag", tag=name, repo_id=repo_id))
        try:
            tag_versions(client, repo_id, commit, earlier)
        except HubError as error:
            said.append(Message("hub.not_tagged", tag=name, why=error.happened))
    if old is None or old.remote is None:
        return said
    if private and not old.remote.private:
        return [*said, Message("hub.not_pointed_private", old=old.repo_id, repo_id=repo_id)]
    yield PublishStep("point-on", Message("hub.step_point_on", old=old.repo_id))
    try:
        point_on(client, old, repo_id)
    except HubError as error:
        said.append(Message("hub.not_pointed", old=old.repo_id, why=error.happened))
    return said


def tag_versions(client: HubClient, repo_id: str, commit: str, earlier: Earlier) -> None:
    """Give a new version's commit its tag, and the one before it where it is in the same repo.

    Raises:
        HubError: the Hub refused; the version is there all the same.
    """
    doing = Message("hub.doing.tag", name=repo_id)
    if earlier.repo_id == repo_id and earlier.commit != commit:
        client.tag(repo_id, earlier.tag, earlier.commit, doing, move=False)
    client.tag(repo_id, tag_of(earlier.version + 1), commit, doing, move=True)


def point_on(client: HubClient, old: Target, repo_id: str) -> None:
    """Name the new repo in the metadata of the card that it replaces.

    Raises:
        HubError: the Hub refused; the old card is as it was.
    """
    remote = client.repo(old.repo_id)
    text = client.read(old.repo_id, CARD, remote.commit) if remote else None
    if remote is None or text is None:
        raise HubError("hub.replaced_not_there", repo_id=old.repo_id)
    card = ModelCard(text.decode("utf-8", "replace"))
    if card.data.get("new_version") == repo_id:
        return
    card.data["new_version"] = repo_id
    changed = str(card).encode()
    record = _json(client, remote, RECORD)
    files = dict(record.get("files") or {})
    if files.get(CARD) == hashlib.sha256(text).hexdigest():  # else somebody edited it, which stays
        files[CARD] = hashlib.sha256(changed).hexdigest()
    add = {CARD: changed, RECORD: to_json_bytes({**record, "files": files})}
    client.commit(old.repo_id, remote.commit, add, [], f"Point to {repo_id}")


def _described(client: HubClient, remote: RemoteRepo, record: dict[str, Any]) -> Earlier | None:
    metrics = _json(client, remote, METRICS, [])
    return describe(remote.id, remote.commit, record, metrics if isinstance(metrics, list) else [])


def _json(client: HubClient, remote: RemoteRepo, path: str, none: Any = None) -> Any:
    """Return what a file of a repo holds; an empty value where it is not there, or damaged."""
    data = client.read(remote.id, path, remote.commit) if path in remote.files else None
    try:
        found = json.loads(data or b"null")
    except ValueError:
        found = None
    return found if found is not None else ({} if none is None else none)
