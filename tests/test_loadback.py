"""The check of what was published: what it leaves on the disk."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import pytest

from ditto_hub.hub.publishing.loadback import FOLDER_PREFIX, TIMEOUT_S, remove_left_over


def test_only_folders_of_killed_checks_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Older than two time limits and ours by name goes; a newer one, and any other, stays."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    outside = tmp_path / "somebodys"
    names = {f"{FOLDER_PREFIX}old": 2.1, f"{FOLDER_PREFIX}new": 1.9, "somebodys": 9.0}
    for name, limits in names.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / "weights").write_bytes(b"1")
        then = time.time() - limits * TIMEOUT_S
        os.utime(folder, (then, then))
    (tmp_path / f"{FOLDER_PREFIX}link").symlink_to(outside)
    remove_left_over()
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == sorted([f"{FOLDER_PREFIX}link", f"{FOLDER_PREFIX}new", "somebodys"])
    assert (outside / "weights").is_file()
