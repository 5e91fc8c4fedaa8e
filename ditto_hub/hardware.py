"""What a run will take: seconds a stage and memory, from rates measured on the device itself.

Plain arithmetic on plain data; `algorithm/calibration.py` measures the rates.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ditto_hub.config import RunConfig


@dataclass(frozen=True)
class Rates:
    """Hold what was measured on a device for one base model.

    Args:
        device: in words.
        train_tokens_per_s: tokens through forward and backward, prompts included.
        score_tokens_per_s: tokens through a forward pass.
        decode_steps_per_s: decoding steps of a whole batch of `decode_rows`.
        decode_rows: rows that were decoded side by side.
        memory_bytes: peak seen while measuring.
        source: how the figures came about, with a date.
    """

    device: str
    train_tokens_per_s: float
    score_tokens_per_s: float
    decode_steps_per_s: float
    decode_rows: int
    memory_bytes: int
    source: str


@dataclass(frozen=True)
class Workload:
    """Say how long the texts are, in tokens.

    Args:
        train: demonstrations trained on.
        held_out: demonstrations held out.
        prompt_tokens: mean of a prompt, chat template included.
        completion_tokens: mean of a completion.
        longest_completion: of any demonstration.
    """

    train: int
    held_out: int
    prompt_tokens: float
    completion_tokens: float
    longest_completion: int


@dataclass(frozen=True)
class Estimate:
    """Hold what a run should take.

    Args:
        seconds: stage name -> seconds over the whole run.
        memory_bytes: peak.
        basis: where the rates come from.
    """

    seconds: dict[str, float]
    memory_bytes: int
    basis: str

    @property
    def total_seconds(self) -> float:
        """Seconds of all stages."""
        return sum(self.seconds.values())

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {**asdict(self), "total_seconds": self.total_seconds}


def estimate(config: RunConfig, work: Workload, rates: Rates) -> Estimate:
    """Estimate a run's seconds and memory.

    A batch of samples lasts as long as its longest, taken as the longest demonstration; an update
    runs each of its different rows once, about 1.3 a pair (PAPER.md's batch: 31 rows for 24).

    Args:
        config: the run's settings.
        work: lengths of its texts.
        rates: measured on the device.
    """
    row = work.prompt_tokens + work.completion_tokens
    sft_rows = min(config.warm_start.batch_size, work.train)
    sft_step = sft_rows * row / rates.train_tokens_per_s
    if work.held_out:
        sft_step += work.held_out * row / rates.score_tokens_per_s
    unique = min(1.3 * config.update.pairs, work.train * (1 + config.sampling.samples))
    update_step = unique * row / rates.train_tokens_per_s
    steps = config.update.rounds * config.update.steps
    draws = config.update.rounds * sampling_seconds(config, work, rates, config.sampling.samples)
    scores = sampling_seconds(config, work, rates, config.selection.samples)
    seconds = {
        "warm-start": config.warm_start.max_steps * sft_step,
        "sampling": draws,
        "update": steps * update_step,
        "scoring": scores * (1 + config.selection.sft_long),
    }
    if config.selection.sft_long:
        seconds["sft-long"] = steps * sft_step
    return Estimate(seconds, rates.memory_bytes, rates.source)


def sampling_seconds(config: RunConfig, work: Workload, rates: Rates, samples: int) -> float:
    """Return the seconds to draw and score `samples` completions a demonstration once."""
    rows = work.train * samples
    batches = -(-rows // config.sampling.batch_rows)
    side_by_side = min(rows, config.sampling.batch_rows)
    pace = max(1.0, side_by_side / rates.decode_rows) if rates.decode_rows else 1.0
    length = min(config.sampling.max_new_tokens, 1.5 * work.longest_completion)
    decode = batches * length * pace / rates.decode_steps_per_s
    scored = 3 * rows * (work.prompt_tokens + work.completion_tokens) / rates.score_tokens_per_s
    return decode + scored
