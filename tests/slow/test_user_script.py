"""A script of somebody who uses the package: it runs to its end (`make check` checks its types)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from hub_server import local_hub

import ditto_hub

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tests" / "data" / "user_script.py"


def test_every_public_name_is_in_the_script() -> None:
    """What the script does not use is not tried."""
    text = SCRIPT.read_text("utf-8")
    assert [name for name in ditto_hub.__all__ if name not in text] == []


def test_it_runs_against_a_hub(tmp_path: Path) -> None:
    """Train, pause, resume, write, compare and publish to a local Hub, in one process."""
    with local_hub() as hub:
        token = hub.add_user("alice")
        environment = {**os.environ, "HF_ENDPOINT": hub.endpoint, "HF_HUB_DISABLE_XET": "1"}
        command = [sys.executable, str(SCRIPT), str(tmp_path), "alice/my-voice", token]
        found = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
        assert found.returncode == 0, found.stdout + found.stderr
        assert "alice/my-voice True" in found.stdout
        assert ("model", "alice/my-voice") in hub.state.repos
