"""The table of the rows: every setting's methods, means over authors with bootstrap intervals."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from authors_judges import index, own_score

from ditto_hub.evaluation.real_authors import RealFigures

DRAWS = 2000
RIVALS = ("few-shot", "zero-shot")
ROUNDS = tuple(f"round-{t}" for t in range(1, 10))
MODEL = "SmolLM2-135M-Instruct"
Row = Mapping[str, Any]
Means = Mapping[str, Mapping[str, float]]
"""author -> measure -> its mean over the author's seeds."""


def report(rows: Sequence[Row]) -> str:
    """Return a table for each version of the judges there are rows of, the newest first."""
    if not rows:
        return "There are no rows yet."
    versions = sorted({judges(row) for row in rows}, reverse=True)
    return "\n\n".join(table([r for r in rows if judges(r) == v], v) for v in versions)


def judges(row: Row) -> int:
    """Return which version of the judges a row is by; those of the first do not say."""
    return int(row.get("judges", 1))


def table(rows: Sequence[Row], version: int) -> str:
    """Return one table, and how each method compares with few-shot prompting on the same jobs."""
    found = collect(rows)
    columns = ("index", "style", "own", "fit", "loss/base", "copied", "repeats", "ended")
    lines = [f"Judges, version {version}" + (": fit is at its ceiling" if version == 1 else "")]
    head = f"{'setting':18} {'method':20} {'n':>2} " + " ".join(f"{c:>9}" for c in columns)
    lines.append(head + f" {'index interval':>16} {'over few-shot':>24}")
    for (setting, method), means in found.items():
        values = {c: fmean(m[c] for m in means.values()) for c in columns}
        low, high = interval([m["index"] for m in means.values()])
        cells = " ".join(f"{values[c]:9.3f}" for c in columns)
        line = f"{setting:18} {method:20} {len(means):2} {cells} {low:7.3f} to {high:.3f}"
        lines.append(line + _against(means, found, setting))
    authors = sorted({str(row["author"]) for row in rows})
    seeds = sorted({row["seed"] for row in rows})
    lines.append(f"\n{len(rows)} jobs, {len(authors)} authors, seeds {seeds}; 95 % intervals over")
    lines.append("authors (bootstrap); `over few-shot` on the authors and texts that both have.")
    return "\n".join(lines)


def figures(rows: Sequence[Row], source: str, setting: str = "small") -> RealFigures:
    """Return what the package says of the rows: one setting's methods beside prompting.

    Args:
        rows: of one version of the judges.
        source: the committed file that they are in.
        setting: whose adapters.
    """
    found = {k: m for k, m in collect(rows).items() if k[0] in ("prompting", setting)}
    last = max((m for s, m in found if s == setting and m in ROUNDS), key=ROUNDS.index)
    names = {("prompting", m): m for m in RIVALS} | {(setting, m): m for m in ("sft", "sft-long")}
    names |= {(setting, last): "ditto", (setting, f"{last}+few-shot"): "ditto-few-shot"}
    rival = found["prompting", "few-shot"]
    over = {
        names[key]: interval([means[a]["index"] - rival[a]["index"] for a in means if a in rival])
        for key, means in found.items()
        if key in names and names[key] not in RIVALS
    }
    return RealFigures(
        source=source,
        model=MODEL,
        texts=int(rows[0]["texts"]),
        authors=len(rival),
        index={
            names[key]: round(fmean(m["index"] for m in means.values()), 3)
            for key, means in found.items()
            if key in names
        },
        over_prompting={m: (round(low, 3), round(high, 3)) for m, (low, high) in over.items()},
    )


def best_taught(rows: Sequence[Row]) -> list[str]:
    """Return the students, best first, by the mean over authors of style and own-text loss.

    Fit has no part, for it is judged after the choice.
    """
    found = collect(rows)
    taught = {name for row in rows for name in row.get("teachings", ())}
    marks = {
        method: fmean(m["style"] + m["own"] for m in means.values())
        for (_, method), means in found.items()
        if method in taught
    }
    return sorted(marks, key=lambda name: -marks[name])


def collect(rows: Sequence[Row]) -> dict[tuple[str, str], Means]:
    """Return (setting, method) -> each author's means over seeds."""
    gathered: dict[tuple[str, str], dict[str, list[dict[str, float]]]] = {}
    for row in rows:
        for method, values in row["methods"].items():
            key = (trained_as(row, method), method)
            mine = gathered.setdefault(key, defaultdict(list))
            mine[row["author"]].append(measures(row, values))
    return {
        key: {a: {m: fmean(v[m] for v in many) for m in many[0]} for a, many in authors.items()}
        for key, authors in gathered.items()
    }


def trained_as(row: Row, method: str) -> str:
    """Return the setting a method belongs to: a row of students holds a run of `small` as well."""
    if not str(row["setting"]).startswith("taught"):
        return str(row["setting"])
    return "taught" if method in row.get("teachings", ()) else "small"


def measures(row: Row, values: Mapping[str, float]) -> dict[str, float]:
    """Return what the table shows of one method in one row."""
    own = own_score(values["loss"], row["base_loss"])
    return {
        "index": index(values["style"], own, values["fit"]),
        "style": values["style"],
        "own": own,
        "fit": values["fit"],
        "loss/base": values["loss"] / row["base_loss"],
        "copied": values["copied_share"],
        "repeats": values["self_repetition"],
        "ended": values["ended"],
    }


def interval(values: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of a mean."""
    chance = random.Random(seed)
    means = sorted(fmean(chance.choices(values, k=len(values))) for _ in range(DRAWS))
    return means[int(0.025 * DRAWS)], means[int(0.975 * DRAWS)]


def _against(means: Means, found: Mapping[tuple[str, str], Means], setting: str) -> str:
    rival = "prompting-6" if setting.endswith("-6") else "prompting"
    others = found.get((setting, RIVALS[0])) or found.get((rival, RIVALS[0]), {})
    differences = [m["index"] - others[a]["index"] for a, m in means.items() if a in others]
    if not differences:
        return f" {'-':>24}"
    low, high = interval(differences)
    return f" {fmean(differences):+8.3f} ({low:+.3f} to {high:+.3f})"
