"""The embedded base model: a small real causal language model, its grammar, and three voices.

`model/` is a folder that transformers loads; `voices/` are demonstration sets with their traits.
Importing this loads neither torch nor transformers.
"""

from __future__ import annotations

from pathlib import Path

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
    if name not in voices():
        raise DemoError("pocket.no_voice", name=name, voices=", ".join(voices()))
    return VOICES_DIR / f"{name}.jsonl"
