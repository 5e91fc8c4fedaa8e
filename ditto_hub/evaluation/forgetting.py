"""Forgetting: what an adapter does to answers that have nothing to do with the demonstrations.

The base model, adapter off, answers general prompts; the same answers are then scored with the
adapter on. What they lose is an estimate of the divergence between the two, in nats a token: 0
where the adapter leaves such answers alone. With the adapter off the model is the base again, bit
for bit, so nothing is lost for good.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Protocol, runtime_checkable

from ditto_hub.evaluation.judges import Messages
from ditto_hub.words import Message

SAMPLES = 2  # answers a prompt
MEASURES = {
    "loss_off": "loss of the base model's own answers under itself, nats a token",
    "loss_on": "loss of the same answers with the adapter on",
    "divergence": "the difference: what the adapter costs them; 0 is nothing",
    "right_off": "share of content that the base model gets right on these prompts",
    "right_on": "the same with the adapter on",
}
GENERAL_PROMPTS = (
    "What is the capital of Portugal, and which river does it lie on?",
    "A train leaves at 9:40 and arrives at 13:05. How long does the journey take?",
    "Explain in two sentences why the sky looks blue.",
    "Write a Python function that returns the largest number in a list.",
    'Translate into French: "The library closes at six, so please bring the books back before."',
    "Name three differences between a frog and a toad.",
    'Which word does not belong with the others, and why: "apple, pear, carrot, plum"?',
    'Put this in one sentence: "The bridge was closed on Monday. Engineers found a crack in a'
    ' pillar. It will open again when the pillar has been replaced, in about three weeks."',
    "List the steps of changing a bicycle's inner tube.",
    "Is it safe to mix bleach with vinegar? Answer briefly and say why.",
)

Right = Callable[[Messages, str], float]
"""(prompt, text) -> share of what the prompt asks for that the text has, from 0 to 1."""


@runtime_checkable
class ProbedStudio(Protocol):
    """A studio that can score texts as well as write them."""

    def write(
        self, prompts: Sequence[Messages], samples: int, seed: int, candidate: str | None = None
    ) -> list[list[str]]:
        """Sample texts for each prompt from a candidate, or the base model where it is None."""

    def log_probs(
        self, prompts: Sequence[Messages], texts: Sequence[str], candidate: str | None = None
    ) -> list[tuple[float, int]]:
        """Return each text's log-probability after its prompt (nats, summed), and its tokens."""


def probe(
    studio: ProbedStudio,
    candidates: Mapping[str, str],
    prompts: Sequence[Messages],
    seed: int = 0,
    right: Right | None = None,
) -> dict[str, dict[str, float]]:
    """Measure what each method's adapter does to the base model's answers.

    Args:
        studio: the model at work.
        candidates: method -> its adapter.
        prompts: that have nothing to do with the demonstrations.
        seed: of the answers.
        right: marks an answer's content, where there is a way to know.

    Returns:
        method -> the measures of `MEASURES`; the last two only with `right`.
    """
    written = studio.write(prompts, SAMPLES, seed)
    pairs = [(p, text) for p, row in zip(prompts, written, strict=True) for text in row if text]
    if not candidates or not pairs:
        return {}
    asked, texts = [p for p, _ in pairs], [text for _, text in pairs]
    off = _loss(studio.log_probs(asked, texts))
    found = {}
    for method, candidate in candidates.items():
        on = _loss(studio.log_probs(asked, texts, candidate))
        found[method] = {"loss_off": off, "loss_on": on, "divergence": on - off}
        if right:
            drawn = studio.write(prompts, SAMPLES, seed, candidate)
            found[method]["right_off"] = _share(right, prompts, written)
            found[method]["right_on"] = _share(right, prompts, drawn)
    return found


def say(measures: Mapping[str, Mapping[str, float]]) -> list[Message]:
    """Put the probe into words; none where it was not made."""
    if not measures:
        return []
    costs = ", ".join(
        f"{name} {round(marks['divergence'], 2) + 0.0:.2f}" for name, marks in measures.items()
    )
    said = [Message("evaluation.forgetting", costs=costs)]
    marked = {n: m for n, m in measures.items() if "right_on" in m}
    if marked:
        shares = ", ".join(f"{name} {m['right_on']:.0%}" for name, m in marked.items())
        off = next(iter(marked.values()))["right_off"]
        said.append(Message("evaluation.forgetting_right", off=off, shares=shares))
    return said


def _loss(scored: Sequence[tuple[float, int]]) -> float:
    """Return the mean loss in nats a token."""
    return -sum(score for score, _ in scored) / max(1, sum(tokens for _, tokens in scored))


def _share(right: Right, prompts: Sequence[Messages], texts: Sequence[Sequence[str]]) -> float:
    return fmean(right(p, text) for p, row in zip(prompts, texts, strict=True) for text in row)
