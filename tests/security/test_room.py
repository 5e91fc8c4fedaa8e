"""Room on the disk: what one visitor takes, what is left for the others, and downloads."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal
from job_script import make_run
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.testclient import TestClient

from ditto_hub.cost import limits
from ditto_hub.cost.limits import room_left, starting
from ditto_hub.cost.profiles import load_profile
from ditto_hub.errors import RunError
from ditto_hub.runs.folder import Run, home
from ditto_hub.runs.storage import size_of
from ditto_hub.ui.serving import downloads
from ditto_hub.ui.serving.downloads import SECRET_HEADER, adapter_zip, download_routes

SECRET = "s" * 43
OWNER = f"browser:{SECRET}"
NOW = 1e9
CPU = replace(load_profile("cpu"), visitor_bytes=100_000)


@pytest.fixture
def run() -> Run:
    """Return a visitor's run under the home folder."""
    made = make_run(home() / "runs" / "20261127-00000000", OWNER)
    made.record.id = made.folder.name
    made.save_record()
    return made


def may_start(owner: str) -> None:
    """Start a run, or raise why not."""
    with starting(owner, False, CPU, NOW):
        pass


def test_a_visitor_has_so_much_room(run: Run) -> None:
    """Beyond it nothing more is started, in words; a deletion makes room; others have their own."""
    assert room_left(OWNER, CPU) == CPU.visitor_bytes - size_of(run.folder)
    may_start(OWNER)
    run.write("candidates/sft/adapter/adapter_model.safetensors", b"x" * 100_000)
    with pytest.raises(RunError, match=r"take 0\.0 GB here; 0\.0 GB is the most.*Delete a run"):
        may_start(OWNER)
    may_start("browser:another")
    run.delete()
    may_start(OWNER)


def test_a_refusal_for_room_costs_no_start(run: Run) -> None:
    """What was refused is not one of the day's."""
    run.write("large", b"x" * 100_000)
    with pytest.raises(RunError):
        may_start(OWNER)
    assert not (home() / limits.FILE).exists()


def test_a_nearly_full_disk_takes_no_more_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many visitors leave room for the runs that have begun."""
    monkeypatch.setattr(
        limits.shutil, "disk_usage", lambda _: SimpleNamespace(free=limits.SPARE_BYTES - 1)
    )
    with pytest.raises(RunError, match="nearly full"):
        may_start(OWNER)


def test_ones_own_machine_is_ones_own(run: Run) -> None:
    """Nothing is capped there; every other profile has a cap that a brought run fits into."""
    assert room_left(OWNER, load_profile("own")) > 10**15
    for name in ("cpu", "gpu", "zerogpu"):
        profile = load_profile(name)
        assert 0 < profile.max_run_bytes <= profile.visitor_bytes <= 20e9


def test_a_size_leaves_links_out(tmp_path: Path) -> None:
    """Files count, wherever they are; what a link leads to does not."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_bytes(b"x" * 7)
    (tmp_path / "c").write_bytes(b"x" * 5)
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert size_of(tmp_path) == 12
    assert size_of(tmp_path / "none") == 0


def test_a_folder_that_goes_while_it_is_measured_counts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run may be deleted while a page lists it."""
    (tmp_path / "going").mkdir()
    (tmp_path / "a").write_bytes(b"abc")
    scan = os.scandir

    def gone(path: str) -> Iterator[os.DirEntry[str]]:
        if str(path).endswith("going"):
            raise FileNotFoundError(path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", gone)
    assert size_of(tmp_path) == 3


# ---- downloads -----------------------------------------------------------------------------------


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put temporary files into a folder of their own, and let a zip be made at once."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("ditto_hub.api.pack", lambda run, file: file.write(b"a zip"))
    return tmp_path


def fetched(run: Run, send: Callable[[Any], Any]) -> None:
    """Fetch a run's adapter as a client that takes it so."""
    request = SimpleNamespace(
        path_params={"run_id": run.record.id}, headers={SECRET_HEADER: SECRET}, scope={}
    )
    answer = adapter_zip(request)  # type: ignore[arg-type]
    scope = {"type": "http", "method": "GET", "headers": [], "asgi": {"spec_version": "2.4"}}
    with start_blocking_portal() as portal:
        portal.call(answer, scope, None, send)


def test_a_reader_that_goes_leaves_nothing(run: Run, temporary: Path) -> None:
    """Whole or broken off, a download leaves no file behind and no place taken."""

    async def breaks(message: Any) -> None:
        raise OSError("the client went away")

    async def takes(message: Any) -> None:
        return None

    for _ in range(downloads.AT_ONCE + 1):
        with pytest.raises((OSError, ClientDisconnect)):
            fetched(run, breaks)
        fetched(run, takes)
    assert list(temporary.glob("ditto-*.zip")) == []
    assert not downloads._sending


def test_slow_readers_hold_few_files(run: Run, temporary: Path) -> None:
    """Downloads of one run that nobody finishes take two files, not five hundred."""
    client = TestClient(Starlette(routes=[*download_routes()]))
    address, headers = f"/ditto/runs/{run.record.id}/adapter.zip", {SECRET_HEADER: SECRET}
    with contextlib.ExitStack() as held:
        for _ in range(downloads.AT_ONCE):
            held.enter_context(downloads._one_of_few(run.record.id))
        refused = client.get(address, headers=headers)
        assert (refused.status_code, "under way" in refused.text) == (429, True)
    assert client.get(address, headers=headers).content == b"a zip"
    assert list(temporary.glob("ditto-*.zip")) == []
