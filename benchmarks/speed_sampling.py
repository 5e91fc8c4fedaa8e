"""Sampling: ours against the pipeline of the reference code and against one plain `generate`."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from speed_models import policy
from speed_timing import compare, interleave, peak_bytes
from transformers import GenerationConfig, pipeline

from ditto_hub.config import Sampling
from ditto_hub.engine.decoding import pad_rows
from ditto_hub.engine.fast import FastEngine

SAMPLES = 10  # a demonstration
REQUEST = "Write an email to the {} to move the {} to {}."
TOPICS = ("lab", "team", "parents", "neighbours", "club", "class", "band")
EVENTS = ("seminar", "picnic", "meeting", "concert", "dinner", "trip", "party")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


class Case:
    """Three ways to draw ten completions of each of seven prompts from one adapter.

    Args:
        model: "pocket", whose rows end by themselves, or a random model's name.
        cap: new tokens at most; a random model draws exactly so many.
    """

    def __init__(self, model: str, cap: int, demos: int = 7) -> None:
        self.cap, self.fixed = cap, model != "pocket"
        self.policy: FastEngine = policy(model, stir=0.0 if model == "pocket" else 0.02)
        form = self.policy.format
        asked = [
            REQUEST.format(*words) for words in list(zip(TOPICS, EVENTS, DAYS, strict=True))[:demos]
        ]
        self.turns = [[{"role": "user", "content": text}] for text in asked]
        self.prompts = [form.prompt_ids(turns) for turns in self.turns]
        if self.fixed:
            form.stop_ids = (2**31 - 1,)  # none: all rows are of one length
        self.config = GenerationConfig(
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            max_new_tokens=cap,
            min_new_tokens=cap if self.fixed else None,
            num_return_sequences=SAMPLES,
            pad_token_id=form.pad_id,
            eos_token_id=list(form.stop_ids) if not self.fixed else 2,
        )
        self.stops = set(form.stop_ids)
        self.tokens: dict[str, list[int]] = {}
        self.turn = 0
        tokenizer = self.policy.tokenizer
        tokenizer.padding_side, tokenizer.pad_token_id = "left", form.pad_id
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._pipe = pipeline("text-generation", model=self.policy.model, tokenizer=tokenizer)

    def ours(self) -> None:
        """Draw with ours."""
        self.turn += 1
        seeds = [[1000 * self.turn + 10 * i + k for k in range(SAMPLES)] for i in range(7)]
        drawn = self.policy.sample(self.prompts, seeds[: len(self.prompts)], Sampling(), self.cap)
        self._count("ours", sum(len(r.token_ids) for mine in drawn for r in mine))

    @torch.no_grad()
    def generate(self) -> None:
        """Draw with the library's `generate`, all prompts in one batch."""
        ids, mask = pad_rows(self.prompts, self.policy.format.pad_id, left=True)
        out = self.policy.model.generate(
            input_ids=ids, attention_mask=mask, generation_config=self.config
        )
        self._count("generate", sum(self._length(r) for r in out[:, ids.shape[1] :].tolist()))

    def pipeline(self) -> None:
        """Draw as the reference code does: the pipeline, two prompts at a time."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            out = self._pipe(
                self.turns,
                batch_size=2,
                generation_config=self.config,
                return_tensors=True,
            )
        rows = [row["generated_token_ids"] for mine in out for row in mine]
        prompts = [p for p in self.prompts for _ in range(SAMPLES)]
        lengths = [self._length(_after(r, p)) for r, p in zip(rows, prompts, strict=True)]
        self._count("pipeline", sum(lengths))

    def _count(self, side: str, tokens: int) -> None:
        self.tokens.setdefault(side, []).append(tokens)

    def _length(self, ids: list[int]) -> int:
        """Return how many tokens a row has up to its end, which counts."""
        if self.fixed:
            return len(ids)
        return next((k + 1 for k, token in enumerate(ids) if token in self.stops), len(ids))


def _after(row: list[int], prompt: list[int]) -> list[int]:
    """Return what follows the prompt in a row that may be padded on its left."""
    row, first = list(row), list(prompt)
    for start in range(len(row) - len(first) + 1):
        if row[start : start + len(first)] == first:
            return row[start + len(first) :]
    raise ValueError("the pipeline's row does not hold the prompt")


def measure(model: str, cap: int, turns: int, budget_s: float) -> dict[str, Any]:
    """Return tokens per second of each side and the ratios."""
    case = Case(model, cap)
    sides = {"pipeline": case.pipeline, "generate": case.generate, "ours": case.ours}
    times = interleave(sides, turns, budget_s)
    found = compare(times, units=case.tokens)
    return {
        "model": model,
        "length": "fixed" if case.fixed else "until the end of turn",
        "max_new_tokens": cap,
        "rows": len(case.prompts) * SAMPLES,
        "tokens": {side: round(sum(n) / len(n)) for side, n in case.tokens.items()},
        **found,
    }


def memory(model: str, cap: int) -> dict[str, Any]:
    """Return by how much memory rises at most in each way to sample."""
    case = Case(model, cap)
    rise = {"generate": peak_bytes(case.generate), "ours": peak_bytes(case.ours)}
    return {"model": model, "max_new_tokens": cap, "bytes": rise}
