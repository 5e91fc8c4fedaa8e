"""Runs that Hub Jobs work on: start, watch from anywhere, cancel; and the job's own side of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ditto_hub.api.estimating import estimate_run, require_room
from ditto_hub.api.notices import refresh_card
from ditto_hub.api.training import drive
from ditto_hub.errors import BaseModelError, ConfigError, HubError, RunBusyError, RunError
from ditto_hub.events import Event, RunFinished
from ditto_hub.runs.folder import Run
from ditto_hub.runs.storage import told_as_storage_error
from ditto_hub.tokens import MACHINE, Token

if TYPE_CHECKING:
    from ditto_hub.backends.jobs.job import JobBackend as JobBackend
    from ditto_hub.backends.jobs.order import JobPlan
    from ditto_hub.backends.jobs.records import Flavor
    from ditto_hub.hub.job_client import HubDesk


def job_backend(
    run: Run,
    flavor: str | None = None,
    *,
    token: Token | str,
    namespace: str | None = None,
    keep: bool = False,
) -> JobBackend:
    """Return what works on a run by Hub Jobs, for `drive`; nothing is started yet.

    Args:
        flavor: name of the hardware; None only watches the job there is, and never starts one.
        token: of the user, who pays.
        namespace: whose credit pays; default the run's job's, else the user's own.
        keep: leave the run's private repo when the result is home.

    Raises:
        ConfigError: there is no such flavor.
        HubError: no token that may do this.
    """
    from ditto_hub.backends.jobs.job import JobBackend

    desk = open_desk(run, token, namespace)
    plan = make_plan(run, flavor, desk, keep) if flavor else None
    return JobBackend(desk, plan)


def require_job(flavor: str, token: Token | str, namespace: str | None = None) -> None:
    """Refuse what is sure to be refused later, before there is a run.

    Raises:
        ConfigError: there is no such flavor; those there are.
        HubError: no token that may start jobs there.
    """
    from ditto_hub.backends.jobs.job import require_flavor
    from ditto_hub.hub.job_client import HubDesk

    require_flavor(flavor, flavors(HubDesk(token, namespace)))


def open_desk(run: Run, token: Token | str, namespace: str | None = None) -> HubDesk:
    """Return where a run's jobs are asked for.

    Raises:
        HubError: there is no token that may do this, or the namespace is somebody else's.
    """
    from ditto_hub.hub.job_client import HubDesk

    return HubDesk(token, namespace or run.record.job.get("namespace"))


def make_plan(run: Run, flavor: str, desk: HubDesk, keep: bool = False) -> JobPlan:
    """Return what to ask for, after checking that there is such hardware and the run fits it.

    Raises:
        ConfigError: there is no such flavor; those there are.
        MemoryShortError: the run cannot fit it, and what would.
    """
    from ditto_hub.backends.jobs.job import require_flavor
    from ditto_hub.backends.jobs.order import JobPlan

    found = require_flavor(flavor, flavors(desk))
    return JobPlan(flavor, expected_seconds(run, flavor, desk.token), found.usd_per_hour, keep)


def flavors(desk: HubDesk) -> list[Flavor]:
    """Return the hardware jobs can have: what the Hub tells now, else the dated table."""
    from ditto_hub.backends.jobs.records import Flavor
    from ditto_hub.cost.devices import DEVICES, PRICES

    with contextlib.suppress(HubError):
        return list(desk.flavors())
    words = {name: device.words for name, device in DEVICES.items()}
    return [Flavor(name, words.get(name, ""), price) for name, price in PRICES.items()]


def expected_seconds(run: Run, flavor: str, token: Token) -> float | None:
    """Return the seconds a run should take on a flavor, or None where there are no figures.

    Raises:
        MemoryShortError: it cannot fit, and what would.
    """
    with contextlib.suppress(ConfigError, BaseModelError):
        base = str(run.record.base_model["id"])
        found = estimate_run(run.demos(), base, run.config, flavor, token=token)
        return require_room(found).total_seconds
    return None


def submit(
    run: Run,
    flavor: str,
    token: Token | str,
    namespace: str | None = None,
    *,
    keep: bool = False,
) -> Run:
    """Start a Hub Job on a run and return at once; `run.record.job` tells all about it.

    Args: as `job_backend`.

    Raises:
        ConfigError, BackendError, MemoryShortError: it would not work; nothing was sent.
        HubError: refused (no credit, no scope, no permission); the run is as it was.
        RunBusyError: somebody is working on the run.
    """
    job_backend(run, flavor, token=token, namespace=namespace, keep=keep).submit(run)
    return run


def attach(
    run: Run, token: Token | str, *, should_stop: Callable[[], str] = lambda: ""
) -> Iterator[Event]:
    """Watch a run's job from where it was last seen to its end, from any process.

    It never starts a job. Closing it, or a reason other than "cancel", only looks away.

    Yields:
        The run's events that are not in its folder yet; the end when the result is here.

    Raises:
        RunError: no job works on it.
        HubError: refused or out of reach; the job goes on.
    """
    return drive(run, backend=job_backend(run, token=token), should_stop=should_stop, token=token)


def cancel_job(run: Run, token: Token | str) -> None:
    """Stop a run's job, fetch what it kept, and leave the run cancelled, resumable.

    A process that watches the job does it, where there is one.

    Raises:
        HubError: the Hub refused or could not be reached.
    """
    backend = job_backend(run, token=token)
    try:
        for event in backend.drive(run, lambda: "cancel", token=token):
            if isinstance(event, RunFinished):  # it was faster
                refresh_card(run)
    except RunBusyError:
        run.write(".cancel", b"")


def cancel(run: Run, token: Token | str) -> None:
    """Cancel a run, whichever process or job works on it: what it has is kept, and it can resume.

    Args:
        token: of the Hub, to stop a job.

    Raises:
        RunError: the run is finished.
        HubError: its job could not be stopped.
    """
    if run.record.status == "finished":
        raise RunError("api.nothing_to_cancel", run_id=run.record.id)
    if has_job(run):
        cancel_job(run, token)
        return
    run.write(".cancel", b"")
    with contextlib.suppress(BlockingIOError), run.lock():
        run.record.status = "cancelled"
        run.save_record()
        with told_as_storage_error(run.folder):
            (run.folder / ".cancel").unlink(missing_ok=True)


def leave_job(run: Run, token: Token | str) -> None:
    """Make sure that no job works on a run, and that what one kept is here, before it goes on here.

    Raises:
        RunBusyError: a job works on it.
        HubError: the Hub cannot be asked.
    """
    if has_job(run):
        job_backend(run, token=token).leave(run)
        if run.record.status == "finished":
            refresh_card(run)


def has_job(run: Run) -> bool:
    """Tell whether a job works on a run, as far as is known here."""
    return bool(run.record.job.get("id")) and not run.record.job.get("home")


def forget_job(run: Run, token: Token | str) -> None:
    """Delete the private repo that a run's jobs left, if they did.

    Raises:
        HubError: the Hub refused or could not be reached.
    """
    if run.record.job.get("repo") and not run.record.job.get("deleted"):
        open_desk(run, token).forget(run)


# ---- inside the job ------------------------------------------------------------------------------


def work_in_job(
    repo_id: str,
    job_id: str,
    ends_at: float | None = None,
    *,
    should_stop: Callable[[], str] = lambda: "",
    save_every_s: float | None = None,
) -> Iterator[Event]:
    """Restore the run that a repo keeps, work on it, and keep it there as it goes on.

    Args:
        repo_id: NAMESPACE/ditto-hub-run-ID; the token is the one of the environment.
        job_id: of this job.
        ends_at: seconds since the epoch when the platform ends it; None for never.
        save_every_s: longest time between two saves.

    Raises:
        DittoError: whatever stopped it.
    """
    from ditto_hub.backends.jobs.order import SAVE_EVERY_S
    from ditto_hub.backends.jobs.worker import Deadline, JobWorker
    from ditto_hub.backends.local import LocalBackend
    from ditto_hub.hub import transfer
    from ditto_hub.hub.client import HubClient

    client = HubClient(MACHINE)
    namespace = repo_id.split("/")[0]
    run = transfer.restore(client, repo_id)
    run.record.job = {**run.record.job, "id": job_id, "namespace": namespace, "repo": repo_id}
    run.record.job["home"] = False
    run.save_record()
    worker = JobWorker(
        run,
        lambda kept: transfer.save(client, kept, namespace),
        LocalBackend(),
        Deadline(ends_at),
        SAVE_EVERY_S if save_every_s is None else save_every_s,
    )
    yield from worker.events(should_stop)
