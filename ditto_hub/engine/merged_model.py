"""A base model with an adapter added into its weights, as a folder of its own."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors import SafetensorError
from transformers.utils import cached_file

from ditto_hub.engine.adapter import tokenizer_files
from ditto_hub.engine.base_model import load_base, locate, translated
from ditto_hub.engine.merging import can_merge
from ditto_hub.errors import BaseModelError
from ditto_hub.runs.storage import require_room, told_as_storage_error
from ditto_hub.tokens import Token, as_token


def write_merged(
    adapter: Path, base_model: Mapping[str, Any], folder: Path, token: Token | str
) -> None:
    """Write a base model with an adapter merged into it: weights, configs, tokenizer.

    The weights are of the dtype that the base model is stored in, and its config.json is kept as it
    is. Weights that the run loaded in 4 bits are loaded whole.

    Args:
        adapter: folder with adapter_config.json and adapter_model.safetensors.
        base_model: {id, revision}, as `load_base` takes it.
        folder: where to write; it is there.
        token: of the Hub, for a private or gated base model.

    Raises:
        BaseModelError: the base model cannot be loaded, or this adapter cannot be added to it.
        StorageError: there is no room for the weights, or the disk refused.
    """
    base_id = str(base_model["id"])
    whole = {"id": base_id, "revision": base_model.get("revision")}
    model, tokenizer = load_base(whole, device=torch.device("cpu"), token=token, dtype="auto")
    require_room(folder, sum(p.nbytes for p in model.parameters()))
    with translated(base_id, "engine.not_merged"):
        adapted = PeftModel.from_pretrained(model, str(adapter))
        plain = all(p.is_floating_point() for p in model.parameters())
        if not plain or not can_merge(adapted):
            raise BaseModelError("engine.not_mergeable", where=base_id)
        _save(adapted.merge_and_unload(safe_merge=True), folder)
        config = cached_file(
            locate(base_id), "config.json", revision=whole["revision"], token=as_token(token).sent
        )
        with told_as_storage_error(folder):
            shutil.copyfile(str(config), folder / "config.json")
            for name, data in tokenizer_files(tokenizer).items():
                (folder / name).write_bytes(data)
            for weights in folder.glob("*.safetensors"):  # written for nobody else to read
                shutil.copymode(folder / "config.json", weights)


def _save(model: Any, folder: Path) -> None:
    with told_as_storage_error(folder):
        try:
            model.save_pretrained(folder)
        except SafetensorError as error:  # a full disk among others
            raise OSError(str(error)) from error
