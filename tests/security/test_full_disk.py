"""A disk that is full at every write of a run, one after the other: what is there stays whole."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import made, tiny_run

from ditto_hub.backends.local import LocalBackend
from ditto_hub.errors import StorageError
from ditto_hub.runs import folder as folders
from ditto_hub.runs import storage
from ditto_hub.runs.folder import Run
from ditto_hub.tokens import NOBODY

LOCAL = LocalBackend(device="cpu", save_every_s=0.0)
MOST = 60  # attempts
ROUND = re.compile(r"(?<=candidates/)[^/]+/|(?<=rollouts/)[^/]+")
TEMPORARY = re.compile(r"\.([^/]+?)\.[0-9a-f]{16}\.tmp")
SHORT = ("warm_start.max_steps=1", "update.rounds=1", "update.steps=1")


class FullDisk:
    """Refuse each kind of file the first time it is written: no space is left on the device.

    Args:
        folder: the run's; a file is known by its path in there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.refused: list[str] = []

    def refuse(self, path: Path) -> None:
        """Raise what the system does, once a file."""
        name = path.relative_to(self.folder).as_posix() if self.folder in path.parents else ""
        name = ROUND.sub("", TEMPORARY.sub(r"\1", name))  # a round's files are as any other's
        if name and name not in self.refused:
            self.refused.append(name)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FullDisk:
    """Put a full disk behind every write of the storage module and behind the events."""
    made_disk = FullDisk(tmp_path / "run")
    replace, append = os.replace, Run.append_events

    def refused_rename(source: Any, target: Any) -> None:
        made_disk.refuse(Path(target))
        replace(source, target)

    def refused_append(self: Run, events: Any) -> None:
        path = self.folder / "events.jsonl"
        if "events.jsonl" not in made_disk.refused:
            with path.open("ab") as file:
                file.write(b'{"v": 1, "type": "cut')  # as much as there was room for
        with storage.told_as_storage_error(path):
            made_disk.refuse(path)
        append(self, events)

    monkeypatch.setattr(storage.os, "replace", refused_rename)
    monkeypatch.setattr(folders.Run, "append_events", refused_append)
    return made_disk


def whole(run: Path) -> None:
    """Check that every file a reader may open is whole, as it was before or as it is now."""
    json.loads((run / "run.json").read_bytes())
    for path in run.rglob("*.safetensors"):
        storage_size = path.stat().st_size
        head = int.from_bytes(path.read_bytes()[:8], "little")
        ends = [
            row["data_offsets"][1]
            for name, row in json.loads(path.read_bytes()[8 : 8 + head]).items()
            if name != "__metadata__"
        ]
        assert storage_size == 8 + head + max(ends)
    for path in run.rglob("*.jsonl"):
        if path.name != "events.jsonl":
            storage.from_jsonl(path)


def test_full_at_every_write(tiny: Callable[[str], Path], tmp_path: Path, disk: FullDisk) -> None:
    """Every write fails once, in words; nothing is torn, and the run resumes to its bytes."""
    llama = tiny("llama3")
    calm = tiny_run(llama, tmp_path / "calm", *SHORT)
    for _ in LOCAL.drive(calm, token=NOBODY):
        pass
    run = None
    while run is None:
        shutil.rmtree(tmp_path / "run", ignore_errors=True)  # as one does with what never began
        with contextlib.suppress(StorageError):
            run = tiny_run(llama, tmp_path / "run", *SHORT)
    attempts = 0
    while Run.load(run.folder).record.status != "finished":
        attempts += 1
        assert attempts < MOST
        with contextlib.suppress(StorageError):
            for _ in LOCAL.drive(Run.load(run.folder), token=NOBODY):
                pass
        whole(run.folder)
    assert {"run.json", "events.jsonl", "demos.jsonl", "state/state.safetensors"} <= {*disk.refused}
    assert attempts >= len(disk.refused) - 2
    assert made(run.folder) == made(calm.folder)
    events = Run.load(run.folder).events()
    assert [event.seq for event in events] == list(range(len(events)))
    assert not list(run.folder.rglob(".*.tmp"))
