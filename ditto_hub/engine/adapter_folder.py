"""An adapter's folder, as plain PEFT writes one: its shape, and the policy that wears it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ditto_hub.config import Lora
from ditto_hub.engine.base_model import load_base
from ditto_hub.engine.choice import AnyEngine, open_engine
from ditto_hub.errors import BaseModelError
from ditto_hub.tokens import Token


def load_adapter_folder(folder: Path, token: Token | str) -> AnyEngine:
    """Load an adapter's base model and put the adapter on it.

    Args:
        folder: with adapter_config.json and adapter_model.safetensors at its root.
        token: of the Hub, for a private or gated base model.

    Raises:
        BaseModelError: the folder is damaged, or its base model cannot be loaded or does not fit.
    """
    lora, base = read_adapter_config(folder)
    model, tokenizer = load_base(base, token=token)
    policy = open_engine(model, tokenizer, lora, 0, base)
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
        if not isinstance(base["id"], str) or not isinstance(base["revision"], str | None):
            raise TypeError("base_model_name_or_path")
    except (OSError, ValueError, KeyError, TypeError) as error:
        path = folder / "adapter_config.json"
        raise BaseModelError("engine.adapter_config_damaged", path=path, error=error) from error
    return lora, base
