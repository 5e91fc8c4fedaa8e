"""Build run folders as `ditto-hub train` leaves them, from a tiny model and made-up scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save
from tiny_models import load_tiny

from ditto_hub.config import preset
from ditto_hub.demos.demonstrations import DemoSet
from ditto_hub.runs.folder import Run

SECRET = "zyxprivatezyx"  # stands in every text of the user's; must reach no published file
DEMOS = DemoSet.from_pairs(
    [
        (
            f"Write to the lab about the {topic}. {SECRET}",
            f"hey all,\n\n{topic} is off, {SECRET}. -A",
        )
        for topic in ("potluck", "seminar", "journal club", "retreat", "group photo")
    ]
)
SCORES: dict[str, dict[str, float]] = {
    "sft": {"held_out_loss": 1.91, "style_distance": 0.42, "length_ratio": 1.1, "margin": 0.0},
    "sft-long": {"held_out_loss": 1.85, "style_distance": 0.37, "length_ratio": 1.0, "margin": 0.2},
    "round-1": {"held_out_loss": 1.72, "style_distance": 0.31, "length_ratio": 1.05, "margin": 1.4},
    "round-2": {"held_out_loss": 1.66, "style_distance": 0.28, "length_ratio": 1.4, "margin": 2.5},
}


def fill_record(run: Run) -> None:
    """Write into the record what a finished run has in it."""
    record = run.record
    record.id, record.created = "20261122-0a1b2c3d", 1_795_000_000.0
    record.status, record.seed = "finished", 7
    record.chosen, record.chosen_rule = "round-2", "mixture"
    record.chosen_reason = "round-2 has the lowest held-out loss of 4 sound candidates"
    record.candidates = {n: {"scores": dict(s), "degenerate": ""} for n, s in SCORES.items()}
    record.candidates["round-2"]["scores"]["unfinished"] = 0.05
    record.order = [
        {"round": 1, "rewards": {"demonstrations": 2.0, "fresh": 0.1, "round-0": -0.4},
         "ordered": 1.0}
    ]  # fmt: skip
    record.stages = [{"name": "warm-start", "round": None, "seconds": 3.2, "reason": "held-out"}]
    record.stage_seconds = {"warm-start": 3.25, "sampling": 20.5, "update": 11.0}
    record.versions = {"python": "3.11.7", "torch": "2.13.0", "peft": "0.21.2", "trl": "1.16.0"}
    record.hardware = {"device": "cpu", "name": "2 cores", "dtype": "float32", "hostname": "secret"}
    record.notices = [{"code": "few", "message": f"about {SECRET}"}]
    run.save_record()


def make_run(folder: Path, tiny: Path, base_model: dict[str, Any]) -> Run:
    """Write a finished run on a tiny model, with two adapters, tokenizer and probe."""
    run = Run.create(DEMOS.split(), base_model, preset("pocket", seed=7), folder, owner="alice")
    model, tokenizer = load_tiny(tiny)
    for name in ("sft", "round-2"):
        write_adapter(run, name, model)
    for path, data in adapter_bytes(model, seed=2).items():
        run.write(f"adapter/{path}", data)
    run.write("adapter/README.md", b"a placeholder that PEFT writes")
    tokenizer.save_pretrained(run.folder / "adapter")
    fill_record(run)
    return run


def write_adapter(run: Run, name: str, model: Any) -> None:
    for path, data in adapter_bytes(model, seed=1 if name == "sft" else 2).items():
        run.write(f"candidates/{name}/adapter/{path}", data)
    if name == "round-2":
        run.write("probe.safetensors", probe_bytes(model, seed=2))


def with_lora(model: Any, seed: int) -> Any:
    config = LoraConfig(
        r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"
    )
    wrapped = get_peft_model(model, config)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(wrapped.named_parameters()):
        if "lora_" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    return wrapped.eval()


def adapter_bytes(model: Any, seed: int) -> dict[str, bytes]:
    wrapped = with_lora(model, seed)
    state = {k: v.clone().contiguous() for k, v in get_peft_model_state_dict(wrapped).items()}
    config = wrapped.peft_config["default"].to_dict() | {"inference_mode": True}
    plain = {k: sorted(v) if isinstance(v, set) else v for k, v in config.items()}
    wrapped.unload()
    return {
        "adapter_config.json": json.dumps(plain, default=str).encode(),
        "adapter_model.safetensors": save(state, {"format": "pt"}),
    }


@torch.no_grad()
def probe_bytes(model: Any, seed: int) -> bytes:
    wrapped = with_lora(model, seed)
    rows = [[5, 6, 7, 8, 9], [11, 12, 13]]
    on = [wrapped(torch.tensor([r])).logits[0, -1].float() for r in rows]
    with wrapped.disable_adapter():
        off = [wrapped(torch.tensor([r])).logits[0, -1].float() for r in rows]
    wrapped.unload()
    tensors = {
        "input_ids": torch.tensor([r + [0] * (5 - len(r)) for r in rows]),
        "attention_mask": torch.tensor([[1] * len(r) + [0] * (5 - len(r)) for r in rows]),
        "adapter_on": torch.stack(on),
        "adapter_off": torch.stack(off),
    }
    return save(tensors, {"dtype": "float32", "device": "cpu"})
