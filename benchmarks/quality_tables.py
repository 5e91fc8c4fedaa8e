"""Read the units of the quality benchmark and count: tables, claims, selection rules."""

from __future__ import annotations

import json
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

from quality_verdicts import PAPER_WINS, Estimate, estimate, void_reason

from ditto_hub.config import Selection
from ditto_hub.ditto.selection import choose
from ditto_hub.evaluation.guidance import METHODS, Regime
from ditto_hub.evaluation.winrate import win_rate
from ditto_hub.pocket.grammar import grammar_hash
from ditto_hub.runs.results import OTHERS, JudgedPair

TABLE = (
    "zero-shot", "few-shot", "sft", "sft-long", "sft-time", "spin", "dpo-base", "dpo-sft", "ditto",
    "kept", "author",
)  # fmt: skip
CONTESTANTS = TABLE[:9]
ALWAYS = ("zero-shot", "few-shot", "sft", "sft-long", "ditto")  # win rates are counted among these
LEAST_PERSONAS = 3  # behind anything that users are told
RULES = ("held-out", "stylometric", "mixture", "last-sound", "last")
MARKS = ("persona", "content", "total", "whole", "habit_distance")


@dataclass
class Cell:
    """Hold all that was found for one setup: methods and their marks, from every arm.

    Args:
        setup: fields of a `Setup`.
        truth: method -> marks.
        main: the main run's result, or empty.
    """

    setup: dict[str, Any]
    truth: dict[str, dict[str, Any]] = field(default_factory=dict)
    main: dict[str, Any] = field(default_factory=dict)

    @property
    def persona(self) -> int:
        """The cluster."""
        return int(self.setup["persona"])

    @property
    def regime(self) -> str:
        """The setup without persona and seed, in words."""
        parts = [
            f"{self.setup['voice']} voice",
            "" if self.setup["length"] == "own" else f"{self.setup['length']} texts",
            f"{self.setup['given']} given",
            "" if self.setup["quality"] == "clean" else f"two {self.setup['quality']}",
        ]
        return ", ".join(part for part in parts if part)


def read_units(source: Path) -> list[dict[str, Any]]:
    """Return the results of a folder or a committed file; refuse those of another grammar."""
    if source.is_file():
        units: list[dict[str, Any]] = json.loads(source.read_text("utf-8"))["units"]
    else:
        units = [json.loads(p.read_text("utf-8")) for p in sorted(source.glob("*.json"))]
    if any(unit["grammar_hash"] != grammar_hash() for unit in units):
        sys.exit(f"{source} holds results of another grammar; a comparison would mean nothing.")
    if len({json.dumps(_recipe(u["config"]), sort_keys=True) for u in units}) > 1:
        sys.exit(f"{source} holds results of several settings; keep each in a folder of its own.")
    return units


def _recipe(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name != "seed"}


def gather(units: Iterable[Mapping[str, Any]]) -> list[Cell]:
    """Return a cell a setup, its methods under the names of `TABLE` where they stand in it."""
    cells: dict[str, Cell] = {}
    for unit in units:
        key = json.dumps(unit["setup"], sort_keys=True)
        cell = cells.setdefault(key, Cell(unit["setup"]))
        truth = dict(unit["truth"])
        if unit["arm"] == "main":
            cell.main = dict(unit)
            last = max((n for n in truth if _round(n)), key=lambda n: _round(n) or 0)
            truth["ditto"] = truth[last]
            rule = unit["config"].get("selection", {}).get("rule", "mixture")
            truth["kept"] = truth[kept(unit["scores"], rule)]
        name = unit["arm"].partition("@")[0]
        for alias in {name, name.removesuffix(":500")} if unit["arm"] in truth else ():
            truth[alias] = truth[unit["arm"]]
        cell.truth |= truth
    return list(cells.values())


def _round(name: str) -> int | None:
    number = name.removeprefix("round-")
    return int(number) if number != name and number.isdigit() else None


def kept(scores: Mapping[str, Mapping[str, Any]], rule: str) -> str:
    """Return which candidate a selection rule would have kept."""
    candidates = {
        name: {
            "scores": {k: v for k, v in marks.items() if k != "degenerate"},
            "degenerate": marks["degenerate"],
        }
        for name, marks in scores.items()
    }
    return choose(candidates, Selection(rule=rule))[0]


def ordinary(cells: Iterable[Cell]) -> list[Cell]:
    """Return the cells of the main table: personas as they are, five clean demonstrations."""
    return [c for c in cells if c.regime == "own voice, 5 given"]


def points(
    cells: Iterable[Cell], method: str, against: str = "", mark: str = "total"
) -> list[tuple[int, float]]:
    """Return (persona, mark of a method), or its difference to another one's, run by run."""
    found = []
    for cell in cells:
        if method in cell.truth and (not against or against in cell.truth):
            value = cell.truth[method][mark]
            found.append((cell.persona, value - (cell.truth[against][mark] if against else 0.0)))
    return found


def judged(cells: Sequence[Cell], methods: Sequence[str]) -> Iterator[JudgedPair]:
    """Yield every pair of texts for one request, sample by sample, as the grammar ranks them."""
    for number, cell in enumerate(cells):
        for a, b in combinations([m for m in methods if m in cell.truth], 2):
            rows = zip(cell.truth[a]["texts"], cell.truth[b]["texts"], strict=True)
            for k, (first, second) in enumerate(rows):
                verdict = "tie" if first == second else "a" if first > second else "b"
                yield JudgedPair(f"{cell.persona}/{number}/{k}", a, b, k, k, verdict)


def wins(cells: Sequence[Cell], method: str, against: str, methods: Sequence[str]) -> Any:
    """Return a method's win rate, clustered by persona."""
    pairs = judged(cells, methods if against == OTHERS else (method, against))
    return win_rate(pairs, method, against, cluster=lambda prompt: prompt.split("/")[0])


def method_rows(mine: Sequence[Cell]) -> list[list[str]]:
    """Return the table of methods over cells of one regime: marks, win rate, and the paper's."""
    whole = [c for c in mine if set(ALWAYS) <= set(c.truth)]
    rows = []
    for method in TABLE:
        found = [estimate(points(mine, method, mark=mark)) for mark in MARKS]
        if found[0] is None:
            continue
        rate = wins(whole, method, OTHERS, ALWAYS) if method in ALWAYS else None
        paper = statistics.fmean(PAPER_WINS[method]) if method in PAPER_WINS else None
        rows.append(
            [
                method,
                *(_cell(e) for e in found[:3]),
                f"{found[3].mean:.3f}" if found[3] else "-",
                f"{found[4].mean:.3f}" if found[4] else "-",
                f"{rate.rate:.0%} ({rate.low:.0%} to {rate.high:.0%})" if rate and rate.n else "-",
                f"{paper:.1f} %" if paper else "-",
                f"{found[2].personas}, {found[2].runs}" if found[2] else "-",
            ]
        )
    return rows


METHOD_HEAD = [
    "method", "persona", "content", "total", "whole", "habits off", "win rate", "paper's",
    "personas, runs",
]  # fmt: skip


def _cell(found: Estimate | None) -> str:
    if found is None:
        return "-"
    if found.low is None or found.high is None:
        return f"{found.mean:.3f}"
    return f"{found.mean:.3f} ({found.low:.3f} to {found.high:.3f})"


def halves_regret(cell: Cell) -> float:
    """Return what the best candidate would have given more, counted on other prompts.

    The best of several noisy means is in part luck, so its lead over the kept one is too large
    where the same texts name and measure it. Here one half of the prompts names it and the other
    measures, both ways round; that errs the other way, for a half names it less surely.
    """
    size = cell.main["texts_a_prompt"]
    texts = {n: cell.truth[n]["texts"] for n in cell.main["scores"] if n in cell.truth}
    half = [
        {
            name: statistics.fmean(t for k, t in enumerate(row) if k // size % 2 == odd)
            for name, row in (texts | {"kept": cell.truth["kept"]["texts"]}).items()
        }
        for odd in (0, 1)
    ]
    found = []
    for naming, measuring in (half, half[::-1]):
        best = max(texts, key=lambda name: naming[name])
        found.append(measuring[best] - measuring["kept"])
    return statistics.fmean(found)


def varied(cells: Iterable[Cell]) -> list[Cell]:
    """Return the cells of voices that vary a great deal, otherwise as in the main table."""
    return [c for c in cells if c.regime == "varied voice, 5 given"]


def winners(cells: Sequence[Cell]) -> str:
    """Say for how many personas each baseline or candidate scored best, over their runs."""
    rivals = ("few-shot", "sft", "sft-long", "ditto")
    mine = [c for c in ordinary(cells) if set(rivals) <= set(c.truth)]
    best: Counter[str] = Counter()
    for persona in {c.persona for c in mine}:
        own = [c for c in mine if c.persona == persona]
        best[max(rivals, key=lambda m: statistics.fmean(v for _, v in points(own, m)))] += 1
    return ", ".join(f"{method} {best[method]}" for method in rivals)


def void(cells: Sequence[Cell]) -> str:
    """Return why the table of methods is void, or nothing."""
    return void_reason(estimate(points(ordinary(cells), "few-shot", "zero-shot", "persona")))


# ---- selection -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class RuleRow:
    """Hold how a selection rule did over runs: what it kept, how often the best, its regret."""

    rule: str
    total: Estimate
    picks_best: float
    regret: Estimate


def rule_rows(
    cells: Sequence[Cell], choosers: Mapping[str, Callable[..., str]] | None = None
) -> list[RuleRow]:
    """Return each rule beside "always X" for every candidate, over all main runs at hand.

    Args:
        choosers: further rules, name -> (scores -> candidate).
    """
    runs = [c for c in cells if c.main.get("scores")]
    rules: dict[str, Callable[[Mapping[str, Any]], str]] = {
        rule: partial(kept, rule=rule) for rule in RULES
    }
    names = sorted({n for c in runs for n in c.main["scores"]})
    rules |= {f"always {name}": partial(_same, name) for name in names}
    rules |= dict(choosers or {})
    rows = []
    for rule, pick in rules.items():
        totals, regrets, hits = [], [], []
        for cell in runs:
            truth = {n: cell.truth[n]["total"] for n in cell.main["scores"] if n in cell.truth}
            name, best = pick(cell.main["scores"]), max(truth.values())
            if name in truth:
                totals.append((cell.persona, truth[name]))
                regrets.append((cell.persona, best - truth[name]))
                hits.append(truth[name] == best)
        total, regret = estimate(totals), estimate(regrets)
        if total and regret:
            rows.append(RuleRow(rule, total, statistics.fmean(hits), regret))
    return rows


def _same(name: str, _: Mapping[str, Any]) -> str:
    return name


def regime_rows(cells: Sequence[Cell]) -> list[list[str]]:
    """Return, for each regime, what each contestant scored and which is right there."""
    rows = []
    for regime in sorted({c.regime for c in cells if c.main}):
        mine = [c for c in cells if c.main and c.regime == regime]
        names = ("few-shot", "sft", "sft-long", "ditto", "kept")
        found = {n: estimate(points(mine, n)) for n in names}
        means = {n: e.mean if (e := found[n]) else 0.0 for n in names[:4]}
        best = max(means, key=lambda n: means[n])
        gap = estimate(points(mine, "ditto", "sft-long"))
        rows.append(
            [
                regime,
                *(f"{e.mean:.3f}" if e else "-" for e in found.values()),
                best,
                str(gap) if gap else "-",
                f"{gap.personas}, {gap.runs}" if gap else "-",
            ]
        )
    return rows


REGIME_HEAD = [
    "regime", "few-shot", "sft", "sft-long", "ditto", "kept", "best", "ditto - sft-long",
    "personas, runs",
]  # fmt: skip


TOLD = (
    "own voice, 2 given", "own voice, 3 given", "own voice, 5 given", "own voice, 8 given",
    "varied voice, 5 given", "template voice, 5 given",
)  # fmt: skip


def measured_regimes(cells: Sequence[Cell]) -> tuple[Regime, ...]:
    """Return what the package tells its users, for `evaluation.guidance.write_figures`."""
    found = []
    for name in TOLD:
        mine = [c for c in cells if c.main and c.regime == name]
        totals = {m: estimate(points(mine, m)) for m in METHODS}
        ahead = {m: estimate(points(mine, "ditto", m)) for m in METHODS if m != "ditto"}
        if len({c.persona for c in mine}) < LEAST_PERSONAS:
            continue
        found.append(
            Regime(
                trained=mine[0].setup["given"] - 1,
                voice=mine[0].setup["voice"],
                totals={m: round(e.mean, 3) for m, e in totals.items() if e},
                ahead={
                    m: (round(e.low or 0.0, 3), round(e.high or 0.0, 3))
                    for m, e in ahead.items()
                    if e
                },
                personas=len({c.persona for c in mine}),
                runs=len(mine),
            )
        )
    return tuple(found)
