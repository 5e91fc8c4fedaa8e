"""The arguments that the stock trainers are built with, each one said on purpose."""

from __future__ import annotations

import tempfile
from dataclasses import fields
from typing import Any

from transformers import TrainingArguments

from ditto_hub.engine.fast import FastEngine


def trainer_arguments(policy: FastEngine, batch_size: int) -> dict[str, Any]:
    """Return what every TRL trainer here is built with."""
    names = {f.name for f in fields(TrainingArguments)}
    new = "activation_checkpointing"
    return {
        "output_dir": tempfile.gettempdir(),
        "per_device_train_batch_size": batch_size,
        "use_cpu": policy.device.type == "cpu",
        "bf16": False,  # the base's dtype decides; no autocast over it
        (new if new in names else "gradient_checkpointing"): False,
        "max_length": None,
        "report_to": [],
        "save_strategy": "no",
        "logging_strategy": "no",
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": False,
        "disable_tqdm": True,
    }
