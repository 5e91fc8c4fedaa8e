"""How fast, against the stock parts: update, sampling, whole run, memory, growth, start-up.

    python benchmarks/speed.py --quick              the table against the targets, short
    python benchmarks/speed.py --full               all cases; stopped, it goes on where it was
    python benchmarks/speed.py --full --only update some parts of it
    python benchmarks/speed.py --check              short, compared with the committed ratios
    python benchmarks/speed.py --report             the table of the committed result

Both sides run in one process, on the same weights, with one dtype, the same texts, lengths and
threads, no checkpointing, taking turns. A ratio is the other side's CPU time over ours, turn by
turn; its median is given with the lowest and the highest turn. CPU time is this process's own, so
another job on the machine slows both sides and moves the ratio little. One thread unless
OMP_NUM_THREADS says otherwise: on two cores that others use, more threads only wait.
"""

from __future__ import annotations

import argparse
import datetime
import json
import logging
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import datasets
import speed_growth
import speed_run
import speed_sampling
import speed_startup
import speed_update
import transformers
from speed_timing import machine

RESULTS = Path(__file__).parent / "results"
TOLERANCE = 0.4  # of a committed ratio that --check lets go: short, and on any machine
DEMOS, LENGTHS, TURNS, BUDGET_S = (3, 7, 20), (24, 48, 96), 3, 25.0

WHOLE = ("as measured", "all of ours", "as_the_paper_does")  # ratios of a run; others are stages

Job = tuple[str, str, Callable[[], dict[str, Any]]]


def full() -> list[Job]:
    """Return every case of the committed result as (part, name, what to run)."""
    jobs: list[Job] = []
    for model in ("pocket", "20M"):
        for length in LENGTHS:
            for demos in DEMOS:
                jobs.append(("update", f"{model}, {demos} demonstrations, {length} tokens",
                             _update(model, demos, length, TURNS, BUDGET_S)))  # fmt: skip
    jobs += [
        ("sampling", "pocket", lambda: speed_sampling.measure("pocket", 160, 9, 90)),
        ("sampling", "20M, 64 tokens", lambda: speed_sampling.measure("20M", 64, 3, 60)),
        ("run", "pocket", lambda: speed_run.measure("pocket", 4, 10, 30, 160, turns=3)),
        ("run", "26M, 256 tokens", lambda: speed_run.measure("26M", 1, 2, 2, 256)),
        ("memory", "update", lambda: speed_update.memory("pocket", 7, 96)),
        ("memory", "update, 20M", lambda: speed_update.memory("20M", 7, 48)),
        ("memory", "sampling", lambda: speed_sampling.memory("pocket", 160)),
        ("startup", "processes", lambda: speed_startup.measure(2)),
    ]
    for dimension in speed_growth.POINTS:
        jobs.append(("growth", dimension, _growth(dimension)))
    return jobs


def quick() -> list[Job]:
    """Return the cases that stand against the targets, one turn or two each."""
    return [
        ("update", "pocket, 7 demonstrations, 48 tokens", _update("pocket", 7, 48, 3, 12)),
        ("update", "pocket, 20 demonstrations, 48 tokens", _update("pocket", 20, 48, 2, 12)),
        ("update", "20M, 7 demonstrations, 24 tokens", _update("20M", 7, 24, 1, 12)),
        ("sampling", "pocket", lambda: speed_sampling.measure("pocket", 160, 3, 15)),
        ("sampling", "20M, 24 tokens", lambda: speed_sampling.measure("20M", 24, 1, 15)),
        ("run", "pocket", lambda: speed_run.measure("pocket", 1, 10, 30, 160)),
    ]


def check() -> list[Job]:
    """Return the cases of `make bench`: those on the embedded model."""
    return [job for job in quick() if "20M" not in job[1]]


def _update(
    model: str, demos: int, length: int, turns: int, budget_s: float
) -> Callable[[], dict[str, Any]]:
    return lambda: speed_update.measure(model, demos, length, turns, budget_s)


def _growth(dimension: str) -> Callable[[], dict[str, Any]]:
    return lambda: {"curves": speed_growth.measure(2, 3.0, (dimension,))}


def run(jobs: list[Job], found: dict[str, Any], keep: Path | None) -> dict[str, Any]:
    """Run what is not there yet; where a file is given, write it after every case."""
    for part, name, act in jobs:
        if name in found.setdefault(part, {}):
            continue
        print(f"{part}: {name} ...", file=sys.stderr, flush=True)
        today = datetime.date.today().isoformat()
        found[part][name] = act() | {"machine": machine()["load_average"], "date": today}
        if keep:
            found["machine"] = machine()
            found["date"] = today
            keep.parent.mkdir(parents=True, exist_ok=True)
            keep.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found


def table(found: dict[str, Any]) -> list[tuple[str, str, float, dict[str, float]]]:
    """Return (what, against what, target, ratio) of every ratio with a target."""
    lines = []
    for name, case in found.get("update", {}).items():
        for side, target in (("stock", 2.5), ("stock, reference precomputed", 0.0)):
            lines.append((f"update: {name}", side, target, case["ratio"][side]))
    for name, case in found.get("sampling", {}).items():
        target = 3.0 if name == "pocket" else 1.6
        lines.append((f"sampling: {name}", "pipeline", target, case["ratio"]["pipeline"]))
        lines.append((f"sampling: {name}", "generate", 0.0, case["ratio"]["generate"]))
    for name, case in found.get("run", {}).items():
        target = 3.0 if name == "pocket" else 2.0
        ratio = case["ratio"]
        lines.append((f"run: {name}", "stock parts", target, ratio["as_the_paper_does"]))
        lines.append((f"run: {name}", "stock parts, as run", 0.0, ratio["as measured"]))
        if "all of ours" in ratio:
            lines.append((f"run: {name}", "without our extras", 0.0, ratio["all of ours"]))
    return lines


def show(found: dict[str, Any]) -> None:
    """Print the ratios against their targets, then memory, growth and start-up."""
    print(f"{'times faster than':74} {'median':>7} {'low':>6} {'high':>6} {'target':>7}")
    for what, side, target, ratio in table(found):
        met = "" if not target else "met" if ratio["median"] >= target else "missed"
        wish = f"{target:7.1f}" if target else " " * 7
        print(
            f"{what + ' / ' + side:74} {ratio['median']:7.2f} {ratio['low']:6.2f}"
            f" {ratio['high']:6.2f} {wish} {met}"
        )
    older = [
        f"{part}, {name} ({case['date']})"
        for part, cases in found.items()
        if isinstance(cases, dict)
        for name, case in cases.items()
        if isinstance(case, dict)
        and "date" in found
        and case.get("date", "") not in ("", found["date"])
    ]
    if older:
        print("not measured anew:", "; ".join(older))
    worst = [case["difference"] for case in found.get("update", {}).values()]
    if worst:
        loss = max(d["loss"] for d in worst)
        gradient = max(d["gradient"] for d in worst)
        print(f"largest relative difference: loss {loss:.1e}, gradient {gradient:.1e}")
    for name, case in found.get("run", {}).items():
        stages = {k: v for k, v in case["ratio"].items() if k not in WHOLE}
        told = ", ".join(f"{stage} {ratio['median']:.2f}" for stage, ratio in stages.items())
        print(f"stages of a run, {name}: {told}")
    for name, case in found.get("memory", {}).items():
        told = ", ".join(f"{k} {v / 2**20:.0f} MiB" for k, v in case["bytes"].items())
        print(f"memory's rise, {name}: {told}")
    for case in found.get("growth", {}).values():
        for curve in case["curves"]:
            fit = curve["fit"]
            print(
                f"{curve['stage']} by {curve['dimension']}: seconds grow with exponent"
                f" {fit['power']['exponent']:.2f} (off by {fit['power']['error']:.0%} at most;"
                f" a line by {fit['line']['error']:.0%})"
            )
    for name, case in found.get("startup", {}).get("processes", {}).items():
        if isinstance(case, dict):
            cpu, wall = case["cpu_s"]["median"], case["wall_s"]["median"]
            print(f"start-up, {name}: {cpu:.2f} CPU seconds, {wall:.2f} on the clock")


def committed() -> Path:
    """Return the newest committed result."""
    files = sorted(RESULTS.glob("speed-*.json"))
    if not files:
        sys.exit("There is no committed result; make one with --full.")
    return files[-1]


def regressions(found: dict[str, Any], before: dict[str, Any]) -> list[str]:
    """Return which ratios fell by more than the tolerance below the committed ones."""
    known = {(what, side): ratio["median"] for what, side, _, ratio in table(before)}
    return [
        f"{what} / {side}: {ratio['high']:.2f}, committed {known[what, side]:.2f}"
        for what, side, _, ratio in table(found)
        if ratio["high"] < (1 - TOLERANCE) * known.get((what, side), 0.0)
    ]


def main() -> None:
    """Measure what is asked for and print it."""
    parser = argparse.ArgumentParser(description="How fast, against the stock parts.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--quick", action="store_true", help="the table against the targets")
    what.add_argument("--full", action="store_true", help="every case, into a result file")
    what.add_argument("--check", action="store_true", help="compare with the committed ratios")
    what.add_argument("--report", action="store_true", help="print the committed result")
    parser.add_argument("--only", action="append", help="parts of --full, such as update")
    parser.add_argument("--out", type=Path, help="of --full; default results/speed-DATE.json")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    if given.report:
        show(json.loads(committed().read_text("utf-8")))
    elif given.full:
        day = datetime.date.today().isoformat()
        path = given.out or RESULTS / f"speed-{day}.json"
        found = json.loads(path.read_text("utf-8")) if path.exists() else {}
        jobs = [job for job in full() if not given.only or job[0] in given.only]
        found = run(jobs, found, path)
        curves = [c for case in found.get("growth", {}).values() for c in case["curves"]]
        if curves:
            speed_growth.plot(curves, path.with_suffix(".png"))
        show(found)
    else:
        found = run(check() if given.check else quick(), {}, None)
        show(found)
        if given.check:
            lost = regressions(found, json.loads(committed().read_text("utf-8")))
            print("\n".join(lost) or f"no ratio fell by more than {TOLERANCE:.0%}")
            sys.exit(bool(lost))


if __name__ == "__main__":
    main()
