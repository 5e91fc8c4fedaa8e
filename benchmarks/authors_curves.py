"""How far a warm start should go: the loss of an author's unseen texts, step by step.

    python benchmarks/authors_curves.py --data DIR --rows curves.jsonl --rates 5e-4,1e-3
    python benchmarks/authors_curves.py --rows curves.jsonl --report

The cheap half of the benchmark on real authors: nothing is drawn, so a job is some minutes of one
core. A job is (author, rate, seed): the same texts as authors.py shows, one more held out, a
constant rate; losses a byte over the base model's, of the unseen texts (what counts) and of the
held-out text (what a run can see), at every fourth step, then at smaller scales of the last
adapter, and with the demonstrations in the prompt. Rows hold numbers alone and are resumable.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from authors import append, read_rows
from authors_report import interval
from authors_texts import CORPORA, CUT_WORDS, TUNING

EVERY = 4  # steps between two looks
SCALES = (0.3, 0.5, 0.7)
TOO_FAR = 1.15  # over the best so far; then the rest is not worth its time
Row = dict[str, Any]


class Curves:
    """A base model in memory, and the warm starts that run on it.

    Args:
        data: folder of the corpora.
        base: folder of the base model.
        words: that texts are cut to.
        steps: of a warm start.
    """

    def __init__(self, data: Path, base: str, words: int, steps: int) -> None:
        import torch
        from authors_jobs import Plan

        from ditto_hub.engine.base_model import load_base, pick_device
        from ditto_hub.tokens import NOBODY

        self.plan = Plan(str(data), base, words)
        self.steps = steps
        self.model, self.tokenizer = load_base({"id": base}, device=pick_device(None), token=NOBODY)
        torch.set_num_threads(self.plan.threads)

    def run(self, author: str, rate: str, rank: int, seed: int) -> Row:
        """Train one warm start and return its row."""
        from authors_jobs import Case, Judging
        from authors_settings import Setting
        from authors_texts import read_authors, split

        from ditto_hub.backends.driver import versions
        from ditto_hub.backends.local import dress
        from ditto_hub.demos.demonstrations import DemoSet
        from ditto_hub.runs.folder import Run

        began = time.monotonic()
        corpus, _, number = author.rpartition("-")
        authors = read_authors(Path(self.plan.data), corpus, self.plan.words)
        mine = authors[int(number)]
        texts = split(mine, seed)
        changes = (
            f"warm_start.learning_rate={rate}",
            f"warm_start.max_steps={self.steps}",
            "warm_start.schedule=constant",
            f"lora.rank={rank}",
            f"lora.alpha={2 * rank}",
        )
        setting = Setting(f"curve-{rate}", changes)
        *shown, last = texts.demos(setting.texts + 1)
        demos = DemoSet((*shown, replace(last, split="held_out")))
        with tempfile.TemporaryDirectory(prefix="curves-") as work:
            base = {"id": self.plan.base, "revision": None}
            run = Run.create(demos, base, setting.config(seed, 8), Path(work) / "run", None)
            policy = dress(run, self.model, self.tokenizer)
            try:
                case = Case(mine, [], setting.texts, seed, _no_texts)
                judge = Judging(self.plan, run, policy, case)
                looks = list(self._looks(run, policy, judge))
            finally:
                policy.unload()
        return {
            "key": key(author, rate, rank, seed),
            "author": author, "rate": float(rate), "rank": rank, "seed": seed,
            "texts": setting.texts, "words": self.plan.words, "looks": looks,
            "seconds": round(time.monotonic() - began, 1), "device": policy.device_name(),
            "versions": versions(),
        }  # fmt: skip

    def _looks(self, run: Any, policy: Any, judge: Any) -> Iterator[Row]:
        """Yield the losses before, on the way, and at the end."""
        from authors_jobs import PROMPTS, scaled

        from ditto_hub.ditto.state import Work
        from ditto_hub.ditto.warm_start import held_out_loss, warm_start
        from ditto_hub.events import StepTaken

        work = Work(policy, run.demos(), run.config)
        work.begin()

        def look(step: int, scale: float = 1.0, shown: bool = False, train: float = 0.0) -> Row:
            unseen = judge.own_loss(PROMPTS[shown])
            found = {"step": step, "scale": scale, "shown": shown, "unseen": unseen}
            if not shown:
                found |= {"held_out": held_out_loss(work), "train": train}
            return {name: round(v, 5) if type(v) is float else v for name, v in found.items()}

        yield look(0)
        best, last = float("inf"), 0
        for item in warm_start(work):
            if not isinstance(item, StepTaken) or (item.step or 0) % EVERY:
                continue
            last = item.step or 0
            found = look(last, train=item.loss)
            yield found
            best = min(best, found["unseen"])
            if last == self.steps or found["unseen"] > TOO_FAR * best:
                break
        yield look(last, shown=True)
        whole = {name: tensor.clone() for name, tensor in policy.snapshot().items()}
        for scale in SCALES:
            policy.restore(scaled(whole, scale))
            yield look(last, scale)


def _no_texts(texts: Sequence[str]) -> Any:
    raise AssertionError("no text is drawn here")


def key(author: str, rate: str, rank: int, seed: int) -> str:
    """Return a row's name."""
    return f"{author}/curve/{rate}/r{rank}/{seed}"


def report(rows: Sequence[Row]) -> str:
    """Return the tables: unseen loss over the base model's, by rate, step and scale."""
    lines = []
    groups: dict[tuple[float, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["rate"], row["rank"]), []).append(row)
    for (rate, rank), mine in sorted(groups.items()):
        lines.append(f"rate {rate:g}, rank {rank}: {', '.join(r['author'] for r in mine)}")
        for name, ratios in places(mine).items():
            low, high = interval(ratios)
            told = f"  {name:28} {fmean(ratios):.3f} ({low:.3f} to {high:.3f}), n={len(ratios)}"
            lines.append(told)
    return "\n".join(lines) or "There are no rows yet."


def places(rows: Sequence[Row]) -> dict[str, list[float]]:
    """Return where a warm start was looked at -> each row's unseen loss over the base model's."""
    found: dict[str, list[float]] = {}
    for row in rows:
        base, *looks = row["looks"]
        alone = [look for look in looks if not look["shown"]]
        for look in looks:
            end = f"step {look['step']}" if look["scale"] == 1 else f"end, scale {look['scale']:g}"
            name = "end, demonstrations shown" if look["shown"] else end
            found.setdefault(name, []).append(look["unseen"] / base["unseen"])
        whole = [look for look in alone if look["scale"] == 1]
        for name, among in (("step", whole), ("step and scale", alone)):
            picked = min([base, *among], key=lambda look: look["held_out"])
            best = min([base, *among], key=lambda look: look["unseen"])
            for how, look in ((f"{name} by held-out loss", picked), (f"best {name}", best)):
                found.setdefault(how, []).append(look["unseen"] / base["unseen"])
    return found


def main() -> None:
    """Do the curves that are missing, or print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rows", type=Path, default=Path("build/curves.jsonl"))
    parser.add_argument("--base-model", default="smollm2")
    parser.add_argument("--authors", default=",".join(default_authors()))
    parser.add_argument("--rates", default="5e-4,1e-3")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--words", type=int, default=CUT_WORDS)
    parser.add_argument("--report", action="store_true")
    options = parser.parse_args()
    rows = read_rows(options.rows)
    if options.report:
        print(report(rows))
        return
    base = options.base_model
    if base == "smollm2":
        from ditto_hub.engine import smollm2

        base = str(smollm2.fetch(lambda words: print(words, file=sys.stderr)))
    done = {row["key"] for row in rows}
    bench = Curves(options.data, base, options.words, options.steps)
    for author in options.authors.split(","):
        for rate in options.rates.split(","):
            if key(author, rate, options.rank, options.seed) in done:
                continue
            row = bench.run(author, rate, options.rank, options.seed)
            append(options.rows, row)
            print(f"{row['key']}: {row['seconds']} s", file=sys.stderr, flush=True)


def default_authors() -> list[str]:
    """Return the tuning authors, one of each corpus in turn."""
    return [f"{corpus}-{k}" for k in range(TUNING) for corpus in reversed(CORPORA)]


if __name__ == "__main__":
    main()
