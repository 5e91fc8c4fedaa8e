"""The quality benchmark on real authors: train on a few texts, write on prompts that had no part.

    python benchmarks/authors.py --data DIR --base-model smollm2 --rows rows.jsonl
    python benchmarks/authors.py --rows rows.jsonl --report
    python benchmarks/authors.py --rows rows.jsonl --advise      what users are told

DIR holds cmcc.jsonl and ccat50.jsonl (a line a text: author, prompt, completion); neither they nor
any text made from them is committed: a row is numbers, settings and versions. Texts are cut to
`--words` words, whole sentences. The first four authors of each corpus are for tuning, the others
for reporting. A job is (author, setting, seed): it draws which topics judge, trains once, and
judges every method on the author's unseen texts and prompts.

The index was written down before any setting was tuned (authors_judges.py):

    index = (style + own + fit) / 3, each in [0, 1]
    style   share of other authors' real texts that a text beats under the author's own judge
    own     1/2 + 5/2 (1 - loss / base loss), clipped; loss a byte of the author's unseen texts
    fit     whether a text is about its own prompt, compared with real texts (authors_fit.py)

Jobs whose row is in the file are skipped; rows are written as they come, so that a run can be cut
off anywhere and goes on. `--jobs N` processes side by side, one torch thread each, sharing a GPU
where there is one. `--limit-seconds` starts no job that would not end by then, as long as the jobs
before it took.

    --base-model pocket   tries the mechanics; that model speaks only its own grammar, so its
                          figures say nothing about authors
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

from authors_report import best_taught, figures, report
from authors_settings import SETTINGS
from authors_texts import CORPORA, CUT_WORDS, read_authors

from ditto_hub.evaluation.real_authors import write_real_figures

MECHANICS = (
    "pocket knows its own grammar and nothing else: this shows that the mechanics work, and no"
    " figure below says anything about authors or methods."
)
POCKET_WORDS = 20  # that pocket holds beside its prompt
_bench: Any = None


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read rows; a last line that was cut off is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").split("\n") if path.is_file() else ():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def jobs_wanted(options: argparse.Namespace, words: int) -> Iterator[Any]:
    """Yield the jobs that the options name, setting by setting, every author of each."""
    from authors_jobs import Job

    authors = [a for c in options.corpora for a in read_authors(options.data, c, words)]
    kept = [a for a in authors if options.role in ("all", "tuning" if a.tuning else "reporting")]
    if options.authors:
        kept = [a for a in kept if a.name in options.authors]
    for seed in options.seeds:
        for name in options.settings:
            for author in kept:
                yield Job(author.name, name, seed)


def work(plan: Any, jobs: Sequence[Any], options: argparse.Namespace) -> int:
    """Do jobs in processes of their own, writing each row as it comes; return how many failed."""
    waiting, seconds, failed = list(reversed(jobs)), [0.0], 0
    began, limit = time.monotonic(), options.limit_seconds or float("inf")
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.jobs, context, _open, (plan,)) as pool:
        running: dict[Future[dict[str, Any]], Any] = {}
        while True:
            usual = sum(seconds) / max(1, len(seconds) - 1)
            late = time.monotonic() - began + usual > limit
            while waiting and len(running) < options.jobs and not late:
                job = waiting.pop()
                running[pool.submit(_run, job)] = job
            if not running:
                return failed
            done, _ = wait(running, timeout=2, return_when=FIRST_COMPLETED)
            for future in done:
                row = _keep(future, running.pop(future), options.rows)
                seconds += [row["seconds"]] if row else []
                failed += not row
            if time.monotonic() - began > limit:
                for process in list(pool._processes.values()):  # rows are written here: none is cut
                    process.terminate()
                return failed


def _open(plan: Any) -> None:
    global _bench
    from authors_jobs import Bench

    _bench = Bench(plan)


def _run(job: Any) -> dict[str, Any]:
    row: dict[str, Any] = _bench.run(job)
    return row


def _keep(future: Future[dict[str, Any]], job: Any, rows: Path) -> dict[str, Any]:
    """Write a job's row and return it, or nothing where it failed."""
    try:
        row = future.result()
    except Exception as error:  # one job's failure is told, and the others go on
        print(f"{job.key}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return {}
    drawn = row.pop("drawn", {})
    if drawn:  # people's topics and texts made from theirs: beside the rows, never in them
        append(rows.with_suffix(".texts"), {"key": row["key"], "drawn": drawn})
    append(rows, row)
    told = f"{job.key}: {row['trained_s']} s trained, {row['seconds']} s"
    print(told, file=sys.stderr, flush=True)
    return row


def append(path: Path, row: dict[str, Any]) -> None:
    """Write a row's line at once and whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row, sort_keys=True) + "\n")
        file.flush()
        os.fsync(file.fileno())


def judge_fit(options: argparse.Namespace) -> None:
    """Put the fit of the texts beside the rows into the rows."""
    from authors_fit import Fit, MiniLM

    embed, fits = MiniLM(), {}
    texts = {r["key"]: r["drawn"] for r in read_rows(options.rows.with_suffix(".texts"))}
    rows = read_rows(options.rows)
    for row in rows:
        corpus = row["author"].rpartition("-")[0]
        if row["author"] not in fits:
            authors = read_authors(options.data, corpus, row["words"])
            mine = next(a for a in authors if a.name == row["author"])
            fits[row["author"]] = Fit(mine, [a for a in authors if a is not mine], embed)
        for method, drawn in texts.get(row["key"], {}).items():
            scores = [fits[row["author"]].score(text, topic) for topic, text in drawn]
            row["methods"][method]["fit"] = round(sum(scores) / len(scores), 5)
    whole = "".join(json.dumps(row, sort_keys=True) + "\n" for row in rows)
    options.rows.write_text(whole, encoding="utf-8")


def parse(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )

    def listed(text: str) -> list[str]:
        return text.split(",")

    parser.add_argument("--data", type=Path, help="folder of the corpora")
    parser.add_argument("--rows", type=Path, default=Path("build/authors.jsonl"))
    parser.add_argument("--base-model", default="smollm2", help="smollm2, pocket, an id, a folder")
    parser.add_argument("--corpora", type=listed, default=list(CORPORA))
    parser.add_argument("--role", choices=("tuning", "reporting", "all"), default="tuning")
    parser.add_argument("--authors", type=listed, help="only these, such as cmcc-0,ccat50-3")
    parser.add_argument("--settings", type=listed, default=list(SETTINGS))
    parser.add_argument("--seeds", type=lambda t: [int(x) for x in t.split(",")], default=[0])
    parser.add_argument("--words", type=int, default=CUT_WORDS)
    parser.add_argument("--samples", type=int, default=2, help="texts to each judged prompt")
    parser.add_argument(
        "--scales", type=lambda t: tuple(float(x) for x in t.split(",") if x), default=(0.5,)
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes side by side")
    parser.add_argument("--device", default="")
    parser.add_argument(
        "--fit-later", action="store_true", help="keep texts beside the rows; judge fit elsewhere"
    )
    parser.add_argument(
        "--judge-fit", action="store_true", help="judge the fit of the texts beside the rows"
    )
    parser.add_argument("--limit-seconds", type=float, default=0.0)
    parser.add_argument("--report", action="store_true", help="print the table of the rows")
    parser.add_argument("--best", type=int, default=0, help="print so many settings to go on with")
    parser.add_argument("--advise", action="store_true", help="write what the package says of it")
    options = parser.parse_args(given)
    unknown = [name for name in options.settings if name not in SETTINGS]
    if unknown:
        parser.error(f"no setting {unknown[0]!r}; there are {', '.join(SETTINGS)}")
    if not (options.report or options.advise or options.best) and options.data is None:
        parser.error("--data names the folder of the corpora")
    return options


def main(given: Sequence[str] | None = None) -> None:
    """Do the jobs that are missing, or print the table."""
    options = parse(given)
    if options.report:
        print(report(read_rows(options.rows)))
        return
    if options.best:
        print(
            ",".join(
                f"taught-{name}" for name in best_taught(read_rows(options.rows))[: options.best]
            )
        )
        return
    if options.advise:
        write_real_figures(figures(read_rows(options.rows), options.rows.as_posix()))
        return
    if options.judge_fit:
        judge_fit(options)
        return
    from authors_jobs import Plan

    from ditto_hub import pocket

    base = pocket.resolve(options.base_model)
    words = options.words
    if options.base_model == "pocket":
        words = min(words, POCKET_WORDS)
        print(MECHANICS, file=sys.stderr)
    if options.base_model == "smollm2":
        from ditto_hub.engine import smollm2

        base = str(smollm2.fetch(lambda text: print(text, file=sys.stderr)))
    done = {row["key"] for row in read_rows(options.rows)}
    jobs = [job for job in jobs_wanted(options, words) if job.key not in done]
    plan = Plan(
        str(options.data), base, words, options.samples, options.scales, options.fit_later,
        options.device,
    )  # fmt: skip
    print(f"{len(jobs)} jobs, {len(done)} rows there", file=sys.stderr, flush=True)
    failed = work(plan, jobs, options)
    if failed:
        sys.exit(f"{failed} jobs failed.")


if __name__ == "__main__":
    main()
