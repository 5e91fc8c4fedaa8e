"""The paper's claims and this project's targets, each beside what the units say about it."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from quality_tables import (
    CONTESTANTS,
    Cell,
    halves_regret,
    ordinary,
    points,
    rule_rows,
    varied,
    wins,
)
from quality_verdicts import (
    PAPER_ABLATIONS,
    PAPER_FULL,
    PAPER_WINS,
    Claim,
    Estimate,
    claim,
    verdict,
)


def claims(cells: Sequence[Cell]) -> list[Claim]:
    """Return every claim that the units at hand say something about."""
    found = [*_method_claims(cells), *_ablation_claims(cells), *_curve_claims(cells)]
    return [c for c in [*found, *_reward_claims(cells), *_targets(cells)] if c is not None]


def _method_claims(cells: Sequence[Cell]) -> Iterator[Claim | None]:
    mine = ordinary(cells)
    ditto = statistics.fmean(PAPER_WINS["ditto"])
    for rival in ("sft", "spin", "few-shot"):
        gap = ditto - statistics.fmean(PAPER_WINS[rival])
        yield claim(f"DITTO beats {rival}", f"+{gap:.1f} points", points(mine, "ditto", rival))
    for rival, words in (
        ("zero-shot", "DITTO beats zero-shot (user study)"),
        ("dpo-base", "DITTO beats DPO on 500 labelled pairs of the base model"),
        ("dpo-sft", "DITTO beats DPO on 500 labelled pairs of the SFT model"),
        ("author", "DITTO surpasses the demonstrations' author"),
    ):
        yield claim(words, "yes", points(mine, "ditto", rival))
    for rival in ("sft-long", "sft-time"):
        yield claim(f"DITTO beats {rival}", "-", points(mine, "ditto", rival))
    for method, name in (("ditto", "round-4"), ("sft-long", "sft-long")):
        found = points(mine, method, f"{name}, full")
        yield claim(f"{method} is better softened than at full strength", "-", found)
    best = []
    for cell in mine:
        have = {m: cell.truth[m]["total"] for m in CONTESTANTS if m in cell.truth}
        if "ditto" in have:
            best.append((cell.persona, float(have["ditto"] == max(have.values()))))
    yield claim(
        "DITTO is the best method for most personas", "9 of 10 (CCAT50), 5 of 10 (CMCC)", best,
        bar=0.5, unit="share of runs",
    )  # fmt: skip


def _ablation_claims(cells: Sequence[Cell]) -> Iterator[Claim | None]:
    words = {
        "reference": "a reference updated every round hurts",
        "once": "sampling only at the start hurts",
        "no-replay": "leaving out replay hurts",
        "no-intermodel": "leaving out intermodel hurts",
    }
    for name, said in words.items():
        paper = f"{PAPER_FULL} to {PAPER_ABLATIONS[name]}"
        yield claim(said, paper, points(ordinary(cells), "ditto", f"ablation:{name}"))
    without = points(ordinary(cells), "ditto", "ablation:no-preference")
    yield claim("the preference loss adds to the NLL term alone", "-", without)


def _curve_claims(cells: Sequence[Cell]) -> Iterator[Claim | None]:
    mine = ordinary(cells)
    four = [*(f"round-{t}, softened" for t in (1, 2, 3)), "round-4"]  # all at one strength
    six = [f"round-{t} of 6" for t in (4, 5, 6)]
    yield claim("rounds 1 to 4 improve", "+31.5 %", points(mine, four[3], four[0]))
    for t, (before, after) in enumerate([*pairwise(four), *pairwise(six)], start=1):
        total = "" if t < 4 else " of 6"
        points_ = points(mine, after, before)
        dip = "-3.4 %, a dip" if t == 1 else "up" if t < 4 else "-"
        yield claim(f"round {t + 1}{total} is better than round {t}", dip, points_, above=t != 1)
    yield claim(
        "ten samples a demonstration are better than two", "+21.1 %",
        points(mine, "ditto", "samples:2"),
    )  # fmt: skip
    personas = sorted({c.persona for c in mine})
    spread = {m: [spread_over_seeds(mine, m, p) for p in personas] for m in ("samples:1", "ditto")}
    found = zip(personas, spread["samples:1"], spread["ditto"], strict=True)
    gaps = [(p, one - ten) for p, one, ten in found if one is not None and ten is not None]
    yield claim(
        "with more samples the variance over seeds falls (1 to 10)", "falls", gaps,
        unit="difference in standard deviation",
    )  # fmt: skip
    for few, many, paper in (
        (2, 5, "+15.4 % from 1 to 7"),
        (3, 5, "+5 % from 1 to 2"),
        (5, 8, "saturates"),
    ):
        yield claim(
            f"{many - 1} training demonstrations are better than {few - 1}", paper,
            across(cells, {"given": many}, {"given": few}),
        )  # fmt: skip
    for quality in ("noisy", "off-voice", "truncated"):
        yield claim(
            f"two {quality} demonstrations of four hurt", "not explored",
            across(cells, {"quality": "clean"}, {"quality": quality}),
        )  # fmt: skip


def spread_over_seeds(cells: Iterable[Cell], method: str, persona: int) -> float | None:
    """Return the standard deviation of a method's total over the seeds of a persona."""
    values = [v for p, v in points(cells, method) if p == persona]
    return statistics.stdev(values) if len(values) > 1 else None


def across(
    cells: Sequence[Cell],
    better: Mapping[str, Any],
    worse: Mapping[str, Any],
    method: str = "ditto",
) -> list[tuple[int, float]]:
    """Return (persona, difference) of a method between two setups of one persona and seed."""
    plain = {"voice": "own", "length": "own", "given": 5, "quality": "clean"}
    found: list[dict[tuple[int, int], float]] = []
    for change in (better, worse):
        wanted = plain | dict(change)
        rows = [c for c in cells if all(c.setup[k] == v for k, v in wanted.items())]
        found.append(
            {
                (c.persona, c.setup["seed"]): c.truth[method]["total"]
                for c in rows
                if method in c.truth
            }
        )
    first, second = found
    return [(key[0], first[key] - second[key]) for key in sorted(first.keys() & second.keys())]


def _reward_claims(cells: Sequence[Cell]) -> Iterator[Claim | None]:
    """Eq. 2's order in the implicit reward, after the last round."""
    steps: dict[str, list[tuple[int, float]]] = {}
    for cell in ordinary(cells):
        rounds = [
            o for o in cell.main.get("order", []) if sum(k.startswith("round-") for k in o) > 1
        ]
        if not rounds:
            continue
        last = max(rounds, key=len)
        older = sorted((k for k in last if k.startswith("round-")), key=lambda k: int(k[6:]))
        chain = ["demonstrations", "fresh", *reversed(older)]
        right = [float(last[a] > last[b]) for a, b in pairwise(chain)]
        steps.setdefault("expert", []).append(
            (cell.persona, last["demonstrations"] - last["fresh"])
        )
        steps.setdefault("order", []).append((cell.persona, statistics.fmean(right)))
        steps.setdefault("samples", []).append((cell.persona, statistics.fmean(right[1:])))
    rows: tuple[tuple[str, str, float, str], ...] = (
        ("order", "the implicit reward learns eq. 2's order", 0.5, "share of neighbours in order"),
        (
            "samples",
            "it ranks later samples over earlier ones",
            0.5,
            "share of neighbours in order",
        ),
        ("expert", "it ranks demonstrations over the newest samples", 0.0, "implicit reward, nats"),
    )
    for name, words, bar, unit in rows:
        yield claim(words, "yes (section 3.3)", steps.get(name, []), bar=bar, unit=unit)


def _targets(cells: Sequence[Cell]) -> Iterator[Claim | None]:
    """What this project asks of itself: a kept adapter that is never the worse choice."""
    mine = [c for c in ordinary(cells) if c.main]
    always = [row for row in rule_rows(mine) if row.rule.startswith("always ")]
    if always:
        best = max(always, key=lambda row: row.total.mean).rule.removeprefix("always ")
        yield _won(f"the kept adapter is no worse than always {best}", mine, "kept", best, 0.45)
        regret = []
        for cell in mine:
            truth = [cell.truth[n]["total"] for n in cell.main["scores"] if n in cell.truth]
            regret.append((cell.persona, max(truth) - cell.truth["kept"]["total"]))
        yield claim(
            "the kept adapter's regret is under .03", "-", regret, bar=0.03, above=False,
            unit="difference in total",
        )  # fmt: skip
        yield claim(
            "the same, the best candidate named on other prompts", "-",
            [(c.persona, halves_regret(c)) for c in mine], bar=0.03, above=False,
            unit="difference in total",
        )  # fmt: skip
    for rival in ("sft-long", "few-shot", "zero-shot"):
        words = f"where voices vary DITTO is preferred to {rival}"
        yield _won(words, varied(cells), "ditto", rival, 0.5)


def _won(name: str, cells: Sequence[Cell], method: str, against: str, bar: float) -> Claim | None:
    """Return a claim that a method's win rate lies above a bar; None without cells."""
    mine = [c for c in cells if method in c.truth and against in c.truth]
    if not mine:
        return None
    rate = wins(mine, method, against, (method, against))
    personas = len({c.persona for c in mine})
    low, high = (rate.low, rate.high) if personas > 1 else (None, None)
    found = Estimate(rate.rate, low, high, personas, len(mine))
    return Claim(name, "-", found, verdict(found, bar), f"win rate, bar {bar:.0%}")
