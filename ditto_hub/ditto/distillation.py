"""Context distillation: what the base model writes with the demonstrations in its prompt, and what
it foresees there, becomes what the warm start learns to foresee without them.

The teacher is the base model shown D_E, the student pi shown the prompt alone. A text is one of the
demonstrations (the teacher is then shown the others) or one that the teacher wrote, on their
prompts and on new ones. Unlike a sampled text, a distribution says all that the teacher knows at
each place, so few texts go far. Source: Snell, Klein and Zhong, arXiv 2209.15189.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace

from ditto_hub.config import Sampling
from ditto_hub.demos.demonstrations import Message
from ditto_hub.demos.prompting import (
    TRIES_A_PROMPT,
    new_requests,
    request_for_prompts,
    with_demonstrations,
)
from ditto_hub.ditto.rollout import LESSON, Rollout, planned_batches, row_seed
from ditto_hub.ditto.state import Artifact, Checkpoint, Work, length_cap
from ditto_hub.engine.protocol import Row
from ditto_hub.errors import RunError
from ditto_hub.events import BatchSampled, Event
from ditto_hub.runs.storage import to_jsonl_bytes
from ditto_hub.words import Text

KEPT = 256  # tokens of each distribution; the shares of all others are left out
LONGER = 4  # a new prompt may have so many times the tokens of the longest of the user's own

Steps = Generator[Event | Artifact | Checkpoint, None, Text]


def write_lessons(work: Work) -> Steps:
    """Let the base model write prompts like the demonstrations', then texts with D_E in its prompt.

    Raises:
        RunError: not one demonstration fits the base model's context beside a prompt, or there is
            no other to show.
    """
    progress, settings = work.progress, work.config.warm_start
    if progress.step == 0:
        _require_room(work)
        progress.new_prompts = _new_prompts(work)
        progress.step = 1
        yield BatchSampled(step=1, rows=0, total_rows=0, tokens=0)
        yield work.checkpoint()
    prompts = _prompts(work)
    batches = planned_batches(len(prompts), settings.texts, work.config.sampling.batch_rows)
    for batch in batches[progress.step - 1 :]:
        drawn = _draw(work, prompts, batch)
        progress.partial = [*progress.partial, *drawn]
        progress.step += 1
        yield BatchSampled(
            step=progress.step,
            rows=len(progress.partial),
            total_rows=len(prompts) * settings.texts,
            tokens=sum(len(r.completion_ids) for r in drawn),
        )
        yield work.checkpoint()
    progress.lessons, progress.partial = progress.partial, []
    yield Artifact("rollouts/lessons.jsonl", _readable(work, prompts))
    return ""


def lesson_rows(work: Work) -> list[Row]:
    """Return the texts as the student sees them, each towards what the teacher foresees."""
    form, prompts = work.policy.format, _prompts(work)
    texts = [r for r in (*work.demo_rows, *work.progress.lessons) if r.completion_ids]
    shown = [_shown(work, prompts[r.demo]) for r in texts]
    pairs = [(r, turns) for r, turns in zip(texts, shown, strict=True) if turns]
    with work.policy.adapter_off():
        known = work.policy.likely(
            [Row(tuple(form.prompt_ids(turns)), r.completion_ids) for r, turns in pairs], KEPT
        )
    return [replace(r.row, towards=likely) for (r, _), likely in zip(pairs, known, strict=True)]


def lesson_steps(texts: int, prompts: int, rows: int) -> int:
    """Return the most batches that the lessons take: the prompts in one, then the texts."""
    return 1 + len(planned_batches(prompts, texts, rows))


def _prompts(work: Work) -> list[Sequence[Message]]:
    """Return the demonstrations' prompts, then the new ones."""
    new = [[{"role": "user", "content": text}] for text in work.progress.new_prompts]
    return [*(demo.prompt for demo in work.train), *new]


def _new_prompts(work: Work) -> list[str]:
    """Let the base model write prompts; fewer than asked for, or none, where it cannot."""
    count, form = work.config.warm_start.new_prompts, work.policy.format
    own = [demo.prompt[-1]["content"] for demo in work.train]
    ids = form.prompt_ids(request_for_prompts(own))
    cap = LONGER * max(form.count(text) for text in own)
    if form.context:
        cap = min(cap, form.context - len(ids))
    if not count or cap < 1:
        return []
    seeds = [row_seed(work.config.seed, "new-prompt", k) for k in range(count * TRIES_A_PROMPT)]
    with work.policy.adapter_off():
        (drawn,) = work.policy.sample([ids], [seeds], _sampling(work), cap)
    return new_requests([form.decode(row.token_ids) for row in drawn], own)[:count]


def _draw(
    work: Work, prompts: Sequence[Sequence[Message]], batch: Sequence[tuple[int, int]]
) -> list[Rollout]:
    """Draw texts from the base model, the demonstrations in its prompt."""
    form, wanted = work.policy.format, dict[int, list[int]]()
    for place, k in batch:
        if _shown(work, prompts[place]):
            seed = row_seed(work.config.seed, "lesson", place, k)
            wanted.setdefault(place, []).append(seed)
    if not wanted:
        return []
    ids = [form.prompt_ids(_shown(work, prompts[place])) for place in wanted]
    with work.policy.adapter_off():
        drawn = work.policy.sample(ids, list(wanted.values()), _sampling(work), length_cap(work))
    return [
        Rollout(
            demo=place,
            round=LESSON,
            prompt_ids=tuple(form.prompt_ids(prompts[place])),
            completion_ids=row.token_ids,
            text=form.decode(row.token_ids),
            ended=row.ended,
        )
        for place, rows in zip(wanted, drawn, strict=True)
        for row in rows
    ]


def _shown(work: Work, prompt: Sequence[Message]) -> list[Message]:
    """Return a prompt after the demonstrations that fit, never its own; empty where none does."""
    form, cap = work.policy.format, length_cap(work)

    def fits(turns: list[Message]) -> bool:
        return not form.context or len(form.prompt_ids(turns)) + cap <= form.context

    turns = with_demonstrations(prompt, work.train, fits)
    return turns if len(turns) > len(prompt) else []


def _require_room(work: Work) -> None:
    if not any(_shown(work, demo.prompt) for demo in work.train):
        raise RunError("ditto.no_room_to_show", context=work.policy.format.context)


def _sampling(work: Work) -> Sampling:
    return replace(work.config.sampling, temperature=1.0, top_p=0.95, top_k=0)


def _readable(work: Work, prompts: Sequence[Sequence[Message]]) -> bytes:
    """Return the texts as the rollouts are; new prompts have names of their own."""
    names = [*(demo.id for demo in work.train), *(f"new-{n}" for n in range(1, len(prompts) + 1))]
    return to_jsonl_bytes(
        {
            "demo": names[row.demo],
            "prompt": prompts[row.demo][-1]["content"],
            "token_ids": list(row.completion_ids),
            "text": row.text,
            "ended": row.ended,
        }
        for row in work.progress.lessons
    )
