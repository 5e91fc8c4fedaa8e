"""A local Hub that runs Jobs: each job's command, as a real process, in an image of its own.

    python -m tests.jobs_server --port 8978      # prints a token and the HF_ENDPOINT to set

An image is a bare virtual environment that sees this one's libraries and not this package. On
demand a job is killed at a line of its log, logs hang or break off, credit and scopes are missing.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import venv
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

try:
    from hub_server import Call, Hub, Reply, on
    from hub_state import Refusal
except ImportError:  # started by `python -m tests.jobs_server`
    from tests.hub_server import Call, Hub, Reply, on
    from tests.hub_state import Refusal

FLAVORS = {"cpu-basic": 0.01, "t4-small": 0.40, "a10g-small": 1.00, "h200": 5.00}
ENDED = ("COMPLETED", "CANCELED", "ERROR", "DELETED")


def moment(seconds: float) -> str:
    """Return a time as the Hub writes it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


@dataclass
class Job:
    """Hold one job: what was asked for, what it printed, how it stands."""

    id: str
    namespace: str
    spec: dict[str, Any]
    folder: Path
    stage: str = "SCHEDULING"
    message: str | None = None
    lines: list[tuple[float, str]] = field(default_factory=list)
    created: float = field(default_factory=time.time)
    ended: float | None = None
    process: subprocess.Popen[str] | None = None
    changed: threading.Condition = field(default_factory=threading.Condition)

    def say(self, line: str) -> None:
        """Print a line into the job's log."""
        with self.changed:
            self.lines.append((time.time(), line))
            self.changed.notify_all()

    def end(self, stage: str, message: str | None = None) -> None:
        """Let the job be over; the first end counts."""
        with self.changed:
            if self.stage not in ENDED:
                self.stage, self.message, self.ended = stage, message, time.time()
            self.changed.notify_all()

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to the job and all it started."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)

    @property
    def page(self) -> dict[str, Any]:
        """What the job's page shows: all of the order but the secrets' values."""
        shown = {k: v for k, v in self.spec.items() if k != "secrets"}
        return {**shown, "secrets": sorted(self.spec.get("secrets", {}))}

    def to_json(self) -> dict[str, Any]:
        running = None if self.stage == "SCHEDULING" else (self.ended or time.time()) - self.created
        return {
            "id": self.id,
            "createdAt": moment(self.created),
            "dockerImage": self.spec.get("dockerImage"),
            "command": self.spec["command"],
            "arguments": self.spec.get("arguments", []),
            "environment": self.spec.get("environment", {}),
            "flavor": self.spec["flavor"],
            "labels": self.spec.get("labels", {}),
            "status": {"stage": self.stage, "message": self.message},
            "durations": {"schedulingSecs": 0, "runningSecs": running and int(running)},
            "owner": {"id": "0" * 24, "name": self.namespace, "type": "user"},
        }


class JobsHub(Hub):
    """Run a local Hub that has jobs; use as a context manager.

    Attributes:
        runner: works on a job and returns its exit code; by default runs its command.
        credit: namespace -> dollars left; 402 without.
        kill_at: (text, n): a job is killed when it prints the n-th line that holds the text.
        logs: "" as they are, "silent" (open, nothing comes), or "cut" after `cut` lines.
        quiet_s: a log's stream is closed after so long without a line; None keeps it open.
    """

    def __init__(self, port: int = 0, folder: Path | None = None) -> None:
        super().__init__(port)
        self.folder = folder or Path(tempfile.mkdtemp(prefix="jobs-"))
        self.jobs: dict[str, Job] = {}
        self.runner: Callable[[Job], int] = self.run_command
        self.credit: dict[str, float] = {}
        self.kill_at: tuple[str, int] | None = None
        self.logs = ""
        self.cut = 0
        self.quiet_s: float | None = None
        self.environment: dict[str, str] = {}
        self.threads: list[threading.Thread] = []

    def __exit__(self, *_: object) -> None:
        self.stop_jobs()
        super().__exit__()

    def stop_jobs(self) -> None:
        """End every job, wait until none does anything more, and forget them."""
        for job in self.jobs.values():
            job.end("CANCELED")
            job.kill()
        for thread in self.threads:
            thread.join(60)
        self.threads.clear()
        self.jobs.clear()

    def start(self, namespace: str, spec: dict[str, Any]) -> Job:
        """Accept a job and start it."""
        job = Job(secrets.token_hex(12), namespace, spec, self.folder)
        job.folder = self.folder / job.id
        job.folder.mkdir(parents=True)
        self.jobs[job.id] = job
        self.threads.append(threading.Thread(target=self._run, args=(job,), daemon=True))
        self.threads[-1].start()
        return job

    def _run(self, job: Job) -> None:
        job.stage = "RUNNING"
        job.say(f"===== Job started at {moment(time.time())} =====")
        limit = threading.Timer(job.spec.get("timeoutSeconds", 1800), self._time_out, (job,))
        limit.daemon = True
        limit.start()
        try:
            code = self.runner(job)
            job.end("COMPLETED" if code == 0 else "ERROR", None if code == 0 else f"exit {code}")
        except Exception as error:
            job.end("ERROR", repr(error))
        finally:
            limit.cancel()

    def _time_out(self, job: Job) -> None:
        job.end("ERROR", "Job timeout")
        job.kill()

    def run_command(self, job: Job) -> int:
        """Run a job's command in a fresh image, its log line by line."""
        image = make_image(job.folder / "image")
        spec, left = job.spec, self.kill_at[1] if self.kill_at else 0
        variables = {
            "PATH": f"{image / 'bin'}:/usr/bin:/bin",
            "HOME": str(job.folder),
            "HF_HUB_DISABLE_XET": "1",
            "OMP_NUM_THREADS": "1",
            "JOB_ID": job.id,
            **self.environment,
            **spec.get("environment", {}),
            **spec.get("secrets", {}),
        }
        job.process = subprocess.Popen(
            [*spec["command"], *spec.get("arguments", [])], env=variables, cwd=job.folder,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip
        with job.process as process:
            assert process.stdout is not None
            for line in process.stdout:
                job.say(line.rstrip("\n"))
                if self.kill_at and self.kill_at[0] in line:
                    left -= 1
                    if left == 0:
                        self.kill_at = None
                        job.kill()
        return process.returncode

    def stream_log(self, job: Job, tail: int | None) -> Callable[[Callable[[bytes], object]], None]:
        """Return what writes a job's log as server-sent events until it ends."""

        def stream(write: Callable[[bytes], object]) -> None:
            write(b": hello\n\n")
            if self.logs == "silent":
                self.released.wait(60)
                return
            sent = max(0, len(job.lines) - tail) if tail else 0
            while not self.released.is_set():
                with job.changed:
                    if sent >= len(job.lines) and job.stage not in ENDED:
                        job.changed.wait(0.2 if self.quiet_s is None else self.quiet_s)
                        if sent >= len(job.lines) and self.quiet_s is not None:
                            return
                    new, over = job.lines[sent:], job.stage in ENDED
                if self.logs == "cut":
                    new = [row for n, row in enumerate(new, sent) if n < self.cut]
                sent += len(new)
                for when, line in new:
                    event = {"data": line, "timestamp": moment(when)}
                    write(f"data: {json.dumps(event)}\n\n".encode())
                if self.logs == "cut" or (over and not new):
                    return

        return stream


def make_image(folder: Path) -> Path:
    """Make a virtual environment that sees this one's libraries but no package of ours."""
    venv.create(folder, with_pip=False, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "libraries.pth").write_text(f"{sysconfig.get_paths()['purelib']}\n")
    return folder


# ---- what is spoken ------------------------------------------------------------------------------


def hub_of(call: Call) -> JobsHub:
    """Return the Hub that a call came to."""
    assert isinstance(call.hub, JobsHub)
    return call.hub


def require_jobs(call: Call, namespace: str) -> None:
    """Refuse as the Hub does: token, scope, membership."""
    token = call.token
    if token is None:
        raise Refusal(401, "Invalid username or password.")
    if token.role == "oauth" and "jobs" not in token.scopes:
        raise Refusal(403, "Forbidden: missing scope jobs")
    if not call.hub.state.is_member(token, f"{namespace}/x"):
        raise Refusal(403, f"You don't have the rights to use jobs under {namespace}")


def find_job(call: Call, namespace: str, job_id: str) -> Job:
    """Return a job the caller may see."""
    require_jobs(call, namespace)
    job = hub_of(call).jobs.get(job_id)
    if job is None or job.namespace != namespace:
        raise Refusal(404, "Job not found")
    return job


@on("GET", "/api/jobs/hardware")
def hardware(call: Call) -> Reply:
    rows = []
    for name, hourly in FLAVORS.items():
        gpu = {"type": "gpu", "model": name, "quantity": "1", "vram": "24 GB",
               "manufacturer": "Nvidia"}  # fmt: skip
        rows.append({
            "name": name, "prettyName": name.title(), "cpu": "2 vCPU", "ram": "16 GB",
            "accelerator": None if name.startswith("cpu") else gpu,
            "unitCostMicroUSD": round(hourly / 60 * 1e6), "unitCostUSD": hourly / 60,
            "unitLabel": "minute",
        })  # fmt: skip
    return Reply(rows)


@on("POST", "/api/jobs/(?P<namespace>[^/]+)")
def run_job(call: Call, namespace: str) -> Reply:
    require_jobs(call, namespace)
    hub, spec = hub_of(call), call.json
    if spec["flavor"] not in FLAVORS:
        raise Refusal(400, f"Invalid flavor {spec['flavor']}")
    if hub.credit.get(namespace, 1.0) <= 0:
        raise Refusal(402, "Pre-paid credit balance is insufficient")
    return Reply(hub.start(namespace, spec).to_json())


@on("GET", "/api/jobs/(?P<namespace>[^/]+)")
def list_jobs(call: Call, namespace: str) -> Reply:
    require_jobs(call, namespace)
    wanted = dict(label.split("=", 1) for label in call.query.get("label", []))
    mine = [job for job in hub_of(call).jobs.values() if job.namespace == namespace]
    return Reply([j.to_json() for j in mine if wanted.items() <= j.spec["labels"].items()])


@on("GET", "/api/jobs/(?P<namespace>[^/]+)/(?P<job_id>[^/]+)")
def inspect_job(call: Call, namespace: str, job_id: str) -> Reply:
    return Reply(find_job(call, namespace, job_id).to_json())


@on("GET", "/api/jobs/(?P<namespace>[^/]+)/(?P<job_id>[^/]+)/logs")
def job_logs(call: Call, namespace: str, job_id: str) -> Reply:
    job = find_job(call, namespace, job_id)
    tail = int(call.query["tail"][0]) if "tail" in call.query else None
    headers = {"Content-Type": "text/event-stream"}
    return Reply(headers=headers, stream=hub_of(call).stream_log(job, tail))


@on("POST", "/api/jobs/(?P<namespace>[^/]+)/(?P<job_id>[^/]+)/cancel")
def cancel_job(call: Call, namespace: str, job_id: str) -> Reply:
    job = find_job(call, namespace, job_id)
    job.end("CANCELED")
    job.kill(signal.SIGTERM)
    late = threading.Timer(10, job.kill)
    late.daemon = True
    late.start()
    return Reply(job.to_json())


@on("GET", "/api/models")
def list_models(call: Call) -> Reply:
    author, text = call.query["author"][0], call.query.get("search", [""])[0]
    state = call.hub.state
    return Reply([
        repo.to_json(repo.head)
        for (kind, repo_id), repo in state.repos.items()
        if kind == "model" and repo_id.split("/")[0] == author and text in repo_id
        if not repo.private or state.is_member(call.token, repo_id)
    ])  # fmt: skip


@on("DELETE", "/api/repos/delete")
def delete_repo(call: Call) -> Reply:
    data = call.json
    kind, repo_id = data.get("type") or "model", f"{data['organization']}/{data['name']}"
    repo = call.hub.state.find(kind, repo_id, call.token)
    call.hub.state.require_write(call.token, repo_id, repo)
    del call.hub.state.repos[kind, repo_id]
    return Reply({})


@contextlib.contextmanager
def local_jobs_hub(port: int = 0, folder: Path | None = None) -> Iterator[JobsHub]:
    """Run a Hub with jobs and the users alice (write token, an organisation) and mallory."""
    with JobsHub(port, folder) as hub:
        hub.add_user("alice", {"acme": "write", "readers": "read"})
        hub.add_user("mallory")
        yield hub


def main() -> None:
    parser = argparse.ArgumentParser(description="A local Hub with jobs, empty at every start.")
    parser.add_argument("--port", type=int, default=8978)
    parser.add_argument("--kill-at", metavar="TEXT", help="Kill the first job that prints it.")
    options = parser.parse_args()
    with local_jobs_hub(options.port) as hub:
        hub.kill_at = (options.kill_at, 1) if options.kill_at else None
        token = next(name for name, t in hub.state.tokens.items() if t.user == "alice")
        print(f"export HF_ENDPOINT={hub.endpoint} HF_HUB_DISABLE_XET=1 HF_TOKEN={token}")
        print(f"Jobs run in {hub.folder}, with {sys.executable}. Ctrl-C ends it.", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                time.sleep(1)
                known = hub.folder / "jobs.json"
                known.write_text(
                    json.dumps([j.page | {"stage": j.stage} for j in hub.jobs.values()])
                )


if __name__ == "__main__":
    main()
