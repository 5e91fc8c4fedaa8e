"""Real authors: the methods of the paper's table 1 on CMCC or CCAT50, with one command.

    python benchmarks/authors.py cmcc.jsonl --base-model mistralai/Mistral-7B-Instruct-v0.2 \\
        --judge llm:MODEL --out build/cmcc

PATH is a file in the layout of the reference code's benchmarks: a line a text with author, split
(train, val, test), prompt, completion. Each author's training texts are the demonstrations, the
validation texts are held out for stopping and selection where the preset holds any out (`paper`
does not), and every method answers the prompts of the test texts. The win rates are over all
authors, clustered by author. Stopped and started again it goes on: finished runs, rivals and
verdicts are not repeated.

    --base-model pocket   tries the mechanics in minutes; that model has only ever seen short
                          messages of its own grammar, so its figures say nothing about authors
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ditto_hub import api
from ditto_hub.config import RunConfig, preset
from ditto_hub.demos import Demonstration, DemoSet
from ditto_hub.errors import DittoError, describe
from ditto_hub.evaluation.methods import TRAINED
from ditto_hub.evaluation.winrate import win_rate
from ditto_hub.results import OTHERS, Evaluation, JudgedPair
from ditto_hub.runs import Run

METHODS = ("zero-shot", "few-shot", "sft", "sft-long", "spin", "ditto")
PAPER = {
    "cmcc": {"ditto": 71.67, "sft": 56.78, "spin": 51.56, "few-shot": 46.89},
    "ccat50": {"ditto": 82.50, "sft": 73.89, "spin": 62.13, "few-shot": 40.37},
}
MECHANICS = (
    "pocket knows its own grammar and nothing else: this shows that the mechanics work, and no"
    " figure below says anything about authors or methods."
)
POCKET_CUT = 160  # characters of a text that pocket can hold with its prompt
POCKET_SETTINGS = ("sampling.length_factor=1.5",)


@dataclass(frozen=True)
class Author:
    """Hold one author's demonstrations, the validation ones held out, and the test prompts."""

    name: str
    demos: DemoSet
    prompts: tuple[str, ...]


def read_authors(path: Path, cut: int = 0) -> list[Author]:
    """Read the authors of a file, in its order.

    Args:
        cut: characters of a prompt and a text that are kept; 0 for all.

    Raises:
        SystemExit: the file is missing, or a line of it lacks a field.
    """
    rows: dict[str, list[dict[str, str]]] = {}
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            kept = {k: str(row[k])[: cut or None] for k in ("prompt", "completion")}
            rows.setdefault(row["author"], []).append({**kept, "split": row["split"]})
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.exit(f"{path} is not in the benchmarks' layout: {type(error).__name__}: {error}.")
    if not rows:
        sys.exit(f"{path} holds no author.")
    return [_author(name, mine) for name, mine in rows.items()]


def _author(name: str, rows: Sequence[dict[str, str]]) -> Author:
    shown = [row for row in rows if row["split"] in ("train", "val")]
    demos = DemoSet.from_pairs([(row["prompt"], row["completion"]) for row in shown])
    marked: tuple[Demonstration, ...] = tuple(
        replace(demo, split="held_out" if row["split"] == "val" else "train")
        for demo, row in zip(demos, shown, strict=True)
    )
    tested = dict.fromkeys(row["prompt"] for row in rows if row["split"] == "test")
    return Author(name, DemoSet(marked), tuple(tested))


def demonstrations(author: Author, config: RunConfig) -> DemoSet:
    """Return what a run is given: validation texts only where the settings hold some out."""
    return author.demos if config.selection.held_out < 0 else DemoSet(author.demos.train)


def train(author: Author, base_model: str, config: RunConfig, folder: Path) -> Run:
    """Train an author's run, or go on with it."""
    if not (folder / "run.json").is_file():
        run = api.create_run(demonstrations(author, config), base_model, config, output=folder)
    else:
        run = Run.load(folder)
    if run.record.status != "finished":
        run = api.resume(run)
    return Run.load(run.folder)


def compare(run: Run, author: Author, options: argparse.Namespace) -> Evaluation:
    """Train the rivals that are asked for and let the judge compare the methods."""
    methods = options.methods.split(",")
    for name in methods:
        if name in TRAINED and name not in run.candidates():
            for _ in api.train_rival(run, name, judge=options.judge):
                pass
    found = api.evaluate(
        run,
        methods=methods,
        prompts=author.prompts,
        judges=(options.judge,),
        samples=options.samples,
        seed=options.seed,
    )
    evaluations = [item for item in found if isinstance(item, Evaluation)]
    return evaluations[-1]


def joined(evaluations: Sequence[tuple[str, Evaluation]]) -> Iterator[JudgedPair]:
    """Yield every author's judged pairs, the prompt's id led by the author's name."""
    for author, evaluation in evaluations:
        for pair in evaluation.pairs:
            yield replace(pair, prompt_id=f"{author}/{pair.prompt_id}")


def tell(
    evaluations: Sequence[tuple[str, Evaluation]], methods: Sequence[str], paper: dict[str, float]
) -> str:
    """Return the table of win rates against all other methods, beside the paper's."""
    pairs = list(joined(evaluations))
    lines = [f"{'method':12} {'win rate':>9} {'95 % interval':>16} {'n':>6} {'paper':>8}"]
    for method in methods:
        rate = win_rate(pairs, method, OTHERS, cluster=lambda prompt: prompt.split("/")[0])
        told = f"{paper[method]:.1f} %" if method in paper else "-"
        span = f"{rate.low:.0%} to {rate.high:.0%}"
        lines.append(f"{method:12} {rate.rate:9.0%} {span:>16} {rate.n:6} {told:>8}")
    authors = len({author for author, _ in evaluations})
    lines.append(f"\n{authors} authors; intervals are clustered by author.")
    return "\n".join(lines)


def settings(options: argparse.Namespace) -> RunConfig:
    """Return the run's settings: the preset's, with what the command line and pocket change."""
    config = preset(options.preset or ("pocket" if options.base_model == "pocket" else "paper"))
    config = replace(config, seed=options.seed)
    extra: Sequence[str] = POCKET_SETTINGS if options.base_model == "pocket" else ()
    for text in (*extra, *options.settings):
        config = config.with_setting(text)
    return config


def parse(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", type=Path)
    parser.add_argument("--base-model", required=True)
    parser.add_argument("--authors", type=int, help="only the first N")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--judge", default="stylometric", help="stylometric or llm:MODEL[@URL]")
    parser.add_argument("--samples", type=int, default=1, help="answers to each test prompt")
    parser.add_argument("--preset", help="default: paper, and pocket's own for pocket")
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("build/authors"))
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> None:
    """Train and compare for each author; print the table and write it beside the runs."""
    options = parse(given)
    pocket = options.base_model == "pocket"
    authors = read_authors(options.path, POCKET_CUT if pocket else 0)[: options.authors]
    if pocket:
        print(MECHANICS, file=sys.stderr)
    evaluations: list[tuple[str, Evaluation]] = []
    try:
        for author in authors:
            run = train(author, options.base_model, settings(options), options.out / author.name)
            evaluations.append((author.name, compare(run, author, options)))
            print(f"{author.name}: {run.record.chosen} was kept", file=sys.stderr)
    except DittoError as error:
        sys.exit(" ".join(describe(error)))
    paper: dict[str, Any] = {} if pocket else PAPER.get(options.path.stem, {})
    told = tell(evaluations, options.methods.split(","), paper)
    told = f"{MECHANICS}\n\n{told}" if pocket else told
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "table.txt").write_text(told + "\n", encoding="utf-8")
    print(told)


if __name__ == "__main__":
    main()
