"""The rates and the memory of a device that is not at hand, computed from its data sheet.

A decoding step reads the weights and the cache once, or waits for the host to launch its kernels;
training and scoring are matrix products at a share of the device's rate. The shares below are our
assumptions, on the low side: they have not been measured on these devices.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ditto_hub.config import RunConfig
from ditto_hub.cost.devices import DEVICES, GB, Device
from ditto_hub.cost.estimates import (
    Estimate,
    Rates,
    Workload,
    estimate,
    shown_tokens,
    unique_rows,
    warm_start_rows,
)
from ditto_hub.cost.shapes import SHAPES, BaseShape
from ditto_hub.runs.progress import TEACHING_ROWS
from ditto_hub.words import Message, Text

MATRIX_SHARE = 0.35  # of the dense rate, in batches of some thousand tokens, eager PyTorch
MEMORY_SHARE = 0.7  # of the bandwidth
CACHE_PASSES = 4  # a growing cache is copied as well as read
LOGIT_BYTES = 40  # a row and token of the vocabulary: softmax in float32, sum in float64
STEP_S = 3e-3  # of the host besides the layers: masks, the draw
SPARE_BYTES = int(1.5 * GB)  # the runtime's own, and what its allocator does not use
USABLE = 0.94  # of the memory on the label
QUARTER = 0.56  # bytes a weight in 4 bits, its scales included
UNPACK = 4.5  # bytes moved a weight when it is unpacked for use
LEAST_BUDGET = 256
TRAINING_SHARE = 0.7  # of the free memory that the engine gives to activations


@dataclass(frozen=True)
class Job:
    """Hold what an estimate is about.

    Args:
        shape: of the base model.
        config: the run's settings.
        work: lengths of its texts.
        device: where it would run.
    """

    shape: BaseShape
    config: RunConfig
    work: Workload
    device: Device

    @property
    def four_bit(self) -> bool:
        """Tell whether the base is loaded in 4 bits."""
        return self.config.base.quantize == "4bit"

    @property
    def weights_bytes(self) -> int:
        """Bytes of the base model as it is loaded."""
        shape, wide = self.shape, self.device.weight_bytes
        if not self.four_bit:
            return shape.parameters * wide
        packed = shape.layers * sum(a * b for a, b in shape.linear.values())
        return int(packed * QUARTER) + (shape.parameters - packed) * wide

    @property
    def rows(self) -> int:
        """Completions that are drawn side by side."""
        most = max(self.config.sampling.samples, self.config.selection.samples)
        return min((self.work.train + self.work.held_out) * most, self.config.sampling.batch_rows)


def rates(job: Job) -> Rates:
    """Return a device's rates for a run, computed."""
    device, shape = job.device, job.shape
    flops = device.flops * MATRIX_SHARE
    overhead = 3 * shape.layers * device.host_s
    if job.four_bit:
        overhead += 2 * shape.multiplied * UNPACK / (device.bandwidth * MEMORY_SHARE)
    return Rates(
        device=device.words,
        train_tokens_per_s=flops / (4 * shape.multiplied),  # the base is frozen: no gradient of it
        score_tokens_per_s=flops / (2 * shape.multiplied),
        decode_steps_per_s=1 / decode_step_s(job, job.rows),
        decode_rows=job.rows,
        memory_bytes=memory_bytes(job),
        source=Message("cost.computed", source=device.source, date=device.date),
        overhead_s=overhead,
    )


def decode_step_s(job: Job, rows: int) -> float:
    """Return the seconds of one decoding step of so many rows."""
    device, shape, work = job.device, job.shape, job.work
    each = UNPACK if job.four_bit else device.weight_bytes
    context = work.prompt_tokens + 0.75 * work.longest_completion
    moved = shape.multiplied * each + rows * shape.vocabulary * LOGIT_BYTES
    moved += CACHE_PASSES * rows * context * shape.cache_bytes(device.weight_bytes)
    busy = moved / (device.bandwidth * MEMORY_SHARE)
    busy += 2 * rows * shape.multiplied / (device.flops * MATRIX_SHARE)
    return max(busy, shape.layers * device.host_s + STEP_S)


def memory_bytes(job: Job) -> int:
    """Return the most memory a run takes: training, sampling or scoring, whichever is largest."""
    config, shape, work = job.config, job.shape, job.work
    wide = job.device.weight_bytes
    longest = work.prompt_tokens + 1.5 * work.longest_completion
    adapter = shape.adapter_parameters(config.lora.rank, config.lora.targets)
    sft = min(config.warm_start.batch_size, warm_start_rows(config, work)) * longest
    budget = training_tokens(job)
    update = min(budget, unique_rows(config, work) * longest)
    tokens = max(min(sft, budget), update, longest)
    cap = longest
    if config.sampling.length_factor == 0:
        cap = work.prompt_tokens + config.sampling.max_new_tokens
    cache = 1.15 * job.rows * cap * shape.cache_bytes(wide)
    if config.warm_start.distils:
        side = min(TEACHING_ROWS, config.sampling.batch_rows)
        shown = shown_tokens(work) + 1.5 * work.longest_completion
        cache = max(cache, 1.15 * side * shown * shape.cache_bytes(wide))
    logits = job.rows * shape.vocabulary * LOGIT_BYTES
    if wide == 4:  # sampling adds the adapter into copies of the weights it touches
        cache += 4 * shape.layers * sum(a * b for a, b in list(shape.linear.values())[:4])
    peak = max(tokens * _kept_bytes(job), cache + logits)
    return int(job.weights_bytes + 16 * adapter + 1.1 * peak) + SPARE_BYTES


def training_tokens(job: Job) -> int:
    """Return how many tokens keep their activations at a time at most.

    Where the settings leave it open the engine reads it off the free memory, so that a batch runs
    at once where it fits and in passes where it does not.
    """
    if job.config.update.token_budget:
        return job.config.update.token_budget
    free = room(job.device) - job.weights_bytes - SPARE_BYTES
    return max(LEAST_BUDGET, int(TRAINING_SHARE * free / _kept_bytes(job)))


def _kept_bytes(job: Job) -> float:
    """Return what a token keeps for the backward pass, and what its layer passes on."""
    shape, config = job.shape, job.config
    kept = shape.activation_bytes(job.device.weight_bytes, config.lora.targets, config.lora.rank)
    return kept + 6 * shape.intermediate + 12 * shape.hidden


def room(device: Device) -> int:
    """Return the bytes of a device that a run may count on."""
    return int(USABLE * device.memory_bytes)


def smallest(job: Job) -> Job:
    """Return the same run in the smallest batches it can be halved to."""
    config = job.config.with_value("update.token_budget", LEAST_BUDGET)
    return replace(job, config=config.with_value("sampling.batch_rows", 1))


def estimate_on(job: Job, price_usd_h: float | None = None) -> Estimate:
    """Estimate a run on a device: seconds, memory, whether it fits, what would, and the price.

    Args:
        job: the run and the device.
        price_usd_h: what the Hub asks now; default the dated table's.
    """
    settled = job.config.with_value("update.token_budget", training_tokens(job))
    found = estimate(settled, job.work, rates(job))
    price = job.device.price_usd_h if price_usd_h is None else price_usd_h
    hours = -(-found.total_seconds // 60) / 60  # billed by the minute
    fits = found.memory_bytes <= room(job.device)
    return replace(
        found,
        device=job.device.name,
        fits=fits,
        possible=fits or memory_bytes(smallest(job)) <= room(job.device),
        remedies=() if fits else tuple(remedies(job)),
        price_usd=None if price is None else hours * price,
    )


def remedies(job: Job) -> list[Text]:
    """Return what would fit: smaller batches, 4 bits, another device, another base model."""
    told: list[Text] = []
    budget = job.config.update.token_budget and fitting_budget(job)
    if budget:
        told.append(Message("cost.smaller_passes", budget=budget))
    quarter = replace(job, config=job.config.with_value("base.quantize", "4bit"))
    if not job.four_bit and job.device.weight_bytes == 2:
        budget = fitting_budget(quarter)
        if budget:
            also = f" --set update.token_budget={budget}"
            told.append(
                "--set base.quantize=4bit" + also * (budget < job.config.update.token_budget)
            )
    larger = _larger(job)
    if larger:
        told.append(Message("cost.larger_hardware", name=larger.name, words=larger.words))
    for name, shape in sorted(SHAPES.items(), key=lambda item: -item[1].parameters):
        smaller = name != "pocket" and shape.parameters < job.shape.parameters
        if smaller and memory_bytes(replace(job, shape=shape)) <= room(job.device):
            told.append(Message("cost.smaller_base", name=name))
            break
    return told


def fitting_budget(job: Job) -> int:
    """Return the largest token budget, halved from the one set, that fits; 0 where none does."""
    budget = training_tokens(job)
    while budget >= LEAST_BUDGET:
        config = job.config.with_value("update.token_budget", budget)
        if memory_bytes(replace(job, config=config)) <= room(job.device):
            return budget
        budget //= 2
    return 0


def _larger(job: Job) -> Device | None:
    able = [
        device
        for device in DEVICES.values()
        if device.price_usd_h is not None and device.memory_bytes > job.device.memory_bytes
        if memory_bytes(replace(job, device=device)) <= room(device)
    ]
    return min(able, key=lambda d: d.price_usd_h or 0.0, default=None)


def guess_tokens(text: str) -> float:
    """Return about how many tokens a text is, on the high side, without a tokenizer."""
    plain = sum(ch.isascii() for ch in text)
    return plain / 3.8 + 1.1 * (len(text) - plain)
