"""How seconds and memory grow with demonstrations, samples, rounds, length and model size.

Each curve is fitted twice, a power law (least squares of the logarithms) and a straight line, and
the fit with the smaller relative error is named.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from speed_models import BASE, Shape, batch_of_pairs, random_model, rows
from speed_timing import interleave, peak_bytes, spread
from speed_update import UPDATE

from ditto_hub.config import Lora, Sampling
from ditto_hub.ditto.losses import PreferenceLoss
from ditto_hub.ditto.ranking import Ranked
from ditto_hub.engine.base_model import load_base
from ditto_hub.engine.fast import FastEngine
from ditto_hub.tokens import NOBODY

LENGTH = 48
WIDTHS = ((128, 4), (256, 4), (384, 6), (512, 8))
POINTS: dict[str, tuple[int, ...]] = {
    "demonstrations": (2, 5, 10, 20),
    "samples": (1, 4, 10, 20),
    "rounds": (1, 2, 4, 6),
    "length": (16, 48, 96, 192),
    "parameters": (0, 1, 2, 3),
}


class Bench:
    """One model, its update step and its sampling."""

    def __init__(self, shape: Shape | None = None) -> None:
        model, tokenizer = load_base(BASE, token=NOBODY)
        if shape:
            model = random_model(shape)
        self.size = sum(p.numel() for p in model.parameters())
        self.policy = FastEngine(model, tokenizer, Lora(), 0, BASE)

    def update(self, demos: int, length: int) -> None:
        """Take one update step."""
        found = rows(demos, length)
        loss = PreferenceLoss(found, batch_of_pairs(found), UPDATE)
        self.policy.backward(loss.rows, loss)

    def sample(self, demos: int, samples: int, length: int) -> None:
        """Draw samples of exactly one length."""
        self.policy.format.stop_ids = (2**31 - 1,)
        prompts = [r.prompt_ids for r in rows(demos, length) if r.round < 0]
        seeds = [[100 * i + k for k in range(samples)] for i in range(demos)]
        self.policy.sample(prompts, seeds, Sampling(), length)

    def rounds(self, rounds: int) -> None:
        """Sample and update, round by round, in small, ranking all samples so far."""
        found = rows(4, 24, samples=4, rounds=rounds)
        for t in range(rounds):
            self.sample(4, 4, 24)
            known = [r for r in found if r.round <= t]
            assert [Ranked(i, r.demo, r.round) for i, r in enumerate(known)]
            self.policy.log_probs([r.row for r in known])
            self.update(4, 24)


def acts(dimension: str, point: int, bench: Bench) -> dict[str, Any]:
    """Return what is timed at a point of a dimension: name -> what to run."""
    if dimension == "demonstrations":
        return {
            "update": lambda: bench.update(point, LENGTH),
            "sampling": lambda: bench.sample(point, 10, LENGTH),
        }
    if dimension == "samples":
        return {"sampling": lambda: bench.sample(7, point, LENGTH)}
    if dimension == "rounds":
        return {"rounds": lambda: bench.rounds(point)}
    length = point if dimension == "length" else LENGTH
    return {
        "update": lambda: bench.update(7, length),
        "sampling": lambda: bench.sample(7, 4, length),
    }


def measure(turns: int, budget_s: float, dimensions: tuple[str, ...] = tuple(POINTS)) -> list[Any]:
    """Return curves: dimension, stage, x, CPU seconds, bytes, and the fits of both."""
    curves = []
    pocket = Bench()
    for dimension in dimensions:
        points: dict[str, list[tuple[float, dict[str, float], int]]] = {}
        for point in POINTS[dimension]:
            bench = pocket
            if dimension == "parameters":
                width, layers = WIDTHS[point]
                bench = Bench(Shape(width, layers))
            x = bench.size if dimension == "parameters" else point
            sides = acts(dimension, point, bench)
            rise = {name: peak_bytes(act) for name, act in sides.items()}  # the first run, too
            for name, taken in interleave(sides, turns, budget_s).items():
                seconds = spread([t["cpu_s"] for t in taken])
                points.setdefault(name, []).append((x, seconds, rise[name]))
        for name, found in points.items():
            xs = [x for x, _, _ in found]
            curves.append(
                {
                    "dimension": dimension,
                    "stage": name,
                    "x": xs,
                    "cpu_s": [s for _, s, _ in found],
                    "bytes": [b for _, _, b in found],
                    "fit": fit(xs, [s["median"] for _, s, _ in found]),
                    "fit_bytes": fit(xs, [float(b) for _, _, b in found]),
                }
            )
    return curves


def fit(xs: list[float], ys: list[float]) -> dict[str, Any]:
    """Return the power law and the line through some points, and which is nearer.

    Returns:
        power {scale, exponent, error}, line {at_0, slope, error}, better; errors are the largest
        relative distance of a point.
    """
    if min(ys) <= 0:
        return {"better": "none"}
    exponent, log_scale = _line([math.log(x) for x in xs], [math.log(y) for y in ys])
    slope, at_0 = _line(list(xs), ys)
    power = [math.exp(log_scale) * x**exponent for x in xs]
    line = [at_0 + slope * x for x in xs]
    errors = {
        name: max(abs(a - y) / y for a, y in zip(said, ys, strict=True))
        for name, said in (("power", power), ("line", line))
    }
    return {
        "power": {
            "scale": float(f"{math.exp(log_scale):.4g}"),
            "exponent": round(exponent, 3),
            "error": round(errors["power"], 3),
        },
        "line": {
            "at_0": float(f"{at_0:.4g}"),
            "slope": float(f"{slope:.4g}"),
            "error": round(errors["line"], 3),
        },
        "better": min(errors, key=lambda name: errors[name]),
    }


def _line(xs: list[float], ys: list[float]) -> tuple[float, float]:
    n, mx, my = len(xs), sum(xs) / len(xs), sum(ys) / len(ys)
    spread_x = sum((x - mx) ** 2 for x in xs)
    if n < 2 or not spread_x:
        return 0.0, my
    slope = sum((x - mx) * (y - my) for x, y in zip(xs, ys, strict=True)) / spread_x
    return slope, my - slope * mx


def plot(curves: list[dict[str, Any]], path: Path) -> None:
    """Draw every curve, its power law dotted beside it."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = list(dict.fromkeys(c["dimension"] for c in curves))
    figure, axes = pyplot.subplots(
        2, len(names), figsize=(3.2 * len(names), 5.6), squeeze=False, layout="constrained"
    )
    for column, name in enumerate(names):
        for curve in (c for c in curves if c["dimension"] == name):
            seconds = [s["median"] for s in curve["cpu_s"]]
            low = [s["median"] - s["low"] for s in curve["cpu_s"]]
            high = [s["high"] - s["median"] for s in curve["cpu_s"]]
            shape = curve["fit"].get("power", {}).get("exponent", 0)
            axes[0][column].errorbar(
                curve["x"],
                seconds,
                yerr=[low, high],
                marker="o",
                capsize=2,
                label=f"{curve['stage']} (exponent {shape:.2f})",
            )
            law = curve["fit"].get("power")
            if law:
                fitted = [law["scale"] * x ** law["exponent"] for x in curve["x"]]
                axes[0][column].plot(curve["x"], fitted, ":", color="grey")
            axes[1][column].plot(
                curve["x"], [b / 2**20 for b in curve["bytes"]], marker="o", label=curve["stage"]
            )
        for row, unit in enumerate(("CPU seconds", "memory's rise, MiB")):
            axes[row][column].set(xlabel=name, ylabel=unit, ylim=(0, None))
            axes[row][column].legend(fontsize=7)
            if name == "parameters":
                axes[row][column].set_xscale("log")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
