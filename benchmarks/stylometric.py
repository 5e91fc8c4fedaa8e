"""Is the stylometric judge fit to judge? Real authors, held-out texts, who is preferred.

For each author: the judge is made from the author's training texts, then asked of each held-out
text of the author and a text of another author which is closer. Chance is 50 %; under 65 % the
judge is not fit to be a default.

    python benchmarks/stylometric.py CMCC.jsonl CCAT50.jsonl [--output RESULT.json]

The files have a line a text: author, split (train, val, test), prompt, completion. Where authors
share prompts (CMCC) the other author's text answers the same prompt; where they share none (CCAT50)
it is a held-out text on another topic, so topic helps and the figure flatters.

The four views were picked with these same authors in sight, which flatters too. So the choice of
views is also made anew without each author (the best of the 15 subsets on the others' questions)
and tried on that author alone: "left_out".
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from ditto_hub.evaluation.judges import compare_marks
from ditto_hub.evaluation.stylometric import StylometricJudge
from ditto_hub.evaluation.winrate import interval, mean_scores
from ditto_hub.runs.results import Rating

VIEWS = ("words", "characters", "punctuation", "layout")
Views = tuple[str, ...]
SUBSETS: tuple[Views, ...] = tuple(
    views for n in range(1, len(VIEWS) + 1) for views in combinations(VIEWS, n)
)
NUMBERS = (2, 4, 7)  # training texts given to the judge
SHORT = 1000  # characters, in the check that length alone does not do it
FIT = 0.65


@dataclass(frozen=True)
class Trial:
    """Hold one question: is the author's held-out text closer than the other author's?"""

    author: str
    held_out: int
    own: str
    other: str


def read(path: Path) -> list[dict[str, str]]:
    """Read the lines of a data file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def trials(rows: Sequence[dict[str, str]]) -> Iterator[Trial]:
    """Pair each held-out text with those of every other author, on the same prompt if shared."""
    authors = sorted({row["author"] for row in rows})
    shared = len({(r["prompt"], r["author"]) for r in rows}) > 2 * len({r["prompt"] for r in rows})
    for i, row in enumerate(rows):
        if row["split"] == "train":
            continue
        for author in authors:
            theirs = [r for r in rows if r["author"] == author != row["author"]]
            same = [r for r in theirs if r["prompt"] == row["prompt"]]
            for other in same if shared else [r for r in theirs if r["split"] != "train"]:
                yield Trial(row["author"], i, row["completion"], other["completion"])


def training(rows: Sequence[dict[str, str]], author: str) -> list[str]:
    """Return an author's training texts, in the file's order."""
    return [r["completion"] for r in rows if r["author"] == author and r["split"] == "train"]


def views(judge: StylometricJudge, text: str) -> dict[str, float]:
    """Return the judge's marks, and the product of all views but layout, so without lengths."""
    marks = judge.marks((), text)
    return {**marks, "without layout": math.prod(marks[v] for v in VIEWS if v != "layout")}


def measure(
    rows: Sequence[dict[str, str]], number: int, shorten: Callable[[str], str] = str
) -> dict[str, Any]:
    """Return the share of right preferences of each view, with the total's intervals."""
    judges = {
        author: StylometricJudge([shorten(text) for text in training(rows, author)[:number]])
        for author in {row["author"] for row in rows}
    }
    asked = list(trials(rows))
    right: dict[str, list[float]] = defaultdict(list)
    for trial in asked:
        own, other = (views(judges[trial.author], shorten(t)) for t in (trial.own, trial.other))
        for view in own:
            verdict = compare_marks(own[view], other[view])
            right[view].append({"a": 1.0, "tie": 0.5, "b": 0.0}[verdict])
    by_text = interval(
        (str(t.held_out), value) for t, value in zip(asked, right["total"], strict=True)
    )
    (by_author,) = mean_scores(
        [
            Rating("judge", t.author, 0, {"total": v})
            for t, v in zip(asked, right["total"], strict=True)
        ],
        ("judge",),
    )
    return {
        "training_texts": number,
        "n": len(asked),
        "held_out_texts": len({t.held_out for t in asked}),
        "authors": len(judges),
        "right": {view: round(sum(v) / len(v), 3) for view, v in right.items()},
        "interval_over_texts": [round(x, 3) for x in by_text[:2]],
        "interval_over_authors": [round(x, 3) for x in (by_author.low, by_author.high) if x],
    }


def answers(rows: Sequence[dict[str, str]], number: int) -> dict[str, list[dict[Views, float]]]:
    """Return, for each author, what every subset of the views says to each question: 1 is right."""
    judges = {
        author: StylometricJudge(training(rows, author)[:number])
        for author in {row["author"] for row in rows}
    }
    found: dict[str, list[dict[Views, float]]] = defaultdict(list)
    for trial in trials(rows):
        own, other = (judges[trial.author].marks((), text) for text in (trial.own, trial.other))
        found[trial.author].append({views: _right(own, other, views) for views in SUBSETS})
    return found


def leave_one_out(asked: Mapping[str, Sequence[Mapping[Views, float]]]) -> dict[str, Any]:
    """Choose the views without each author in turn, and return how right they are on that one.

    Args:
        asked: from `answers`.
    """
    total: list[float] = []
    chosen = {}
    for author, mine in asked.items():
        rest = [row for name, rows in asked.items() if name != author for row in rows]
        best = max(SUBSETS, key=lambda views: sum(row[views] for row in rest))
        chosen[author] = "+".join(best)
        total += [row[best] for row in mine]
    return {"right": round(sum(total) / len(total), 3), "chosen": chosen}


def _right(own: Mapping[str, float], other: Mapping[str, float], views: Views) -> float:
    verdict = compare_marks(*(math.prod(marks[v] for v in views) for marks in (own, other)))
    return {"a": 1.0, "tie": 0.5, "b": 0.0}[verdict]


def main() -> int:
    """Measure every file, print a table, and tell whether the judge is fit."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    found: dict[str, Any] = {"machine": platform.machine(), "python": platform.python_version()}
    fit = True
    for path in given.files:
        rows = read(path)
        results = [measure(rows, number) for number in NUMBERS]
        results.append(measure(rows, NUMBERS[-1], lambda text: text[:SHORT]) | {"cut": SHORT})
        results.append({"left_out": leave_one_out(answers(rows, NUMBERS[-1]))})
        found[path.stem] = results
        for result in results:
            print(path.stem, json.dumps(result))
        fit = fit and results[len(NUMBERS) - 1]["right"]["total"] >= FIT
    print(f"fit to be a default (at least {FIT} on each): {'yes' if fit else 'no'}")
    if given.output:
        given.output.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return 0 if fit else 1


if __name__ == "__main__":
    sys.exit(main())
