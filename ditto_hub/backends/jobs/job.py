"""A Hub Job works on a run, in the user's account; it is asked for, watched and brought home here.

The private repo is the truth: the job keeps the run there, and whoever watches may come and go. The
job's log carries the events as they happen; where it stops or lacks some, the repo has them.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ditto_hub import events as ev
from ditto_hub.backends.driver import fold
from ditto_hub.backends.jobs.order import JobPlan, Place, labels, make_order
from ditto_hub.backends.jobs.records import Desk, Flavor, JobState
from ditto_hub.backends.jobs.wheel import NAME, build_wheel
from ditto_hub.backends.jobs.worker import ENDS
from ditto_hub.errors import (
    BackendError,
    ConfigError,
    HubBusyError,
    HubError,
    RunBusyError,
    RunError,
    StorageError,
)
from ditto_hub.runs.folder import Run
from ditto_hub.tokens import Token
from ditto_hub.words import Message, Text, chained

log = logging.getLogger(__name__)
WHEEL = f"job/{NAME}"
CANCEL = "cancel"


@dataclass(frozen=True)
class Watch:
    """Say how patiently a job is watched.

    Args:
        poll_s: pause between two looks at it.
        tail: lines of its log that are read at a look; all of them where some are missing.
        failures: looks in a row that may fail before watching ends; the job goes on.
        settle_s: how long it is waited for a job to be gone once its result is there.
    """

    poll_s: float = 2.0
    tail: int = 400
    failures: int = 20
    settle_s: float = 30.0


class JobBackend:
    """Run as a Hub Job.

    Args:
        desk: where jobs are asked for and runs are kept.
        plan: what to ask for; None only watches the job there is, and never starts one.
        watch: how patiently.
    """

    def __init__(self, desk: Desk, plan: JobPlan | None = None, watch: Watch | None = None) -> None:
        self.desk = desk
        self.plan = plan
        self.watch = watch or Watch()

    def submit(self, run: Run) -> JobState:
        """Start a job on a run, or find the one that works on it already.

        Raises:
            ConfigError, BackendError, HubError: refused, with the reason; nothing was started.
        """
        with run.lock():
            run.record = Run.load(run.folder).record
            require_unfinished(run)
            working = self._working(run)
            if working is not None and working.ended:
                for _ in self._bring_home(run, working):
                    pass
                require_unfinished(run)
            return working if working and not working.ended else self._submit(run)

    def drive(
        self, run: Run, should_stop: Callable[[], str] = lambda: "", *, token: Token | str
    ) -> Iterator[ev.Event]:
        """Watch a run's job to its end, after starting one where none works on it.

        Told to cancel, it stops the job. Told anything else, or closed, it only looks away: the job
        goes on, and another call watches again. A job that ended without a result leaves the run
        paused.

        Raises:
            RunError: there is no job and none may be started, or the run is finished.
            HubError: the Hub refused, or is out of reach for long; the job goes on.
        """
        with run.lock():
            run.record = Run.load(run.folder).record
            require_unfinished(run)
            state = self._working(run)
            if state is None or state.ended:
                yield from self._bring_late(run) if state is None else self._bring_home(run, state)
                if run.record.status == "finished":
                    return
                state = None
            if state is None and should_stop() == CANCEL:
                yield self._end(run, "cancelled", ev.RunCancelled())
                run.save_record()
                return
            if state is None and self.plan is None:
                return
            yield from self._watch(run, (state or self._submit(run)).id, should_stop)

    def leave(self, run: Run) -> None:
        """Bring home what an ended job kept, so that the run can go on elsewhere.

        Raises:
            RunBusyError: a job works on it still.
        """
        with run.lock():
            run.record = Run.load(run.folder).record
            state = self._working(run)
            if state is not None and not state.ended:
                raise RunBusyError(
                    "backends.job_under_way", state_id=state.id, run_id=run.record.id
                )
            if state is not None:
                for _ in self._bring_home(run, state):
                    pass

    # ---- asking for a job ------------------------------------------------------------------------

    def _working(self, run: Run) -> JobState | None:
        """Return the job on a run whose end is not known here yet, if there is one."""
        job = run.record.job
        if job.get("id") and not job.get("home"):
            return self.desk.inspect(job["id"])
        if not job and self.plan is None:
            raise RunError("backends.no_job", run_id=run.record.id)
        return None

    def _submit(self, run: Run) -> JobState:
        plan, record = self.plan, run.record
        assert plan is not None
        require_portable(run)
        self._require_life(plan)
        flavor = require_flavor(plan.flavor, self.desk.flavors())
        plan = replace(plan, usd_per_hour=flavor.usd_per_hour or plan.usd_per_hour)
        before, old = record.status, dict(record.job)
        keep = plan.keep or bool(old["keep"] if old else self.desk.keeps(run))
        record.job = self._asked(run, plan, keep, int(old.get("attempt", 0)) + 1)
        record.status, record.error = "running", None  # as the repo is to have it
        with contextlib.ExitStack() as undo:
            undo.callback(_put_back, run, before, old)
            state = self._alive(run) or self._start(run, plan)
            undo.pop_all()
        record.job |= {"id": state.id, "url": state.url, "stage": state.stage}
        run.save_record()
        return state

    def _alive(self, run: Run) -> JobState | None:
        """Return a job on the run that is not known here: lost, or started on another device."""
        return next((s for s in self.desk.find(labels(run)) if not s.ended), None)

    def _start(self, run: Run, plan: JobPlan) -> JobState:
        run.save_record()
        repo, commit = self.desk.save(run, {WHEEL: build_wheel()})
        place = Place(repo, commit, WHEEL)
        attempt = int(run.record.job["attempt"])
        return self.desk.submit(make_order(run, plan, place, attempt, self.desk.secrets()))

    def _asked(self, run: Run, plan: JobPlan, keep: bool, attempt: int) -> dict[str, Any]:
        """Return what is written down of a job, so that any process on any device can watch it."""
        return {
            "attempt": attempt,
            "repo": self.desk.repo(run),
            "keep": keep,
            "namespace": self.desk.namespace,
            "image": plan.image,
            "flavor": plan.flavor,
            "timeout_s": plan.timeout_s,
            "expected_s": plan.expected_s,
            "usd_per_hour": plan.usd_per_hour,
            "submitted": time.time(),
            "home": False,
        }

    def _require_life(self, plan: JobPlan) -> None:
        """Refuse a job that could outlive the token it is to save with."""
        life = self.desk.life_s()
        if life is not None and life < plan.timeout_s:
            raise HubError(
                "backends.sign_in_too_short", clock=_clock(life), clock2=_clock(plan.timeout_s)
            )

    # ---- watching it -----------------------------------------------------------------------------

    def _watch(self, run: Run, job_id: str, should_stop: Callable[[], str]) -> Iterator[ev.Event]:
        seen, failures = run.next_seq() - 1, 0
        while True:
            why = should_stop()
            if why == CANCEL:
                yield from self._cancel(run, job_id)
                return
            if why:
                return
            state: JobState | None = None
            news: list[ev.Event] = []
            try:
                state = self.desk.inspect(job_id)
                failures = 0
                with contextlib.suppress(HubError):  # no log: the repo has all of it in the end
                    news = self._news(run, job_id, seen)
            except HubBusyError:
                failures += 1
                if failures > self.watch.failures:
                    raise
            for event in news:
                if isinstance(event, ENDS):
                    yield from self._bring_home(run, self._settled(job_id))
                    return
                seen = event.seq
                yield self._take(run, event)
            if state is not None and state.ended:
                yield from self._bring_home(run, state)
                return
            self._see(run, state)
            time.sleep(self.watch.poll_s)

    def _news(self, run: Run, job_id: str, seen: int) -> list[ev.Event]:
        """Return the events after `seen` that the log has by now, in order."""
        for tail in (self.watch.tail, None):
            found = {}
            for line in self.desk.log(job_id, tail):
                event = parse_event(line, run.record.id)
                if event is not None and event.seq > seen:
                    found[event.seq] = event
            if not found or min(found) == seen + 1:
                break
        return [found[seq] for seq in sorted(found)]

    def _take(self, run: Run, event: ev.Event) -> ev.Event:
        run.append_events([event])
        fold(run.record, event)
        if isinstance(event, ev.StageFinished | ev.CandidateScored | ev.CandidateChosen):
            run.save_record()
        return event

    def _see(self, run: Run, state: JobState | None) -> None:
        if state is not None and run.record.job.get("stage") != state.stage:
            run.record.job["stage"] = state.stage
            run.save_record()

    # ---- its end ---------------------------------------------------------------------------------

    def _cancel(self, run: Run, job_id: str) -> Iterator[ev.Event]:
        self.desk.cancel(job_id)
        yield from self._bring_home(run, self._settled(job_id), cancelled=True)

    def _settled(self, job_id: str) -> JobState:
        """Wait a little for a job that is about to be gone; its seconds are then known."""
        until = time.monotonic() + self.watch.settle_s
        while True:
            state = self.desk.inspect(job_id)
            if state.ended or time.monotonic() > until:
                return state
            time.sleep(min(self.watch.poll_s, 1.0))

    def _bring_home(
        self, run: Run, state: JobState, cancelled: bool = False, late: bool = False
    ) -> Iterator[ev.Event]:
        """Fetch what the job kept, yield what was not seen yet, and say how it ended.

        Args:
            cancelled: the user wanted that.
            late: its end is known here already; only what got further than that counts.
        """
        seen = run.next_seq() - 1
        lost: Text = ""
        try:
            if not self.desk.fetch(run, further=late):
                return
        except StorageError:
            raise
        except RunError as error:  # nothing whole is kept: what is here stands
            if late:
                return
            lost = error.happened
        record = run.record
        record.job |= {"stage": state.stage, "message": state.message, "seconds": state.seconds}
        record.job["home"] = True
        news = [event for event in run.events() if event.seq > seen]
        news = news or (run.events()[-1:] if late else [])
        end = news.pop() if news and isinstance(news[-1], ENDS) else None
        yield from news
        if record.status == "finished":
            self._clean_up(run)
        elif cancelled:
            end = self._end(run, "cancelled", ev.RunCancelled())
        elif record.status in ("created", "running"):
            code = "backends.job_no_result_because" if lost else "backends.job_no_result"
            values = {"state": state.message or state.stage, **({"why": lost} if lost else {})}
            end = self._end(run, "paused", ev.RunPaused(reason=Message(code, **values)))
        run.save_record()
        if end is not None:
            yield end

    def _bring_late(self, run: Run) -> Iterator[ev.Event]:
        """Bring home what a job kept after it was given up: it may have been quicker than that."""
        job = run.record.job
        if job.get("id") and not job.get("deleted") and self.desk.keeps(run):
            yield from self._bring_home(run, self.desk.inspect(job["id"]), late=True)

    def _end(self, run: Run, status: str, event: ev.Event) -> ev.Event:
        run.record.status = status
        event = replace(event, run_id=run.record.id, seq=run.next_seq(), time=time.time())
        run.append_events([event])
        return event

    def _clean_up(self, run: Run) -> None:
        """Delete the private repo, now that all of it is here, unless it is to be kept."""
        if run.record.job.get("keep"):
            return
        try:
            self.desk.forget(run)
            run.record.job["deleted"] = True
        except HubError as error:
            run.record.job["deleted"] = False
            log.warning("the repo of run %s is still there: %s", run.record.id, error.what)


# ---- what can be refused before anything is sent ------------------------------------------------


def require_flavor(name: str, flavors: Iterable[Flavor]) -> Flavor:
    """Return a flavor by its name.

    Raises:
        ConfigError: there is none of that name; those there are.
    """
    known = {f.name: f for f in flavors}
    if name not in known:
        priced = (
            Message("backends.flavor_price", name=f.name, usd=f.usd_per_hour)
            if f.usd_per_hour
            else f.name
            for f in known.values()
        )
        raise ConfigError("backends.no_flavor", name=name, priced=chained("words.list", priced))
    return known[name]


def require_unfinished(run: Run) -> None:
    """Refuse a run that needs no more work.

    Raises:
        RunError: it is finished.
    """
    if run.record.status == "finished":
        raise RunError("backends.nothing_to_resume", run_id=run.record.id)


def require_portable(run: Run) -> None:
    """Refuse a base model that only this machine has.

    Raises:
        BackendError: saying what would do.
    """
    base = str(run.record.base_model["id"])
    if Path(base).is_absolute() or Path(base).is_dir():
        raise BackendError("backends.base_not_reachable", base=base)


def _put_back(run: Run, status: str, job: dict[str, Any]) -> None:
    """Leave no trace of a job that did not come to be."""
    run.record.status, run.record.job = status, job
    run.save_record()


def parse_event(line: str, run_id: str) -> ev.Event | None:
    """Return the event that a line of a log holds, or None where it holds something else."""
    if not line.lstrip().startswith("{"):
        return None
    try:
        event = ev.from_json(json.loads(line))
    except (ValueError, KeyError):
        return None
    return event if event.run_id == run_id else None


def _clock(seconds: float) -> Message:
    minutes = max(0, round(seconds / 60))
    if minutes < 60:
        return Message("estimate.minutes", n=minutes)
    return Message("estimate.hours", n=f"{minutes / 60:.1f}")
