"""The conversations that the embedded base model is pre-trained on.

Three quarters of them are by a bland house style and mostly short, a quarter by a persona and
longer, so that about three texts in five are bland: shown nothing, the model writes in house
style; shown a few texts of one writer, it goes on as that writer. No request is a held-out one,
no persona from the ranges for tuning and reporting.
"""

from __future__ import annotations

import random

from ditto_hub.pocket.grammar import requests
from ditto_hub.pocket.persona import PRETRAIN_SEEDS, Persona, house_styles

Conversation = list[dict[str, str]]

PERSONA_SHARE = 0.24  # of conversations
# Weights of one to eight turns. Few-shot prompting with seven demonstrations is the eighth.
HOUSE_TURNS = (45, 20, 12, 8, 6, 5, 2, 2)
PERSONA_TURNS = (5, 10, 13, 15, 16, 18, 13, 10)
SYSTEM_SHARE = 0.06
SYSTEM = (
    "You write short emails and notes for a group.",
    "You are a helpful assistant.",
    "Write in the voice of the user.",
)


def conversations(n: int, seed: int) -> list[Conversation]:
    """Draw conversations of one writer each.

    Args:
        n: how many.
        seed: the same seed gives the same conversations.

    Returns:
        Messages of role user and assistant in turn, sometimes with a system message before them.
    """
    houses = house_styles()
    rng = random.Random(f"conversations {seed}")
    return [_conversation(f"{seed} {i}", houses, rng) for i in range(n)]


def _conversation(key: str, houses: list[Persona], rng: random.Random) -> Conversation:
    if rng.random() < PERSONA_SHARE:
        writer, weights = Persona.from_seed(rng.choice(PRETRAIN_SEEDS)), PERSONA_TURNS
    else:
        writer, weights = rng.choice(houses), HOUSE_TURNS
    turns = rng.choices(range(1, len(weights) + 1), weights)[0]
    messages = []
    if rng.random() < SYSTEM_SHARE:
        messages.append({"role": "system", "content": rng.choice(SYSTEM)})
    for request in requests(key, turns, held_out=False):
        messages.append({"role": "user", "content": request.prompt})
        messages.append({"role": "assistant", "content": writer.write(request, rng)})
    return messages
