"""The fast engine: prompts read once, rows that ended leave, CUDA graphs, bounded memory.

It keeps `protocol.Engine` to the letter: what it draws, scores and trains is what `plain.py` does,
within rounding. The base model's weights never change: sampling merges the adapter into copies of
the weights it touches and puts the very same tensors back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from transformers.cache_utils import DynamicCache

from ditto_hub.config import Lora, Sampling
from ditto_hub.engine.adapter import AdaptedModel
from ditto_hub.engine.decoding import (
    cache_argument,
    collect,
    drop_rows,
    inverse_cdf,
    pad_rows,
    pass_tokens,
    roomy_cache,
    survivors,
    uniforms,
    warpers,
)
from ditto_hub.engine.fused import attending_in_groups, fuse_norms, unfuse_norms
from ditto_hub.engine.graph_decoding import FixedDecoder
from ditto_hub.engine.memory import Budget, Room, parts
from ditto_hub.engine.merging import ready_to_decode, ready_to_train
from ditto_hub.engine.protocol import Distribution, Drawn, Loss, Row
from ditto_hub.engine.scoring import Pass, Scorer, can_share, joined
from ditto_hub.events import Event, GraphsRecorded, Noticed
from ditto_hub.words import Message

LEAVE = True  # ended rows leave the batch
SCORED_TOKENS = {"cpu": 8192, "cuda": 32_768}  # a pass without gradients, memory aside


class FastEngine(AdaptedModel):
    """A LoRA model that samples, scores and trains fast; see `protocol.Engine`.

    Args:
        model: the base model; the adapter is put on it in place.
        tokenizer: the base model's.
        lora: the adapter's shape.
        seed: of the adapter's first weights.
        base_model: {id, revision} to write into the adapter's config.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        lora: Lora,
        seed: int,
        base_model: Mapping[str, Any],
    ) -> None:
        if model.device.type == "cuda":
            fuse_norms(model)
        scorer = Scorer(model, 0)
        super().__init__(model, tokenizer, lora, seed, base_model)
        self.scorer = scorer
        scorer.pad_id = self.format.pad_id
        self.pass_tokens = pass_tokens(self.device)
        self.room = Room()
        self.budget = Budget(model)
        self.fixed_buffers = self.device.type == "cuda" and can_share(model.config)
        self._cache_argument = cache_argument(model)
        self._told: list[Event] = []
        self._warned = False

    @property
    def token_budget(self) -> int:
        """Tokens that may keep their activations at a time at most; 0 for what memory holds."""
        return self.budget.fixed

    @token_budget.setter
    def token_budget(self, tokens: int) -> None:
        self.budget.fixed = tokens

    @property
    def limits(self) -> Mapping[str, int]:
        """Tokens and rows at a time, where memory ran out."""
        return {"tokens": self.room.tokens, "rows": self.room.rows}

    @limits.setter
    def limits(self, limits: Mapping[str, int]) -> None:
        self.room.tokens, self.room.rows = limits.get("tokens", 0), limits.get("rows", 0)

    def notices(self) -> Iterator[Event]:
        """Yield what had to be done differently since the last call."""
        yield from self.room.notices()
        told, self._told = self._told, []
        yield from told

    def unload(self) -> None:
        """Take the adapter off and leave the base model as it was before."""
        unfuse_norms(self.model)
        super().unload()

    # ---- sampling ------------------------------------------------------------------------------

    @torch.no_grad()
    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        seeds: Sequence[Sequence[int]],
        sampling: Sampling,
        cap: int,
    ) -> list[list[Drawn]]:
        """Draw completions side by side, each with its own random generator.

        Every prompt is read once, however many completions it gets; rows that have ended leave
        the batch. A row's random numbers depend on its seed alone. See `protocol.Engine`.
        """
        self.model.eval()

        def draw() -> list[list[Drawn]]:
            grouped: list[list[Drawn]] = [[] for _ in prompts]
            for part in parts(prompts, seeds, self.room.rows):
                for i, row in self._draw_part(prompts, part, sampling, cap):
                    grouped[i].append(row)
            return grouped

        return self.room.with_rows(draw, sum(len(mine) for mine in seeds))

    def _draw_part(
        self,
        prompts: Sequence[Sequence[int]],
        part: Sequence[tuple[int, Sequence[int]]],
        sampling: Sampling,
        cap: int,
    ) -> list[tuple[int, Drawn]]:
        """Draw one group of rows; returns each with its prompt's number."""
        owner = [k for k, (_, mine) in enumerate(part) for _ in mine]
        draws = torch.stack([uniforms(s, cap) for _, mine in part for s in mine])
        with ready_to_decode(self.model):
            drawn = self._decode([prompts[i] for i, _ in part], owner, draws, sampling)
        return [(part[k][0], row) for k, row in zip(owner, drawn, strict=True)]

    def _decode(
        self,
        prompts: Sequence[Sequence[int]],
        owner: list[int],
        draws: torch.Tensor,
        sampling: Sampling,
    ) -> list[Drawn]:
        ids, mask = pad_rows(prompts, self.format.pad_id, left=True)
        cache = roomy_cache(self.model.config)
        step = {"input_ids": ids.to(self.device), "attention_mask": mask.to(self.device)}
        step["position_ids"] = (step["attention_mask"].cumsum(1) - 1).clamp(min=0)
        logits = self._next_logits(step, cache)
        rows = torch.tensor(owner, device=self.device)
        cache.batch_select_indices(rows)
        logits, mask = logits[rows], step["attention_mask"][rows]
        stop = torch.tensor(sorted(self.format.stop_ids), device=self.device)
        warp, draws = warpers(sampling), draws.to(self.device)
        if self.fixed_buffers:
            decoder = FixedDecoder(self._next_logits, cache, mask, draws, warp, stop)
            with attending_in_groups(self.model.get_base_model()):
                drawn = decoder.run(logits)
            self._tell(decoder.recorder)
            return drawn
        return self._decode_step_by_step(logits, cache, mask, draws, (warp, stop))

    def _decode_step_by_step(
        self,
        logits: torch.Tensor,
        cache: DynamicCache,
        mask: torch.Tensor,
        draws: torch.Tensor,
        filters: tuple[Any, torch.Tensor],
    ) -> list[Drawn]:
        """Draw a token a row and step until all have ended or met the cap.

        Args:
            logits: (R, V) after the prompts.
            cache: with the prompts of R rows.
            mask: (R, L) of the prompts.
            draws: (R, cap) each row's random numbers.
            filters: of the settings, and the token ids that end a row.
        """
        (warp, stop), (count, cap) = filters, draws.shape
        position = mask.sum(1)
        alive = torch.arange(count, device=self.device)
        tokens = torch.full((count, cap), -1, dtype=torch.long, device=self.device)
        log_probs = torch.zeros(count, dtype=torch.float64, device=self.device)
        ended = torch.zeros(count, dtype=torch.bool, device=self.device)
        for t in range(cap):
            token = inverse_cdf(warp(None, logits), draws[alive, t])  # (R,)
            chosen = logits.log_softmax(-1).gather(1, token[:, None])[:, 0]
            going = ~ended[alive]
            tokens[alive[going], t] = token[going]
            log_probs[alive[going]] += chosen[going].double()
            ended[alive] |= torch.isin(token, stop)
            left = ~ended[alive]
            n_left = int(left.sum())
            if n_left == 0 or t == cap - 1:
                break
            if LEAVE and n_left < len(alive):  # rows that have ended leave the batch
                keep = survivors(left)
                drop_rows(cache, keep)
                alive, token, mask, position = (x[keep] for x in (alive, token, mask, position))
            mask = torch.cat([mask, mask.new_ones(len(alive), 1)], 1)
            step = {"input_ids": token[:, None], "attention_mask": mask}
            step["position_ids"] = position[:, None]
            position = position + 1
            logits = self._next_logits(step, cache)
        return collect(tokens, ended, log_probs)

    def _next_logits(self, step: dict[str, torch.Tensor], cache: DynamicCache) -> torch.Tensor:
        held = {self._cache_argument: cache}
        out = self.model(**step, **held, use_cache=True, logits_to_keep=1)
        logits: torch.Tensor = out.logits[:, -1].float()
        return logits

    def _tell(self, recorder: Any) -> None:
        """Note what became of the graphs of one decoding; going on without them is a warning."""
        if recorder.reason and not self._warned:
            self._warned = True
            message = Message("engine.no_graphs", reason=recorder.reason)
            self._told.append(Noticed(code="no-cuda-graphs", message=message))
        if recorder.recorded or recorder.reason:
            self._told.append(
                GraphsRecorded(
                    recorded=recorder.recorded,
                    replayed=recorder.replayed,
                    fallback=recorder.reason,
                )
            )

    # ---- scores and gradients ------------------------------------------------------------------

    @torch.no_grad()
    def log_probs(self, rows: Sequence[Row]) -> list[float]:
        """Return each row's summed log-probability; see `protocol.Engine`."""
        if not rows:
            return []
        self.model.eval()
        longest = max(len(r.ids) for r in rows)
        size = min(self._scored_tokens(), longest * len(rows))

        def score() -> list[float]:
            found: list[float] = joined(self._run(rows, size)).tolist()
            return found

        with ready_to_decode(self.model):
            return self.room.with_tokens(score, size, longest)

    @torch.no_grad()
    def distributions(self, rows: Sequence[Row], k: int) -> list[Distribution]:
        """Return what the model expects in the rows' completions; see `protocol.Engine`."""
        if not rows:
            return []
        self.model.eval()
        longest = max(len(r.ids) for r in rows)
        size = min(self._scored_tokens(), longest * len(rows))

        def look() -> list[Distribution]:
            at_most = min(self.room.at_most(size), self.pass_tokens)
            found: dict[int, Distribution] = {}
            for numbers, batch in self.scorer.batches(rows, at_most):
                found.update(zip(numbers, self.scorer.head.likeliest(batch, k), strict=True))
            return [found[i] for i in range(len(rows))]

        with ready_to_decode(self.model):
            return self.room.with_tokens(look, size, longest)

    def backward(self, rows: Sequence[Row], loss: Loss, seed: int | None = None) -> torch.Tensor:
        """Put the gradient of a loss into the adapter; see `protocol.Engine`.

        Where all rows fit the memory they run once, with their graph. Where they do not:
        log-probabilities first, without gradients; the loss's gradient at each row; then pass by
        pass with it.
        """
        longest = max(len(r.ids) for r in rows)
        size = self.budget.tokens(self, rows)

        def run() -> torch.Tensor:
            self.clear_gradients()
            tokens = self.room.at_most(size)
            with self.training(seed), ready_to_train(self.model):
                if longest * len(rows) <= tokens:
                    value = loss(joined(self._run(rows, tokens, seed)))
                    torch.autograd.backward(value)
                    return value.detach()
                value, owed = loss_gradient(loss, self.scores(rows, seed))
                self.push(rows, owed, seed)
            return value

        return self.room.with_tokens(run, min(size, longest * len(rows)), longest)

    def clear_gradients(self) -> None:
        """Forget the adapter's gradients."""
        for parameter in self.parameters():
            parameter.grad = None

    def scores(self, rows: Sequence[Row], seed: int | None) -> torch.Tensor:
        """Return (R,) log-probabilities without their graph, from the passes that `push` runs."""
        tokens = self.room.at_most(self.budget.tokens(self, rows))
        with torch.no_grad():
            if seed is None:  # nothing random: larger passes
                tokens = max(tokens, self.room.at_most(self._scored_tokens()))
            return joined(self._run(rows, tokens, seed, share=seed is None))

    def push(self, rows: Sequence[Row], owed: torch.Tensor, seed: int | None) -> None:
        """Send (R,) gradients on the log-probabilities through the model, pass by pass."""
        tokens = self.room.at_most(self.budget.tokens(self, rows))
        for numbers, found in self._passes(rows, tokens, seed, share=False):
            mine = torch.tensor(numbers).to(owed.device, non_blocking=True)
            torch.autograd.backward(found, owed.index_select(0, mine).to(found.dtype))

    def _run(
        self, rows: Sequence[Row], tokens: int, seed: int | None = None, share: bool = True
    ) -> list[Pass]:
        return list(self._passes(rows, tokens, seed, share))

    def _passes(
        self, rows: Sequence[Row], tokens: int, seed: int | None, share: bool
    ) -> Iterator[Pass]:
        """Run rows in passes; dropout is fixed by the seed and the number of the pass."""
        at_most = min(self.room.at_most(tokens), self.pass_tokens)
        passes = self.scorer.passes(rows, at_most, share)
        for number in range(len(rows) + 1):
            if seed is not None:
                torch.manual_seed(seed + number)
            try:
                yield next(passes)
            except StopIteration:
                return

    def _scored_tokens(self) -> int:
        return SCORED_TOKENS.get(self.device.type, SCORED_TOKENS["cpu"])


def loss_gradient(loss: Loss, scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a loss of (R,) log-probabilities, and its gradient at each."""
    leaf = scores.detach().requires_grad_()
    value = loss(leaf)
    torch.autograd.backward(value)
    owed = leaf.grad if leaf.grad is not None else torch.zeros_like(leaf)
    return value.detach(), owed
