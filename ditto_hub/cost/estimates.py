"""What a run will take: seconds a stage, memory, money, from a device's rates.

Plain arithmetic on plain data. `ditto/calibration.py` measures the rates of the machine at
hand; `roofline.py` computes those of the devices in `devices.py`; `budget.py` sums a day's quota.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ditto_hub.config import RunConfig
from ditto_hub.cost.devices import DEVICES, PRICES, QUOTAS, Device, find_device
from ditto_hub.demos.prompting import TRIES_A_PROMPT
from ditto_hub.runs.progress import TEACHING_ROWS
from ditto_hub.words import Message, Text, chained, told

__all__ = [
    "DEVICES",
    "PRICES",
    "QUOTAS",
    "Budget",
    "Device",
    "Estimate",
    "Rates",
    "Workload",
    "compare_used",
    "estimate",
    "find_device",
    "refine",
    "sampling_seconds",
    "unique_rows",
]

PROMPTS = "prompts"  # the stage in which missing prompts are written
PROMPTS_DRAWN = 16  # a text
PROMPT_CAP = 48  # new tokens of one
SHOWN_TOKENS = 330  # of the texts that show the base model how


@dataclass(frozen=True)
class Rates:
    """Hold a device's rates for one base model.

    Args:
        device: in words.
        train_tokens_per_s: tokens through forward and backward, prompts included.
        score_tokens_per_s: tokens through a forward pass.
        decode_steps_per_s: decoding steps of a whole batch of `decode_rows`.
        decode_rows: rows that were decoded side by side.
        memory_bytes: peak.
        source: how the figures came about, with a date.
        overhead_s: seconds that a forward and backward pass costs besides; 0 where it was measured
            along with the tokens.
    """

    device: Text
    train_tokens_per_s: float
    score_tokens_per_s: float
    decode_steps_per_s: float
    decode_rows: int
    memory_bytes: int
    source: Text
    overhead_s: float = 0.0


@dataclass(frozen=True)
class Workload:
    """Say how long the texts are, in tokens.

    Args:
        train: demonstrations trained on.
        held_out: demonstrations held out.
        prompt_tokens: mean of a prompt, chat template included.
        completion_tokens: mean of a completion.
        longest_completion: of any demonstration.
        unwritten: prompts that the base model is yet to write.
    """

    train: int
    held_out: int
    prompt_tokens: float
    completion_tokens: float
    longest_completion: int
    unwritten: int = 0


@dataclass(frozen=True)
class Budget:
    """Sum what a run and its use take of a ZeroGPU quota, in seconds charged.

    Args:
        leases: for the training alone.
        start_s: of each lease, before its first step.
        drafting: the base model's drafts for the user to edit.
        training: warm start, rounds, scoring, with the leases' starts.
        comparing: each method's answers to the prompts.
        trying: the result, a few times.
        prompts: the base model's prompts for texts that have none, in a lease of their own.
    """

    leases: int
    start_s: float
    drafting: float
    training: float
    comparing: float
    trying: float
    prompts: float = 0.0

    @property
    def total(self) -> float:
        """Seconds in all."""
        return self.drafting + self.prompts + self.training + self.comparing + self.trying

    def fits(self, seconds: float) -> bool:
        """Tell whether a day's quota pays for all of it."""
        return self.total <= seconds


@dataclass(frozen=True)
class Estimate:
    """Hold what a run should take.

    Args:
        seconds: stage name -> seconds over the whole run.
        memory_bytes: peak.
        basis: where the rates come from.
        device: name in `DEVICES`, or empty for this machine.
        words: of the device, for a person.
        fits: whether the memory suffices for the settings as they are.
        possible: whether it suffices when batches are made as small as they can be.
        remedies: what would fit, where this does not.
        price_usd: of the run, where the device is paid by the hour.
        budget: of a day's quota, where the device is leased.
    """

    seconds: dict[str, float]
    memory_bytes: int
    basis: Text
    device: str = ""
    words: Text = ""
    fits: bool = True
    possible: bool = True
    remedies: tuple[Text, ...] = ()
    price_usd: float | None = None
    budget: Budget | None = None

    @property
    def total_seconds(self) -> float:
        """Seconds of all stages."""
        return sum(self.seconds.values())

    @property
    def prompts_seconds(self) -> float:
        """Seconds before the run in which the base model writes the prompts that are missing."""
        return self.seconds.get(PROMPTS, 0.0)

    @property
    def remedy(self) -> Text:
        """What would fit, in one text."""
        return chained("words.or", self.remedies or [Message("cost.smaller_base_model")])

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types, texts in English."""
        found = {**asdict(self), "total_seconds": self.total_seconds}
        found |= {"basis": told(self.basis), "words": told(self.words)}
        found["remedies"] = [told(remedy) for remedy in self.remedies]
        if self.budget is not None:
            found["budget"]["total"] = self.budget.total
        return found


def compare_used(
    estimated: Mapping[str, Any], used: Mapping[str, float]
) -> list[tuple[str, float | None, float]]:
    """Return the receipt of a run: stage, seconds estimated where they were, seconds used.

    Args:
        estimated: `Estimate.to_json()`, or empty.
        used: stage -> seconds, as a run's record has them.

    Returns:
        A row a stage, and one for all together.
    """
    seconds = estimated.get("seconds") or {}
    rows = [(stage, seconds.get(stage), spent) for stage, spent in used.items()]
    return [*rows, ("in all", estimated.get("total_seconds"), sum(used.values()))] if rows else []


def refine(estimated: Mapping[str, Any], used_s: float, left_s: float) -> dict[str, Any]:
    """Return an estimate with the total that the run's own first steps speak for.

    Args:
        estimated: `Estimate.to_json()`, or empty where there was none at the start.
        used_s: seconds worked so far.
        left_s: seconds to go at the pace so far.
    """
    total = used_s + left_s
    if not estimated:
        return {"total_seconds": total, "basis": str(Message("cost.first_steps"))}
    return {**estimated, "refined_seconds": total}


def estimate(config: RunConfig, work: Workload, rates: Rates) -> Estimate:
    """Estimate a run's seconds and memory.

    A batch of samples lasts as long as its longest, taken as the longest demonstration and half
    of it again; an update runs each of its different rows once, and reads them once more where they
    exceed the token budget.

    Args:
        config: the run's settings.
        work: lengths of its texts.
        rates: of the device.
    """
    row = work.prompt_tokens + work.completion_tokens
    sft_rows = min(config.warm_start.batch_size, warm_start_rows(config, work))
    sft_step = sft_rows * row / rates.train_tokens_per_s + rates.overhead_s
    if work.held_out:
        sft_step += work.held_out * row / rates.score_tokens_per_s + rates.overhead_s / 3
    tokens = unique_rows(config, work) * row
    budget = config.update.token_budget
    chunks = max(1, -(-int(tokens) // budget)) if budget else 1
    update_step = tokens / rates.train_tokens_per_s + chunks * rates.overhead_s
    if chunks > 1:
        update_step += tokens / rates.score_tokens_per_s + chunks * rates.overhead_s / 3
    steps = config.update.rounds * config.update.steps
    draws = config.update.rounds * sampling_seconds(config, work, rates, config.sampling.samples)
    scores = sampling_seconds(config, work, rates, config.selection.samples)
    seconds = {
        **teaching_seconds(config, work, rates),
        "warm-start": config.warm_start.max_steps * sft_step,
        "sampling": draws,
        "update": steps * update_step,
        "scoring": scores * (1 + config.selection.sft_long),
    }
    if config.selection.sft_long:
        seconds["sft-long"] = steps * sft_step
    if work.unwritten:
        seconds = {PROMPTS: work.unwritten * prompt_seconds(work, rates), **seconds}
    return Estimate(seconds, rates.memory_bytes, rates.source, words=rates.device)


def prompt_seconds(work: Workload, rates: Rates) -> float:
    """Return the seconds to write one text's prompt: read, draw, and rate those that are sound."""
    drawing = PROMPT_CAP / rates.decode_steps_per_s
    if rates.decode_rows:
        drawing *= max(1.0, PROMPTS_DRAWN / rates.decode_rows)
    read = SHOWN_TOKENS + work.completion_tokens
    rated = PROMPTS_DRAWN * (work.prompt_tokens + work.completion_tokens)
    return drawing + (read + rated) / rates.score_tokens_per_s


def warm_start_rows(config: RunConfig, work: Workload) -> int:
    """Return how many texts the warm start trains on."""
    start = config.warm_start
    drawn = (start.prompts + work.train) * start.draws if start.distils else 0
    return work.train + drawn


def shown_tokens(work: Workload) -> float:
    """Return the tokens of a prompt after the demonstrations, as a teacher sees it."""
    return work.prompt_tokens + work.train * (work.prompt_tokens + work.completion_tokens)


def teaching_seconds(config: RunConfig, work: Workload, rates: Rates) -> dict[str, float]:
    """Return the seconds of the stages in which a warm start by distillation gets its texts.

    The model reads each prompt with the demonstrations twice, to write and to say what it expects.
    """
    start, found = config.warm_start, {}
    if not start.distils:
        return {}
    length = min(config.sampling.max_new_tokens, 1.5 * work.longest_completion)
    if start.prompts:
        drafts, side = start.prompts * TRIES_A_PROMPT, config.sampling.batch_rows
        asked = work.train * work.prompt_tokens / rates.score_tokens_per_s
        decode = decode_seconds(drafts, side, 3 * work.prompt_tokens, rates)
        found["drafting"] = decode + -(-drafts // side) * asked
    prompts = start.prompts + work.train
    rows, side = prompts * start.draws, min(TEACHING_ROWS, config.sampling.batch_rows)
    read = (2 * prompts + work.train) * shown_tokens(work)
    read += (rows + work.train) * work.completion_tokens
    found["teaching"] = decode_seconds(rows, side, length, rates) + read / rates.score_tokens_per_s
    return found


def decode_seconds(rows: int, side_by_side: int, length: float, rates: Rates) -> float:
    """Return the seconds to draw rows of a length, so many side by side."""
    at_once = min(rows, side_by_side)
    pace = max(1.0, at_once / rates.decode_rows) if rates.decode_rows else 1.0
    return -(-rows // side_by_side) * length * pace / rates.decode_steps_per_s


def unique_rows(config: RunConfig, work: Workload) -> float:
    """Return the different rows of an update's batch: about 1.3 a pair (31 for 24 pairs)."""
    return min(1.3 * config.update.pairs, work.train * (1 + config.sampling.samples))


def sampling_seconds(config: RunConfig, work: Workload, rates: Rates, samples: int) -> float:
    """Return the seconds to draw and score `samples` completions a demonstration once."""
    rows = (work.train + work.held_out) * samples
    length = min(config.sampling.max_new_tokens, 1.5 * work.longest_completion)
    decode = decode_seconds(rows, config.sampling.batch_rows, length, rates)
    scored = 3 * rows * (work.prompt_tokens + work.completion_tokens) / rates.score_tokens_per_s
    return decode + scored
