"""One visitor in a real browser: the server's time for each answer, and the cost of an open page.

    python benchmarks/one_visitor.py [--seconds 60] [--output RESULT.json]

The app runs in a process of its own as on a CPU Space. A visitor opens the page, writes on cards,
changes settings and goes through the steps, each several times. Measured:

- the server's time for each handler, from when Gradio takes it up to its answer, waiting for a
  thread and reading and writing of values included;
- what the server and the page take of a core each while the page is open and nothing happens.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import json
import os
import platform
import runpy
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import gradio as gr
from visitors import RESULTS, number_of, server, spread

ROOT = Path(__file__).parents[1]
TURNS = 4
SETTLE_S = 15.0  # libraries load in the background, and what the last event began ends
QUIET_MS = 1200  # between two acts, so that each is measured by itself
STEPS = ("train", "compare", "publish", "runs", "show")
TEXTS = [
    ("Write a note about the picnic.", "hey all,\n\npicnic on Friday, bring chairs! -A"),
    ("Write a note about the seminar.", "hey all,\n\nseminar moves to room 4! -A"),
    ("Write a note about the kitchen.", "hey all,\n\nplease wash your cups! -A"),
]


def serve(port: int, log: Path) -> None:
    """Serve the app as `ditto-hub app` does and note how long each call of a handler takes."""
    from ditto_hub.cost.profiles import load_profile
    from ditto_hub.ui import app as ui

    log.parent.mkdir(parents=True, exist_ok=True)
    process = gr.Blocks.process_api

    @functools.wraps(process)
    async def timed(self: gr.Blocks, block_fn: Any, *args: Any, **options: Any) -> Any:
        began = time.perf_counter()
        try:
            return await process(self, block_fn, *args, **options)
        finally:
            fn = self.fns[block_fn] if isinstance(block_fn, int) else block_fn
            kind = "queued" if fn.queue else "light"
            name = f"{fn.fn.__module__.rpartition('.')[2]}.{fn.name}" if fn.fn else fn.name
            took = time.perf_counter() - began
            with log.open("a", encoding="utf-8") as file:
                file.write(json.dumps([kind, name, took]) + "\n")

    setattr(gr.Blocks, "process_api", timed)  # noqa: B010  of this process alone
    ui.serve("127.0.0.1", port, load_profile("cpu"))


def cpu_seconds(pid: int) -> float:
    """Return the processor time a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def switches(pid: int) -> int:
    """Return how often a process's threads have gone to sleep."""
    tasks = Path(f"/proc/{pid}/task").glob("*/status")
    lines = [line for task in tasks for line in task.read_text("ascii").splitlines()]
    return sum(int(x.split()[1]) for x in lines if x.startswith("voluntary_ctxt"))


def page_seconds(browser: Any) -> float:
    """Return the seconds in which the page's own thread has worked."""
    found = browser.send("Performance.getMetrics")["metrics"]
    return float(next(x["value"] for x in found if x["name"] == "TaskDuration"))


def use(page: Any) -> None:
    """Write, change settings, go through the steps; wait after each until the page is at rest."""

    def rest() -> None:
        page.wait_for_timeout(QUIET_MS)

    page.click("#welcome-own")
    for number, (prompt, text) in enumerate(TEXTS, start=1):
        if not page.locator(f"#show-prompt-{number}").count():
            page.click("#show-add")
            rest()
        page.fill(f"#show-prompt-{number} textarea", prompt)
        page.locator(f"#show-completion-{number} textarea").press_sequentially(text, delay=20)
        rest()
    for turn in range(TURNS):
        for step in STEPS:
            page.click(f"#step-{step}-button")
            rest()
        page.fill("#show-completion-1 textarea", f"{TEXTS[0][1]} {turn}")
        rest()
    page.click("#step-train-button")
    page.click("#train-advanced > button")
    for turn in range(TURNS):
        field = page.locator("#train-update-rounds input")
        field.fill(str(turn + 1))
        field.blur()
        rest()
    page.click("#step-show-button")
    for turn in range(TURNS):  # in haste: several changes come before the first is answered
        for number in range(1, len(TEXTS) + 1):
            page.fill(f"#show-prompt-{number} textarea", f"{TEXTS[number - 1][0]} {turn}")


def measure(seconds: float) -> dict[str, Any]:
    """Let the visitor come, act and sit, and return the figures."""
    from playwright.sync_api import sync_playwright

    chromium = runpy.run_path(str(ROOT / "tests" / "ui" / "browser.py"))["find"]()
    with (
        tempfile.TemporaryDirectory() as folder,
        server(Path(folder), __file__) as (url, process),
        sync_playwright() as playwright,
    ):
        page = playwright.chromium.launch(executable_path=chromium).new_page()
        page.goto(url)
        page.locator("#show-prompt-1").wait_for(state="attached", timeout=60_000)
        page.wait_for_timeout(SETTLE_S * 1000)
        use(page)
        page.wait_for_timeout(SETTLE_S * 1000)
        browser = page.context.new_cdp_session(page)
        browser.send("Performance.enable")
        worked = page_seconds(browser)
        before, slept, began = cpu_seconds(process.pid), switches(process.pid), time.monotonic()
        page.wait_for_timeout(seconds * 1000)
        passed = time.monotonic() - began
        worked = page_seconds(browser) - worked
        took, woke = cpu_seconds(process.pid) - before, switches(process.pid) - slept
        threads = number_of(process.pid, "Threads")
        rows = (Path(folder) / "home" / "calls.jsonl").read_text("utf-8").splitlines()
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {sys.version.split()[0]}",
        "load_average_at_end": os.getloadavg()[0],
        "idle": {
            "seconds": round(passed, 1), "core_percent": round(100 * took / passed, 2),
            "page_core_percent": round(100 * worked / passed, 2),
            "wakeups_a_second": round(woke / passed, 1), "threads": threads,
        },
        "handlers": by_handler(rows),
    }  # fmt: skip


def by_handler(rows: list[str]) -> dict[str, dict[str, Any]]:
    """Return the spread of each handler's times, the slowest median first."""
    taken: dict[str, list[float]] = defaultdict(list)
    for kind, name, took in map(json.loads, rows):
        taken[f"{name} ({kind})"].append(took)
    found = {name: spread(values) for name, values in taken.items()}
    return dict(sorted(found.items(), key=lambda pair: -pair[1]["median_s"]))


def table(found: dict[str, Any]) -> str:
    """Put the figures into words and columns."""
    idle = found["idle"]
    lines = [
        f"one page open, nothing happening: the server takes {idle['core_percent']} % of a core,"
        f" the page {idle['page_core_percent']} %,"
        f" {idle['wakeups_a_second']} wake-ups a second, {idle['threads']} threads,"
        f" over {idle['seconds']} s",
        "",
        f"{'handler':44} {'n':>4} {'median':>9} {'worst':>9}",
    ]
    lines += [
        f"{name:44} {s['n']:4} {1000 * s['median_s']:7.0f}ms {1000 * s['worst_s']:7.0f}ms"
        for name, s in found["handlers"].items()
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure, print a table, write the result."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="of nothing happening")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--serve", type=int, metavar="PORT", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.serve, Path(os.environ["DITTO_HUB_HOME"]) / "calls.jsonl")
        return
    found = measure(given.seconds)
    print(table(found))
    output = given.output or RESULTS / f"one-visitor-{found['date']}.json"
    output.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(f"\nwritten to {output}")


if __name__ == "__main__":
    main()
