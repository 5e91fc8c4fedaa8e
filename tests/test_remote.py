"""Jobs from the app: who may send a run to one, how it is watched, what the page says of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from job_fixtures import hub, run, script, server, token
from job_script import Script
from jobs_server import JobsHub

from ditto_hub import api
from ditto_hub.cost.profiles import load_profile
from ditto_hub.errors import HubError
from ditto_hub.runs.folder import Run
from ditto_hub.ui.serving.queue import Workshop
from ditto_hub.ui.steps.remote import start_job, whereabouts

__all__ = ["hub", "run", "script", "server", "token"]
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
PATIENCE_S = 60


def shared(profile: str = "cpu") -> Any:
    """Return what the steps have in common, as far as a job is concerned."""
    shop = Workshop(lambda *_: iter(()))
    return SimpleNamespace(profile=load_profile(profile), sign_in=True, workshop=shop)


def test_a_job_is_watched_by_the_server(hub: JobsHub, script: Script, run: Run, token: str) -> None:
    """A run sent to a Job comes home whether a page listens or not."""
    space = shared()
    start_job(space, run, "a10g-small", token, "en")
    assert space.workshop.wait_for(run.record.id, PATIENCE_S)
    assert Run.load(run.folder).record.status == "finished"
    (job,) = hub.jobs.values()
    assert job.spec["flavor"] == "a10g-small"


def test_a_run_that_is_to_be_kept_is_told_as_kept(
    hub: JobsHub, script: Script, run: Run, token: str
) -> None:
    """A job leaves the run in the owner's repo, and the page names it."""
    api.agree_to_keep(run)
    space = shared()
    start_job(space, run, "a10g-small", token, "en")
    assert space.workshop.wait_for(run.record.id, PATIENCE_S)
    assert f"Kept in alice/ditto-hub-run-{run.record.id}" in whereabouts(space, run, True, "en")


def test_the_page_says_what_works_on_it(hub: JobsHub, script: Script, run: Run, token: str) -> None:
    """Hardware, time limit, image and version; signed out, how to watch it."""
    script.wait_at = ("StageStarted", "sampling")
    space = shared()
    start_job(space, run, "a10g-small", token, "en")
    words = whereabouts(space, run, False, "en")
    script.go = True
    for text in ("a10g-small", "60 min", "pytorch/pytorch:", "ditto-hub ", "Sign in to watch"):
        assert text in words
    assert space.workshop.wait_for(run.record.id, PATIENCE_S)


@pytest.mark.parametrize(("profile", "mine"), [("cpu", False), ("gpu", True)])
def test_a_job_needs_its_visitor_and_an_offer(
    hub: JobsHub, run: Run, token: str, profile: str, mine: bool
) -> None:
    """Signed out, or where the profile offers none, nothing is sent, with anybody's token."""
    with pytest.raises(HubError):
        start_job(shared(profile), run, "a10g-small", token if mine else None, "en")
    assert not hub.jobs
