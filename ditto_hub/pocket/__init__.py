"""The embedded base model: a small real causal language model, its grammar, and three voices.

`model/` is a folder that transformers loads; `voices/` are demonstration sets with their traits.
Importing this loads neither torch nor transformers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ditto_hub.errors import DemoError

MODEL_DIR = Path(__file__).with_name("model")
VOICES_DIR = Path(__file__).with_name("voices")


def path() -> Path:
    """Give the folder of the embedded base model."""
    return MODEL_DIR


def resolve(base_model_id: str) -> str:
    """Give what `from_pretrained` takes: the package's folder for "pocket", else the id itself."""
    return str(MODEL_DIR) if base_model_id == "pocket" else base_model_id


def voices() -> list[str]:
    """Name the demonstration sets shipped in the package."""
    return sorted(p.name.removesuffix(".traits.json") for p in VOICES_DIR.glob("*.traits.json"))


def voice_path(name: str) -> Path:
    """Give the file of a voice's demonstrations (JSONL with prompt and completion).

    Raises:
        DemoError: there is no such voice.
    """
    return _file(name, ".jsonl")


def voice_prompts(name: str) -> list[str]:
    """Give held-out prompts to compare methods on, none of them a demonstration's.

    Raises:
        DemoError: there is no such voice.
    """
    lines = _file(name, ".prompts.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["prompt"] for line in lines]


def voice_traits(name: str) -> dict[str, Any]:
    """Give a voice's traits, as the grammar's judge takes them.

    Raises:
        DemoError: there is no such voice.
    """
    traits: dict[str, Any] = json.loads(_file(name, ".traits.json").read_text(encoding="utf-8"))
    return traits


def _file(name: str, suffix: str) -> Path:
    if name not in voices():
        raise DemoError(f"There is no voice {name!r}.", f"The voices are {', '.join(voices())}.")
    return VOICES_DIR / f"{name}{suffix}"
