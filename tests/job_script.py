"""Jobs that follow a script: the real worker in a thread, on a backend that computes nothing.

It keeps the run on the local Hub, and prints its events, as a job does; only what it "trains" is
made up, so a whole job takes a tenth of a second.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from jobs_server import Job, JobsHub
from tiny_runs import tiny_config, tiny_demos

from ditto_hub import events as ev
from ditto_hub.backends.driver import fold
from ditto_hub.backends.jobs.order import JobPlan
from ditto_hub.backends.jobs.worker import Deadline, JobWorker
from ditto_hub.hub import transfer
from ditto_hub.hub.client import HubClient
from ditto_hub.runs.folder import Run

STAGES = ("warm-start", "sampling", "update")
PLAN = JobPlan("a10g-small", expected_s=600.0)


class Killed(Exception):
    """The job is gone, as by SIGKILL: nothing is saved any more."""


def make_run(folder: Path, owner: str | None = None) -> Run:
    """Create a run on the embedded base model, which no job here ever loads."""
    base = {"id": "pocket", "revision": None}
    return Run.create(tiny_demos(n=3), base, tiny_config(), folder, owner)


@dataclass
class Script:
    """Work on a run as a driver does, by a script; also what runs jobs in a `JobsHub`.

    Args:
        hub: whose jobs these are.
        die_after: event that is the last one printed, as (type, stage), once.
        wait_at: event before which it waits for `go`, asking whether to stop; as (type, stage).
        end: finished, paused or failed.
    """

    hub: JobsHub
    die_after: tuple[str, str] | None = None
    wait_at: tuple[str, str] | None = None
    end: str = "finished"
    go: bool = False
    stop: str = ""
    saves: list[str] = field(default_factory=list)

    def __call__(self, job: Job) -> int:
        repo_id = job.spec["command"][-1].split()[-1]
        client = HubClient(job.spec["secrets"]["HF_TOKEN"], self.hub.endpoint)
        run = transfer.restore(client, repo_id, job.folder / "run")
        run.record.job = {**run.record.job, "id": job.id}
        run.save_record()

        def save(kept: Run) -> None:
            self.saves.append(kept.record.status)
            transfer.save(client, kept, repo_id.split("/")[0])

        worker = JobWorker(run, save, self, Deadline(), save_every_s=1e9)
        try:
            for event in worker.events(lambda: self._stopped(job)):
                job.say(json.dumps(event.to_json()))
                if self.die_after == (type(event).__name__, event.stage):
                    self.die_after = None
                    raise Killed
        except Killed:
            return -9
        return 0

    def _stopped(self, job: Job) -> str:
        return "the job was stopped" if job.stage == "CANCELED" else self.stop

    def drive(
        self, run: Run, should_stop: Callable[[], str] = lambda: "", token: str | None = None
    ) -> Iterator[ev.Event]:
        """Do what is left of the run; the "weights" are what stages there were, in order."""
        run.record.status = "running"
        seq = run.next_seq()
        done = (run.load_state() or b"").decode().split()

        def put(event: ev.Event) -> ev.Event:
            nonlocal seq
            event = replace(event, run_id=run.record.id, seq=seq, time=1.0)
            seq += 1
            run.append_events([event])
            fold(run.record, event)
            run.save_record()
            return event

        yield put(ev.RunStarted(base_model="pocket", demonstrations=3, held_out=0, total_stages=3,
                                resumed=bool(done)))  # fmt: skip
        for index, stage in enumerate(STAGES[len(done) :], len(done)):
            for event in (
                ev.StageStarted(stage=stage, index=index, total_steps=1),
                ev.StageFinished(stage=stage, seconds=1.0),
            ):
                while self.wait_at == (type(event).__name__, stage) and not self.go:
                    time.sleep(0.01)
                    if why := should_stop():
                        run.record.status = "paused"
                        yield put(ev.RunPaused(reason=why))
                        return
                if isinstance(event, ev.StageFinished):
                    run.write(f"candidates/{stage}/adapter/adapter_config.json", stage.encode())
                yield put(event)
            done.append(stage)
            run.save_state(" ".join(done).encode())
        yield from self._end(run, put, done)

    def _end(
        self, run: Run, put: Callable[[ev.Event], ev.Event], done: list[str]
    ) -> Iterator[ev.Event]:
        run.record.status = self.end
        if self.end == "paused":
            yield put(ev.RunPaused(reason="by the script"))
        elif self.end == "failed":
            yield put(ev.RunFailed(error="BaseModelError", message="by the script"))
        else:
            run.record.chosen = "sft"
            run.write("adapter/adapter_model.safetensors", " ".join(done).encode())
            run.clear_state()
            yield put(ev.RunFinished(chosen="sft", seconds=3.0))
