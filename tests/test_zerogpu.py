"""Leases through the real `spaces` package: forked workers, a device API over HTTP, real kills."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from device_api import DeviceApi, ip_token
from lease_client import OWNER, App, started
from tiny_runs import made, tiny_run

from ditto_hub import api
from ditto_hub import events as ev
from ditto_hub.backends.local import LocalBackend
from ditto_hub.backends.zerogpu.ledger import Ledger
from ditto_hub.cost.profiles import load_profile
from ditto_hub.runs.folder import Run
from ditto_hub.tokens import NOBODY

# The places where a worker is killed: the event that is its last.
PLACES = {
    "warm start": ["warm-start", 1, "StepTaken"],
    "sampling": ["sampling", 1, "BatchSampled"],
    "update": ["update", 2, "StepTaken"],
    "scoring": ["scoring", 1, "BatchSampled"],
    "sft-long": ["sft-long", 3, "StepTaken"],
}
SETTINGS = ("sampling.batch_rows=3",)


@pytest.fixture(scope="module")
def llama(tiny: Callable[[str], Path]) -> Path:
    return tiny("llama3")


@pytest.fixture(scope="module")
def device() -> Iterator[DeviceApi]:
    with DeviceApi(kills=False) as device:
        yield device


@pytest.fixture(scope="module")
def app(llama: Path, device: DeviceApi, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    home = tmp_path_factory.mktemp("home")
    with started(device, home, "--base", str(llama)) as app:
        yield app


@pytest.fixture(autouse=True)
def fresh(device: DeviceApi, app: App) -> None:
    """Begin each test with a whole quota, an empty ledger and no refusals."""
    device.new_day()
    device.refuse, device.kills, device.max_s = [], False, 0.0
    for account in app.log.parent.glob("ledger/*.json"):
        account.unlink()


def local(base: Path, folder: Path, *settings: str) -> dict[str, bytes]:
    """Return what one long local run makes."""
    run = tiny_run(base, folder, *SETTINGS, *settings)
    for _ in LocalBackend("cpu").drive(run, token=NOBODY):
        pass
    return made(run.folder)


def leased(run: Run) -> dict[str, bytes]:
    """Return what a run in leases has made, without the card and picture that the app adds."""
    card = ("adapter/README.md", "adapter/candidates.png")
    return {k: v for k, v in made(run.folder).items() if k not in card}


def test_bytes_are_those_of_a_local_run(app: App, llama: Path, tmp_path: Path) -> None:
    """A run in a lease, on the base model that sits on the GPU, makes the local run's bytes."""
    run = tiny_run(llama, tmp_path / "leased", *SETTINGS)
    end = app.lease(run)
    assert isinstance(end, ev.LeaseEnded)
    assert (end.reason, end.goes_on) == ("finished", False)
    assert leased(run) == local(llama, tmp_path / "local")
    events = run.events()
    assert [e.seq for e in events] == list(range(len(events)))
    assert isinstance(events[0], ev.LeaseStarted)


def test_base_is_handed_out_clean(app: App, llama: Path, tmp_path: Path) -> None:
    """A worker that another run has used, with another shape of adapter, changes no byte."""
    first = tiny_run(llama, tmp_path / "first", *SETTINGS, "lora.rank=4", "lora.targets=all-linear")
    app.lease(first)
    second = tiny_run(llama, tmp_path / "second", *SETTINGS)
    app.lease(second)
    assert leased(second) == local(llama, tmp_path / "local")


def test_another_base_loads_in_the_lease(
    app: App, tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    """A base model that is not on the GPU gives the local run's bytes too."""
    base = tiny("mistral")
    run = tiny_run(base, tmp_path / "leased", *SETTINGS)
    app.lease(run)
    assert leased(run) == local(base, tmp_path / "local")


@pytest.fixture(scope="module")
def whole(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return local(llama, tmp_path_factory.mktemp("whole") / "run")


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_killed_in_a_stage(
    app: App, llama: Path, whole: dict[str, bytes], tmp_path: Path, place: list[Any]
) -> None:
    """A worker killed in a stage is told as taken away; the next lease ends in the same bytes."""
    run = tiny_run(llama, tmp_path / "run", *SETTINGS)
    run.write("die.json", json.dumps(place).encode())
    end = app.lease(run)
    assert isinstance(end, ev.LeaseRefused)
    assert (end.reason, end.goes_on) == ("aborted", True)
    assert Run.load(run.folder).record.status == "paused"
    assert isinstance(app.chain(run)[-1], ev.LeaseEnded)
    assert leased(run) == whole


def test_killed_at_the_deadline(app: App, device: DeviceApi, llama: Path, tmp_path: Path) -> None:
    """A worker still busy when its declared time is over is killed, and the run is paused."""
    device.kills = True
    run = tiny_run(llama, tmp_path / "run", *SETTINGS)
    run.write("hang", b"")
    end = app.lease(run, cap_s=3)
    assert isinstance(end, ev.LeaseRefused)
    assert end.reason == "aborted"
    assert device.leases[-1].killed
    assert Run.load(run.folder).record.status == "paused"


def test_taken_away_twice_without_a_save(app: App, llama: Path, tmp_path: Path) -> None:
    """After two leases in a row that saved nothing the page is not asked for another."""
    run = tiny_run(llama, tmp_path / "run", *SETTINGS)
    ends = []
    for _ in range(2):
        run.write("die.json", json.dumps(["", None, "RunStarted"]).encode())
        ends.append(app.lease(run))
    assert [getattr(end, "goes_on", None) for end in ends] == [True, False]


REFUSED = {
    "runs": ("runs", False),
    "duration": ("duration", False),
    "credits": ("credits", False),
    "queue": ("queue", True),
    "expired": ("expired", True),
    "no-gpu": ("no-gpu", False),
}


@pytest.mark.parametrize("refusal", REFUSED)
def test_refusals(app: App, device: DeviceApi, llama: Path, tmp_path: Path, refusal: str) -> None:
    """Each of the platform's refusals is an event of its own, and the run is paused, not failed."""
    run = tiny_run(llama, tmp_path / "run", *SETTINGS)
    device.refuse = [refusal] * 8
    end = app.lease(run)
    assert isinstance(end, ev.LeaseRefused)
    assert (end.reason, end.goes_on) == REFUSED[refusal]
    assert Run.load(run.folder).record.status == "paused"


def test_refusals_under_load(app: App, device: DeviceApi, llama: Path, tmp_path: Path) -> None:
    """Of six visitors who ask at once, every second refused, nobody's run is lost or mixed up."""
    runs = [tiny_run(llama, tmp_path / f"run-{n}", *SETTINGS) for n in range(6)]
    device.refuse = ["queue", "", "credits", "", "expired", "", "no-gpu", "", "runs", ""]

    def lease(number: int) -> ev.Event:
        name = f"visitor-{number}"
        return app.lease(runs[number], owner=f"hub:{name}", token=ip_token(name))

    with ThreadPoolExecutor(len(runs)) as threads:
        ends = list(threads.map(lease, range(len(runs))))
    assert {type(end) for end in ends} == {ev.LeaseRefused, ev.LeaseEnded}
    device.refuse = []
    for number, run in enumerate(runs):
        if Run.load(run.folder).record.status != "finished":
            assert isinstance(lease(number), ev.LeaseEnded)
        found = Run.load(run.folder)
        assert found.record.status == "finished"
        assert [e.seq for e in found.events()] == list(range(len(found.events())))
        assert leased(run) == leased(runs[0])


def test_waiting_in_the_queue(app: App, device: DeviceApi, llama: Path, tmp_path: Path) -> None:
    """A lease that is given after a wait in the platform's queue is a lease like any other."""
    device.refuse = ["queue-then-gpu"]
    assert isinstance(app.lease(tiny_run(llama, tmp_path / "run", *SETTINGS)), ev.LeaseEnded)


def test_smaller_lease_after_a_quota_refusal(
    app: App, device: DeviceApi, llama: Path, tmp_path: Path
) -> None:
    """Refused for the quota, a lease that fits what is left is asked for at once."""
    device.leave(70)
    run = tiny_run(llama, tmp_path / "run", *SETTINGS)
    before = len(device.leases)
    assert isinstance(app.lease(run), ev.LeaseEnded)
    asked = [float(q["durationSeconds"]) for path, q in device.calls if path == "/schedule"][-2:]
    assert asked[0] == 90  # 60 s declared, times 1.5
    assert asked[1] <= 70 - 30  # what is left, without the part for trying the result
    assert len(device.leases) == before + 1


def test_a_seeded_ledger_is_not_overspent(
    app: App, device: DeviceApi, llama: Path, tmp_path: Path
) -> None:
    """Where the Hub has told what is left, the first lease fits it, and a hopeless one isn't asked.

    The part for trying the result, 30 s, is kept back.
    """
    ledger = Ledger(OWNER, (300.0,), app.log.parent / "ledger")
    before = len(device.calls)
    for left in (70, 4):
        device.leave(left)
        ledger.seed(300.0, left, time.time() + 3600)
        app.lease(tiny_run(llama, tmp_path / f"run-{left}", *SETTINGS))
    asked = [q for path, q in device.calls[before:] if path == "/schedule"]
    assert [float(q["durationSeconds"]) <= 40 for q in asked] == [True]


def test_quota_is_out(app: App, device: DeviceApi, llama: Path, tmp_path: Path) -> None:
    """With next to nothing left the run is paused, and told when the quota is whole again."""
    device.leave(4)
    run = tiny_run(llama, tmp_path / "run", *SETTINGS)
    end = app.lease(run)
    assert isinstance(end, ev.LeaseRefused)
    assert (end.reason, end.left_s, end.goes_on) == ("quota", 4, False)
    assert end.retry_at is not None
    assert 0 < end.retry_at - time.time() <= 86_400


def test_part_for_trying_is_kept(app: App, device: DeviceApi, llama: Path, tmp_path: Path) -> None:
    """What is left for trying the result is not trained away, and writing may still use it."""
    device.leave(40)
    run = tiny_run(llama, tmp_path / "run", *SETTINGS)
    end = app.lease(run)
    assert isinstance(end, ev.LeaseRefused)
    assert (end.reason, end.left_s, end.kept_s) == ("kept", 40, 30)
    turn = {"role": "user", "content": "Write to the lab."}
    written = app.write(str(llama), [{"messages": [turn], "max_new_tokens": 4}])
    assert len(written[0]) == 1


def test_second_tab(app: App, llama: Path, tmp_path: Path) -> None:
    """A second tab on a run at work is told so; it gets no lease, and the first goes on."""
    run = tiny_run(llama, tmp_path / "run", *SETTINGS)
    run.write("hang", b"")
    first = threading.Thread(target=app.call, args=("work", [str(run.folder), OWNER, 60]))
    first.start()
    while not any(isinstance(e, ev.StepTaken) for e in run.events()):
        time.sleep(0.02)
    found = app.call("work", [str(run.folder), OWNER, 60])
    assert json.loads(found[0])["reason"] == "busy"
    (run.folder / "hang").unlink()
    first.join()
    assert Run.load(run.folder).record.status == "finished"


def test_closed_page(app: App, llama: Path, tmp_path: Path, whole: dict[str, bytes]) -> None:
    """A page that is closed ends its lease at the next step, saved; the run goes on from there."""
    run = tiny_run(llama, tmp_path / "run", *SETTINGS)
    run.write("hang", b"")
    base = f"http://127.0.0.1:{app.port}/gradio_api"
    body = {"data": [str(run.folder), OWNER, 60], "fn_index": app.ids["work"], "session_hash": "x"}
    headers = {"x-gradio-user": "app", "x-ip-token": ip_token("ann")}
    httpx.post(f"{base}/queue/join", json=body, headers=headers)
    with httpx.stream("GET", f"{base}/queue/data?session_hash=x", timeout=60):
        while not any(isinstance(e, ev.StepTaken) for e in run.events()):
            time.sleep(0.02)
    (run.folder / "hang").unlink()
    while Run.load(run.folder).record.status == "running":
        time.sleep(0.02)
    app.chain(run)
    assert leased(run) == whole


def test_writing_is_the_local_one(app: App, llama: Path, tmp_path: Path) -> None:
    """Texts from a lease, of a candidate, the base and few-shot, are those written locally."""
    run = tiny_run(llama, tmp_path / "run", *SETTINGS)
    app.lease(run)
    turn = {"role": "user", "content": "Write to the lab."}
    rows: list[dict[str, Any]] = [
        {"messages": [turn], "samples": 2, "seed": 3},
        {"messages": [turn], "candidate": None},
        {"messages": [turn], "candidate": None, "few_shot": True},
        {"messages": [turn], "candidate": "sft"},
    ]
    wanted = [api.WriteRequest(**row) for row in rows]
    here = api.write(run, wanted, load_profile("own"), visitor=OWNER, token=NOBODY)
    assert app.write(str(run.folder), rows) == here


def test_refused_writing(app: App, device: DeviceApi, llama: Path) -> None:
    """Texts that no lease was given for end in the refusal and its words."""
    device.refuse = ["no-gpu"]
    found = app.write(str(llama), [{"messages": [{"role": "user", "content": "Write."}]}])
    assert (found["reason"], found["goes_on"]) == ("no-gpu", False)
    assert "No GPU" in found["words"]


def test_one_function_is_decorated(device: DeviceApi, app: App) -> None:
    """Training and writing share their workers: the platform sees one task."""
    tasks = {query["taskId"] for path, query in device.calls if path == "/schedule"}
    assert len(tasks) == 1
