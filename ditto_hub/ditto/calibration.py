"""Measure a device's rates on the base model and the demonstrations at hand, in a few seconds."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from typing import Any

import torch

from ditto_hub.cost.estimates import Rates, Workload
from ditto_hub.ditto.losses import supervised
from ditto_hub.ditto.optimizer import Stepper, schedule
from ditto_hub.ditto.state import Work
from ditto_hub.words import Message

DECODE_STEPS = 12


def workload(work: Work) -> Workload:
    """Return how long the run's texts are, in the base model's tokens."""
    rows = work.demo_rows
    return Workload(
        train=len(rows),
        held_out=len(work.held_out_rows),
        prompt_tokens=sum(len(r.prompt_ids) for r in rows) / len(rows),
        completion_tokens=sum(len(r.completion_ids) for r in rows) / len(rows),
        longest_completion=max(len(r.completion_ids) for r in rows),
    )


def calibrate(work: Work) -> Rates:
    """Return the rates of this device, from one measured step of each kind after one to warm up.

    The policy's adapter is left as it was.
    """
    policy, rows = work.policy, work.demo_rows
    before = policy.snapshot()
    stepper = Stepper(
        policy,
        optimizer="adamw",
        learning_rate=0.0,
        schedule=schedule("constant", 0.0, 1),
        max_grad_norm=0.0,
        seed=0,
    )
    pairs = [r.row for r in rows]
    counted = sum(row.tokens for row in pairs)
    tokens = sum(len(row.ids) for row in pairs)
    sampling = replace(work.config.sampling, samples=1)
    count = min(work.config.sampling.samples * len(rows), work.config.sampling.batch_rows)
    seeds = [[k for k in range(count) if k % len(rows) == i] for i in range(len(rows))]
    prompts = [r.prompt_ids for r in rows]
    train = _seconds(lambda: stepper.step(pairs, lambda scores: supervised(scores, counted)))
    score = _seconds(lambda: policy.log_probs(pairs))
    decode = _seconds(lambda: policy.sample(prompts, seeds, sampling, DECODE_STEPS))
    policy.restore(before)
    return Rates(
        device=policy.device_name(),
        train_tokens_per_s=tokens / train,
        score_tokens_per_s=tokens / score,
        decode_steps_per_s=DECODE_STEPS / decode,
        decode_rows=count,
        memory_bytes=peak_memory(policy.device),
        source=Message("cost.measured", date=date.today().isoformat()),
    )


def peak_memory(device: torch.device) -> int:
    """Return the most memory used so far, in bytes: the GPU's, else this process's."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _seconds(call: Callable[[], Any]) -> float:
    call()
    began = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began
