"""What a job is refused for, in words and before anything is paid; and what it leaves behind."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hub_state import Fault
from job_fixtures import hub, run, script, server, token
from job_script import PLAN, Script
from jobs_server import JobsHub
from tiny_runs import tiny_config, tiny_demos

from ditto_hub import api
from ditto_hub import events as ev
from ditto_hub.backends.jobs.job import JobBackend
from ditto_hub.backends.jobs.order import JobPlan
from ditto_hub.backends.jobs.worker import Deadline, JobWorker
from ditto_hub.cli import main
from ditto_hub.cli.terminal import Bar
from ditto_hub.errors import BackendError, ConfigError, HubBusyError, HubError, MemoryShortError
from ditto_hub.hub.job_client import HubDesk
from ditto_hub.runs.folder import Run
from ditto_hub.tokens import NOBODY

pytestmark = [
    pytest.mark.usefixtures("script"),
    # huggingface_hub asks httpx2 in words that it has retired
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
]


def submit(run: Run, token: str, plan: JobPlan = PLAN) -> None:
    JobBackend(HubDesk(token), plan).submit(run)


def drive(run: Run, token: str, plan: JobPlan = PLAN) -> list[ev.Event]:
    return list(JobBackend(HubDesk(token), plan).drive(run, token=NOBODY))


# ---- refused before anything is paid -------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "said", "told"),
    [
        (401, "Invalid username or password.", "token"),
        (402, "Pre-paid credit balance is insufficient", "no credit for jobs"),
        (403, "Forbidden: missing scope jobs", "scope `jobs`"),
        (400, "Invalid flavor", "Invalid flavor"),
        (500, "broken", "500"),
    ],
)
def test_a_refusal_is_told_in_words(
    hub: JobsHub, run: Run, token: str, status: int, said: str, told: str
) -> None:
    """The message names cause and remedy; the run is as it was and nothing was started."""
    headers = {"X-Error-Message": said}
    hub.faults.append(Fault("status", "POST /api/jobs", status=status, headers=headers))
    with pytest.raises(HubError, match=told):
        submit(run, token)
    assert not hub.jobs
    found = Run.load(run.folder).record
    assert (found.status, found.job) == ("created", {})
    submit(run, token)
    assert len(hub.jobs) == 1


def test_an_account_without_credit_keeps_its_run(hub: JobsHub, run: Run, token: str) -> None:
    """The server's own 402 tells where credit is bought."""
    hub.credit["alice"] = 0.0
    with pytest.raises(HubError, match="settings/billing"):
        submit(run, token)


def test_a_sign_in_without_the_scope_is_refused(hub: JobsHub, run: Run) -> None:
    """A visitor who did not grant `jobs` is told which scope is missing."""
    visitor = hub.add_token("alice", "oauth", ("contribute-repos",))
    with pytest.raises(HubError, match="missing scope jobs"):
        submit(run, visitor)


def test_a_namespace_of_others_is_refused(hub: JobsHub, run: Run, token: str) -> None:
    """Only oneself and organisations where one may write can pay."""
    for name in ("mallory", "readers"):
        with pytest.raises(HubError, match="may not start jobs"):
            HubDesk(token, name)
    assert HubDesk(token, "acme").namespace == "acme"


def test_a_job_that_outlives_its_token_is_refused(hub: JobsHub, run: Run) -> None:
    """A sign-in that ends before the job's time limit starts nothing and uploads nothing."""
    visitor = hub.add_token("alice", "oauth", ("contribute-repos", "jobs"), time.time() + 1800)
    with pytest.raises(HubError, match="sign-in expires in"):
        submit(run, visitor)
    assert not hub.state.repos
    longer = hub.add_token("alice", "oauth", ("contribute-repos", "jobs"), time.time() + 30_000)
    submit(run, longer)


def test_an_unknown_flavor_is_told_with_those_there_are(hub: JobsHub, run: Run, token: str) -> None:
    """The list and its prices come from the Hub."""
    with pytest.raises(ConfigError, match=r"a10g-small \(\$1.00 an hour\)"):
        api.submit(run, "a10g-tiny", token)


def test_flavors_come_from_the_table_where_the_hub_tells_none(
    hub: JobsHub, run: Run, token: str
) -> None:
    """Without an answer the dated table stands in."""
    hub.faults.append(Fault("status", "/api/jobs/hardware", status=404))
    with pytest.raises(ConfigError, match="l40sx1"):
        api.submit(run, "a10g-tiny", token)


def test_a_base_model_of_this_machine_is_refused(
    hub: JobsHub, token: str, tmp_path: Path, tiny: Callable[[str], Path]
) -> None:
    """A job cannot reach a folder here."""
    base = {"id": str(tiny("llama3")), "revision": None}
    run = Run.create(tiny_demos(n=3), base, tiny_config(), tmp_path / "run")
    with pytest.raises(BackendError, match="cannot reach the base model"):
        submit(run, token)
    assert not hub.state.repos


def test_a_run_that_cannot_fit_the_hardware_is_refused(hub: JobsHub, run: Run, token: str) -> None:
    """What the estimate says cannot fit is not paid for."""
    run.record.base_model = {"id": "mistralai/Mistral-7B-Instruct-v0.2", "revision": None}
    run.save_record()
    with pytest.raises(MemoryShortError, match="memory"):
        api.submit(run, "cpu-basic", token)


# ---- asked once, whatever is lost ----------------------------------------------------------------


def test_a_lost_answer_starts_no_second_job(hub: JobsHub, run: Run, token: str) -> None:
    """The job whose answer was lost is found by its labels."""
    hub.faults.append(Fault("lost-after", "POST /api/jobs"))
    submit(run, token)
    assert [run.record.job["id"]] == list(hub.jobs)


def test_a_job_of_another_device_is_joined(
    hub: JobsHub, script: Script, run: Run, token: str
) -> None:
    """A job that works on the run already is watched, and no second one paid for."""
    script.wait_at = ("StageStarted", "update")
    submit(run, token)
    run.record.job, run.record.status = {}, "created"
    run.save_record()
    submit(run, token)
    assert [run.record.job["id"]] == list(hub.jobs)


# ---- left behind ---------------------------------------------------------------------------------


def test_the_repo_stays_where_it_is_asked_to(hub: JobsHub, run: Run, token: str) -> None:
    """With `keep`, the private repo holds the finished run."""
    drive(run, token, JobPlan("a10g-small", 600.0, keep=True))
    assert [kept.status for kept in api.saved_runs(token)] == ["finished"]


def test_a_run_that_was_kept_before_stays_kept(hub: JobsHub, run: Run, token: str) -> None:
    """A job does not delete what its owner had chosen to keep, and brings it up to date."""
    api.save_run(run, token)
    drive(run, token)
    assert [kept.status for kept in api.saved_runs(token)] == ["finished"]


def test_a_repo_that_cannot_be_deleted_spoils_nothing(hub: JobsHub, run: Run, token: str) -> None:
    """The run is finished all the same, and its record says that the repo is still there."""
    hub.faults.append(Fault("status", "DELETE /api/repos", status=403, times=10))
    assert isinstance(drive(run, token)[-1], ev.RunFinished)
    assert Run.load(run.folder).record.job["deleted"] is False
    hub.forget()
    api.forget_job(run, token)
    assert not hub.state.repos


# ---- the job's own side --------------------------------------------------------------------------


def work(run: Run, script: Script, save: Callable[[Run], object], deadline: Deadline) -> JobWorker:
    return JobWorker(run, save, script, deadline, save_every_s=1e9)


def test_a_job_saves_after_every_stage_and_before_its_end(script: Script, run: Run) -> None:
    """What a stage made, its state included, has left when the next one is told of."""
    left: list[str] = []
    worker = work(run, script, lambda r: left.append((r.load_state() or b"").decode()), Deadline())
    for event in worker.events(lambda: ""):
        if isinstance(event, ev.StageStarted) and event.index:
            assert len(left[-1].split()) == event.index
    assert left == ["", "warm-start", "warm-start sampling", ""]


def test_a_job_saves_every_so_often_within_a_stage(script: Script, run: Run) -> None:
    """With no time between saves, each event is preceded by one."""
    saved: list[Run] = []
    worker = JobWorker(run, saved.append, script, Deadline(), save_every_s=0.0)
    assert len(list(worker.events(lambda: ""))) == len(saved)


def test_a_job_leaves_before_it_is_ended(script: Script, run: Run) -> None:
    """Near its deadline a job pauses the run, saves it, and says why."""
    script.wait_at = ("StageFinished", "sampling")
    saved: list[str] = []
    worker = work(run, script, lambda r: saved.append(r.record.status), Deadline(time.time() + 60))
    events = list(worker.events(lambda: ""))
    assert events[-1] == ev.RunPaused(
        run_id=run.record.id, seq=events[-1].seq, time=1.0, reason="timeout"
    )
    assert saved[-1] == "paused"


def test_a_save_that_fails_is_tried_again_with_the_next(script: Script, run: Run) -> None:
    """A Hub that is busy for a while stops no training."""
    tries: list[str] = []

    def save(run: Run) -> None:
        tries.append(run.record.status)
        if len(tries) < 3:
            raise HubBusyError("The Hub is busy.")

    assert len(list(work(run, script, save, Deadline()).events(lambda: ""))) == 8
    assert tries[-1] == "finished"


def test_an_end_that_could_not_be_saved_is_not_told(script: Script, run: Run) -> None:
    """Who reads `RunFinished` in a log finds the result in the repo."""

    def save(run: Run) -> None:
        if run.record.status == "finished":
            raise HubError("The Hub refused.")

    told: list[ev.Event] = []
    with pytest.raises(HubError):
        told.extend(work(run, script, save, Deadline()).events(lambda: ""))
    assert not any(isinstance(event, ev.RunFinished) for event in told)


# ---- on the command line -------------------------------------------------------------------------


def call(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture
def signed_in(token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process have alice's token as if she had logged in."""
    monkeypatch.setenv("HF_TOKEN", token)


@pytest.mark.usefixtures("signed_in")
def test_train_on_a_job_from_the_command_line(hub: JobsHub, script: Script, tmp_path: Path) -> None:
    """A killed job exits 3 with how to go on; `resume` starts a new one; `show` tells of it."""
    script.die_after = ("StageStarted", "sampling")
    out = tmp_path / "out"
    words = ("train", "example:harbor", "--output", out, "--no-compare")
    first = call(*words, "--backend", "job", "--flavor", "a10g-small")
    assert first.exit_code == 3, first.output
    assert "ended without a result" in first.stderr
    assert "a10g-small" in first.stderr
    assert "image pytorch/pytorch:" in first.stderr
    again = call("resume", out, "--json")
    assert again.exit_code == 0, again.output
    assert '"RunFinished"' in again.stdout
    assert "COMPLETED" in call("runs", "show", out).output


@pytest.mark.usefixtures("signed_in")
def test_a_run_that_fails_in_a_job_exits_with_1(script: Script, run: Run, token: str) -> None:
    """As here: a failure is told, and exits with 1."""
    script.end = "failed"
    result = call("resume", run.folder, "--backend", "job", "--flavor", "a10g-small")
    assert result.exit_code == 1
    assert "by the script" in result.stderr


@pytest.mark.usefixtures("signed_in")
def test_a_run_is_kept_listed_and_restored_from_the_command_line(
    hub: JobsHub, run: Run, tmp_path: Path
) -> None:
    """`runs keep`, `runs kept` and `runs restore` move a run to another machine."""
    assert "private" in call("runs", "keep", run.folder).output
    assert run.record.id in call("runs", "kept").output
    back = tmp_path / "back"
    assert call("runs", "restore", run.record.id, "--output", back).exit_code == 0
    assert Run.load(back).demos() == run.demos()


@pytest.mark.usefixtures("signed_in")
@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("--backend", "job"), 2, "needs --flavor"),
        (("--flavor", "a10g-small"), 2, "needs --backend job"),
        (("--backend", "job", "--flavor", "a10g-tiny"), 1, "There is no flavor"),
    ],
)
def test_options_that_cannot_work_make_no_run(
    hub: JobsHub, tmp_path: Path, words: tuple[str, ...], code: int, told: str
) -> None:
    """What is wrong with the hardware is told before there is a run."""
    result = call("train", "example:harbor", "--output", tmp_path / "out", *words)
    assert (result.exit_code, told in result.stderr) == (code, True), result.output
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("signed_in")
def test_a_run_in_a_job_does_not_go_on_here(
    hub: JobsHub, script: Script, run: Run, token: str
) -> None:
    """While a job works on it, `resume --backend local` is refused with what to do first."""
    script.wait_at = ("StageStarted", "update")
    submit(run, token)
    result = call("resume", run.folder, "--backend", "local")
    assert result.exit_code == 1
    assert "runs cancel" in " ".join(result.stderr.split())


def test_a_bar_goes_on_from_what_was_seen(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Who looks in later is shown how far the run is, and nothing of the past twice."""
    start = ev.RunStarted(base_model="pocket", demonstrations=3, held_out=0, total_stages=8)
    bar = Bar(run)
    bar.catch_up([start, ev.StageStarted(stage="update", round=0, index=2, total_steps=2)])
    assert bar.progress.fraction > 0.2
    assert capsys.readouterr().err == ""
