"""What lies beside the demonstrations of a shipped voice: its prompts and its traits."""

from __future__ import annotations

import json
from typing import Any

from ditto_hub import pocket


def voice_prompts(name: str) -> list[str]:
    """Return held-out prompts to compare methods on, none of them a demonstration's."""
    lines = pocket.voice_path(name).with_suffix(".prompts.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line)["prompt"] for line in lines]


def voice_traits(name: str) -> dict[str, Any]:
    """Return a voice's traits, as the grammar's judge takes them."""
    path = pocket.voice_path(name).with_suffix(".traits.json")
    traits: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return traits
