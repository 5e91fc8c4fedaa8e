"""The plain engine: transformers' `generate`, PEFT, and one padded batch.

It is what anyone would write, so it is the oracle that tests hold the fast engine to, and what
runs where a model's cache or head is beyond the fast one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from ditto_hub.config import Sampling
from ditto_hub.engine.adapter import AdaptedModel
from ditto_hub.engine.decoding import inverse_cdf, pad_rows, uniforms, warpers
from ditto_hub.engine.protocol import LEAST, Distribution, Drawn, Loss, Row
from ditto_hub.events import Event, Noticed
from ditto_hub.words import Message


class PlainEngine(AdaptedModel):
    """A LoRA model that samples, scores and trains in the plainest way; see `protocol.Engine`."""

    limits: Mapping[str, int] = {}
    token_budget = 0  # one batch, whatever it takes
    model_type = ""  # named in the notice where this engine runs for want of the fast one

    @torch.no_grad()
    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        seeds: Sequence[Sequence[int]],
        sampling: Sampling,
        cap: int,
    ) -> list[list[Drawn]]:
        """Draw completions, each with its own random generator; see `protocol.Engine`."""
        owner = [i for i, mine in enumerate(seeds) for _ in mine]
        draws = torch.stack([uniforms(s, cap) for mine in seeds for s in mine])
        ids, mask = pad_rows([prompts[i] for i in owner], self.format.pad_id, left=True)
        draw = _Draw(warpers(sampling), draws.to(self.device), set(self.format.stop_ids))
        self.model.generate(
            input_ids=ids.to(self.device),
            attention_mask=mask.to(self.device),
            generation_config=GenerationConfig(
                max_new_tokens=cap,
                do_sample=False,
                eos_token_id=sorted(self.format.stop_ids),
                pad_token_id=self.format.pad_id,
            ),
            logits_processor=LogitsProcessorList([draw]),
        )
        rows = iter(draw.rows())
        return [[next(rows) for _ in mine] for mine in seeds]

    @torch.no_grad()
    def log_probs(self, rows: Sequence[Row]) -> list[float]:
        """Return each row's summed log-probability; see `protocol.Engine`."""
        scores: list[float] = self._scores(rows).tolist() if rows else []
        return scores

    @torch.no_grad()
    def distributions(self, rows: Sequence[Row], k: int) -> list[Distribution]:
        """Return what the model expects in the rows' completions; see `protocol.Engine`."""
        log_probs = self._log_probs(rows)
        found = []
        for row, mine in zip(rows, log_probs, strict=True):
            probs = mine[row.start - 1 : len(row.ids) - 1].exp()  # (n, V)
            top = probs.topk(min(k, probs.shape[1]))
            found.append(Distribution(top.indices.int().cpu(), top.values.cpu()))
        return found

    def backward(self, rows: Sequence[Row], loss: Loss, seed: int | None = None) -> torch.Tensor:
        """Put the gradient of a loss into the adapter; see `protocol.Engine`."""
        for parameter in self.parameters():
            parameter.grad = None
        if seed is not None:
            torch.manual_seed(seed)
        with self.training(seed):
            value = loss(self._scores(rows))
            torch.autograd.backward(value)
        return value.detach()

    def notices(self) -> Iterator[Event]:
        """Yield, once, that this model is beyond the fast engine."""
        if self.model_type:
            told = Message("engine.plain_engine", model_type=self.model_type)
            yield Noticed(code="plain-engine", message=told)
        self.model_type = ""

    def _scores(self, rows: Sequence[Row]) -> torch.Tensor:
        """Return (R,) log-probabilities, summed over the tokens that count."""
        log_probs = self._log_probs(rows)
        return torch.stack(
            [
                _score(row, mine[row.start - 1 : len(row.ids) - 1])
                for row, mine in zip(rows, log_probs, strict=True)
            ]
        )

    def _log_probs(self, rows: Sequence[Row]) -> torch.Tensor:
        """Return (R, L - 1, V) float32 log-probabilities of every next token."""
        ids, mask = pad_rows([row.ids for row in rows], self.format.pad_id)
        ids, mask = ids.to(self.device), mask.to(self.device)
        out = self.model(input_ids=ids, attention_mask=mask, use_cache=False)
        found: torch.Tensor = out.logits[:, :-1].float().log_softmax(-1)
        return found


def _score(row: Row, log_probs: torch.Tensor) -> torch.Tensor:
    """Return a row's summed score of (n, V) log-probabilities at the places that count."""
    if row.expected is None:
        targets = torch.tensor(row.ids[row.start :], device=log_probs.device)
        return log_probs.gather(1, targets[:, None]).double().sum()
    ids, probs = (t.to(log_probs.device) for t in (row.expected.ids.long(), row.expected.probs))
    others = torch.ones_like(log_probs).scatter(1, ids, 0.0)  # (n, V)
    rest = (1 - probs.sum(1)).clamp_min(LEAST)
    mine = (log_probs.exp() * others).sum(1).clamp_min(LEAST).log()
    return ((probs * log_probs.gather(1, ids)).sum(1) + rest * mine).double().sum()


class _Draw(LogitsProcessor):  # type: ignore[misc]
    """Choose each row's next token from its own random numbers, and note what was chosen."""

    def __init__(self, warp: LogitsProcessorList, draws: torch.Tensor, stop: set[int]) -> None:
        self.warp, self.draws, self.stop = warp, draws, stop
        self.tokens: list[list[int]] = [[] for _ in draws]
        self.log_prob = [0.0] * len(draws)
        self.turn = 0

    def __call__(self, input_ids: Any, scores: torch.Tensor) -> torch.Tensor:
        """Return scores that leave one token a row."""
        logits = scores.float()
        token = inverse_cdf(self.warp(None, logits), self.draws[:, self.turn])
        chosen = logits.log_softmax(-1).gather(1, token[:, None])[:, 0].double()
        for k, (t, score) in enumerate(zip(token.tolist(), chosen.tolist(), strict=True)):
            if not self.tokens[k] or self.tokens[k][-1] not in self.stop:
                self.tokens[k].append(t)
                self.log_prob[k] += score
        self.turn += 1
        only = torch.full_like(logits, -torch.inf)
        return only.scatter_(1, token[:, None], 0.0)

    def rows(self) -> Iterator[Drawn]:
        """Yield what was drawn."""
        for ids, score in zip(self.tokens, self.log_prob, strict=True):
            yield Drawn(tuple(ids), ids[-1] in self.stop, score)
