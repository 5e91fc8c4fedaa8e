"""Context distillation: what the prompted model writes becomes demonstrations of the adapter's.

The base model writes new prompts in the manner of the demonstrations', answers them with the
demonstrations in its context, and the answers that are sound, are no copies, and come closest to
the demonstrations in style stay, at most half of those drawn. Source of the idea: SDFT, arXiv
2601.19897, and its forerunners; here off-policy, before the run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ditto_hub.config import Sampling
from ditto_hub.demos.prompting import with_demonstrations
from ditto_hub.ditto.rollout import row_seed, similarity
from ditto_hub.ditto.style import style_distance
from ditto_hub.evaluation.degeneration import measure
from ditto_hub.evaluation.prompts import write_prompts
from ditto_hub.evaluation.writers import PolicyStudio
from ditto_hub.runs.folder import Run

COPY = 0.5  # similarity to a demonstration from which a text is its copy
REPEATS = 0.3  # share of a text's own 4-grams that repeat
SHORT = 0.4  # of the demonstrations' mean length, below which a text is no answer
DRAWS = 2  # texts to a prompt


def distil(
    run: Run, policy: Any, sampling: Sampling, cap: int, count: int, seed: int
) -> list[tuple[str, str]]:
    """Return (prompt, text) pairs that the prompted base model wrote and that passed.

    Args:
        run: whose demonstrations are shown.
        policy: the base model with an adapter that is not used.
        cap: new tokens a text at most.
        count: of pairs wanted; fewer where fewer pass.
    """
    studio = PolicyStudio(run, policy, sampling, cap=cap, context=8192)
    demos = studio.demonstrations
    prompts = write_prompts(studio, 2 * count, row_seed(seed, "distil-prompts"))
    if not prompts:
        return []
    shown = [with_demonstrations(_user(p), demos, lambda _: True) for p in prompts]
    drawn = studio.write(shown, DRAWS, row_seed(seed, "distil-texts"))
    own = [d.completion for d in demos]
    best = []
    for prompt, texts in zip(prompts, drawn, strict=True):
        sound = [text for text in texts if passes(text, own)]
        if sound:
            ranked = sorted((style_distance([text], own), text) for text in sound)
            best.append((ranked[0][0], prompt, ranked[0][1]))
    return [(prompt, text) for _, prompt, text in sorted(best)[:count]]


def passes(text: str, own: Sequence[str]) -> bool:
    """Tell whether a text is sound, long enough, and a copy of no demonstration."""
    mean = sum(map(len, own)) / len(own)
    if len(text) < SHORT * mean or measure([text], own)["self_repetition"] > REPEATS:
        return False
    return all(similarity(text, other) < COPY for other in own)


def _user(prompt: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}]
