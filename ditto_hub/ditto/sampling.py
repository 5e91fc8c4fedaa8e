"""M completions a demonstration from the current model, each scored under the reference at once."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from ditto_hub.ditto.rollout import Rollout, mark_copies, row_seed
from ditto_hub.ditto.selection import score_candidate
from ditto_hub.ditto.state import Artifact, Checkpoint, Work
from ditto_hub.ditto.warm_start import score_under_reference
from ditto_hub.events import BatchSampled, Event, RoundSampled
from ditto_hub.runs.storage import to_jsonl_bytes

Steps = Generator[Event | Checkpoint | Artifact, None, str]


def length_cap(work: Work) -> int:
    """Return how many new tokens a completion may have: a multiple of the longest demonstration.

    Never more than the base model has room for after the longest prompt.
    """
    sampling = work.config.sampling
    longest = max(len(r.completion_ids) for r in work.demo_rows)
    cap = sampling.max_new_tokens
    if sampling.length_factor:
        cap = min(cap, max(8, int(sampling.length_factor * longest)))
    context = work.policy.format.context
    if context:
        cap = min(cap, context - max(len(r.prompt_ids) for r in work.demo_rows))
    return max(1, cap)


def planned_batches(demos: int, samples: int, rows: int) -> list[list[tuple[int, int]]]:
    """Return batches of (demonstration, sample number), planned from the settings alone."""
    every = [(demo, m) for demo in range(demos) for m in range(samples)]
    return [every[i : i + rows] for i in range(0, len(every), rows)]


def sample_round(work: Work, t: int) -> Steps:
    """Draw D_t from pi_t, drop near-duplicates, and score pi_t as the candidate it is.

    Held-out demonstrations' prompts are answered beside the others, for the score alone. In the
    ablation that samples once, so are all of later rounds' samples.
    """
    name = "sft" if t == 0 else f"round-{t}"
    yield from _draw(work, t, work.config.sampling.samples)
    drawn, held_out = _take(work)
    rows = mark_copies(
        drawn, [d.completion for d in work.train], work.config.sampling.near_duplicate
    )
    yield Artifact(f"rollouts/round-{t}.jsonl", _readable(work, [*rows, *held_out]))
    yield _summary(rows)
    if t == 0 or work.config.update.resample == "every-round":
        work.progress.rows = [*work.progress.rows, *rows]
    yield from score_candidate(work, name, rows, held_out)
    return ""


def sample_candidate(work: Work, name: str, t: int) -> Steps:
    """Draw from a candidate that no further round samples, for its score alone."""
    yield from _draw(work, t, work.config.selection.samples)
    rows, held_out = _take(work)
    yield Artifact(f"rollouts/{name}.jsonl", _readable(work, [*rows, *held_out]))
    yield from score_candidate(work, name, rows, held_out)
    return ""


def _draw(work: Work, t: int, samples: int) -> Generator[Event | Checkpoint, None, None]:
    progress, sampling, demos = work.progress, work.config.sampling, work.prompt_rows
    batches = planned_batches(len(demos), samples, sampling.batch_rows)
    cap = length_cap(work)
    for batch in batches[progress.step :]:
        drawn = _draw_batch(work, t, batch, cap)
        progress.partial = [*progress.partial, *score_under_reference(work, drawn)]
        progress.step += 1
        yield BatchSampled(
            step=progress.step,
            rows=len(progress.partial),
            total_rows=len(demos) * samples,
            tokens=sum(len(r.completion_ids) for r in drawn),
        )
        yield work.checkpoint()


def _draw_batch(work: Work, t: int, batch: Sequence[tuple[int, int]], cap: int) -> list[Rollout]:
    demos, policy = work.prompt_rows, work.policy
    wanted: dict[int, list[int]] = {}
    for demo, m in batch:
        wanted.setdefault(demo, []).append(row_seed(work.config.seed, "rollout", t, demo, m))
    drawn = policy.sample(
        [demos[d].prompt_ids for d in wanted], list(wanted.values()), work.config.sampling, cap
    )
    return [
        Rollout(
            demo=demo,
            round=t,
            prompt_ids=demos[demo].prompt_ids,
            completion_ids=row.token_ids,
            text=policy.format.decode(row.token_ids),
            ended=row.ended,
            policy_log_prob=row.log_prob,
        )
        for demo, rows in zip(wanted, drawn, strict=True)
        for row in rows
    ]


def _take(work: Work) -> tuple[list[Rollout], list[Rollout]]:
    """Take the rows that were drawn: answers to training prompts, and to held-out ones."""
    rows, work.progress.partial = work.progress.partial, []
    known = len(work.train)
    return [r for r in rows if r.demo < known], [r for r in rows if r.demo >= known]


def _readable(work: Work, rows: Sequence[Rollout]) -> bytes:
    """Return the rollouts as DESIGN.md's contract has them."""
    demos = [*work.train, *work.held_out]
    return to_jsonl_bytes(
        {
            "demo": demos[row.demo].id,
            "round": row.round,
            "token_ids": list(row.completion_ids),
            "text": row.text,
            "ended": row.ended,
            "policy_log_prob": row.policy_log_prob,
            "reference_log_prob": row.reference_log_prob,
            "copy_of": row.copy_of,
        }
        for row in rows
    )


def _summary(rows: Sequence[Rollout]) -> RoundSampled:
    copies = [r.copy_of for r in rows]
    return RoundSampled(
        rows=len(rows),
        kept=copies.count(""),
        copies_of_demonstration=copies.count("demonstration"),
        copies_of_each_other=copies.count("sample"),
        unfinished=sum(not r.ended for r in rows),
        mean_tokens=sum(len(r.completion_ids) for r in rows) / len(rows),
    )
