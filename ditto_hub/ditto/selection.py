"""Score every candidate on held-out data and by degeneration guards; keep the best.

What is measured here chooses a candidate, so none of it is ever reported as a result: results come
from prompts that had no part in training, stopping or choosing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Generator, Mapping, Sequence
from typing import Any

from ditto_hub.config import Selection
from ditto_hub.ditto.rollout import Rollout
from ditto_hub.ditto.state import Artifact, Work
from ditto_hub.ditto.style import distinct, style_distance
from ditto_hub.ditto.warm_start import held_out_loss
from ditto_hub.events import CandidateScored, Event, OrderMeasured
from ditto_hub.words import Message, Text

REASONS = {
    "held-out": "ditto.chosen_by_held_out_loss",
    "stylometric": "ditto.chosen_by_style",
    "mixture": "ditto.chosen_by_mixture",
}
ORDERED_ROWS = 8  # samples of a round whose implicit reward is measured: it chooses nothing


def score_candidate(
    work: Work, name: str, fresh: Sequence[Rollout], held_out: Sequence[Rollout] = ()
) -> Generator[Event | Artifact, None, None]:
    """Score the policy as it is now, under a candidate's name.

    Args:
        name: sft, sft-long or round-T.
        fresh: samples of this very policy, scored under the reference.
        held_out: its samples for the held-out demonstrations' prompts.
    """
    scores = measure(work, fresh, held_out)
    order = implicit_order(work, fresh, scores["chosen_reward"])
    scores["ordered"] = order.ordered
    reason = degenerate(scores, work.config.selection)
    work.progress.candidates[name] = {"scores": scores, "degenerate": reason}
    yield CandidateScored(name=name, scores=scores, degenerate=reason)
    yield order


def measure(
    work: Work, fresh: Sequence[Rollout], held_out: Sequence[Rollout] = ()
) -> dict[str, float]:
    """Return a candidate's scores.

    Returns:
        held_out_loss and demonstration_loss (nats a completion token), over_base (the held-out
        loss over that before the first step), style_distance and
        held_out_style (of samples for training and for held-out prompts, to the demonstrations),
        length_ratio (mean sample over mean demonstration, tokens), distinct_2 (share of the
        demonstrations' own), unfinished (share), kl (nats a completion, to the reference),
        chosen/rejected log-probability (nats a completion) and implicit reward, margin.
    """
    policy, beta = work.policy, work.config.update.beta
    demos = work.demo_rows
    chosen = policy.log_probs([r.row for r in demos])
    texts, shown = [r.text for r in fresh], [d.completion for d in work.train]
    tokens = sum(len(r.completion_ids) for r in demos)
    ratio = mean(len(r.completion_ids) for r in fresh) / (tokens / len(demos))
    rejected = mean(r.policy_log_prob for r in fresh)
    kl = mean(r.policy_log_prob - r.reference_log_prob for r in fresh)
    chosen_reward = beta * mean(
        c - r.reference_log_prob for c, r in zip(chosen, demos, strict=True)
    )
    scores = {
        "demonstration_loss": -sum(chosen) / tokens,
        "style_distance": style_distance(texts, shown),
        "length_ratio": ratio,
        "distinct_2": distinct(texts) / max(1e-9, distinct(shown)),
        "unfinished": mean(float(not r.ended) for r in fresh),
        "kl": kl,
        "chosen_log_prob": mean(chosen),
        "rejected_log_prob": rejected,
        "chosen_reward": chosen_reward,
        "rejected_reward": beta * kl,
        "margin": chosen_reward - beta * kl,
    }
    if work.held_out_rows:
        scores["held_out_loss"] = held_out_loss(work)
        if work.progress.base_loss:
            scores["over_base"] = scores["held_out_loss"] / work.progress.base_loss
    if held_out:
        scores["held_out_style"] = style_distance([r.text for r in held_out], shown)
    return {name: float(value) for name, value in scores.items()}


def implicit_order(work: Work, fresh: Sequence[Rollout], chosen_reward: float) -> OrderMeasured:
    """Return the implicit rewards of demonstrations and every round's samples, newest first.

    Of each earlier round at most `ORDERED_ROWS` samples are scored, spread over all of them.

    Source: paper, section 3.3: the reward that training fits is beta times the log-ratio to the
    reference, and eq. 2 asks it to fall from D_E over D_t to D_0.
    """
    policy, beta = work.policy, work.config.update.beta
    rollouts = (r for r in work.progress.rows if r.round >= 0 and r.round != fresh[0].round)
    earlier = _spread(list(rollouts))
    groups: dict[str, list[float]] = {"demonstrations": [chosen_reward]}
    scores = policy.log_probs([r.row for r in earlier])
    for row, score in zip(earlier, scores, strict=True):
        reward = beta * (score - row.reference_log_prob)
        groups.setdefault(f"round-{row.round}", []).append(reward)
    groups["fresh"] = [beta * (r.policy_log_prob - r.reference_log_prob) for r in fresh]
    rewards = {name: mean(values) for name, values in groups.items()}
    rounds = sorted((k for k in rewards if k.startswith("round-")), key=lambda k: int(k[6:]))
    chain = ["demonstrations", "fresh", *reversed(rounds)]
    neighbours = list(itertools.pairwise(chain))
    right = sum(rewards[a] > rewards[b] for a, b in neighbours)
    ordered = right / len(neighbours)
    return OrderMeasured(rewards=rewards, ordered=ordered, rows=ORDERED_ROWS)


def _spread(rows: Sequence[Rollout]) -> list[Rollout]:
    """Return so many samples of each round, spread over all of them."""
    groups: dict[int, list[Rollout]] = {}
    for row in rows:
        groups.setdefault(row.round, []).append(row)
    found: list[Rollout] = []
    for mine in groups.values():
        found += mine[:: -(-len(mine) // ORDERED_ROWS)]
    return found


def degenerate(scores: Mapping[str, float], settings: Selection) -> Text:
    """Return why a candidate may not be chosen, or nothing."""
    for name, value in scores.items():
        if not math.isfinite(value):
            return Message("ditto.score_not_a_number", score=name, value=str(value))
    ratio, limit = scores["length_ratio"], settings.max_length_ratio
    if not 1 / limit <= ratio <= limit:
        return Message("ditto.wrong_length", ratio=ratio)
    if scores["unfinished"] > settings.max_unfinished:
        return Message("ditto.no_end", share=scores["unfinished"])
    if scores["distinct_2"] < settings.min_distinct:
        return Message("ditto.repetitive", share=scores["distinct_2"])
    if settings.max_over_base and scores.get("over_base", 0.0) > settings.max_over_base:
        return Message("ditto.above_base", times=scores["over_base"])
    return ""


def choose(
    candidates: Mapping[str, Mapping[str, Any]], settings: Selection
) -> tuple[str, str, Text]:
    """Pick the candidate to keep.

    Args:
        candidates: name -> {scores, degenerate}, in the order they were made.
        settings: the rule; "last" is the paper's: the last round, whatever its scores, as long
            as they are numbers.

    Returns:
        Its name, the rule that was used, and the reason in words.
    """
    rounds = [name for name in candidates if name.startswith("round-")]
    if settings.rule == "last":
        numbers = [n for n in rounds if _are_numbers(candidates[n]["scores"])]
        name = numbers[-1] if numbers else "sft"
        last = name == (rounds or [""])[-1]
        code = "ditto.chosen_last_round" if last else "ditto.chosen_last_numeric"
        return name, "last", Message(code, name=name)
    sound = {n: c["scores"] for n, c in candidates.items() if not c["degenerate"]}
    left_out = len(candidates) - len(sound)
    note = Message("ditto.left_out", count=left_out) if left_out else ""
    if not sound:
        return "sft", "fallback", Message("ditto.chosen_fallback")
    if settings.rule == "last-sound" and rounds and rounds[-1] in sound:
        why = Message("ditto.chosen_last_sound", name=rounds[-1], left_out=note)
        return rounds[-1], "last-sound", why
    rule = "mixture" if settings.rule == "last-sound" else settings.rule
    if rule != "stylometric" and not all("held_out_loss" in s for s in sound.values()):
        rule = "stylometric"
    ranks = rank_scores(sound, rule)
    best = min(ranks, key=lambda name: ranks[name])
    return best, rule, Message(REASONS[rule], name=best, count=len(sound), left_out=note)


def _are_numbers(scores: Mapping[str, float]) -> bool:
    """Tell whether weights gave numbers at all; the paper's rule asks no more of a round."""
    return all(math.isfinite(value) for value in scores.values())


def rank_scores(sound: Mapping[str, Mapping[str, float]], rule: str) -> dict[str, float]:
    """Return name -> what the rule ranks by, lower is better.

    Style is that of samples for held-out prompts, where there are any: for the prompts it was
    trained on, whoever has learnt the most by heart comes closest.
    """
    loss = {n: s["held_out_loss"] for n, s in sound.items() if "held_out_loss" in s}
    style = {n: s.get("held_out_style", s["style_distance"]) for n, s in sound.items()}
    if rule != "mixture":
        return loss if rule == "held-out" else style
    best_loss, best_style = (max(1e-9, min(values.values())) for values in (loss, style))
    return {n: loss[n] / best_loss + style[n] / best_style for n in sound}


def mean(values: Any) -> float:
    """Return the mean of numbers, 0 for none."""
    listed = [float(v) for v in values]
    return sum(listed) / len(listed) if listed else 0.0
