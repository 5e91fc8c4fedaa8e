"""The losses, each a few lines: functions of a batch's summed log-probabilities.

r_w and r_l are the implicit rewards over beta: log pi(y|x) - log pi_ref(y|x), winner and loser.
Value and gradient are those of TRL's SFTTrainer and DPOTrainer (a contract test holds that).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import logsigmoid

from ditto_hub.config import Update
from ditto_hub.ditto.ranking import Comparison
from ditto_hub.ditto.rollout import Rollout
from ditto_hub.engine.protocol import LEAST, Distribution, Row


def supervised(log_probs: torch.Tensor, tokens: int) -> torch.Tensor:
    """Return the mean negative log-likelihood a token.

    Args:
        log_probs: (R,) summed over the tokens that count.
        tokens: how many count in all rows together.
    """
    return -log_probs.sum() / tokens


class DistillationLoss:
    """The divergence of a student from what its teacher expects, a token of a batch.

    KL(p || q) = sum p log p - sum p log q, where p is the teacher's distribution at a place, its
    likeliest tokens and all others as one, and q the student's; the rows' scores are sum p log q.

    Source: context distillation (Snell, Klein, Zhong, arXiv 2209.15189).

    Args:
        rows: with what the teacher expects.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows
        self.tokens = sum(row.tokens for row in rows)
        self.certainty = sum(_certainty(row.expected) for row in rows if row.expected)

    def __call__(self, scores: torch.Tensor) -> torch.Tensor:
        """Return the loss of (R,) scores, summed over the rows' tokens."""
        return (self.certainty - scores.sum()) / self.tokens


def _certainty(expected: Distribution) -> float:
    """Return sum p log p over a row's places, nats."""
    probs = expected.probs.double()
    rest = (1 - expected.probs.sum(1)).clamp_min(LEAST).double()
    return float((probs * probs.clamp_min(1e-9).log()).sum() + (rest * rest.log()).sum())


@dataclass(frozen=True)
class Pairs:
    """Hold what a preference loss reads of B comparisons.

    Args:
        winner: (B,) log-ratio to the reference, nats, summed over tokens: r_w.
        loser: (B,) r_l.
        winner_tokens: (B,) tokens that count; loser_tokens likewise.
        beta: weight of the KL penalty.
    """

    winner: torch.Tensor
    loser: torch.Tensor
    winner_tokens: torch.Tensor
    loser_tokens: torch.Tensor
    beta: float


def sigmoid(p: Pairs) -> torch.Tensor:
    """Return DPO's loss, (B,): -log sigmoid(beta (r_w - r_l)). arXiv 2305.18290, eq. 7."""
    return -logsigmoid(p.beta * (p.winner - p.loser))


def ipo(p: Pairs) -> torch.Tensor:
    """Return IPO's, (B,): (r_w/n_w - r_l/n_l - 1/(2 beta))^2, a token. arXiv 2310.12036, eq. 17."""
    return (p.winner / p.winner_tokens - p.loser / p.loser_tokens - 1 / (2 * p.beta)) ** 2


def hinge(p: Pairs) -> torch.Tensor:
    """Return the hinge loss, (B,): max(0, 1 - beta (r_w - r_l)). SLiC, arXiv 2305.10425."""
    return torch.relu(1 - p.beta * (p.winner - p.loser))


def apo_zero(p: Pairs) -> torch.Tensor:
    """Return APO-zero's, (B,): 1 - s(beta r_w) + s(beta r_l). arXiv 2408.06266, eq. 7."""
    return 1 - torch.sigmoid(p.beta * p.winner) + torch.sigmoid(p.beta * p.loser)


def apo_down(p: Pairs) -> torch.Tensor:
    """Return APO-down's, (B,): s(beta r_w) + 1 - s(beta (r_w - r_l)). arXiv 2408.06266, eq. 8."""
    return torch.sigmoid(p.beta * p.winner) + 1 - torch.sigmoid(p.beta * (p.winner - p.loser))


def sigmoid_norm(p: Pairs) -> torch.Tensor:
    """Return DPO's with rewards a token, (B,): -log s(beta (r_w/n_w - r_l/n_l)). TRL's name."""
    return -logsigmoid(p.beta * (p.winner / p.winner_tokens - p.loser / p.loser_tokens))


def nca_pair(p: Pairs) -> torch.Tensor:
    """Return NCA's, (B,): -log s(b r_w) - .5 log s(-b r_w) - .5 log s(-b r_l). arXiv 2402.05369."""
    won, lost = p.beta * p.winner, p.beta * p.loser
    return -logsigmoid(won) - 0.5 * logsigmoid(-won) - 0.5 * logsigmoid(-lost)


PREFERENCE: Mapping[str, Callable[[Pairs], torch.Tensor]] = {
    "sigmoid": sigmoid,
    "ipo": ipo,
    "hinge": hinge,
    "apo_zero": apo_zero,
    "apo_down": apo_down,
    "sigmoid_norm": sigmoid_norm,
    "nca_pair": nca_pair,
}
METRICS = (
    "chosen_log_prob",
    "rejected_log_prob",
    "chosen_reward",
    "rejected_reward",
    "accuracy",
    "margin",
)


class PreferenceLoss:
    """A batch of comparisons as a loss of its different rows, each of which runs once.

    Args:
        rollouts: all rows of a run.
        comparisons: B of them, by the rollouts' indices.
        update: the loss's name, beta, and the weight of its NLL term on the winners.
    """

    def __init__(
        self, rollouts: Sequence[Rollout], comparisons: Sequence[Comparison], update: Update
    ) -> None:
        self.update = update
        order = [c.winner for c in comparisons] + [c.loser for c in comparisons]
        numbers = {index: k for k, index in enumerate(dict.fromkeys(order))}
        unique = [rollouts[index] for index in numbers]
        self.rows: list[Row] = [r.row for r in unique]
        self._places = torch.tensor([numbers[index] for index in order])
        self._reference = torch.tensor([r.reference_log_prob for r in unique], dtype=torch.float64)
        self._tokens = torch.tensor([row.tokens for row in self.rows])
        self.metrics = torch.zeros(len(METRICS))

    def __call__(self, log_probs: torch.Tensor) -> torch.Tensor:
        """Return the loss of (R,) log-probabilities; `metrics` then has those of `METRICS`."""
        device, update = log_probs.device, self.update
        winners, losers = self._places.to(device, non_blocking=True).chunk(2)
        reference = self._reference.to(log_probs.dtype).to(device, non_blocking=True)
        tokens = self._tokens.to(device, non_blocking=True)
        ratio = log_probs - reference
        pairs = Pairs(ratio[winners], ratio[losers], tokens[winners], tokens[losers], update.beta)
        loss = PREFERENCE[update.loss](pairs).mean()
        if update.sft_weight:
            nll = -log_probs[winners].sum() / pairs.winner_tokens.sum()
            loss = loss + update.sft_weight * nll
        self.metrics = _metrics(log_probs[winners], log_probs[losers], pairs)
        return loss


@torch.no_grad()
def _metrics(chosen: torch.Tensor, rejected: torch.Tensor, pairs: Pairs) -> torch.Tensor:
    won, lost = pairs.beta * pairs.winner, pairs.beta * pairs.loser
    right = (won > lost).to(won.dtype)
    found = (chosen, rejected, won, lost, right, won - lost)
    return torch.stack([value.mean() for value in found])
