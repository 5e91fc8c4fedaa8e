"""An adapter's folder, as plain PEFT writes one: its shape, and the policy that wears it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ditto_hub.algorithm.base_model import load_base
from ditto_hub.algorithm.policy import Policy
from ditto_hub.config import Lora
from ditto_hub.errors import BaseModelError


def load_adapter_folder(folder: Path, token: str | bool | None = None) -> Policy:
    """Load an adapter's base model and put the adapter on it.

    Args:
        folder: with adapter_config.json and adapter_model.safetensors at its root.
        token: of the Hub, for a private or gated base model.

    Raises:
        BaseModelError: the folder is damaged, or its base model cannot be loaded or does not fit.
    """
    lora, base = read_adapter_config(folder)
    model, tokenizer = load_base(base, token=token)
    policy = Policy(model, tokenizer, lora, 0, base)
    policy.load_adapter(folder)
    return policy


def read_adapter_config(folder: Path) -> tuple[Lora, dict[str, Any]]:
    """Return an adapter's shape and its base model, {id, revision}.

    Raises:
        BaseModelError: the file is missing or damaged.
    """
    try:
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        lora = Lora(
            rank=int(config["r"]),
            alpha=float(config["lora_alpha"]),
            targets=",".join(sorted(config["target_modules"])),
        )
        base = {"id": config["base_model_name_or_path"], "revision": config.get("revision")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BaseModelError(f"{folder / 'adapter_config.json'} is damaged: {error}.") from error
    return lora, base
