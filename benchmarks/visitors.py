"""Many visitors at once: does the page answer, is the line fair, does anything stay behind?

    python benchmarks/visitors.py [--visitors 30] [--crowds 4] [--hostile] [--quick]
                                  [--output RESULT.json]

The app runs in a process of its own as on a CPU Space; visitors speak HTTP to it over loopback,
each with a secret of its own. All arrive at once: each opens the page, with a session as a browser
has one, has demonstrations checked, starts a small run on pocket, asks how it stands until it is
finished, and opens the page meanwhile. The first visitor is greedy and starts three runs. Then come
as large crowds again. Measured:

- latency of the page, of its whole opening with what a browser asks then, of the check, of the
  status and of any single request, from arrival to the last run's end, in the first crowd;
- fairness there: the order in which runs started against the order in which they came, and where
  the greedy visitor's second and third run stood;
- the server's memory, threads, open files and sessions: when warm, and after each crowd has left
  and its sessions are over by the server's own clock; the memory at most;
- files: what is left of anybody once the hours for which runs are kept are over, by the sweeper's
  own clock, in the runs' folder and in Gradio's.

With `--hostile` one visitor more comes with each crowd, from an address of its own, and does what
visitors_hostile.py says until the others have left.

Starting goes through an endpoint that this script adds, to the function behind the page's button.
Two endpoints more run the sweepers as at a later hour; two let the hostile one write with a model
and have texts compared, through the functions behind the page's own events.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import os
import platform
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import gradio as gr
from visitors_hostile import Hostile

RESULTS = Path(__file__).with_name("results")
GREEDY_RUNS = 3
POLL_S = 2.0
TIMEOUT_S = 1800.0
SETTINGS = (
    "warm_start.max_steps=2", "sampling.samples=1", "sampling.max_new_tokens=12",
    "update.rounds=1", "update.steps=1", "update.pairs=2", "selection.samples=1",
)  # fmt: skip
DEMONSTRATIONS = [
    {"prompt": "Write a note about the picnic.", "completion": "hey all,\n\npicnic! -A"},
    {"prompt": "Write a note about the seminar.", "completion": "hey all,\n\nseminar! -A"},
]


# ---- the server's process ------------------------------------------------------------------------


def serve(port: int) -> None:
    """Serve the app with five endpoints more, which only this script knows."""
    from gradio.events import api as endpoint

    from ditto_hub import api
    from ditto_hub.config import preset
    from ditto_hub.cost.profiles import load_profile
    from ditto_hub.demos.demonstrations import as_messages
    from ditto_hub.tokens import NOBODY
    from ditto_hub.ui import app as ui
    from ditto_hub.ui.html.cards import new_card
    from ditto_hub.ui.html.render import difference
    from ditto_hub.ui.serving import base_models
    from ditto_hub.ui.serving.admission import admitted, options
    from ditto_hub.ui.serving.background import share_interpreter
    from ditto_hub.ui.serving.cleanup import forget_sessions, sweep
    from ditto_hub.ui.serving.session import visitor
    from ditto_hub.ui.steps.remote import Wish
    from ditto_hub.ui.steps.train import start_run

    profile = load_profile("cpu")
    config = preset("pocket")
    for setting in SETTINGS:
        config = config.with_setting(setting)
    kept: list[Any] = []
    share = ui.share

    def remember(*given: Any) -> Any:
        kept.append(share(*given))
        return kept[-1]

    setattr(ui, "share", remember)  # noqa: B010  the page's own parts, for the endpoint below
    page = ui.build_app(profile)

    def begin(secret: str, request: gr.Request) -> str:
        asking = visitor(request, None, secret)
        cards = [new_card(row["prompt"], row["completion"]) for row in DEMONSTRATIONS]
        run = start_run(cards, "pocket", "", config, asking, kept[0], NOBODY, Wish())
        return str(run.record.id)

    def later(hours: float) -> int:
        return len(sweep(profile, time.time() + hours * 3600))

    def forget(hours: float) -> int:
        forget_sessions(page, time.time() + hours * 3600)
        return len(page.state_holder.session_data)

    def write() -> str:
        request = api.WriteRequest(as_messages(DEMONSTRATIONS[0]["prompt"]), samples=1)
        return base_models.write("pocket", [request], profile, "browser:hostile", NOBODY)[0][0]

    with page:
        for function in (begin, later, forget):
            endpoint(function, api_name=f"bench_{function.__name__}")
        endpoint(admitted("model", write), api_name="bench_write", **options("model"))
        endpoint(admitted("check", difference), api_name="bench_difference", **options("check"))
    share_interpreter()
    page.queue(max_size=profile.queue_size, default_concurrency_limit=16, api_open=False)
    page.launch(server_name="127.0.0.1", server_port=port, quiet=True, **ui.launch_options(profile))


def number_of(pid: int, name: str) -> int:
    """Return a number of a process's status: VmRSS in kB, or Threads."""
    lines = Path(f"/proc/{pid}/status").read_text("ascii").splitlines()
    return next(int(x.split()[1]) for x in lines if x.startswith(name))


def megabytes_of(pid: int) -> float:
    """Return a process's resident memory in MB."""
    return number_of(pid, "VmRSS") / 1024


# ---- the visitors --------------------------------------------------------------------------------


@dataclass
class Log:
    """Hold what visitors saw: seconds of each kind of request, arrivals, failures."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    came: list[tuple[float, str, str]] = field(default_factory=list)  # when, who, run
    failures: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def took(self, what: str, seconds: float) -> None:
        with self.lock:
            self.seconds[what].append(seconds)


@dataclass(frozen=True)
class Site:
    """Speak to the app at an address and note how long it takes."""

    url: str
    log: Log
    address: str = "127.0.0.1"
    open_as: str = ""  # the session of the page that is open, if one is

    def page(self) -> None:
        started = time.monotonic()
        self.ask(f"{self.url}/")
        self.log.took("page", time.monotonic() - started)

    def ask(self, at: str, body: Any = None) -> bytes:
        """Send a request as from this visitor's address, and return the answer."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", "X-Forwarded-For": self.address}
        asked = urllib.request.Request(at, data, headers)
        started = time.monotonic()
        with urllib.request.urlopen(asked, timeout=300) as answer:
            read = bytes(answer.read())
        self.log.took("any request", time.monotonic() - started)
        return read

    def call(self, name: str, *data: Any, note: bool = True) -> Any:
        """Call an endpoint, from the open page or as any program does; read the event stream."""
        started = time.monotonic()
        at = f"{self.url}/gradio_api/call/{name}"
        session = {"session_hash": self.open_as} if self.open_as else {}
        event = json.loads(self.ask(at, {"data": list(data), **session}))["event_id"]
        told = self.ask(f"{at}/{event}").decode()
        if note:
            self.log.took(name, time.monotonic() - started)
        if "event: complete" not in told:
            raise RuntimeError(f"{name}: {told[-300:]}")
        last = told.rstrip().splitlines()[-1].removeprefix("data: ")
        return json.loads(last)[0]

    @contextmanager
    def session(self, secret: str) -> Iterator[Site]:
        """Have the page open, as a browser has: its events of opening, and a heart that beats."""
        name = secrets.token_hex(5)
        started = time.monotonic()
        events = opening(json.loads(self.ask(f"{self.url}/config")), secret)
        api = f"{self.url}/gradio_api"
        with urllib.request.urlopen(f"{api}/heartbeat/{name}", timeout=300):
            queued = False
            for event, data in events:
                given = {"data": data, "fn_index": event["id"], "session_hash": name}
                queued = queued or event["queue"]
                self.ask(f"{api}/{'queue/join' if event['queue'] else 'run/load'}", given)
            if queued:
                self.ask(f"{api}/queue/data?session_hash={name}")
            self.log.took("open", time.monotonic() - started)
            yield dataclasses.replace(self, open_as=name)


def opening(config: dict[str, Any], secret: str) -> list[tuple[dict[str, Any], list[Any]]]:
    """Return what a browser asks as it opens the page: events, and what it sends with each.

    An event that the browser asks in its own time is reached through the component that it changes,
    or comes after one that runs in the browser alone.
    """
    values = {part["id"]: part["props"].get("value") for part in config["components"]}
    there = config["dependencies"]
    gates = {out for x in there if not x["backend_fn"] and hears(x, "load") for out in x["outputs"]}
    first = [x for x in there if hears(x, "load") or any(to[0] in gates for to in x["targets"])]
    doors = {x["id"] for x in first if not x["backend_fn"]}
    asked = [x for x in there if x["backend_fn"] and (x in first or x["trigger_after"] in doors)]
    return [(x, [secret, *(values.get(part) for part in x["inputs"][1:])]) for x in asked]


def hears(dependency: dict[str, Any], event: str) -> bool:
    """Tell whether it listens to an event of that name."""
    return any(to[1] == event for to in dependency["targets"])


def visit(site: Site, who: str, runs: int, gate: threading.Barrier) -> None:
    """Do what a visitor does, from the first page to the last run's end."""
    site = Site(site.url, site.log, f"10.0.0.{who.removeprefix('visitor-')}")
    secret = secrets.token_urlsafe(32)
    gate.wait()
    try:
        site.page()
        with site.session(secret) as opened:
            stay(opened, who, secret, runs)
    except Exception as error:  # a visitor that gives up is a result, not this script's end
        answered = error.read().decode() if isinstance(error, HTTPError) else ""
        told = f"{who}: {type(error).__name__}: {error} {answered}"[:300]
        print(told, file=sys.stderr, flush=True)
        with site.log.lock:
            site.log.failures.append(told)


def stay(site: Site, who: str, secret: str, runs: int) -> None:
    """Start runs on the open page and look at it until they have ended."""
    site.call("check", DEMONSTRATIONS)
    mine = []
    for _ in range(runs):
        run_id = site.call("bench_begin", secret)
        with site.log.lock:
            site.log.came.append((time.time(), who, run_id))
        mine.append(run_id)
    until = time.monotonic() + TIMEOUT_S
    while mine and time.monotonic() < until:
        time.sleep(POLL_S)
        site.page()
        if site.call("status", mine[0], secret)["status"] in ("finished", "failed"):
            mine.pop(0)


# ---- the report ----------------------------------------------------------------------------------


def spread(values: list[float]) -> dict[str, float]:
    """Return the median, the 95th percentile and the worst; of nothing, that there is none."""
    if not values:
        return {"n": 0, "median_s": 0.0, "p95_s": 0.0, "worst_s": 0.0}
    ordered = sorted(values)
    at = min(len(ordered) - 1, int(0.95 * len(ordered)))
    return {
        "n": len(ordered),
        "median_s": round(statistics.median(ordered), 3),
        "p95_s": round(ordered[at], 3),
        "worst_s": round(ordered[-1], 3),
    }


def fairness(home: Path, log: Log) -> dict[str, Any]:
    """Compare the order in which runs started with the order in which they came."""
    began = {}
    for _, _, run_id in log.came:
        lines = (home / "runs" / run_id / "events.jsonl").read_text("utf-8").splitlines()
        began[run_id] = json.loads(lines[0])["time"]
    order = sorted(began, key=began.__getitem__)
    came = [(who, run_id) for _, who, run_id in sorted(log.came)]
    greedy = [run_id for who, run_id in came if who == "visitor-0"]
    single = [run_id for who, run_id in came if who != "visitor-0"]
    places = [order.index(run_id) for run_id in single]
    swapped = sum(a > b for i, a in enumerate(places) for b in places[i + 1 :])
    pairs = len(single) * (len(single) - 1) // 2
    waits = [began[run_id] - when for when, _, run_id in log.came]
    return {
        "runs": len(order),
        "single_run_pairs_out_of_order": swapped,
        "single_run_pairs": pairs,
        "greedy_places": [order.index(run_id) + 1 for run_id in greedy],
        "wait": spread(waits),
    }


def files_left(*folders: Path) -> int:
    """Count what is left of visitors: every file that is no lock or ledger of the server's own."""
    own = ("ledger", ".lock", "starts")
    found = [p for folder in folders for p in folder.rglob("*") if p.is_file()]
    return sum(not any(word in p.name for word in own) for p in found)


def measure(visitors: int, crowds: int, hostile: bool) -> dict[str, Any]:
    """Run the whole day and return its figures."""
    log = Log()
    attacks: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as (url, process):
        home, cache = Path(folder) / "home", Path(folder) / "cache"
        site = Site(url, log)
        day(Site(url, Log()), 2)  # libraries and the base model are loaded before anything counts
        after = [standing(site, process.pid)]
        peak = [after[0]["memory_mb"]]
        done = threading.Event()
        watcher = threading.Thread(target=watch, args=(process.pid, peak, done), daemon=True)
        watcher.start()
        started = time.monotonic()
        attacks = crowd(site, visitors, hostile)
        seconds = time.monotonic() - started
        order = fairness(home, log)
        after.append(standing(site, process.pid))
        for _ in range(crowds - 1):  # do more of them add to it?
            print(f"{len(after) - 1} of {crowds} crowds: {after[-1]}", file=sys.stderr, flush=True)
            crowd(Site(url, Log()), visitors, hostile)
            after.append(standing(site, process.pid))
        done.set()
        watcher.join()
        before = files_left(home / "runs", cache)
        removed = site.call("bench_later", 24.0 * 365, note=False)
        left = files_left(home / "runs", cache)
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {sys.version.split()[0]}",
        "load_average_at_end": os.getloadavg()[0],
        "visitors": visitors,
        "seconds": round(seconds, 1),
        "failures": log.failures,
        "hostile": attacks,
        "slowest_answer_s": spread(log.seconds["any request"])["worst_s"],
        "latency": {name: spread(values) for name, values in sorted(log.seconds.items())},
        "fairness": order,
        "server": {"warm": after[0], "after_each_crowd": after[1:], "most_mb": round(max(peak))},
        "files": {"while_kept": before, "runs_removed": removed, "after_their_time": left},
    }  # fmt: skip


def standing(site: Site, pid: int) -> dict[str, int]:
    """Say what the server holds once nobody is there and what they left is over."""
    time.sleep(POLL_S)
    sessions = site.call("bench_forget", 24.0, note=False)
    return {
        "memory_mb": round(megabytes_of(pid)),
        "threads": number_of(pid, "Threads"),
        "open_files": len(os.listdir(f"/proc/{pid}/fd")),
        "sessions": sessions,
    }


def crowd(site: Site, visitors: int, hostile: bool) -> dict[str, int]:
    """Let visitors come, and a hostile one with them; return how that one was answered."""
    if not hostile:
        day(site, visitors)
        return {}
    with Hostile(site.url).at_work() as answers:
        day(site, visitors)
    return dict(sorted(answers.items()))


def day(site: Site, visitors: int) -> None:
    """Let visitors come at once, the first of them greedy, and wait until all have left."""
    gate = threading.Barrier(visitors)
    threads = [
        threading.Thread(
            target=visit, args=(site, f"visitor-{n}", GREEDY_RUNS if n == 0 else 1, gate)
        )
        for n in range(visitors)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def watch(pid: int, seen: list[float], done: threading.Event) -> None:
    """Note a process's memory twice a second."""
    while not done.wait(0.5):
        seen.append(megabytes_of(pid))


@contextmanager
def server(folder: Path, script: str = __file__) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run the app in a process of its own, with a home and a cache of its own.

    Args:
        folder: for both, and for the log.
        script: what serves it when called with `--serve PORT`.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = {
        **os.environ,
        "DITTO_HUB_HOME": str(folder / "home"),
        "GRADIO_TEMP_DIR": str(folder / "cache"),
        "GRADIO_ANALYTICS_ENABLED": "False",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    command = [sys.executable, script, "--serve", str(port)]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
        url = f"http://127.0.0.1:{port}"
        try:
            wait_for(url, process, folder / "server.log")
            yield url, process
        finally:
            process.terminate()
            process.wait(30)


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until the app answers.

    Raises:
        RuntimeError: it does not, with its log.
    """
    for _ in range(600):
        if process.poll() is not None:
            break
        try:
            urllib.request.urlopen(f"{url}/config", timeout=5).close()
            return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"the app did not start:\n{log.read_text('utf-8')[-2000:]}")


def table(found: dict[str, Any]) -> str:
    """Put the figures into words and columns."""
    lines = [
        f"{found['visitors']} visitors at once, {found['fairness']['runs']} runs,"
        f" {found['seconds']} s, {len(found['failures'])} gave up",
        "",
        f"{'request':14} {'n':>6} {'median':>9} {'95 %':>9} {'worst':>9}",
    ]
    lines += [
        f"{name:14} {s['n']:6} {s['median_s']:8.2f}s {s['p95_s']:8.2f}s {s['worst_s']:8.2f}s"
        for name, s in found["latency"].items()
    ]
    order, held, files = found["fairness"], found["server"], found["files"]
    lines += [
        "",
        f"the slowest answer of all: {found['slowest_answer_s']} s",
        *(f"hostile: {what}: {count}" for what, count in found["hostile"].items()),
        f"out of order: {order['single_run_pairs_out_of_order']} of {order['single_run_pairs']}"
        f" pairs of runs; the greedy visitor's runs started as number {order['greedy_places']}",
        f"{'server':14} {'MB':>6} {'threads':>9} {'files':>9} {'sessions':>9}",
        *(
            f"{'warm' if n == 0 else f'after crowd {n}':14} {s['memory_mb']:6} {s['threads']:9}"
            f" {s['open_files']:9} {s['sessions']:9}"
            for n, s in enumerate([held["warm"], *held["after_each_crowd"]])
        ),
        f"at most {held['most_mb']} MB",
        f"files: {files['while_kept']} while kept, {files['after_their_time']} after their time"
        f" ({files['runs_removed']} runs removed)",
        *found["failures"],
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure, print a table, write the result."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--visitors", type=int, default=30)
    parser.add_argument("--crowds", type=int, default=4, help="how often so many come")
    parser.add_argument("--hostile", action="store_true", help="one visitor more attacks")
    parser.add_argument("--quick", action="store_true", help="six visitors, two crowds")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--serve", type=int, metavar="PORT", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.serve)
        return
    visitors, crowds = (6, 2) if given.quick else (given.visitors, given.crowds)
    found = measure(visitors, crowds, given.hostile)
    print(table(found))
    kind = "visitors-hostile" if given.hostile else "visitors"
    output = given.output or RESULTS / f"{kind}-{found['date']}.json"
    output.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(f"\nwritten to {output}")


if __name__ == "__main__":
    main()
