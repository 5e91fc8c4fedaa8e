"""The speed benchmark's own arithmetic: fits, ratios, regressions, floors."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ditto_hub.cost.devices import DEVICES
from ditto_hub.cost.shapes import BaseShape

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def bench() -> Iterator[Any]:
    """Import the benchmark's modules from their folder."""
    sys.path.insert(0, str(BENCHMARKS))
    yield importlib.import_module
    sys.path.remove(str(BENCHMARKS))


@pytest.mark.parametrize(
    ("ys", "better", "exponent"),
    [([2.0, 4.0, 8.0], "power", 1.0), ([3.0, 12.0, 48.0], "power", 2.0)],
)
def test_a_power_law_is_found(bench: Any, ys: list[float], better: str, exponent: float) -> None:
    """Points on a power law give its exponent, with no error."""
    fit = bench("speed_growth").fit([1.0, 2.0, 4.0], ys)
    assert fit["power"]["exponent"] == pytest.approx(exponent)
    assert fit["power"]["error"] == 0
    assert fit["better"] == better or fit["line"]["error"] < 1e-9


def test_a_line_is_found(bench: Any) -> None:
    """Points on a line with an offset are told from a power law."""
    fit = bench("speed_growth").fit([1.0, 2.0, 4.0], [11.0, 12.0, 14.0])
    assert fit["better"] == "line"
    assert (fit["line"]["at_0"], fit["line"]["slope"]) == (10.0, 1.0)


def test_sides_take_turns(bench: Any) -> None:
    """Each side runs once a turn, and the order turns round."""
    done: list[str] = []
    sides = {"a": lambda: done.append("a"), "b": lambda: done.append("b")}
    times = bench("speed_timing").interleave(sides, 3, 100)
    assert done == ["a", "b", "b", "a", "a", "b"]
    assert [len(turns) for turns in times.values()] == [3, 3]


def test_ratios_are_taken_turn_by_turn(bench: Any) -> None:
    """A turn in which both sides are slow does not move the ratio."""
    times = {
        side: [{"cpu_s": s, "wall_s": s} for s in seconds]
        for side, seconds in {"stock": [2.0, 20.0, 6.0], "ours": [1.0, 10.0, 2.0]}.items()
    }
    found = bench("speed_timing").compare(times)
    assert found["ratio"]["stock"] == {"median": 2.0, "low": 2.0, "high": 3.0}


def test_tokens_count(bench: Any) -> None:
    """Where sides, and turns, yield different numbers of tokens, seconds a token are compared."""
    times = {
        side: [{"cpu_s": s, "wall_s": s} for s in seconds]
        for side, seconds in {"stock": [4.0, 8.0], "ours": [2.0, 1.0]}.items()
    }
    found = bench("speed_timing").compare(times, units={"stock": [100, 200], "ours": [200, 100]})
    assert found["ratio"]["stock"] == {"median": 4.0, "low": 4.0, "high": 4.0}
    assert found["per_s"]["ours"]["median"] == 100.0


def _case(stock: float) -> dict[str, Any]:
    side = {"median": stock, "low": stock, "high": stock}
    return {"update": {"x": {"ratio": {"stock": side, "stock, reference precomputed": side}}}}


@pytest.mark.parametrize(("now", "lost"), [(2.9, 0), (2.0, 0), (1.7, 2), (9.0, 0)])
def test_a_fallen_ratio_is_told(bench: Any, now: float, lost: int) -> None:
    """A ratio more than the tolerance below the committed one is a regression; less is not."""
    assert len(bench("speed").regressions(_case(now), _case(3.0))) == lost


def test_a_new_case_is_no_regression(bench: Any) -> None:
    """What the committed result does not hold cannot have fallen."""
    assert bench("speed").regressions(_case(0.1), {}) == []


def test_committed_results_read_back(bench: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """The committed result says where it was made, holds a checked case, and prints."""
    found = json.loads(bench("speed").committed().read_text("utf-8"))
    assert {"cpu", "versions", "threads"} <= set(found["machine"])
    bench("speed").show(found)
    assert "target" in capsys.readouterr().out
    assert {name for _, name, _ in bench("speed").check()} <= {
        name for part in ("update", "sampling", "run") for name in found[part]
    }


def test_both_sides_agreed_where_they_were_timed(bench: Any) -> None:
    """Every committed update case has our loss and gradients equal to stock TRL's."""
    found = json.loads(bench("speed").committed().read_text("utf-8"))
    for case in found["update"].values():
        assert case["difference"]["loss"] < 1e-4
        assert case["difference"]["gradient"] < 1e-3


def test_a_floor_by_hand(bench: Any) -> None:
    """The floor of one shape on one data sheet, computed by hand."""
    shape = BaseShape(32, 4096, 14_336, 32, 8, 128, 32_000)
    sheet = DEVICES["h200"]
    lower = bench("gpu").floors(shape, sheet, demo_tokens=300, length=350, update_tokens=10_000)
    weights = 32 * (2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14_336 + 2 * 4096)
    weights += 4096 + 32_000 * 4096
    step = 2 * weights + 70 * (25 + 175) * 2 * 32 * 1024 * 2
    assert lower["sampling"] == pytest.approx(4 * 350 * step / 4.8e12)
    assert lower["update"] == pytest.approx(40 * 4 * weights * 10_000 / 9.89e14)


def test_the_gpu_benchmark_runs(
    bench: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The command for a GPU runs through on a CPU with a tiny shape, every stage and way told."""
    out = tmp_path / "gpu.json"
    command = [
        "gpu.py",
        "--shapes=tiny",
        "--lengths=4",
        "--demo-tokens=6",
        "--ways=launched,static",
    ]
    monkeypatch.setattr(sys, "argv", [*command, "--ways=launched,static", f"--out={out}"])
    bench("gpu").main()
    found = json.loads(out.read_text("utf-8"))
    case = found["models"]["tiny"]
    assert set(case["ways"]) == {"ours", "launched", "static"}
    assert all(isinstance(seconds, float) for seconds in case["ways"].values())
    assert len(case["lengths"]["4"]["stages"]) == 7
    assert "floor" in capsys.readouterr().out


def test_a_shape_that_fails_costs_no_other(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every shape has a process of its own; one that ends badly is told, and the next begins."""
    asked: list[list[str]] = []

    def end_badly(command: list[str], **_: Any) -> Any:
        asked.append(command)
        return subprocess.CompletedProcess(command, 3)

    gpu = bench("gpu")
    monkeypatch.setattr(gpu.subprocess, "run", end_badly)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--shapes", "a,b", "--lengths=4", "--out=x"])
    found: dict[str, Any] = {"models": {}}
    gpu.each_alone(["a", "b"], found, lambda _: None)
    assert found["models"] == {name: {"error": "exit status 3"} for name in ("a", "b")}
    assert [c[2:5] for c in asked] == [["--lengths=4", "--shapes", name] for name in ("a", "b")]
