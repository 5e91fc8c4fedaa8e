"""Context distillation by distributions: an adapter learns to write without the demonstrations what
the same model would write with them before its eyes.

The teacher is the base model, or one with an adapter, that is shown the demonstrations; the student
is shown the prompt alone. Texts are the demonstrations' own (the teacher is then shown the others)
and the teacher's on new prompts that the base model writes. For every token of a text the teacher's
likeliest next tokens are kept with their probabilities, and the rest as one; the student's loss is
the Kullback-Leibler divergence from them, and on the demonstrations' own texts their likelihood
too. Unlike a sampled text, a distribution says all that the teacher knows at each place, so few
texts go far. Sources: context distillation (Snell, Klein, Zhong, arXiv 2209.15189); its on-policy
form SDFT (arXiv 2601.19897).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ditto_hub.config import Sampling
from ditto_hub.demos.prompting import with_demonstrations
from ditto_hub.ditto.rollout import row_seed
from ditto_hub.engine.decoding import pad_rows
from ditto_hub.engine.merging import ready_to_decode, ready_to_train
from ditto_hub.evaluation.prompts import write_prompts
from ditto_hub.evaluation.writers import PolicyStudio
from ditto_hub.runs.folder import Run

KEPT = 256  # of a place's likeliest tokens
PART = 16  # rows through the teacher at a time
CONTEXT = 8192


@dataclass(frozen=True)
class Teaching:
    """Hold how a student is taught.

    Args:
        teacher: the candidate whose adapter the teacher wears; "" for the base model.
        student: the candidate it begins with; "" for a fresh adapter.
        prompts: new ones.
        draws: texts to each.
        temperature: of the teacher's texts.
        steps: of training.
        rows: a step.
        rate: of learning, falling by a cosine.
        own: weight of the demonstrations' likelihood beside the divergence, on their own rows.
        repeats: how often a demonstration stands among the rows for each time a drawn text does.
        redraw: steps after which the texts are drawn anew, from the student; 0 for never.
    """

    teacher: str = ""
    student: str = ""
    prompts: int = 16
    draws: int = 2
    temperature: float = 1.0
    steps: int = 60
    rows: int = 8
    rate: float = 5e-4
    own: float = 0.0
    repeats: int = 1
    redraw: int = 0


@dataclass(frozen=True)
class Lesson:
    """Hold a text as the student sees it, with what the teacher knows of it.

    Args:
        ids: prompt and completion.
        start: of the completion.
        likely: (n, k) token ids at each place of the completion.
        probs: (n, k) their probabilities.
        own: whether it is the person's text.
    """

    ids: tuple[int, ...]
    start: int
    likely: torch.Tensor
    probs: torch.Tensor
    own: bool


class Teacher:
    """Make lessons of texts.

    Args:
        run: whose demonstrations are shown.
        policy: the engine.
        tensors: of the adapter it wears; empty for none.
        cap: new tokens a text at most.
    """

    def __init__(self, run: Run, policy: Any, tensors: dict[str, torch.Tensor], cap: int) -> None:
        self.policy, self.tensors, self.cap = policy, tensors, cap
        self.demos = tuple(run.demos())

    def shown(self, prompt: str) -> list[dict[str, str]]:
        """Return a prompt after the demonstrations, that of the very prompt left out."""
        return with_demonstrations(_user(prompt), self.demos, lambda _: True)

    def own_lessons(self) -> list[Lesson]:
        """Return the demonstrations' own texts as lessons."""
        pairs = [(d.prompt[-1]["content"], d.completion) for d in self.demos]
        encoded = [self.policy.format.encode(_user(p), text) for p, text in pairs]
        return self.lessons([p for p, _ in pairs], [e.completion_ids for e in encoded], own=True)

    def drawn(self, prompts: Sequence[str], teaching: Teaching, seed: int, shown: bool) -> Any:
        """Return prompts, each as often as a text of it was drawn, and the texts' tokens."""
        messages = [self.shown(p) if shown else _user(p) for p in prompts]
        ids = [self.policy.format.prompt_ids(m) for m in messages]
        seeds = [
            [row_seed(seed, "teach", i, k) for k in range(teaching.draws)]
            for i in range(len(prompts))
        ]
        sampling = Sampling(temperature=teaching.temperature, top_p=0.95, batch_rows=64)
        found = self.policy.sample(ids, seeds, sampling, self.cap)
        flat = [(p, row.token_ids) for p, rows in zip(prompts, found, strict=True) for row in rows]
        return [p for p, _ in flat], [tokens for _, tokens in flat]

    @torch.no_grad()
    def lessons(
        self, prompts: Sequence[str], completions: Sequence[Sequence[int]], own: bool = False
    ) -> list[Lesson]:
        """Return what the teacher, as it is worn now, knows at each place of the completions."""
        form = self.policy.format
        before = [form.prompt_ids(self.shown(p)) for p in prompts]
        plain = [form.prompt_ids(_user(p)) for p in prompts]
        found = []
        for i in range(0, len(prompts), PART):
            rows = [
                ((*b, *c), len(b))
                for b, c in zip(before[i : i + PART], completions[i : i + PART], strict=True)
            ]
            with ready_to_decode(self.policy.model):
                logits = logits_after(self.policy, rows)
            for k, part in enumerate(logits):
                probs, likely = part.log_softmax(-1).exp().topk(KEPT)
                prompt, completion = plain[i + k], completions[i + k]
                ids = (*prompt, *completion)
                found.append(Lesson(ids, len(prompt), likely.cpu(), probs.cpu(), own))
        return found


def teach(
    run: Run, policy: Any, teaching: Teaching, cap: int, seed: int, read: Callable[[str], Any]
) -> Iterator[dict[str, float]]:
    """Train the policy's adapter as a student; yields a step's losses.

    Args:
        run: whose demonstrations.
        policy: with a fresh adapter.
        cap: new tokens a text at most.
        read: a candidate's tensors by name.
    """
    fresh = policy.snapshot()
    tensors = read(teaching.teacher) if teaching.teacher else {}
    student = read(teaching.student) if teaching.student else fresh
    teacher = Teacher(run, policy, tensors, cap)
    studio = PolicyStudio(
        run, policy, Sampling(temperature=1.0, top_p=0.95, batch_rows=64), cap=cap, context=CONTEXT
    )
    written = write_prompts(studio, teaching.prompts, row_seed(seed, "teach-prompts"))
    prompts = [*(d.prompt[-1]["content"] for d in teacher.demos), *written]
    with _worn(policy, tensors):
        own = teacher.own_lessons()
        lessons = teacher.lessons(*teacher.drawn(prompts, teaching, seed, shown=True))
    policy.restore(student)
    chance = random.Random(seed)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=teaching.rate, weight_decay=0.0)
    waiting: list[Lesson] = []
    for step in range(teaching.steps):
        if teaching.redraw and step and step % teaching.redraw == 0:
            now = policy.snapshot()
            texts = teacher.drawn(prompts, teaching, seed + step, shown=False)
            with _worn(policy, tensors):
                lessons = teacher.lessons(*texts)
            policy.restore(now)
            waiting = []
        while len(waiting) < teaching.rows:
            whole = [*lessons, *(own * teaching.repeats)]
            waiting += chance.sample(whole, len(whole))
        batch, waiting = waiting[: teaching.rows], waiting[teaching.rows :]
        for group in optimizer.param_groups:
            group["lr"] = teaching.rate * 0.5 * (1 + math.cos(math.pi * step / teaching.steps))
        optimizer.zero_grad(set_to_none=True)
        with policy.training(None), ready_to_train(policy.model):
            divergence, nll = losses(policy, batch)
            torch.autograd.backward(divergence + teaching.own * nll)
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
        yield {
            "step": step + 1,
            "prompts": len(prompts),
            "divergence": float(divergence.detach()),
            "nll": float(nll.detach()),
        }


def losses(policy: Any, batch: Sequence[Lesson]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the divergence, and the person's own texts' loss, both a token of the batch."""
    rows = logits_after(policy, [(lesson.ids, lesson.start) for lesson in batch])
    tokens = sum(len(row) for row in rows)
    divergence = rows[0].new_zeros(())
    nll = rows[0].new_zeros(())
    for lesson, logits in zip(batch, rows, strict=True):
        found = logits.log_softmax(-1)  # (n, V)
        likely, probs = lesson.likely.to(found.device), lesson.probs.to(found.device)
        chosen = found.gather(1, likely)  # (n, k)
        rest = (1 - probs.sum(1)).clamp_min(1e-6)
        mine = (1 - chosen.exp().sum(1)).clamp_min(1e-6).log()
        kl = (probs * (probs.clamp_min(1e-9).log() - chosen)).sum(1)
        divergence = divergence + (kl + rest * (rest.log() - mine)).sum()
        if lesson.own:
            targets = torch.tensor(lesson.ids[lesson.start :], device=found.device)
            nll = nll - found.gather(1, targets[:, None]).sum()
    return divergence / tokens, nll / tokens


def logits_after(policy: Any, rows: Sequence[tuple[tuple[int, ...], int]]) -> list[torch.Tensor]:
    """Return, for each (ids, start), the float32 logits (n, V) that foresee ids[start:]."""
    model, head = policy.scorer.model, policy.scorer.head
    ids, _ = pad_rows([ids for ids, _ in rows], policy.format.pad_id)
    out = model.base_model(input_ids=ids.to(model.device), use_cache=False)
    hidden = out.last_hidden_state
    project = model.get_output_embeddings()
    return [
        head._shaped(project(hidden[k, start - 1 : len(row) - 1]))
        for k, (row, start) in enumerate(rows)
    ]


class _worn:
    """Wear an adapter inside the block, or none where there are no tensors."""

    def __init__(self, policy: Any, tensors: dict[str, torch.Tensor]) -> None:
        self.block = policy.as_adapter(tensors) if tensors else policy.adapter_off()

    def __enter__(self) -> None:
        self.block.__enter__()

    def __exit__(self, *error: Any) -> None:
        self.block.__exit__(*error)


def _user(prompt: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}]
