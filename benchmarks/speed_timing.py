"""Time two sides of a comparison in one go, interleaved, and say how far the figures spread."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib.metadata
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("torch", "transformers", "peft", "trl", "accelerate")
Sides = Mapping[str, Callable[[], Any]]


def interleave(sides: Sides, repeats: int, budget_s: float) -> dict[str, list[dict[str, float]]]:
    """Run every side once a turn, in turns of alternating order.

    What counts is this process's CPU time: on one thread it does not grow while another job has the
    core. Wall time is kept beside it.

    Args:
        sides: name -> what to run; each runs once before, untimed, if that was quick.
        repeats: turns at most, at least one.
        budget_s: CPU seconds after which no further turn begins.
    """
    times: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    began = time.process_time()
    for turn in range(repeats):
        names = list(sides) if turn % 2 == 0 else list(sides)[::-1]
        for name in names:
            gc.collect()
            wall, cpu = time.perf_counter(), time.process_time()
            sides[name]()
            taken = {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}
            times[name].append(taken)
        if time.process_time() - began > budget_s:
            break
    return times


def compare(
    times: Mapping[str, list[dict[str, float]]],
    ours: str = "ours",
    units: Mapping[str, list[int]] = {},
) -> dict[str, Any]:
    """Return seconds of each side and how many times faster ours is than each of the others.

    Args:
        times: of `interleave`.
        ours: the side the others are compared with.
        units: side -> what its work yielded turn by turn (tokens), where that is not always the
            same; costs are then by unit.

    Returns:
        {seconds: side -> {median, low, high}, ratio: side -> {median, low, high}, turns}; a ratio
        is taken turn by turn, so that both sides of it ran at the same time.
    """
    made = {name: units.get(name, [1] * len(turns)) for name, turns in times.items()}
    cost = {
        name: [t["cpu_s"] / n for t, n in zip(turns, made[name], strict=True)]
        for name, turns in times.items()
    }
    ratios = {
        name: spread([a / b for a, b in zip(values, cost[ours], strict=True)])
        for name, values in cost.items()
        if name != ours
    }
    seconds = {name: spread([t["cpu_s"] for t in turns]) for name, turns in times.items()}
    wall = {name: spread([t["wall_s"] for t in turns]) for name, turns in times.items()}
    found = {"seconds": seconds, "wall_s": wall, "ratio": ratios, "turns": len(cost[ours])}
    if units:
        found["per_s"] = {name: spread([1 / c for c in values]) for name, values in cost.items()}
    return found


def spread(values: list[float]) -> dict[str, float]:
    """Return median, lowest and highest of some values."""
    figures = {"median": statistics.median(values), "low": min(values), "high": max(values)}
    return {name: float(f"{value:.4g}") for name, value in figures.items()}


def peak_bytes(act: Callable[[], Any]) -> int:
    """Return by how much memory rose at most while something ran (Linux; else 0)."""
    status, refs = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not refs.exists():
        return 0
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    refs.write_text("5")  # the peak begins anew
    before = _status(status, "VmRSS")
    act()
    return max(0, _status(status, "VmHWM") - before)


def _status(path: Path, field: str) -> int:
    line = next(x for x in path.read_text().splitlines() if x.startswith(field + ":"))
    return int(line.split()[1]) * 1024


def machine() -> dict[str, Any]:
    """Return what the figures were made on."""
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    cpu = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(x.split(":")[1].strip() for x in lines if x.startswith("model name"))
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_average": [round(x, 2) for x in os.getloadavg()],
        "platform": platform.platform(),
        "python": sys.version.split()[0],
        "versions": versions,
        "dtype": "float32",
    }
