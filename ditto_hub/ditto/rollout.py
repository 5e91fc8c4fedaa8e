"""A row: one completion of one demonstration's prompt, with what is known of it for good."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from ditto_hub.engine.protocol import Row

DEMONSTRATION = -1
ORIGINAL = -2
LESSON = -3


@dataclass(frozen=True)
class Rollout:
    """Hold a completion as token ids; a demonstration is a row too, of round -1.

    Args:
        demo: index of the demonstration whose prompt it answers, held-out ones after the others;
            of a lesson, of its prompt.
        round: t for a sample of pi_t, -1 for the demonstration, -2 for its unedited original, -3
            for a lesson of the warm start (distillation.py).
        prompt_ids: token ids the completion follows.
        completion_ids: token ids as sampled, end-of-turn included where there is one.
        ended: whether it ends with an end of turn; False for one cut at the length cap.
        policy_log_prob: log-probability (nats, summed) under the policy that sampled it.
        reference_log_prob: the same under the reference.
        copy_of: "demonstration" or "sample" for a near-duplicate that is never compared.
    """

    demo: int
    round: int
    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    text: str = ""
    ended: bool = True
    policy_log_prob: float = 0.0
    reference_log_prob: float = 0.0
    copy_of: str = ""

    @property
    def row(self) -> Row:
        """What the engine sees of it."""
        return Row(self.prompt_ids, self.completion_ids)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Rollout:
        """Build from `to_json`'s form."""
        known = {f.name: data[f.name] for f in fields(cls) if f.name in data}
        known["prompt_ids"] = tuple(known["prompt_ids"])
        known["completion_ids"] = tuple(known["completion_ids"])
        return cls(**known)


def row_seed(*parts: object) -> int:
    """Return a 63-bit seed that depends on every part; the same on every machine."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def similarity(a: str, b: str) -> float:
    """Return how alike two texts are, from 0 to 1: Dice over character 4-grams, case folded."""
    a, b = (" ".join(text.casefold().split()) for text in (a, b))
    if a == b:
        return 1.0
    grams_a, grams_b = (Counter(t[i : i + 4] for i in range(len(t) - 3)) for t in (a, b))
    total = grams_a.total() + grams_b.total()
    return 2 * (grams_a & grams_b).total() / total if total else 0.0


def mark_copies(rows: Sequence[Rollout], demos: Sequence[str], threshold: float) -> list[Rollout]:
    """Mark samples that nearly repeat their demonstration or an earlier sample of it.

    Args:
        rows: samples of one round.
        demos: completion of each demonstration, by index.
        threshold: similarity from which a sample is a copy; 1 marks nothing.
    """
    if threshold >= 1:
        return list(rows)
    kept: dict[int, list[str]] = {}
    marked = []
    for row in rows:
        mine = kept.setdefault(row.demo, [])
        copy_of = ""
        if similarity(row.text, demos[row.demo]) >= threshold:
            copy_of = "demonstration"
        elif any(similarity(row.text, other) >= threshold for other in mine):
            copy_of = "sample"
        else:
            mine.append(row.text)
        marked.append(replace(row, copy_of=copy_of))
    return marked
