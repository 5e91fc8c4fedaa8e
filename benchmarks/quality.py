"""Does it work? Personas the base model never saw, their voice and content judged by the grammar.

    python benchmarks/quality.py --personas tuning --count 4 --seeds 1 --out build/quality
    python benchmarks/quality.py --report build/quality
    python benchmarks/quality.py --personas reporting --count 12 --seeds 3 --out build/reporting

Each (persona, seed) is one run from five demonstrations, then every method writes for the same
held-out prompts with the same sampling, and the grammar's judge scores each text: the share of the
persona's traits it shows and the share of the content it has right. A run's result is one JSON
file; a second start repeats none that is there. Training never sees the judge.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

DEMONSTRATIONS, PROMPTS, SAMPLES = 5, 12, 3


@dataclass(frozen=True)
class Job:
    """Say which run to make: persona and seed, settings changed, and where its result goes."""

    persona: int
    seed: int
    settings: tuple[str, ...]
    out: Path
    demonstrations: int = DEMONSTRATIONS
    base_model: str = "pocket"

    @property
    def path(self) -> Path:
        """The result's file."""
        return self.out / f"persona-{self.persona}-seed-{self.seed}.json"


def run_job(job: Job) -> Path:
    """Train, write, judge, and save one (persona, seed)."""
    import torch

    torch.set_num_threads(1)
    from ditto_hub.algorithm.base_model import load_base
    from ditto_hub.algorithm.loop import ditto
    from ditto_hub.algorithm.policy import Policy
    from ditto_hub.algorithm.state import Artifact
    from ditto_hub.config import preset
    from ditto_hub.demos import DemoSet
    from ditto_hub.events import CandidateChosen, CandidateScored, OrderMeasured, StageFinished
    from ditto_hub.pocket.grammar import grammar_hash
    from ditto_hub.pocket.persona import demonstrations

    began = time.perf_counter()
    config = preset("pocket", job.seed)
    for text in job.settings:
        config = config.with_setting(text)
    pairs = demonstrations(job.persona, job.demonstrations, job.seed)
    held_out = config.selection.held_out
    demos = DemoSet.from_pairs(pairs).split(None if held_out < 0 else held_out, job.seed)
    base = {"id": job.base_model, "revision": None}
    model, tokenizer = load_base(base, device=torch.device("cpu"))
    policy = Policy(model, tokenizer, config.lora, config.seed, base)
    adapters: dict[str, bytes] = {}
    result: dict[str, Any] = {"scores": {}, "order": [], "stages": []}
    for item in ditto(policy, demos, config):
        if isinstance(item, Artifact) and item.path.endswith("adapter_model.safetensors"):
            adapters[item.path.split("/")[1]] = item.data
        elif isinstance(item, CandidateScored):
            result["scores"][item.name] = {**item.scores, "degenerate": item.degenerate}
        elif isinstance(item, OrderMeasured):
            result["order"].append({**item.rewards, "ordered": item.ordered})
        elif isinstance(item, StageFinished):
            result["stages"].append([item.stage, item.round, item.seconds, item.reason])
        elif isinstance(item, CandidateChosen):
            result["chosen"] = item.name
    trained = time.perf_counter() - began
    result["truth"] = judge_methods(job, policy, pairs, adapters)
    result |= {
        "persona": job.persona,
        "seed": job.seed,
        "settings": job.settings,
        "grammar_hash": grammar_hash(),
        "train_seconds": trained,
        "seconds": time.perf_counter() - began,
    }
    job.out.mkdir(parents=True, exist_ok=True)
    temporary = job.path.with_suffix(".tmp")
    temporary.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, job.path)
    return job.path


def judge_methods(
    job: Job, policy: Any, pairs: Sequence[tuple[str, str]], adapters: Mapping[str, bytes]
) -> dict[str, dict[str, float]]:
    """Return method -> persona, content, whole, habits (each 0 to 1), on held-out prompts."""
    from safetensors.torch import load

    from ditto_hub.algorithm.rollout import row_seed
    from ditto_hub.config import Sampling
    from ditto_hub.pocket.grammar import requests
    from ditto_hub.pocket.judge import GrammarJudge
    from ditto_hub.pocket.persona import Persona

    shown = {prompt for prompt, _ in pairs}
    asked = requests(
        row_seed(job.persona, job.seed, "evaluate") % 10**9, PROMPTS + 5, held_out=True
    )
    asked = [r for r in asked if r.prompt not in shown][:PROMPTS]
    turns = [[{"role": "user", "content": r.prompt}] for r in asked]
    examples = [
        {"role": role, "content": text}
        for pair in pairs
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]
    judge = GrammarJudge(Persona.from_seed(job.persona))
    seeds = [[row_seed(job.seed, "judge", i, k) for k in range(SAMPLES)] for i in range(len(asked))]

    def score(prompts: list[Any]) -> dict[str, float]:
        ids = [policy.format.prompt_ids(p) for p in prompts]
        drawn = policy.sample(ids, seeds, Sampling(), 256)
        texts = [[policy.format.decode(d.token_ids) for d in row] for row in drawn]
        found = [judge.score(r, t) for r, row in zip(asked, texts, strict=True) for t in row]
        return {
            "persona": statistics.fmean(v.persona_score for v in found),
            "content": statistics.fmean(v.content_score for v in found),
            "whole": statistics.fmean(v.whole for v in found),
            "total": statistics.fmean(v.persona_score * v.content_score for v in found),
            "habit_distance": judge.habit_distance([t for row in texts for t in row]),
        }

    truth = {}
    with policy.adapter_off():
        truth["zero-shot"] = score(turns)
        truth["few-shot"] = score([[*examples, *turn] for turn in turns])
    for name, data in adapters.items():
        policy.restore(load(data))
        truth[name] = score(turns)
    return truth


# ---- reading results ---------------------------------------------------------------------------


def read_results(folder: Path) -> list[dict[str, Any]]:
    """Return all results of a folder, or of one file; those of another grammar are refused."""
    from ditto_hub.pocket.grammar import grammar_hash

    if folder.is_file():
        found = json.loads(folder.read_text("utf-8"))
    else:
        found = [json.loads(p.read_text("utf-8")) for p in sorted(folder.glob("persona-*.json"))]
    for result in found:
        if result["grammar_hash"] != grammar_hash():
            sys.exit(f"{folder} holds results of another grammar; a comparison would mean nothing.")
    return found


def interval(values: Sequence[tuple[int, float]], seed: int = 0) -> tuple[float, float, float]:
    """Return mean and 95 % bootstrap interval of (persona, value), resampling personas."""
    groups: dict[int, list[float]] = {}
    for persona, value in values:
        groups.setdefault(persona, []).append(value)
    rng, keys = random.Random(seed), sorted(groups)
    means = []
    for _ in range(2000):
        drawn = [v for k in rng.choices(keys, k=len(keys)) for v in groups[k]]
        means.append(statistics.fmean(drawn))
    means.sort()
    return statistics.fmean(v for _, v in values), means[50], means[1949]


def kept(result: Mapping[str, Any], rule: str) -> str:
    """Return which candidate a selection rule would have kept in a run."""
    from ditto_hub.algorithm.selection import choose
    from ditto_hub.config import Selection

    candidates = {
        name: {"scores": scores, "degenerate": scores["degenerate"]}
        for name, scores in result["scores"].items()
    }
    return choose(candidates, Selection(rule=rule))[0]


def tell(results: Sequence[Mapping[str, Any]]) -> str:
    """Return the tables: methods, then selection rules with their regret."""
    personas = {r["persona"] for r in results}
    lines = [f"{len(results)} runs, {len(personas)} personas, {PROMPTS * SAMPLES} texts a method"]
    lines.append(f"{'method':12} {'persona':>20} {'content':>20} {'total':>20}  whole  habits")
    names = list(dict.fromkeys(n for r in results for n in r["truth"]))
    for name in names:
        mine = [r for r in results if name in r["truth"]]
        cells = []
        for mark in ("persona", "content", "total"):
            mean, low, high = interval([(r["persona"], r["truth"][name][mark]) for r in mine])
            cells.append(f"{mean:.3f} ({low:.3f}-{high:.3f})")
        whole = statistics.fmean(r["truth"][name]["whole"] for r in mine)
        habit = statistics.fmean(r["truth"][name]["habit_distance"] for r in mine)
        lines.append(
            f"{name:12} " + " ".join(f"{c:>20}" for c in cells) + f"  {whole:.3f}  {habit:.3f}"
        )
    lines.append(f"\n{'rule':14} {'kept total':>20}  picks best  mean regret")
    for rule in ("held-out", "stylometric", "mixture", "last", "best", *names[2:]):
        totals, hits, regrets = [], [], []
        for r in results:
            truth = {n: r["truth"][n]["total"] for n in r["scores"] if n in r["truth"]}
            best = max(truth, key=lambda n: truth[n])
            name = best if rule == "best" else rule if rule in names else kept(r, rule)
            if name not in truth:
                continue
            totals.append((r["persona"], truth[name]))
            hits.append(name == best)
            regrets.append(truth[best] - truth[name])
        if totals:
            mean, low, high = interval(totals)
            cell = f"{mean:.3f} ({low:.3f}-{high:.3f})"
            lines.append(
                f"{rule:14} {cell:>20}  {statistics.fmean(hits):10.2f}"
                f"  {statistics.fmean(regrets):11.3f}"
            )
    seconds = statistics.median(r["train_seconds"] for r in results)
    lines.append(f"\nmedian seconds a run, one thread: {seconds:.0f}")
    return "\n".join(lines)


def main() -> None:
    """Run what is asked for and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--personas", choices=["tuning", "reporting"], default="tuning")
    parser.add_argument("--count", type=int, default=4, help="personas")
    parser.add_argument("--first", type=int, default=0, help="number of the first persona")
    parser.add_argument("--seeds", type=int, default=1, help="seeds a persona")
    parser.add_argument("--demonstrations", type=int, default=DEMONSTRATIONS)
    parser.add_argument("--base-model", default="pocket", help="a model trained on the grammar")
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--out", type=Path, default=Path("build/quality"))
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--report", type=Path, help="only print the tables of a folder or file")
    args = parser.parse_args()
    if args.report:
        print(tell(read_results(args.report)))
        return
    from ditto_hub.pocket import persona

    seeds = persona.TUNING_SEEDS if args.personas == "tuning" else persona.REPORTING_SEEDS
    jobs = [
        Job(p, s, tuple(args.settings), args.out, args.demonstrations, args.base_model)
        for p in seeds[args.first : args.first + args.count]
        for s in range(args.seeds)
    ]
    os.environ["OMP_NUM_THREADS"] = "1"
    waiting = [job for job in jobs if not job.path.is_file()]
    with ProcessPoolExecutor(args.jobs, mp_context=get_context("spawn")) as pool:
        for done in as_completed([pool.submit(run_job, job) for job in waiting]):
            print(done.result(), file=sys.stderr)
    print(tell(read_results(args.out)))


if __name__ == "__main__":
    main()
