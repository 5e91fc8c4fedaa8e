"""Score every candidate on held-out data and by degeneration guards; keep the best.

What is measured here chooses a candidate, so none of it is ever reported as a result: results come
from prompts that had no part in training, stopping or choosing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Generator, Mapping, Sequence
from typing import Any

from ditto_hub.algorithm.rollout import Rollout
from ditto_hub.algorithm.state import Artifact, Work
from ditto_hub.algorithm.style import distinct, style_distance
from ditto_hub.algorithm.warm_start import held_out_loss
from ditto_hub.config import Selection
from ditto_hub.events import CandidateScored, Event, OrderMeasured


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
    order = implicit_order(work, fresh)
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
        held_out_loss and demonstration_loss (nats a completion token), style_distance and
        held_out_style (of samples for training and for held-out prompts, to the demonstrations),
        length_ratio (mean sample over mean demonstration, tokens), distinct_2 (share of the
        demonstrations' own), unfinished (share), kl (nats a completion, to the reference),
        chosen/rejected log-probability (nats a completion) and implicit reward, margin.
    """
    policy, beta = work.policy, work.config.update.beta
    demos = work.demo_rows
    chosen = policy.log_probs([(r.prompt_ids, r.completion_ids) for r in demos])
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
    if held_out:
        scores["held_out_style"] = style_distance([r.text for r in held_out], shown)
    return {name: float(value) for name, value in scores.items()}


def implicit_order(work: Work, fresh: Sequence[Rollout]) -> OrderMeasured:
    """Return the implicit rewards of demonstrations and every round's samples, newest first.

    Source: paper, section 3.3: the reward that training fits is beta times the log-ratio to the
    reference, and eq. 2 asks it to fall from D_E over D_t to D_0.
    """
    policy, beta = work.policy, work.config.update.beta
    earlier = [r for r in work.progress.rows if r.round != fresh[0].round]
    groups: dict[str, list[float]] = {}
    scores = policy.log_probs(
        [(r.prompt_ids, r.completion_ids) for r in earlier], work.config.update.token_budget
    )
    for row, score in zip(earlier, scores, strict=True):
        if row.round >= -1:
            key = "demonstrations" if row.round == -1 else f"round-{row.round}"
            groups.setdefault(key, []).append(beta * (score - row.reference_log_prob))
    groups["fresh"] = [beta * (r.policy_log_prob - r.reference_log_prob) for r in fresh]
    rewards = {name: mean(values) for name, values in groups.items()}
    rounds = sorted((k for k in rewards if k.startswith("round-")), key=lambda k: int(k[6:]))
    chain = ["demonstrations", "fresh", *reversed(rounds)]
    neighbours = list(itertools.pairwise(chain))
    right = sum(rewards[a] > rewards[b] for a, b in neighbours)
    return OrderMeasured(rewards=rewards, ordered=right / len(neighbours))


def degenerate(scores: Mapping[str, float], settings: Selection) -> str:
    """Return why a candidate may not be chosen, or nothing."""
    for name, value in scores.items():
        if not math.isfinite(value):
            return f"{name} is {value}"
    ratio, limit = scores["length_ratio"], settings.max_length_ratio
    if not 1 / limit <= ratio <= limit:
        return f"samples are {ratio:.2f} times the demonstrations' length"
    if scores["unfinished"] > settings.max_unfinished:
        return f"{scores['unfinished']:.0%} of samples have no end"
    if scores["distinct_2"] < settings.min_distinct:
        return f"samples repeat themselves (distinct-2 is {scores['distinct_2']:.2f} of the shown)"
    return ""


def choose(
    candidates: Mapping[str, Mapping[str, Any]], settings: Selection
) -> tuple[str, str, str]:
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
        why = (
            "the last round"
            if name == (rounds or [""])[-1]
            else "the last whose scores are numbers"
        )
        return name, "last", f"{name} is {why}"
    sound = {n: c["scores"] for n, c in candidates.items() if not c["degenerate"]}
    left_out = len(candidates) - len(sound)
    note = f"; {left_out} degenerate left out" if left_out else ""
    if not sound:
        return "sft", "fallback", "every candidate is degenerate, so the warm start is kept"
    if settings.rule == "last-sound" and rounds and rounds[-1] in sound:
        return rounds[-1], "last-sound", f"{rounds[-1]} is the last round, and sound{note}"
    rule = "mixture" if settings.rule == "last-sound" else settings.rule
    if rule != "stylometric" and not all("held_out_loss" in s for s in sound.values()):
        rule = "stylometric"
    ranks = rank_scores(sound, rule)
    best = min(ranks, key=lambda name: ranks[name])
    words = {
        "held-out": "the lowest loss on the held-out demonstrations",
        "stylometric": "samples closest to the demonstrations in style",
        "mixture": "the best mixture of held-out loss and closeness in style",
    }
    return best, rule, f"{best} has {words[rule]} of {len(sound)} candidates{note}"


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
