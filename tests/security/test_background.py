"""The server's own threads outlive any error, say so once, and whether they live can be asked."""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from job_script import make_run
from starlette.applications import Starlette
from starlette.testclient import TestClient

from ditto_hub.cost.profiles import load_profile
from ditto_hub.events import Event
from ditto_hub.runs.folder import Run, home
from ditto_hub.tokens import NOBODY, Token
from ditto_hub.ui.serving import background, cleanup
from ditto_hub.ui.serving.background import Boundary, every
from ditto_hub.ui.serving.downloads import download_routes
from ditto_hub.ui.serving.queue import Workshop

WAIT_S = 20.0
ERRORS = (TypeError("x"), KeyError("x"), RecursionError(), MemoryError(), OSError("x"))


@pytest.fixture(autouse=True)
def _unwatched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Watch nothing of other tests' apps."""
    monkeypatch.setattr(background, "_watched", {})


def until(holds: Callable[[], bool]) -> bool:
    """Wait until something holds, and tell whether it came to that."""
    end = time.monotonic() + WAIT_S
    while not holds() and time.monotonic() < end:
        time.sleep(0.005)
    return holds()


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_thread_outlives_any_error(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """It goes on after each failure, and says so to operators a single time."""
    turns: list[int] = []
    end = threading.Event()

    def fail() -> None:
        turns.append(1)
        raise error

    with caplog.at_level(logging.ERROR):
        thread = every(0.001, "tried", fail, end)
        assert until(lambda: len(turns) > 20)
    assert thread.is_alive()
    assert background.status() == {"tried": True}
    end.set()
    assert [record.message.split(" ")[0] for record in caplog.records] == ["tried"]


def test_a_stuck_thread_is_not_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn that does not end makes the status say so."""
    hold, end = threading.Event(), threading.Event()
    every(0.01, "stuck", lambda: hold.wait(WAIT_S), end)
    assert background.status()["stuck"]
    monkeypatch.setattr(background, "GRACE_S", 0.0)
    assert until(lambda: not background.status()["stuck"])
    monkeypatch.setattr(background, "GRACE_S", 60.0)
    hold.set()
    assert background.status()["stuck"]
    end.set()
    assert until(lambda: not background.status()["stuck"])


def test_two_kinds_of_failure_are_said_twice(caplog: pytest.LogCaptureFixture) -> None:
    """Each kind once, whatever the order."""
    boundary = Boundary("this")

    def fail(error: Exception) -> None:
        raise error

    for error in (*ERRORS, *ERRORS):
        assert not boundary.run(lambda error=error: fail(error))
    assert len(caplog.records) == len(ERRORS)
    assert boundary.run(lambda: None)


def test_one_run_does_not_keep_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run whose removal fails in any way stays; the rest go."""
    runs = [make_run(home() / "runs" / f"20261127-0000000{n}") for n in range(3)]
    delete = Run.delete

    def fail(self: Run) -> None:
        if self.folder == runs[1].folder:
            raise TypeError("unexpected")
        delete(self)

    monkeypatch.setattr(Run, "delete", fail)
    removed = cleanup.sweep(load_profile("cpu"), now=time.time() + 1e6)
    assert sorted(removed) == sorted([runs[0].record.id, runs[2].record.id])


@pytest.mark.parametrize("text", ['{"created": "never"}', "", "[", None])
def test_what_cannot_be_read_goes_by_its_age(text: str | None) -> None:
    """A damaged folder does not stay for ever, nor goes before its time."""
    run = make_run(home() / "runs" / "20261127-00000000")
    (run.folder / "run.json").unlink()
    if text is not None:
        (run.folder / "run.json").write_text(text)
    assert cleanup.sweep(load_profile("cpu")) == []
    old = time.time() - 100 * 3600
    os.utime(run.folder, (old, old))
    assert cleanup.sweep(load_profile("cpu")) == [run.folder.name]
    assert not run.folder.exists()


def test_a_link_among_the_runs_is_not_followed(tmp_path: Path) -> None:
    """The sweep removes nothing outside the folder of runs."""
    outside = Path(shutil.copytree(Path(__file__).parent, tmp_path / "outside"))
    (home() / "runs").mkdir(parents=True)
    (home() / "runs" / "link").symlink_to(outside)
    cleanup.sweep(load_profile("cpu"), now=time.time() + 1e9)
    assert outside.is_dir()


def test_the_line_outlives_any_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work, clearing up and what is done afterwards may each fail; the next run is worked on."""
    done: list[str] = []

    def work(run: Run, owner: str, token: Token | str, stop: Callable[[], str]) -> Iterator[Event]:
        shop.afterwards(run.record.id, fail)
        done.append(run.record.id)
        yield from ()
        raise TypeError

    def fail() -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr("ditto_hub.ui.serving.queue.release_memory", fail)
    shop = Workshop(work)
    runs = [make_run(home() / "runs" / f"20261127-0000000{n}") for n in range(3)]
    for run in runs:
        shop.put(run, "ann", NOBODY)
    assert until(lambda: len(done) == 3)
    assert background.status() == {"workshop": True}


def test_memory_is_collected_for_a_share_of_the_time() -> None:
    """A flood of short texts asks after each; what came too soon is done once, and is done."""
    took: list[float] = []

    def collect() -> None:
        started = time.monotonic()
        time.sleep(0.02)
        took.append(time.monotonic() - started)

    collector = cleanup.Collector(collect, share=0.1)
    started = time.monotonic()
    while time.monotonic() - started < 0.6:
        collector.ask()
    assert sum(took) <= 0.1 * (time.monotonic() - started) + took[-1]
    asked = len(took)
    collector.ask()
    assert until(lambda: len(took) > asked)


def test_a_collection_that_fails_is_followed_by_others() -> None:
    """The error is whose it is, and the next asks again."""
    turns: list[int] = []

    def fail() -> None:
        turns.append(1)
        raise MemoryError

    collector = cleanup.Collector(fail)
    with pytest.raises(MemoryError):
        collector.ask()
    collector.ask()
    assert until(lambda: len(turns) == 2)


def test_threads_of_an_app_take_turns_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run's many small operations would each wait for a visitor's page otherwise."""
    said: list[float] = []
    monkeypatch.setattr("sys.setswitchinterval", said.append)
    background.share_interpreter()
    assert said == [background.SWITCH_S]
    assert background.SWITCH_S < 0.001


def test_the_status_can_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """200 while all are alive, 503 where one is not; it names no visitor and no run."""
    client = TestClient(Starlette(routes=list(download_routes())))
    background.watch("sweeper", lambda: True)
    answer = client.get("/ditto/status")
    assert (answer.status_code, answer.json()) == (200, {"sweeper": True})
    background.watch("workshop", lambda: False)
    answer = client.get("/ditto/status")
    assert (answer.status_code, json.loads(answer.text)["workshop"]) == (503, False)
