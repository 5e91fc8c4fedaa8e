"""A base model with a LoRA adapter on it: put on, taken off, copied, saved as plain PEFT has it."""

from __future__ import annotations

import contextlib
import json
import platform
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from peft import set_peft_model_state_dict as load_adapter_tensors
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes

from ditto_hub.config import Lora
from ditto_hub.engine.base_model import translated
from ditto_hub.engine.chat import ChatFormat
from ditto_hub.engine.protocol import Tensors
from ditto_hub.engine.targets import lora_targets, outside_text
from ditto_hub.errors import BaseModelError


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a safetensors file.

    Raises:
        BaseModelError: it is missing or damaged.
    """
    try:
        return tensors_from_bytes(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise BaseModelError("runs.weights_unreadable", path=path) from error


def tokenizer_files(tokenizer: Any) -> dict[str, bytes]:
    """Return a tokenizer's files, chat template included, without how it was loaded here."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        files = {p.name: p.read_bytes() for p in sorted(Path(folder).iterdir())}
    settings = json.loads(files["tokenizer_config.json"])
    for how_it_was_loaded_here in ("local_files_only", "is_local"):
        settings.pop(how_it_was_loaded_here, None)
    text = json.dumps(settings, ensure_ascii=False, indent=2) + "\n"
    return {**files, "tokenizer_config.json": text.encode()}


class AdaptedModel:
    """A base model with one LoRA adapter, named `default`; the base's weights never change.

    Args:
        model: the base model; the adapter is put on it in place.
        tokenizer: the base model's.
        lora: the adapter's shape.
        seed: of the adapter's first weights.
        base_model: {id, revision} to write into the adapter's config.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        lora: Lora,
        seed: int,
        base_model: Mapping[str, Any],
    ) -> None:
        self.tokenizer = tokenizer
        rows = model.get_input_embeddings().weight.shape[0]
        text = model.config.get_text_config()
        context = getattr(text, "max_position_embeddings", None)
        self.format = ChatFormat(tokenizer, rows, context)
        self.device: torch.device = model.device
        torch.manual_seed(seed)
        config = LoraConfig(
            r=lora.rank,
            lora_alpha=lora.alpha if lora.alpha % 1 else int(lora.alpha),
            lora_dropout=lora.dropout,
            target_modules=lora_targets(model, lora.targets),
            exclude_modules=outside_text(model),
            fan_in_fan_out=any(type(m).__name__ == "Conv1D" for m in model.modules()),
            task_type="CAUSAL_LM",
        )
        with translated(str(base_model["id"])), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # PEFT reads an old name of transformers
            self.model: PeftModel = get_peft_model(model, config)
        config.base_model_name_or_path = str(base_model["id"])  # PEFT puts the folder there
        config.revision = base_model.get("revision")
        self.has_dropout = lora.dropout > 0
        self.model.eval()
        self._parameters = [p for _, p in sorted(self.model.named_parameters()) if p.requires_grad]

    def unload(self) -> None:
        """Take the adapter off and leave the base model as it was before."""
        self.model.unload()

    @contextlib.contextmanager
    def adapter_off(self) -> Iterator[None]:
        """Be the base model, logit for logit, inside the block."""
        with self.model.disable_adapter():
            yield

    @contextlib.contextmanager
    def as_adapter(self, tensors: Tensors) -> Iterator[None]:
        """Wear another adapter of the same shape inside the block."""
        mine = self.snapshot()
        self.restore(tensors)
        try:
            yield
        finally:
            self.restore(mine)

    @contextlib.contextmanager
    def training(self, seed: int | None) -> Iterator[None]:
        """Train with dropout as a seed fixes it inside the block, or without where it is None."""
        self.model.train(seed is not None and self.has_dropout)
        try:
            yield
        finally:
            self.model.eval()

    def parameters(self) -> list[torch.nn.Parameter]:
        """Return the adapter's parameters, in a fixed order."""
        return self._parameters

    def snapshot(self) -> Tensors:
        """Return copies of the adapter's tensors on the CPU, under PEFT's names."""
        state = self._state()
        return {name: state[name].detach().cpu().clone() for name in sorted(state)}

    def restore(self, tensors: Tensors) -> None:
        """Put a snapshot's tensors into the adapter.

        Raises:
            BaseModelError: they are of another shape.
        """
        mine = set(self._state())
        strange, missing = sorted(set(tensors) - mine), sorted(mine - set(tensors))
        if strange or missing:
            code = "engine.adapter_has_more" if strange else "engine.adapter_lacks"
            raise BaseModelError(code, layer=(strange or missing)[0])
        try:
            load_adapter_tensors(self.model, dict(tensors), adapter_name="default")
        except RuntimeError as error:
            raise BaseModelError("engine.adapter_misfit") from error

    def load_adapter(self, folder: Path) -> None:
        """Put the adapter of a folder into this model; weights in a pickle are never read.

        Raises:
            BaseModelError: the weights are missing or damaged, or of another shape.
        """
        self.restore(read_tensors(folder / "adapter_model.safetensors"))

    def adapter_files(self) -> dict[str, bytes]:
        """Return the files that plain PEFT loads, the same bytes for the same weights."""
        config = self.model.peft_config["default"].to_dict()
        config["inference_mode"] = True
        plain = {k: sorted(v) if isinstance(v, set) else v for k, v in config.items()}
        text = json.dumps(plain, indent=2, sort_keys=True, default=str) + "\n"
        return {
            "adapter_config.json": text.encode(),
            "adapter_model.safetensors": tensors_to_bytes(self.snapshot(), {"format": "pt"}),
        }

    def tokenizer_files(self) -> dict[str, bytes]:
        """Return the tokenizer's files, chat template included."""
        return tokenizer_files(self.tokenizer)

    @property
    def dtype_name(self) -> str:
        """The base model's dtype, such as "float32"."""
        return str(self.model.dtype).removeprefix("torch.")

    def device_name(self) -> str:
        """Return the device in words, such as a GPU's name or the CPU with its threads."""
        if self.device.type == "cuda":
            name: str = torch.cuda.get_device_name(self.device)
            return name
        if self.device.type == "cpu":
            return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
        return str(self.device.type)

    def _state(self) -> dict[str, torch.Tensor]:
        found: dict[str, torch.Tensor] = get_peft_model_state_dict(
            self.model, adapter_name="default", save_embedding_layers=False
        )
        return found
