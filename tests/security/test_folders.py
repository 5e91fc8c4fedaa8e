"""A run folder from elsewhere, and one that two processes want."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ditto_hub.backends.driver import Driver
from ditto_hub.config import RunConfig
from ditto_hub.demos.demonstrations import DemoSet
from ditto_hub.errors import RunBusyError, RunError
from ditto_hub.hub.publishing.bundle import read_adapter
from ditto_hub.runs.folder import Run

HOLD = """
import sys
from ditto_hub.runs.folder import Run
with Run.load(sys.argv[1]).lock():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Return a run that has not begun."""
    demos = DemoSet.from_pairs([("Write.", "hey all"), ("Tell.", "hey you")])
    return Run.create(demos, {"id": "pocket"}, RunConfig(), tmp_path / "run")


def no_policy(run: Run) -> None:
    """Fail: nothing may be loaded."""
    raise AssertionError("the base model was loaded")


def link_to(target: str) -> Callable[[Path], None]:
    """Return what puts a link to a target in a file's place."""
    return lambda path: path.symlink_to(target)


ODD = {
    "link to a file": link_to("/etc/hostname"),
    "link to a device": link_to("/dev/zero"),
    "link to a folder": link_to("/etc"),
    "link out of the folder": link_to("../../run.json"),
    "link to nothing": link_to("/nowhere"),
    "pipe": os.mkfifo,
}


@pytest.mark.parametrize("name", ["state/state.safetensors", "adapter/tokenizer.json", "x/deep/y"])
@pytest.mark.parametrize("kind", ODD)
def test_only_plain_files_are_read(kind: str, name: str, run: Run) -> None:
    """A link, a device or a pipe in a resumed folder is named; nothing is read, sent or loaded."""
    path = run.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    ODD[kind](path)
    with pytest.raises(RunError, match=name.split("/")[-1]):
        list(Driver(run, no_policy).events())  # type: ignore[arg-type]
    with pytest.raises(RunError, match=name.split("/")[-1]):
        read_adapter(run)


@pytest.fixture
def other(run: Run) -> Iterator[subprocess.Popen[bytes]]:
    """Run another process that works on the run."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run.folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline().strip() == b"held"
    yield process
    process.kill()
    process.wait(20)
    process.stdout.close()
    process.stdin.close()


def test_a_second_process_changes_nothing(run: Run, other: subprocess.Popen[bytes]) -> None:
    """While one works, another neither trains, claims nor deletes; a killed one lets go."""
    before = {p: p.read_bytes() for p in run.folder.rglob("*") if p.is_file()}
    for act in (
        lambda: list(Driver(run, no_policy).events()),  # type: ignore[arg-type]
        lambda: run.claim("a", "b"),
        run.delete,
    ):
        with pytest.raises(RunBusyError):
            act()
    assert before == {p: p.read_bytes() for p in run.folder.rglob("*") if p.is_file()}
    other.kill()
    other.wait(20)
    run.delete()
    assert not run.folder.exists()
