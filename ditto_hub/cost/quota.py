"""A day's ZeroGPU quota: what drafting, training, comparing and trying take of it together.

Use is charged by the second. A lease asks for more than it uses: what it declares is multiplied
(1.5 on half a GPU, 2 on a whole one) and must be left when it begins.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ditto_hub.config import RunConfig
from ditto_hub.cost.devices import QUOTAS
from ditto_hub.cost.estimates import Budget, Estimate
from ditto_hub.cost.roofline import Job, decode_step_s, estimate_on

ACQUIRE_S = 4.0  # until a cold worker is there (a third party's measurement)
SETTLE_S = 2.0  # the adapter put on, the state read, the trainer built
LOAD_BYTES_PER_S = 3.0e9  # packed weights onto the GPU; assumed
TOKENS_A_WORD = 1.3  # of English
FREE_S = QUOTAS["free"].seconds


@dataclass(frozen=True)
class Use:
    """Say what else than training a day's quota pays for.

    Args:
        drafts: answers of the base model for the user to edit.
        methods: compared, the adapter among them.
        prompts: each method answers; side by side.
        samples: answers to each.
        tries: of the result, one answer at a time.
        cap_s: seconds that one lease may declare.
    """

    drafts: int = 4
    methods: int = 4
    prompts: int = 4
    samples: int = 1
    tries: int = 2
    cap_s: int = 60


def start_s(job: Job) -> float:
    """Return the seconds of a lease before its first step."""
    return ACQUIRE_S + SETTLE_S + job.weights_bytes / LOAD_BYTES_PER_S


def budget(job: Job, seconds: float, use: Use, prompts_s: float = 0.0) -> Budget:
    """Sum what a run and its use are charged.

    Each of drafting, writing prompts, comparing and trying is one lease; training is as many as its
    cap asks for.

    Args:
        job: the run and a device that is leased.
        seconds: of all its stages.
        use: what else there is to pay for.
        prompts_s: seconds to write prompts that are missing; 0 for none.
    """
    start = start_s(job)
    useful = max(1.0, use.cap_s - start)
    leases = max(1, int(-(-seconds // useful)))
    longest = 1.5 * job.work.longest_completion  # as the estimate of sampling has it

    def writing(rows: int) -> float:
        length = longest if rows > 1 else 1.2 * job.work.completion_tokens
        return min(length, job.config.sampling.max_new_tokens) * decode_step_s(job, rows)

    return Budget(
        leases=leases,
        start_s=start,
        drafting=start + writing(use.drafts) if use.drafts else 0.0,
        training=seconds + leases * start,
        comparing=start + use.methods * writing(use.prompts * use.samples) if use.methods else 0.0,
        trying=use.tries * (start + writing(1)),
        prompts=start + prompts_s if prompts_s else 0.0,
    )


def estimate_leased(job: Job, use: Use | None = None, price_usd_h: float | None = None) -> Estimate:
    """Estimate a run on a device, with the sum of the day's quota where it is leased."""
    found = estimate_on(job, price_usd_h)
    if not job.device.leased:
        return found
    prompts = found.prompts_seconds
    spent = budget(job, found.total_seconds - prompts, use or Use(), prompts)
    return replace(found, budget=spent)


def fit_quota(job: Job, seconds: float = FREE_S, use: Use | None = None) -> list[str]:
    """Return the settings, changed one after another, that bring a run into a day's quota.

    Fewer rounds first, then smaller steps; the rival `sft-long` is given up last.

    Returns:
        SECTION.FIELD=JSON, each; empty where it fits as it is, or where nothing brings it in.
    """
    changes: dict[str, str] = {}
    for text in ("", *_thrift(job.config)):
        if text:
            job = replace(job, config=job.config.with_setting(text))
            changes[text.partition("=")[0]] = text
        found = estimate_leased(job, use).budget
        if found and found.fits(seconds):
            return list(changes.values())
    return []


def _thrift(config: RunConfig) -> Iterator[str]:
    for rounds in range(config.update.rounds - 1, 1, -1):
        yield f"update.rounds={rounds}"
    for pairs in (16, 12):
        if pairs < config.update.pairs:
            yield f"update.pairs={pairs}"
    for steps in (20, 10):
        if steps < config.warm_start.max_steps:
            yield f"warm_start.max_steps={steps}"
    if config.update.steps > 5:
        yield "update.steps=5"
    if config.selection.sft_long:
        yield "selection.sft_long=false"


def fitting_words(job: Job, seconds: float = FREE_S, use: Use | None = None) -> int:
    """Return how many words the longest completion may have for the run to fit a day's quota.

    All texts are made shorter alike; 0 where even the shortest do not fit.
    """
    for share in range(20, 0, -1):
        scale = share / 20
        work = replace(
            job.work,
            prompt_tokens=job.work.prompt_tokens * scale,
            completion_tokens=job.work.completion_tokens * scale,
            longest_completion=max(1, int(job.work.longest_completion * scale)),
        )
        found = estimate_leased(replace(job, work=work), use).budget
        if found and found.fits(seconds):
            return int(work.longest_completion / TOKENS_A_WORD)
    return 0
