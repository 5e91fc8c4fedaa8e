"""Log-probabilities of the tokens that count, without the logits of all the others.

A prompt's and the padding's positions are never projected to the vocabulary, and no (N, V) logits
outlive their chunk: the gradient at the hidden states is linear in what is owed to each token's
log-probability, so it is computed where the logits are (the idea is Liger Kernel's,
arXiv 2410.10989). What a family does to its logits beside the projection (a scale, a soft cap) is
read from its configuration and checked against the model itself once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ditto_hub.engine.protocol import LEAST, Distribution

SMALL = 2**24  # logits that autograd may keep: below this a plain projection is faster
CHUNK = {"cpu": 2**22, "cuda": 2**27}  # logits at a time
CLOSE = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}
PROBE = (1, 2, 3, 5)


@dataclass(frozen=True)
class Batch:
    """Hold padded rows, and where the tokens that count are.

    Args:
        inputs: what the decoder is called with: input_ids (R, L), a mask, positions.
        place: (N,) positions in the flat (R * L) hidden states that predict a token that counts.
        targets: (N,) those tokens; (N, k) where a teacher's distribution stands in for them.
        owner: (N,) each one's row.
        rows: R.
        probs: (N, k) the teacher's; None without one.
    """

    inputs: dict[str, Any]
    place: torch.Tensor
    targets: torch.Tensor
    owner: torch.Tensor
    rows: int
    probs: torch.Tensor | None = None


class Head:
    """A causal language model as hidden states and a projection.

    Args:
        model: without an adapter on its head.
    """

    def __init__(self, model: Any) -> None:
        text = model.config.get_text_config()
        self.model = model
        self.cap: float | None = getattr(text, "final_logit_softcapping", None)
        self.scale = _scale(text)
        self.whole = not self._is_exact()

    def log_probs(self, batch: Batch) -> torch.Tensor:
        """Return (R,) log-probabilities, summed over the tokens of each row that count."""
        if self.whole:
            of_token = _pick(self._whole(batch).float(), batch.targets, batch.probs)
        else:
            of_token = self.of_tokens(self._hidden(batch), batch.targets, batch.probs)
        wide = torch.float32 if of_token.device.type == "mps" else torch.float64
        summed = torch.zeros(batch.rows, dtype=wide, device=of_token.device)
        return summed.index_add(0, batch.owner, of_token.to(wide))

    def likeliest(self, batch: Batch, k: int) -> list[Distribution]:
        """Return what the model expects at each row's places that count, on the CPU."""
        states = self._whole(batch) if self.whole else self._hidden(batch)
        project = self.model.get_output_embeddings()
        size = states.shape[1] if self.whole else project.weight.shape[0]
        ids, probs = [], []
        for part in torch.split(states, self._chunk(states, size)):  # type: ignore[no-untyped-call]
            logits = part.float() if self.whole else self._shaped(project(part))
            top = logits.softmax(-1).topk(min(k, logits.shape[1]))
            ids.append(top.indices.int().cpu())
            probs.append(top.values.cpu())
        sizes = batch.owner.bincount(minlength=batch.rows).tolist()
        pieces = (torch.split(torch.cat(x), sizes) for x in (ids, probs))  # type: ignore[no-untyped-call]
        return [Distribution(*pair) for pair in zip(*pieces, strict=True)]

    def _whole(self, batch: Batch) -> torch.Tensor:
        """Return the model's own logits at the places, (N, V)."""
        logits: torch.Tensor = self.model(**batch.inputs).logits
        return logits.flatten(0, 1).index_select(0, batch.place)

    def _hidden(self, batch: Batch) -> torch.Tensor:
        """Return the hidden states at the places, (N, D)."""
        hidden: torch.Tensor = self.model.base_model(**batch.inputs).last_hidden_state
        return hidden.flatten(0, 1).index_select(0, batch.place)

    def _chunk(self, states: torch.Tensor, size: int) -> int:
        """Return how many places have their logits, of so many tokens each, at a time."""
        return max(1, CHUNK.get(states.device.type, CHUNK["cpu"]) // size)

    def of_tokens(
        self, hidden: torch.Tensor, targets: torch.Tensor, probs: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return (N,) float32 log-probabilities after hidden states, (N, D).

        Args:
            targets: (N,) of these tokens, or (N, k) their mean under a teacher's distribution.
            probs: (N, k) the teacher's.
        """
        head = self.model.get_output_embeddings()
        size = head.weight.shape[0]
        if len(hidden) * size <= SMALL:
            return _pick(self._shaped(head(hidden)), targets, probs)
        rows = self._chunk(hidden, size)
        found: torch.Tensor = _Chunked.apply(self, hidden, targets, probs, rows)  # type: ignore[no-untyped-call]
        return found

    def _shaped(self, logits: torch.Tensor) -> torch.Tensor:
        """Return float32 logits as the family shapes them."""
        logits = logits.float()
        if self.scale != 1:
            logits = logits * self.scale
        return self.cap * torch.tanh(logits / self.cap) if self.cap else logits

    @torch.no_grad()
    def _is_exact(self) -> bool:
        """Tell whether this gives the model's own logits; where not, the model's are used."""
        head = self.model.get_output_embeddings()
        if not isinstance(head, torch.nn.Linear) or head.weight.is_meta:
            return head is not None and head.weight.is_meta
        ids = torch.tensor([PROBE], device=self.model.device) % head.weight.shape[0]
        given = {"input_ids": ids, "use_cache": False}
        try:
            own = self.model(**given).logits[0].float()
            ours = self._shaped(head(self.model.base_model(**given).last_hidden_state[0]))
        except (AttributeError, TypeError, RuntimeError):
            return False
        within = CLOSE.get(head.weight.dtype, 5e-2) * max(1.0, float(own.abs().max()))
        return own.shape == ours.shape and bool((own - ours).abs().max() <= within)


class _Chunked(torch.autograd.Function):
    """Project, pick and forget, some rows at a time; the gradient is made where the logits are."""

    @staticmethod
    def forward(
        ctx: Any,
        head: Head,
        hidden: torch.Tensor,
        targets: torch.Tensor,
        probs: torch.Tensor | None,
        rows: int,
    ) -> torch.Tensor:
        """Return (N,) log-probabilities; keep (N, D) gradients where they are asked for."""
        projection = head.model.get_output_embeddings()
        found, kept = [], []
        for start in range(0, len(hidden), rows):
            h, target = hidden[start : start + rows], targets[start : start + rows]
            expected = None if probs is None else probs[start : start + rows]
            logits = head._shaped(projection(h))
            log_probs = logits.log_softmax(-1)
            found.append(_score(log_probs, target, expected))
            if ctx.needs_input_grad[1]:
                slope = _slope(log_probs, target, expected)
                if head.cap:
                    slope *= 1 - (logits / head.cap) ** 2
                if head.scale != 1:
                    slope *= head.scale
                kept.append(slope.to(h.dtype) @ projection.weight)
        if kept:
            ctx.save_for_backward(torch.cat(kept))
        return torch.cat(found)

    @staticmethod
    def backward(ctx: Any, *owed: torch.Tensor) -> tuple[None, torch.Tensor, None, None, None]:
        """Return what the hidden states are owed."""
        (slopes,) = ctx.saved_tensors
        return None, slopes * owed[0][:, None].to(slopes.dtype), None, None, None


def _pick(
    logits: torch.Tensor, targets: torch.Tensor, probs: torch.Tensor | None = None
) -> torch.Tensor:
    if probs is not None:
        return _score(logits.log_softmax(-1), targets, probs)
    return -torch.nn.functional.cross_entropy(logits, targets, reduction="none")


def _score(
    log_probs: torch.Tensor, targets: torch.Tensor, probs: torch.Tensor | None
) -> torch.Tensor:
    """Return (N,) log q of tokens, or its mean under p: sum p log q + rest log rest of q.

    Args:
        log_probs: (N, V) log q.
        targets: (N,), or (N, k) where `probs` are given, p, of the same shape.
    """
    if probs is None:
        return log_probs.gather(1, targets[:, None])[:, 0]
    chosen = log_probs.gather(1, targets)
    rest, mine = _rests(probs, chosen)
    return (probs * chosen).sum(1) + rest * mine.log()


def _slope(
    log_probs: torch.Tensor, targets: torch.Tensor, probs: torch.Tensor | None
) -> torch.Tensor:
    """Return (N, V) what `_score` gains with each logit; `log_probs` are used up.

    It is p - q: among the tokens that p does not keep, its rest is shared out as q has them.
    """
    if probs is None:
        ones = torch.ones_like(targets, dtype=log_probs.dtype)
        return log_probs.exp_().neg_().scatter_add_(1, targets[:, None], ones[:, None])
    chosen = log_probs.gather(1, targets)
    rest, mine = _rests(probs, chosen)
    slope = log_probs.exp_().mul_((rest / mine - 1)[:, None])
    return slope.scatter_(1, targets, probs - chosen.exp())


def _rests(probs: torch.Tensor, chosen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (N,) what p and q leave to all tokens but the k kept ones."""
    return (1 - probs.sum(1)).clamp_min(LEAST), (1 - chosen.exp().sum(1)).clamp_min(LEAST)


def _scale(text: Any) -> float:
    """Return what a family multiplies its logits by before its soft cap."""
    for name in ("logit_scale", "output_multiplier", "lm_head_multiplier"):
        if getattr(text, name, None) is not None:
            return float(getattr(text, name))
    scaling = getattr(text, "logits_scaling", None)
    return 1.0 if scaling is None else 1 / float(scaling)
