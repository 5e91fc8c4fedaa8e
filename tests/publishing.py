"""Publish on the local Hub and look at what is there: helpers of the tests that publish."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from hub_server import Hub, HubState

from ditto_hub.events import run_to_end
from ditto_hub.hub.publishing.options import PublishOptions
from ditto_hub.hub.publishing.publish import publish_steps
from ditto_hub.hub.publishing.receipt import Receipt
from ditto_hub.runs.folder import Run

ADAPTER = "alice/my-voice"
README, RECORD = "README.md", "ditto_run.json"


def refill(hub: Hub, base_folder: Path) -> str:
    """Empty the Hub, put the base model and the users there, and return alice's token."""
    hub.state = HubState()
    hub.forget()
    token = hub.add_user("alice", {"acme": "write", "readers": "read"})
    hub.add_user("mallory")
    files = {p.name: p.read_bytes() for p in base_folder.iterdir()}
    hub.state.add_repo("base/tiny", {**files, README: b"---\nlicense: mit\n---\n# tiny\n"})
    return token


def on_pocket(run: Run) -> Run:
    run.record.base_model = {"id": "pocket", "revision": None}
    run.save_record()
    return run


def send(run: Run, hub: Hub, token: str | None, repo: str = ADAPTER, **options: Any) -> Receipt:
    chosen = PublishOptions(**{"load_back": "hashes", "endpoint": hub.endpoint, **options})
    return run_to_end(publish_steps(run, repo, token=token, options=chosen))


def repo_files(hub: Hub, repo_id: str = ADAPTER) -> dict[str, bytes]:
    return {p: b.data for p, b in hub.state.repos["model", repo_id].head.files.items()}


def whole_versions(hub: Hub, repo_id: str) -> int:
    """Count the commits that hold a whole version: all files that the record names, as it names."""
    found = 0
    for commit in hub.state.repos["model", repo_id].commits:
        if RECORD in commit.files:
            manifest = json.loads(commit.files[RECORD].data)["files"]
            assert {p: commit.files[p].sha256 for p in manifest} == manifest
            found += 1
        else:
            assert set(commit.files) == {".gitattributes"}, "a half version"
    return found


def digest(folder: Path) -> dict[str, str]:
    files = [p for p in sorted(folder.rglob("*")) if p.is_file()]
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
