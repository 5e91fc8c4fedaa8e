"""Does it work? DITTO, its baselines, rivals, ablations and curves, judged by the grammar.

    python benchmarks/quality.py --quick                     every kind of table, small
    python benchmarks/quality.py --full --out build/quality  hours; stopped, it goes on
    python benchmarks/quality.py --tune                      the rivals' settings, tuning personas
    python benchmarks/quality.py --report build/quality      tables and verdicts of what is there
    python benchmarks/quality.py --report build/quality --commit NAME  and into results/
    python benchmarks/quality.py --report benchmarks/results/NAME.json --advise  what users are told

A run is made from five demonstrations of a persona that the base model never saw (four trained on,
one held out); then every method writes two texts for each of 24 new requests, all at temperature 1
and from the same random numbers, and the grammar's judge scores each text: the share of the
persona's traits it shows times the share of the content it has right ("total"). No training or
selection sees the judge, save DPO on labelled pairs, which is what it labels for.

n, fixed beforehand. Reporting personas 200036 and on, none of them looked at before. `--full`, in
this order, so that what matters most is there first:

    main table, selection rules, rounds 1 to 4, implicit reward     12 personas x 1 seed
    the same with voices that vary a great deal                     12 personas x 1 seed
    NLL alone; the paper's four ablations                            6 personas x 1 seed
    spin, DPO on 500 pairs, SFT given DITTO's seconds                3 personas x 1 seed
    template voices; 1, 2 and 7 demonstrations trained on            3 personas x 1 seed
    noisy, off-voice and truncated demonstrations                    3 personas x 1 seed
    rounds 5 and 6; 1, 2 and 5 samples a demonstration               3 personas x 1 seed
    DPO on 20 and 100 pairs                                          3 personas x 1 seed
    main table again, own voices and varied ones                    12 personas x 1 seed more
    main table again                                                12 personas x 1 seed more

`--wide` adds, for whoever has the hours: short and long texts; 1, 2 and 5 samples on three seeds (3
personas).

Intervals are over personas (bootstrap; Student's t under ten), 95 %.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

from quality_bench import Unit
from quality_claims import claims
from quality_plots import plots
from quality_tables import (
    METHOD_HEAD,
    REGIME_HEAD,
    Cell,
    gather,
    measured_regimes,
    method_rows,
    ordinary,
    points,
    read_units,
    regime_rows,
    rule_rows,
    varied,
    void,
    winners,
)
from quality_units import run_unit
from quality_verdicts import Claim, estimate, in_paper_direction
from quality_voices import Setup

from ditto_hub.evaluation.guidance import write_figures

RESULTS = Path(__file__).parent / "results"
FIRST = {"reporting": 200_036, "tuning": 100_170}
PACKAGES = ("torch", "transformers", "peft", "trl", "numpy")
RIVAL_RATE = "@update.learning_rate=0.0003"  # without an NLL term DITTO's own rate is too high
Wanted = tuple[Setup, str]


def full_plan(first: int) -> list[Wanted]:
    """Return (setup, arm) of the whole benchmark, what matters most first."""
    twelve = [first + k for k in range(12)]
    three = twelve[:3]

    def mains(seed: int, *voices: str) -> list[Wanted]:
        return [(Setup(p, seed, voice=voice), "main") for voice in voices for p in twelve]

    plan = mains(0, "own", "varied")
    parts = ("no-preference", "reference", "once", "no-replay", "no-intermodel")
    plan += [(Setup(p, 0), f"ablation:{name}") for name in parts for p in twelve[:6]]
    arms = [f"{rival}{RIVAL_RATE}" for rival in ("spin", "dpo-base:500", "dpo-sft:500")]
    plan += [(Setup(p, 0), arm) for arm in (*arms, "sft-time") for p in three]
    changes: list[dict[str, Any]] = [{"voice": "template"}, *({"given": n} for n in (2, 3, 8))]
    changes += [{"quality": name} for name in ("noisy", "off-voice", "truncated")]
    plan += [(Setup(p, 0, **change), "main") for change in changes for p in three]
    arms = ["rounds:6", *(f"samples:{m}" for m in (1, 2, 5))]
    arms += [f"{name}:{n}{RIVAL_RATE}" for name in ("dpo-base", "dpo-sft") for n in (20, 100)]
    plan += [(Setup(p, 0), arm) for arm in arms for p in three]
    return plan + mains(1, "own", "varied") + mains(2, "own")


def wide_plan(first: int) -> list[Wanted]:
    """Return (setup, arm) of the whole benchmark and of the curves that it has no time for."""
    three = [first + k for k in range(3)]
    changes: list[dict[str, Any]] = [{"length": "short"}, {"length": "long"}]
    plan = [*full_plan(first), *((Setup(p, 0, **c), "main") for c in changes for p in three)]
    samples = [(Setup(p, s), f"samples:{m}") for m in (1, 2, 5) for p in three for s in range(3)]
    return plan + [wanted for wanted in samples if wanted not in plan]


def quick_plan(first: int) -> list[Wanted]:
    """Return (setup, arm) of the quick form: every kind of table, hardly any power."""
    three = [first + k for k in range(3)]
    plan: list[Wanted] = [(Setup(p, 0, voice=v), "main") for v in ("own", "varied") for p in three]
    arms = ("ablation:reference", "ablation:no-preference")
    return plan + [(Setup(p, 0), arm) for arm in arms for p in three]


def tune_plan(first: int) -> list[Wanted]:
    """Return (setup, arm) of the tuning of SFT (rate, steps), few-shot (order) and the rivals."""
    four = [first + k for k in range(4)]
    rates = ("0.001", "0.002", "0.004")
    grid = [
        f"sft@warm_start.learning_rate={r},update.steps={k}" for r in rates for k in (10, 30, 75)
    ]
    slower = [f"@update.learning_rate={rate}" for rate in ("0.0001", "0.0003")]
    rivals = [f"{n}{rate}" for n in ("spin", "dpo-base:100", "dpo-sft:100") for rate in slower]
    plan: list[Wanted] = [(Setup(p, 0), arm) for p in four for arm in ("orders", *grid)]
    return plan + [(Setup(p, 0), arm) for p in four[:2] for arm in rivals]


def end_with_parent() -> None:
    """End this worker when the process that started it has gone, however that ended."""
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def run_all(units: Sequence[Unit], jobs: int) -> None:
    """Run the units that have no result yet, in their order, in worker processes.

    A worker that dies (out of memory, killed) takes what the others have under way with it; what
    is left is begun anew, as long as some of it gets done.
    """
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")
    before = len(units) + 1
    while (waiting := [u for u in units if not u.path.is_file()]) and len(waiting) < before:
        before = len(waiting)
        print(f"{len(units) - before} of {len(units)} units are there", file=sys.stderr)
        with ProcessPoolExecutor(jobs, get_context("spawn"), initializer=end_with_parent) as pool:
            try:
                for done in as_completed([pool.submit(run_unit, unit) for unit in waiting]):
                    print(done.result(), file=sys.stderr, flush=True)
            except BrokenProcessPool:
                print("A worker died; the rest is begun anew.", file=sys.stderr)
            except KeyboardInterrupt:
                print("Stopped; the same command goes on.", file=sys.stderr, flush=True)
                os._exit(130)  # the pool would first do what its workers have before them


# ---- telling -------------------------------------------------------------------------------------


def tell(units: Sequence[dict[str, Any]], planned: int = 0) -> str:
    """Return the tables and the verdicts."""
    cells = gather(units)
    lines = [f"{len(units)} units{f' of {planned} planned' if planned else ''}"]
    why = void(cells)
    lines += [f"VOID: {why}."] if why else []
    lines += ["", *_table(METHOD_HEAD, method_rows(ordinary(cells)))]
    if free := varied(cells):
        words = "Voices that vary a great deal (a trait has three options, each as likely):"
        lines += ["", words, "", *_table(METHOD_HEAD, method_rows(free))]
    lines += ["", f"Personas for whom a method scored best: {winners(cells)}."]
    told = claims(cells)
    ablated = [c for c in told if c.name.endswith("hurts") or c.name.startswith("leaving out")]
    if ablated:
        count = in_paper_direction(ablated)
        lines += [
            f"Ablations in the paper's direction, intervals aside: {count} of {len(ablated)}."
        ]
    lines += [
        "",
        *_table(
            ["claim", "paper", "found", "unit", "personas, runs", "verdict"], _claim_rows(told)
        ),
    ]
    lines += [
        "",
        *_table(["rule", "total of what it keeps", "picks best", "regret"], _rules(cells)),
    ]
    return "\n".join([*lines, "", *_table(REGIME_HEAD, regime_rows(cells))])


def tell_arms(units: Sequence[dict[str, Any]]) -> str:
    """Return every arm's marks, arm by arm, as the tuning wants it."""
    cells = gather(units)
    rows = []
    names = {name for cell in cells for name in cell.truth if "@" in name or "few-shot" in name}
    for name in sorted(names):
        found = [estimate(points(cells, name, mark=m)) for m in ("persona", "content", "total")]
        rows.append([name, *(f"{e.mean:.3f}" for e in found if e), str(len(points(cells, name)))])
    return "\n".join(_table(["arm", "persona", "content", "total", "n"], rows))


def _claim_rows(told: Sequence[Claim]) -> list[list[str]]:
    return [
        [c.name, c.paper, str(c.found), c.unit, f"{c.found.personas}, {c.found.runs}", c.verdict]
        for c in told
    ]


def _rules(cells: Sequence[Cell]) -> list[list[str]]:
    return [
        [row.rule, str(row.total), f"{row.picks_best:.2f}", str(row.regret)]
        for row in rule_rows(cells)
    ]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield a table's lines, which are Markdown too."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    for number, row in enumerate((head, *rows)):
        yield "| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |"
        if not number:
            yield "|" + "|".join("-" * (w + 2) for w in widths) + "|"


def commit(units: Sequence[dict[str, Any]], name: str, told: str) -> None:
    """Write the results as one JSON file, the tables and the plots into `results/`."""
    RESULTS.mkdir(exist_ok=True)
    about = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {_processor()}",
        "python": platform.python_version(),
        "versions": {package: importlib.metadata.version(package) for package in PACKAGES},
        "grammar_hash": units[0]["grammar_hash"],
        "settings": units[0]["config"],
        "units": [{k: v for k, v in u.items() if k != "config"} for u in units],
    }
    for unit, source in zip(about["units"], units, strict=True):
        config = source["config"]
        unit["config"] = {"preset": config["preset"], "selection": config["selection"]}
    (RESULTS / f"{name}.json").write_text(json.dumps(about) + "\n", encoding="utf-8")
    (RESULTS / f"{name}.md").write_text(told + "\n", encoding="utf-8")
    for file, data in plots(gather(units)).items():
        (RESULTS / f"{name}-{file}").write_bytes(data)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def main() -> None:
    """Run what is asked for and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--quick", action="store_true")
    what.add_argument("--full", action="store_true")
    what.add_argument("--wide", action="store_true", help="full, and the curves it has no time for")
    what.add_argument("--tune", action="store_true", help="the rivals, on tuning personas")
    what.add_argument("--report", type=Path, help="a folder of units, or a committed file")
    parser.add_argument("--personas", choices=list(FIRST), default="reporting")
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--commit", metavar="NAME", help="write results/NAME.json, .md and plots")
    parser.add_argument("--advise", action="store_true",
                        help="write the figures that the package quotes to its users")  # fmt: skip
    args = parser.parse_args()
    planned = 0
    if not args.report:
        plans = {"quick": quick_plan, "tune": tune_plan, "full": full_plan, "wide": wide_plan}
        name = next(name for name in plans if getattr(args, name))
        plan = plans[name](FIRST["tuning" if args.tune else args.personas])
        out = args.out or Path("build") / f"quality-{name}"
        units = [Unit(setup, arm, tuple(args.settings), out) for setup, arm in plan]
        run_all(units, args.jobs)
        args.report, planned = out, len(plan)
    found = read_units(args.report)
    told = tell_arms(found) if args.tune else tell(found, planned)
    print(told)
    if args.commit:
        commit(found, args.commit, told)
    if args.advise:
        write_figures(measured_regimes(gather(found)), args.report.as_posix())


if __name__ == "__main__":
    main()
