"""Whole runs in jobs that are real processes: killed midway and resumed, to a local run's bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from jobs_server import JobsHub, local_jobs_hub
from tiny_runs import TINY, made

from ditto_hub import api
from ditto_hub import events as ev
from ditto_hub.backends.jobs.job import JobBackend, Watch
from ditto_hub.backends.jobs.order import PACKAGES, JobPlan
from ditto_hub.config import RunConfig
from ditto_hub.hub import bounds
from ditto_hub.hub.job_client import HubDesk
from ditto_hub.runs.folder import Run
from ditto_hub.tokens import NOBODY

pytestmark = [
    # huggingface_hub asks httpx2 in words that it has retired
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
]
# The packages a job installs, at the versions that are here: pip finds them and needs no network.
HERE = tuple(f"{p.split('==')[0]}=={version(p.split('==')[0]).split('+')[0]}" for p in PACKAGES)
PLAN = JobPlan("a10g-small", 60.0, packages=HERE)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobsHub]:
    """Run a local Hub whose jobs are processes in an image without this package."""
    with local_jobs_hub(folder=tmp_path_factory.mktemp("jobs")) as hub:
        hub.quiet_s = 0.5
        yield hub
    bounds.bound_time(bounds.Timeouts())


def config() -> RunConfig:
    settings = RunConfig(seed=3)
    for text in (*TINY, "warm_start.max_steps=4", "update.steps=3"):
        settings = settings.with_setting(text)
    return settings


def test_a_killed_job_resumes_to_a_local_runs_bytes(
    hub: JobsHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By SIGKILL in an update, then resumed in a new job: every weight and sample is the same."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.endpoint)
    token = next(name for name, t in hub.state.tokens.items() if t.user == "alice")
    run = api.create_run(
        "example:harbor", "pocket", config(), output=tmp_path / "run", token=NOBODY
    )
    hub.kill_at = ('"stage": "update", "round": 1, "step": 2', 1)
    backend = JobBackend(HubDesk(token), PLAN, Watch(poll_s=0.3))
    first = list(api.drive(run, backend=backend, token=token))
    log = [line for job in hub.jobs.values() for _, line in job.lines]
    assert isinstance(first[-1], ev.RunPaused), log[-20:]
    assert "exit -9" in str(first[-1].reason)
    assert Run.load(run.folder).candidates() == ["round-1", "sft"]
    second = list(api.drive(run, backend=backend, token=token))
    assert isinstance(second[-1], ev.RunFinished)
    assert isinstance(second[0], ev.RunStarted)
    assert second[0].resumed
    expected = api.train("example:harbor", "pocket", config(), output=tmp_path / "local")
    ours, theirs = made(run.folder), made(expected.folder)
    card = "adapter/README.md"  # names the run and its seconds
    assert {p: d for p, d in ours.items() if p != card} == {
        p: d for p, d in theirs.items() if p != card
    }
    assert card in ours
    assert [e.seq for e in run.events()] == list(range(len(run.events())))
    page = json.dumps([job.page for job in hub.jobs.values()])
    assert token not in page
    assert not any(json.dumps(d.completion)[1:-1] in page for d in run.demos())
    printed = "\n".join(line for job in hub.jobs.values() for _, line in job.lines)
    assert token not in printed
    assert not any(json.dumps(d.completion)[1:-1] in printed for d in run.demos())
