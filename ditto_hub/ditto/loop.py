"""Algorithm 1 of *Show, Don't Tell: Aligning Language Models with Demonstrated Feedback*
(Shaikh, Lam, Hejna, Shao, Cho, Bernstein, Yang; arXiv 2406.00888).

    paper     here                                paper     here
    D_E       work.train                          T         config.update.rounds
    pi        work.policy                         K         config.update.steps
    pi_0      work.pi_0 (also the reference)      M         config.sampling.samples
    D_t       rows of round t                     B         config.update.pairs comparisons

Deviations, each with the setting that undoes it (preset `paper` undoes 2 and 4 to 7):
1. Kinds of comparison that are still empty pass their share on, and shares are met exactly over a
   run; the reference code makes the batch smaller and rounds in each (ranking.py).
2. Near-duplicates of a demonstration or of another sample are not compared
   (sampling.near_duplicate=1).
3. Each round's first step uses that round's samples; the reference code's uses the last one's.
4. The warm start stops on a held-out demonstration, or on loss a completion byte; the paper's 1.00
   a token is a number of one tokenizer (warm_start.stop=loss, stop_unit=token, stop_loss=1).
5. Samples are capped at a multiple of the longest demonstration (sampling.length_factor=0).
6. The warm start, its continuation and every round are candidates; the best is kept
   (selection.rule=last).
7. The adapter of the last sound round may be scaled down before it is kept (lora.strength=1).
Off unless asked for:
8. The warm start may learn from the prompted model in place of the demonstrations' likelihood
   (warm_start.objective=likelihood; distillation.py).

The loop yields events, the artifacts a run folder holds, and a checkpoint wherever it may stop. It
saves nothing and knows no backend; started with a checkpoint's bytes it goes on from there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from typing import Any

from ditto_hub.config import RunConfig
from ditto_hub.demos.demonstrations import DemoSet
from ditto_hub.ditto.distillation import draft_prompts, teach
from ditto_hub.ditto.sampling import planned_batches, sample_candidate, sample_round
from ditto_hub.ditto.selection import choose
from ditto_hub.ditto.state import Artifact, Checkpoint, Work
from ditto_hub.ditto.update import update_round
from ditto_hub.ditto.warm_start import sft_long, warm_start
from ditto_hub.engine.protocol import Engine
from ditto_hub.events import CandidateChosen, Event, StageFinished, StageStarted
from ditto_hub.runs.progress import before_rounds
from ditto_hub.words import Text

Yielded = Event | Artifact | Checkpoint
SCALED = "scaled"  # among the stages that are done
Stage = Generator[Yielded, None, Text]


def ditto(
    policy: Engine, demos: DemoSet, config: RunConfig, saved: bytes | None = None
) -> Iterator[Yielded]:
    """Turn demonstrations into candidates and choose one.

    Args:
        policy: pi, with a fresh adapter.
        demos: D_E, with their split.
        config: all settings.
        saved: a checkpoint's bytes to go on from.
    """
    work = Work(policy, demos, config)
    work.load_bytes(saved) if saved else work.begin()
    rounds = config.update.rounds

    if config.warm_start.distils:
        if config.warm_start.prompts:
            yield from stage(work, "drafting", None, draft_prompts(work))
        yield from stage(work, "teaching", None, teach(work))
    yield from stage(work, "warm-start", None, warm_start(work))  # pi_0 <- SFT(pi, D_E)
    yield from keep(work, "sft")
    for t in range(rounds):
        yield from stage(work, "sampling", t, sample_round(work, t))  # D_t ~ pi_t
        yield from stage(work, "update", t, update_round(work, t))  # K steps, B from eq. 2
        yield from keep(work, f"round-{t + 1}")  # pi_{t+1} <- pi
    yield from scale_last_round(work)
    yield from stage(work, "scoring", rounds, sample_candidate(work, last_round(work), rounds))
    if config.selection.sft_long:
        yield from stage(work, "sft-long", None, sft_long(work))
        yield from keep(work, "sft-long")
        yield from stage(work, "scoring", None, sample_candidate(work, "sft-long", rounds + 1))
    name, rule, reason = choose(work.progress.candidates, config.selection)
    yield CandidateChosen(name=name, rule=rule, reason=reason)


def stage(work: Work, name: str, t: int | None, body: Stage) -> Stage:
    """Run one stage, unless a resumed run has it behind it or the rounds have ended early."""
    progress = work.progress
    key = stage_key(name, t)
    if key in progress.done or _is_left_out(work, name, t):
        body.close()
        return ""
    began = time.perf_counter()
    here: dict[str, Any] = {"stage": name, "round": t}
    yield StageStarted(
        **here,
        index=len(progress.done),
        total_steps=total_steps(work.config, name, len(work.prompt_rows)),
    )
    reason: Text = ""
    while True:
        try:
            item = next(body)
        except StopIteration as end:
            reason = end.value or ""
            break
        for notice in work.policy.notices():
            yield replace(notice, **here)
        yield replace(item, **here) if isinstance(item, Event) else item
    progress.done.append(key)
    progress.step = 0
    yield StageFinished(**here, seconds=time.perf_counter() - began, reason=reason)
    yield work.checkpoint(boundary=True)
    return reason


def _is_left_out(work: Work, name: str, t: int | None) -> bool:
    """Tell whether the rounds have ended early and a stage of theirs has nothing left to do."""
    if t is None or not work.progress.stopped_early:
        return False
    return name != "scoring" or SCALED not in work.progress.done


def last_round(work: Work) -> str:
    """Return the last round whose adapter is sound; "sft" where the first one ended early."""
    if not work.progress.stopped_early:
        return f"round-{work.config.update.rounds}"
    scored = [name for name in work.progress.candidates if name.startswith("round-")]
    return scored[-1] if scored else "sft"


def scale_last_round(work: Work) -> Iterator[Yielded]:
    """Bring the last sound round's adapter to its final scale, however the rounds ended.

    Where they ended early that is the adapter which the failed round began with.
    """
    name, done = last_round(work), work.progress.done
    if SCALED in done or name == "sft" or work.config.lora.strength == 1:
        return
    if work.progress.stopped_early:
        work.policy.restore(work.round_start)
    work.scale()
    done.append(SCALED)
    for file, data in work.policy.adapter_files().items():
        yield Artifact(f"candidates/{name}/adapter/{file}", data)
    yield work.checkpoint(boundary=True)


def keep(work: Work, name: str) -> Iterator[Yielded]:
    """Hand out a candidate's adapter when the stage that made it is the last one that ended.

    So a run that was killed in between hands it out again; a round that ended early makes none.
    """
    made_by = {"sft": "warm-start", "sft-long": "sft-long"}.get(name)
    made_by = made_by or stage_key("update", int(name.removeprefix("round-")) - 1)
    if not work.progress.done or work.progress.done[-1] != made_by:
        return
    if name.startswith("round-") and work.progress.stopped_early:
        return
    for file, data in work.policy.adapter_files().items():
        yield Artifact(f"candidates/{name}/adapter/{file}", data)


def stage_key(name: str, t: int | None) -> str:
    """Return a stage's key within a run."""
    return name if t is None else f"{name}-{t}"


def plan(config: RunConfig) -> list[tuple[str, int | None]]:
    """Return the stages of a run in order, as (name, round)."""
    rounds = config.update.rounds
    stages = [(name, t) for name, t, _ in before_rounds(config, 0)]
    for t in range(rounds):
        stages += [("sampling", t), ("update", t)]
    stages.append(("scoring", rounds))
    return stages + ([("sft-long", None), ("scoring", None)] if config.selection.sft_long else [])


def total_steps(config: RunConfig, name: str, demos: int) -> int:
    """Return the most steps or batches a stage can take.

    Args:
        demos: how many there are, held-out ones included.
    """
    rows = config.sampling.batch_rows
    first = {stage: steps for stage, _, steps in before_rounds(config, demos)}
    counts: dict[str, Callable[[], int]] = {
        **{stage: lambda stage=stage: first[stage] for stage in first},  # type: ignore[misc]
        "sampling": lambda: len(planned_batches(demos, config.sampling.samples, rows)),
        "update": lambda: config.update.steps,
        "scoring": lambda: len(planned_batches(demos, config.selection.samples, rows)),
        "sft-long": lambda: config.update.rounds * config.update.steps,
    }
    return counts[name]()
