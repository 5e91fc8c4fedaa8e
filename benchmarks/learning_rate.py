"""What does the paper's learning rate of 1e-6 mean? AdamW and RMSprop on the embedded model.

    python benchmarks/learning_rate.py

The paper names AdamW; its reference code runs RMSprop, whose second moment starts at 0 and is not
corrected, so its first steps are larger. Both run here from the same warm start over the same four
rounds of ten steps; what is compared is how far the adapter moved (norm of its change over the norm
of pi_0's adapter) and how far the policy moved (KL to the reference, margin of implicit rewards).
"""

from __future__ import annotations

import math
import os

from ditto_hub.tokens import NOBODY

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from safetensors.torch import load

from ditto_hub.config import preset
from ditto_hub.demos.demonstrations import DemoSet
from ditto_hub.ditto.loop import ditto
from ditto_hub.ditto.state import Artifact
from ditto_hub.engine.base_model import load_base
from ditto_hub.engine.fast import FastEngine
from ditto_hub.events import CandidateScored
from ditto_hub.pocket.persona import TUNING_SEEDS, demonstrations

SMALL = ("sampling.samples=4", "selection.samples=4", "update.pairs=12", "selection.sft_long=false")
BASE = {"id": "pocket", "revision": None}


def moved(persona: int, optimizer: str, rate: float) -> tuple[float, float, float]:
    """Return relative movement of the adapter, KL and margin after the last round."""
    config = preset("pocket", 0)
    for text in (*SMALL, f"update.optimizer={optimizer}", f"update.learning_rate={rate}"):
        config = config.with_setting(text)
    model, tokenizer = load_base(BASE, device=torch.device("cpu"), token=NOBODY)
    policy = FastEngine(model, tokenizer, config.lora, 0, BASE)
    demos = DemoSet.from_pairs(demonstrations(persona, 5, 0)).split(None, 0)
    weights, last = {}, {}
    for item in ditto(policy, demos, config):
        if isinstance(item, Artifact) and item.path.endswith(".safetensors"):
            weights[item.path.split("/")[1]] = load(item.data)
        elif isinstance(item, CandidateScored):
            last = dict(item.scores)
    first, final = weights["sft"], weights[f"round-{config.update.rounds}"]
    change = math.sqrt(sum(float((final[k] - first[k]).square().sum()) for k in first))
    size = math.sqrt(sum(float(first[k].square().sum()) for k in first))
    return change / size, last["kl"], last["margin"]


def main() -> None:
    """Print the table."""
    print(f"{'optimiser':10} {'rate':>8}  {'movement':>9} {'KL':>9} {'margin':>9}")
    for rate in (1e-6, 1e-5, 1e-4, 3e-4):
        for optimizer in ("adamw", "rmsprop"):
            rows = [moved(persona, optimizer, rate) for persona in TUNING_SEEDS[:2]]
            mean = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
            print(f"{optimizer:10} {rate:8.0e}  {mean[0]:9.2e} {mean[1]:9.3f} {mean[2]:9.3f}")


if __name__ == "__main__":
    main()
