"""A Hub Job works on a run: what it is asked, how it is watched, and how it ends."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hub_state import Fault
from job_fixtures import hub, run, script, server, token
from job_script import PLAN, Script
from jobs_server import JobsHub

from ditto_hub import api
from ditto_hub import events as ev
from ditto_hub.backends.jobs.job import JobBackend, parse_event
from ditto_hub.backends.jobs.order import FLOOR_S, UNKNOWN_S, JobPlan
from ditto_hub.cost.job_price import SETUP_S
from ditto_hub.errors import HubError, RunBusyError, RunError
from ditto_hub.hub.job_client import HubDesk
from ditto_hub.runs.folder import Run
from ditto_hub.tokens import NOBODY

pytestmark = [
    pytest.mark.usefixtures("script"),
    # huggingface_hub asks httpx2 in words that it has retired
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
]
WEIGHTS = b"warm-start sampling update"


def backend(token: str, plan: JobPlan | None = PLAN) -> JobBackend:
    return JobBackend(HubDesk(token), plan)


def finished(run: Run) -> bool:
    """Tell whether a run is here, whole, with every event of it exactly once."""
    found = Run.load(run.folder)
    assert [e.seq for e in found.events()] == list(range(len(found.events())))
    assert (found.folder / "adapter" / "adapter_model.safetensors").read_bytes() == WEIGHTS
    assert len(found.candidates()) == 3
    return found.record.status == "finished"


def names(events: list[ev.Event]) -> list[str]:
    return [type(event).__name__ for event in events]


# ---- a job from its start to its end -------------------------------------------------------------


def test_a_job_brings_the_run_home(hub: JobsHub, run: Run, token: str) -> None:
    """Events come as from any backend, the end when the result is here, and the repo goes."""
    seen = list(backend(token).drive(run, token=NOBODY))
    assert names(seen) == ["RunStarted", *["StageStarted", "StageFinished"] * 3, "RunFinished"]
    assert [e.seq for e in seen] == list(range(8))
    assert finished(run)
    assert not (run.folder / "state").exists()
    assert not hub.state.repos
    assert run.record.job["stage"] == "COMPLETED"
    assert run.record.job["seconds"] is not None


def test_the_jobs_page_shows_nothing_of_a_person(hub: JobsHub, run: Run, token: str) -> None:
    """Token and demonstrations are in no field of the order but the secrets."""
    backend(token).submit(run)
    (job,) = hub.jobs.values()
    page = json.dumps(job.page)
    assert job.spec["secrets"] == {"HF_TOKEN": token}
    assert token not in page
    for demo in run.demos():
        for text in (demo.completion, demo.prompt[-1]["content"]):
            assert json.dumps(text)[1:-1] not in page


def test_what_a_job_runs_is_pinned(hub: JobsHub, run: Run, token: str) -> None:
    """The image's tag, every package's version and the commit of our wheel are exact."""
    repo = backend(token).submit(run) and run.record.job["repo"]
    (job,) = hub.jobs.values()
    assert job.spec["dockerImage"].startswith("pytorch/pytorch:2.13.0-cuda")
    assert all("==" in package for package in PLAN.packages)
    assert all(package in job.spec["command"][-1] for package in PLAN.packages)
    commits = [c.oid for c in hub.state.repos["model", repo].commits]
    assert any(commit in job.spec["command"][-1] for commit in commits)
    assert {"app": "ditto-hub", "run": run.record.id}.items() <= job.spec["labels"].items()


@pytest.mark.parametrize(
    ("expected_s", "timeout_s"),
    [(10_000.0, 2 * (10_000 + SETUP_S)), (1.0, FLOOR_S), (None, 2 * (UNKNOWN_S + SETUP_S))],
)
def test_a_job_gets_twice_the_time_expected(expected_s: float | None, timeout_s: int) -> None:
    """The time limit is twice the estimate, with a floor, and never left to the platform."""
    assert JobPlan("a10g-small", expected_s).timeout_s == timeout_s
    assert timeout_s > 1800


def test_the_order_carries_the_time_limit(hub: JobsHub, run: Run, token: str) -> None:
    """The platform and the job itself are told the same limit."""
    plan = replace(PLAN, expected_s=7000.0)
    backend(token, plan).submit(run)
    (job,) = hub.jobs.values()
    assert job.spec["timeoutSeconds"] == plan.timeout_s
    assert job.spec["environment"]["DITTO_HUB_JOB_TIMEOUT_S"] == str(plan.timeout_s)


# ---- killed, and resumed in a new one ------------------------------------------------------------


@pytest.mark.parametrize(
    "die_after",
    [("RunStarted", ""), ("StageStarted", "warm-start"), ("StageFinished", "sampling"),
     ("StageStarted", "update"), ("StageFinished", "update")],
    ids=str,
)  # fmt: skip
def test_a_killed_job_goes_on_in_a_new_one(
    hub: JobsHub, script: Script, run: Run, token: str, die_after: tuple[str, str]
) -> None:
    """A job that dies leaves the run paused with a reason; the next one ends it, no event lost."""
    script.die_after = die_after
    first = list(backend(token).drive(run, token=NOBODY))
    assert isinstance(first[-1], ev.RunPaused)
    assert "ended without a result" in str(first[-1].reason)
    assert Run.load(run.folder).record.status == "paused"
    second = list(backend(token).drive(run, token=NOBODY))
    assert names(second)[-1] == "RunFinished"
    assert finished(run)
    assert run.record.job["attempt"] == 2
    assert [e.seq for e in [*first, *second]] == list(range(len(run.events())))


def test_a_job_that_never_saved_leaves_the_run_as_it_was(
    hub: JobsHub, run: Run, token: str
) -> None:
    """A job that dies while setting up, as when a package is gone, costs nothing but itself."""
    hub.runner = lambda job: 1
    (end,) = backend(token).drive(run, token=NOBODY)
    assert isinstance(end, ev.RunPaused)
    assert run.record.status == "paused"
    hub.runner = Script(hub)
    list(backend(token).drive(run, token=NOBODY))
    assert finished(run)


def test_a_job_that_ran_out_of_time_says_so(hub: JobsHub, run: Run, token: str) -> None:
    """The platform's word for it is in the reason."""

    def time_out(job: object) -> int:
        hub._time_out(next(iter(hub.jobs.values())))
        return 0

    hub.runner = time_out
    (end,) = backend(token).drive(run, token=NOBODY)
    assert isinstance(end, ev.RunPaused)
    assert "Job timeout" in str(end.reason)


@pytest.mark.parametrize(("end", "status"), [("paused", "paused"), ("failed", "failed")])
def test_a_run_that_stops_in_a_job_is_as_it_stopped(
    script: Script, run: Run, token: str, end: str, status: str
) -> None:
    """Paused or failed inside the job, the run is that here, told by the job's own event."""
    script.end = end
    seen = list(backend(token).drive(run, token=NOBODY))
    assert names(seen)[-1] in ("RunPaused", "RunFailed")
    assert Run.load(run.folder).record.status == status
    assert [e.seq for e in run.events()] == [e.seq for e in seen]


# ---- watched from anywhere -----------------------------------------------------------------------


def until(events: Iterator[ev.Event], kind: str, stage: str) -> list[ev.Event]:
    """Take events up to one."""
    seen = []
    for event in events:
        seen.append(event)
        if (type(event).__name__, event.stage) == (kind, stage):
            break
    return seen


def test_another_process_goes_on_watching(
    hub: JobsHub, script: Script, run: Run, token: str
) -> None:
    """Closed midway, the job goes on; who opens the folder later sees the rest, each event once."""
    script.wait_at = ("StageStarted", "update")
    watching = backend(token).drive(run, token=NOBODY)
    first = until(watching, "StageFinished", "sampling")
    watching.close()  # type: ignore[attr-defined]
    again = Run.load(run.folder)
    assert again.record.status == "running"
    script.go = True
    rest = list(api.attach(again, token))
    assert [e.seq for e in [*first, *rest]] == list(range(8))
    assert finished(run)
    assert len(hub.jobs) == 1


def test_another_device_finds_the_run_and_its_job(
    hub: JobsHub, script: Script, run: Run, token: str, tmp_path: Path
) -> None:
    """With nothing but the account, the run and its job are found, watched and brought home."""
    script.wait_at = ("StageStarted", "update")
    watching = backend(token).drive(run, token=NOBODY)
    until(watching, "StageFinished", "sampling")
    (kept,) = api.saved_runs(token)
    elsewhere = api.restore_run(kept.run_id, token, output=tmp_path / "elsewhere")
    assert elsewhere.record.job["id"] == run.record.job["id"]
    script.go = True
    list(api.attach(elsewhere, token))
    assert finished(elsewhere)


def test_a_job_that_finished_meanwhile_is_not_started_again(
    hub: JobsHub, run: Run, token: str
) -> None:
    """The laptop was closed all along: going on finds the result and starts nothing."""
    backend(token).submit(run)
    (job,) = hub.jobs.values()
    with job.changed:
        assert job.changed.wait_for(lambda: job.stage == "COMPLETED", 20)
    seen = list(backend(token).drive(Run.load(run.folder), token=NOBODY))
    assert names(seen)[-1] == "RunFinished"
    assert finished(run)
    assert len(hub.jobs) == 1


@pytest.mark.parametrize(("logs", "cut"), [("silent", 0), ("cut", 4)])
def test_logs_that_stop_lose_nothing(
    hub: JobsHub, run: Run, token: str, monkeypatch: pytest.MonkeyPatch, logs: str, cut: int
) -> None:
    """Where the log hangs or breaks off, the events come from the repo when the job has ended."""
    hub.logs, hub.cut = logs, cut
    if logs == "silent":
        hub.released.set()  # the server's side of the stream: nothing, then closed
    seen = list(backend(token).drive(run, token=NOBODY))
    assert [e.seq for e in seen] == list(range(8))
    assert finished(run)


def test_a_log_that_cannot_be_read_loses_nothing(hub: JobsHub, run: Run, token: str) -> None:
    """Errors of the log's stream alone end nothing."""
    hub.faults.append(Fault("status", "/logs", times=1000, status=500))
    assert names(list(backend(token).drive(run, token=NOBODY)))[-1] == "RunFinished"


def test_a_busy_hub_is_waited_for(hub: JobsHub, run: Run, token: str) -> None:
    """Passing failures while a job is watched are passed over."""
    watching = backend(token).drive(run, token=NOBODY)
    next(watching)
    hub.faults.append(Fault("status", "GET /api/jobs", times=7, status=503))
    assert names(list(watching))[-1] == "RunFinished"


def test_a_network_that_is_gone_pays_for_no_second_job(
    hub: JobsHub, script: Script, run: Run, token: str
) -> None:
    """Who watches is told that the job goes on; with the network back the same job comes home."""
    script.wait_at = ("StageStarted", "update")
    watching = backend(token).drive(run, token=NOBODY)
    until(watching, "StageFinished", "sampling")
    hub.faults.append(Fault("lost-before", times=10**6))
    with pytest.raises(HubError, match="connection to the Hub failed"):
        list(watching)
    assert Run.load(run.folder).record.status == "running"
    hub.forget()
    script.go = True
    list(backend(token).drive(Run.load(run.folder), token=NOBODY))
    assert finished(run)
    assert len(hub.jobs) == 1


def test_two_watchers_of_one_folder_are_one_too_many(script: Script, run: Run, token: str) -> None:
    """The second is told that another process works on the run."""
    script.wait_at = ("StageStarted", "update")
    watching = backend(token).drive(run, token=NOBODY)
    next(watching)
    with pytest.raises(RunBusyError):
        next(api.attach(Run.load(run.folder), token))
    script.go = True
    list(watching)


def test_watching_starts_nothing(hub: JobsHub, run: Run, token: str) -> None:
    """`attach` on a run without a job says so and pays for none."""
    with pytest.raises(RunError, match="No job"):
        list(api.attach(run, token))
    assert not hub.jobs


@pytest.mark.parametrize(
    ("line", "seq"),
    [
        ('{"v": 1, "type": "RunPaused", "run_id": "r", "seq": 3, "reason": "x"}', 3),
        ('  {"type": "RunPaused", "run_id": "r", "seq": 3, "reason": "x"}', 3),
        ('{"type": "RunPaused", "run_id": "other", "seq": 3, "reason": "x"}', None),
        ('{"type": "RunPaused", "run_id": "r", "seq": "3", "reason": "x"}', None),
        ('{"type": "RunPaused", "run_id": "r", "seq": 3', None),
        ('{"type": "Nothing", "run_id": "r", "seq": 3}', None),
        ("[1]", None),
        ("WARNING: pip is old", None),
        ("", None),
    ],
)
def test_only_events_of_the_run_are_read_from_a_log(line: str, seq: int | None) -> None:
    """A log holds other lines too, and cut ones."""
    event = parse_event(line, "r")
    assert (event.seq if event else None) == seq


# ---- cancelled -----------------------------------------------------------------------------------


def test_cancelling_stops_the_job_and_keeps_what_it_had(
    hub: JobsHub, script: Script, run: Run, token: str
) -> None:
    """The job ends, the run is cancelled with its candidates here, and goes on when resumed."""
    script.wait_at = ("StageFinished", "sampling")
    watching = backend(token).drive(run, token=NOBODY)
    until(watching, "StageStarted", "sampling")
    watching.close()  # type: ignore[attr-defined]
    api.cancel(Run.load(run.folder), token)
    (job,) = hub.jobs.values()
    assert job.stage == "CANCELED"
    found = Run.load(run.folder)
    assert found.record.status == "cancelled"
    assert found.candidates() == ["warm-start"]
    script.wait_at = None
    list(backend(token).drive(found, token=NOBODY))
    assert finished(run)


def test_cancelling_reaches_the_process_that_watches(
    hub: JobsHub, script: Script, run: Run, token: str
) -> None:
    """Cancelled from elsewhere, the watcher stops the job and ends with `RunCancelled`."""
    script.wait_at = ("StageFinished", "sampling")
    seen: list[ev.Event] = []
    events = api.drive(run, backend=backend(token), token=token)
    seen.extend(until(events, "StageStarted", "sampling"))
    other = threading.Thread(target=api.cancel, args=(Run.load(run.folder), token))
    other.start()
    other.join()
    seen.extend(events)
    assert isinstance(seen[-1], ev.RunCancelled)
    assert Run.load(run.folder).record.status == "cancelled"


def test_a_job_that_was_quicker_than_its_end_is_not_paid_twice(
    hub: JobsHub, script: Script, run: Run, token: str
) -> None:
    """Cancelled and yet finished, as its repo shows, a run comes home without another job."""
    script.wait_at = ("StageFinished", "update")
    watching = backend(token).drive(run, token=NOBODY)
    until(watching, "StageStarted", "update")
    watching.close()  # type: ignore[attr-defined]
    api.cancel(Run.load(run.folder), token)
    (job,) = hub.jobs.values()
    hub.threads[0].join()
    script.wait_at, job.stage = None, "RUNNING"
    job.folder = job.folder / "late"
    script(job)
    job.stage = "CANCELED"
    again = Run.load(run.folder)
    assert again.record.status == "cancelled"
    assert isinstance(list(backend(token).drive(again, token=NOBODY))[-1], ev.RunFinished)
    assert finished(run)
    assert list(hub.jobs.values()) == [job]
