"""Context distillation: what the warm start trains on where its objective is `distillation`.

The teacher is pi as the run begins, shown the demonstrations; the student is pi shown the prompt
alone. Texts are the demonstrations' own, the teacher then shown the others, and the teacher's to
the demonstrations' prompts and to new ones. At every place of a text the teacher's distribution is
kept: it says all that the teacher knows there, so few texts go far.

    drafting      new prompts, written by pi in the manner of the demonstrations'
    teaching      texts ~ pi(. | demonstrations, prompt), and what the teacher expects in them
    warm-start    pi_0 <- argmin KL(teacher || pi), over all the texts (warm_start.py)

Source: context distillation (Snell, Klein, Zhong, arXiv 2209.15189). What it gives: LAB.md.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace

from ditto_hub.config import Sampling
from ditto_hub.demos.demonstrations import Message as Turn
from ditto_hub.demos.prompting import (
    TRIES_A_PROMPT,
    Messages,
    new_requests,
    request_for_prompts,
    require_teachable,
    with_demonstrations,
)
from ditto_hub.ditto.rollout import LESSON, Rollout, row_seed
from ditto_hub.ditto.sampling import length_cap
from ditto_hub.ditto.state import Artifact, Checkpoint, Work
from ditto_hub.engine.protocol import Row
from ditto_hub.errors import RunError
from ditto_hub.events import BatchSampled, Event, Noticed
from ditto_hub.runs.progress import TEACHING_ROWS
from ditto_hub.runs.storage import to_jsonl_bytes
from ditto_hub.words import Message

KEPT = 256  # of a place's likeliest tokens: 2 KiB a token of the texts
TOP_P = 0.95  # of the teacher's texts and the drafts; as measured in LAB.md
DRAFT_LENGTH = 3  # a draft's cap, in tokens of the longest prompt

Steps = Generator[Event | Checkpoint | Artifact, None, str]


def draft_prompts(work: Work, t: int | None = None) -> Steps:
    """Let pi write new prompts in the manner of the demonstrations'.

    Raises:
        DemoError: there are too few demonstrations to teach from.
        RunError: the context does not take their prompts.
    """
    require_teachable(work.train)
    progress, wanted = work.progress, work.config.warm_start.prompts
    own = [demo.prompt[-1]["content"] for demo in work.train]
    asked = work.policy.format.prompt_ids(request_for_prompts(own))
    cap = DRAFT_LENGTH * max(len(row.prompt_ids) for row in work.demo_rows)
    context = work.policy.format.context
    if context and len(asked) + cap > context:
        raise RunError("ditto.drafts_context", context=context, cap=cap)
    total = wanted * TRIES_A_PROMPT
    size = work.config.sampling.batch_rows
    for start in range(progress.step * size, total, size):
        numbers = range(start, min(start + size, total))
        seeds = [row_seed(work.config.seed, "draft", k) for k in numbers]
        drawn = work.policy.sample([asked], [seeds], _sampling(work), cap)[0]
        progress.prompts = [
            *progress.prompts,
            *(work.policy.format.decode(row.token_ids) for row in drawn),
        ]
        progress.step += 1
        yield BatchSampled(
            step=progress.step,
            rows=len(progress.prompts),
            total_rows=total,
            tokens=sum(len(row.token_ids) for row in drawn),
        )
        yield work.checkpoint()
    progress.prompts = new_requests(progress.prompts, own)[:wanted]
    if len(progress.prompts) < wanted:
        code = "ditto.few_prompts" if progress.prompts else "ditto.no_prompts"
        found = Message(code, count=len(progress.prompts), wanted=wanted)
        yield Noticed(code="few-prompts", message=found)
    yield Artifact(
        "lessons/prompts.jsonl", to_jsonl_bytes({"prompt": text} for text in progress.prompts)
    )
    return ""


def teach(work: Work, t: int | None = None) -> Steps:
    """Draw the teacher's texts, and keep what it expects at each place of theirs and the person's.

    Raises:
        DemoError: there are too few demonstrations to teach from.
        RunError: the context does not take one of them.
    """
    require_teachable(work.train)
    progress, draws = work.progress, work.config.warm_start.draws
    prompts = _prompts(work)
    every = [(i, k) for i in range(len(prompts)) for k in range(draws)]
    size = min(TEACHING_ROWS, work.config.sampling.batch_rows)
    if not work.lessons:
        yield from _tell_left_out(work, prompts)
    while len(work.lessons) < len(work.train):
        own = work.demo_rows[len(work.lessons) :][:size]
        shown = [_shown(work, work.train[row.demo].prompt) for row in own]
        _learn(work, [replace(row, round=LESSON) for row in own], shown)
        yield work.checkpoint()
    for start in range(progress.step * size, len(every), size):
        batch = every[start : start + size]
        drawn, shown = _draw(work, prompts, batch)
        _learn(work, drawn, shown)
        progress.step += 1
        yield BatchSampled(
            step=progress.step,
            rows=start + len(batch),
            total_rows=len(every),
            tokens=sum(len(row.completion_ids) for row in drawn),
        )
        yield work.checkpoint()
    yield Artifact("lessons/texts.jsonl", _readable(work, prompts))
    return ""


def _prompts(work: Work) -> list[Messages]:
    """Return each prompt that the teacher answers: the demonstrations', then the new ones."""
    asked = [Turn(role="user", content=text) for text in work.progress.prompts]
    return [*(demo.prompt for demo in work.train), *([turn] for turn in asked)]


def _shown(work: Work, prompt: Messages) -> list[int]:
    """Return the token ids of a prompt after as many demonstrations as the context takes.

    Raises:
        RunError: it takes none.
    """
    form, cap = work.policy.format, length_cap(work)
    context = form.context

    def fits(messages: Messages) -> bool:
        return not context or len(form.prompt_ids(messages)) + cap <= context

    shown = with_demonstrations(prompt, work.train, fits)
    if len(shown) == len(prompt):
        raise RunError("ditto.teacher_context", context=context or 0, cap=cap)
    return form.prompt_ids(shown)


def _tell_left_out(work: Work, prompts: Sequence[Messages]) -> Generator[Event, None, None]:
    """Say where the context does not take all demonstrations before some prompt."""
    whole = [with_demonstrations(prompt, work.train, lambda _: True) for prompt in prompts]
    ids = [work.policy.format.prompt_ids(messages) for messages in whole]
    cut = sum(mine != _shown(work, p) for mine, p in zip(ids, prompts, strict=True))
    if cut:
        context = work.policy.format.context or 0
        told = Message("ditto.demonstrations_left_out", count=cut, context=context)
        yield Noticed(code="few-shown", message=told)


def _draw(
    work: Work, prompts: Sequence[Messages], batch: Sequence[tuple[int, int]]
) -> tuple[list[Rollout], list[list[int]]]:
    """Draw the teacher's texts; return them as the student sees them, and the teacher's prompts."""
    form, seed = work.policy.format, work.config.seed
    wanted: dict[int, list[int]] = {}
    for i, k in batch:
        wanted.setdefault(i, []).append(row_seed(seed, "teach", i, k))
    shown = {i: _shown(work, prompts[i]) for i in wanted}
    drawn = work.policy.sample(
        list(shown.values()), list(wanted.values()), _sampling(work), length_cap(work)
    )
    rows = [
        Rollout(
            demo=i,
            round=LESSON,
            prompt_ids=tuple(form.prompt_ids(prompts[i])),
            completion_ids=row.token_ids,
            text=form.decode(row.token_ids),
            ended=row.ended,
            policy_log_prob=row.log_prob,
        )
        for i, mine in zip(wanted, drawn, strict=True)
        for row in mine
    ]
    return rows, [shown[row.demo] for row in rows]


def _learn(work: Work, rows: Sequence[Rollout], shown: Sequence[Sequence[int]]) -> None:
    """Keep what the teacher, with the demonstrations in its prompts, expects in texts."""
    seen = [Row(tuple(ids), r.completion_ids) for ids, r in zip(shown, rows, strict=True)]
    found = work.policy.distributions(seen, KEPT)
    work.lessons = [*work.lessons, *zip(rows, found, strict=True)]


def _sampling(work: Work) -> Sampling:
    sampling = work.config.sampling
    return replace(sampling, top_p=min(TOP_P, sampling.top_p))


def _readable(work: Work, prompts: Sequence[Messages]) -> bytes:
    """Return the lessons for their owner: the prompt, its text, and who wrote it."""
    own = len(work.demo_rows)
    return to_jsonl_bytes(
        {
            "prompt": [dict(turn) for turn in prompts[row.demo]],
            "token_ids": list(row.completion_ids),
            "text": row.text,
            "ended": row.ended,
            "policy_log_prob": row.policy_log_prob,
            "by": "user" if number < own else "model",
        }
        for number, (row, _) in enumerate(work.lessons)
    )
