"""A network that goes while a job works: on the side that watches, and on the job's own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from hub_state import Fault
from job_fixtures import hub, run, script, server, token
from job_script import PLAN, Script
from jobs_server import JobsHub

from ditto_hub import events as ev
from ditto_hub.backends.jobs import worker
from ditto_hub.backends.jobs.job import JobBackend
from ditto_hub.backends.jobs.worker import Deadline, JobWorker
from ditto_hub.errors import HubBusyError, HubError
from ditto_hub.hub.job_client import HubDesk
from ditto_hub.runs.folder import Run
from ditto_hub.tokens import NOBODY

pytestmark = [
    pytest.mark.usefixtures("script"),
    # huggingface_hub asks httpx2 in words that it has retired
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
]
STAGES = ("warm-start", "sampling", "update")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait but briefly for the Hub, in huggingface_hub's own tries too."""
    monkeypatch.setattr("huggingface_hub.utils._http.time", SimpleNamespace(sleep=lambda _: None))
    monkeypatch.setattr(worker, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(worker, "LONGEST_WAIT_S", 0.02)


def watch(run: Run, token: str) -> Iterator[ev.Event]:
    """Send a run to a job, or join the one that works on it."""
    return JobBackend(HubDesk(token), PLAN).drive(run, token=NOBODY)


def whole(run: Run) -> bool:
    """Tell whether a run is finished and here, with every event of it exactly once."""
    found = Run.load(run.folder)
    weights = found.folder / "adapter" / "adapter_model.safetensors"
    assert [e.seq for e in found.events()] == list(range(len(found.events())))
    assert weights.read_bytes().split() == [stage.encode() for stage in STAGES]
    return found.record.status == "finished"


@pytest.mark.parametrize(
    ("kind", "stage"), [("lost-before", "warm-start"), ("lost-after", "update")]
)
def test_a_watcher_that_loses_its_network(
    kind: str, stage: str, hub: JobsHub, script: Script, run: Run, token: str
) -> None:
    """In whichever stage, it is told; the job goes on and the same one is brought home later."""
    script.wait_at = ("StageFinished", stage)
    watching = watch(run, token)
    for event in watching:
        if (type(event), event.stage) == (ev.StageStarted, stage):
            break
    hub.faults.append(Fault(kind, "GET ", times=10**6))
    with pytest.raises(HubError, match="connection to the Hub failed"):
        list(watching)
    assert Run.load(run.folder).record.status == "running"
    hub.faults.clear()
    script.go = True
    list(watch(Run.load(run.folder), token))
    assert whole(run)
    assert len(hub.jobs) == 1


@pytest.mark.parametrize("kind", ["lost-before", "lost-after", "status"])
@pytest.mark.parametrize("match", ["commit/", "POST|PUT"])
def test_a_job_waits_with_its_result_for_the_network(
    match: str, kind: str, hub: JobsHub, script: Script, run: Run, token: str
) -> None:
    """What was trained is uploaded when the Hub is back, and no stage is paid for twice."""
    script.wait_at = ("StageFinished", "update")
    watching = watch(run, token)
    for event in watching:
        if (type(event), event.stage) == (ev.StageStarted, "update"):
            break
    hub.faults.append(Fault(kind, match, times=12))
    script.go = True
    list(watching)
    assert whole(run)
    assert len(hub.jobs) == 1


class Refusing:
    """Count tries to save, each of which fails.

    Args:
        error: that it raises.
    """

    def __init__(self, error: HubError) -> None:
        self.error, self.tries = error, 0

    def __call__(self, run: Run) -> None:
        """Save nothing."""
        self.tries += run.record.status == "finished"
        raise self.error


@pytest.mark.parametrize(
    ("error", "left_s", "most"),
    [(HubBusyError("hub.hub_rate_limit", wait=1), 0.2, 60),
     (HubBusyError("hub.hub_rate_limit", wait=1), -1.0, 1),
     (HubError("hub.offline_mode_failed", doing=""), 900.0, 1)],
    ids=["until the deadline", "after it", "refused"],
)  # fmt: skip
def test_waiting_has_an_end(
    error: HubError, left_s: float, most: int, script: Script, run: Run
) -> None:
    """A job waits until its own deadline, and for no refusal that would not pass."""
    save = Refusing(error)
    deadline = Deadline(time.time() + left_s, margin_s=-10.0)
    begun = time.monotonic()
    with pytest.raises(HubError):
        list(JobWorker(run, save, script, deadline, save_every_s=1e9).events(lambda: ""))
    assert 1 <= save.tries <= most
    assert time.monotonic() - begun < 5
    assert (left_s == 0.2) == (save.tries > 3)
