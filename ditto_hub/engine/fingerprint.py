"""What distinguishes one base model in a folder from another: a hash that takes no minute."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ditto_hub.errors import BaseModelError

PIECE = 64 * 1024
PIECES = 64  # of a file of weights, evenly spread; smaller files are read whole
NAMES = (
    "config.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json",
    "chat_template.jinja", "chat_template.json",
)  # fmt: skip


def fingerprint(folder: str | Path) -> str:
    """Return a hash of a base model's weights, config, tokenizer and chat template.

    Of a large file it reads the beginning, where safetensors says what is in it, and pieces spread
    over the rest: another training of the same architecture differs in all of them.
    """
    whole, folder = hashlib.sha256(), Path(folder)
    named = {folder / name for name in NAMES if (folder / name).is_file()}
    for path in sorted({*folder.glob("*.safetensors")} | named):
        size = path.stat().st_size
        whole.update(f"{path.name} {size} ".encode())
        with path.open("rb") as file:
            if size <= PIECE * PIECES:
                whole.update(file.read())
                continue
            for k in range(PIECES):
                file.seek(k * (size - PIECE) // (PIECES - 1))
                whole.update(file.read(PIECE))
    return whole.hexdigest()


def require_same_base(base_model: Mapping[str, Any]) -> None:
    """Refuse a folder that holds another base model than when the run began.

    Args:
        base_model: of the run's record; without a fingerprint nothing is compared.

    Raises:
        BaseModelError: its weights, config, tokenizer or chat template have changed.
    """
    known, folder = base_model.get("fingerprint"), Path(str(base_model["id"]))
    if known and folder.is_dir() and fingerprint(folder) != known:
        raise BaseModelError("engine.base_changed", folder=str(folder))
