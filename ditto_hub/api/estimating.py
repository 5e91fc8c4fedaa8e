"""What a run will take, here or on a device that is not at hand, and what it took in the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ditto_hub.api.training import default_config, read_demos
from ditto_hub.budget import Use, estimate_leased
from ditto_hub.config import RunConfig
from ditto_hub.demos import DemoSet, require_usable
from ditto_hub.devices import DEVICES, find_device
from ditto_hub.errors import BaseModelError, ConfigError, HubError, MemoryShortError
from ditto_hub.events import Event, RunStarted, StageFinished
from ditto_hub.hardware import Estimate, Workload, estimate, refine
from ditto_hub.progress import Progress, plan_of
from ditto_hub.roofline import Job, guess_tokens
from ditto_hub.runs import Run
from ditto_hub.shapes import SHAPES, BaseShape

TEMPLATE_TOKENS = 12  # of a chat template, a turn


def estimate_run(
    demos: DemoSet | str | Path,
    base_model: str = "pocket",
    config: RunConfig | None = None,
    device: str | None = None,
    *,
    use: Use | None = None,
    token: str | None = None,
) -> Estimate:
    """Say what a run will take: here, from a few measured steps, or on a device, computed.

    Args:
        demos: the demonstrations, a file of them, or "example:NAME".
        base_model: pocket, a Hub id or a folder.
        config: settings; default the base model's preset.
        device: name in `DEVICES`; None measures this machine, which loads the base model.
        use: what else a day's quota pays for, where the device is leased.
        token: of the Hub, to read a private or gated base model's config.

    Raises:
        DemoError, BaseModelError, ConfigError: as `create_run` does; or an unknown device.
    """
    if device is not None:
        return estimate_leased(planned_job(demos, base_model, config, device, token), use)
    return _measured(_split(demos, config or default_config(base_model)), base_model, config)


def estimate_devices(
    demos: DemoSet | str | Path,
    base_model: str = "pocket",
    config: RunConfig | None = None,
    *,
    prices: Mapping[str, float] | None = None,
    token: str | None = None,
) -> list[Estimate]:
    """Say what a run will take on each device there are figures for, computed.

    Args:
        prices: device -> dollars an hour, as `hub.prices.live_prices` reads them; default the
            dated table's.
    """
    job = planned_job(demos, base_model, config, "cpu-basic", token)
    found = []
    for device in DEVICES.values():
        one = Job(job.shape, job.config, job.work, device)
        price = (prices or {}).get(device.name)
        found.append(estimate_leased(one, price_usd_h=price))
    return found


@dataclass(frozen=True)
class JobOffer:
    """Hold what a run would take as a Hub Job.

    Args:
        flavor: name of the hardware.
        words: of it, for a person.
        seconds: setting up counted in.
        usd: what they cost.
    """

    flavor: str
    words: str
    seconds: float
    usd: float


def job_offers(
    demos: DemoSet, base_model: str, config: RunConfig, token: str | None = None
) -> list[JobOffer]:
    """Return the GPUs that a run fits as a Hub Job, cheapest first; none without figures."""
    from ditto_hub.backends.job_order import SETUP_S, JobPlan

    try:
        found = estimate_devices(demos, base_model, config, token=token)
    except (BaseModelError, ConfigError, HubError):
        return []
    offers = []
    for one in found:
        device = DEVICES[one.device]
        usd = JobPlan(one.device, one.total_seconds, device.price_usd_h).usd_expected
        if one.possible and usd is not None and not one.device.startswith("cpu-"):
            seconds = one.total_seconds + SETUP_S
            offers.append(JobOffer(one.device, one.words, seconds, usd))
    return sorted(offers, key=lambda offer: offer.usd)


def planned_job(
    demos: DemoSet | str | Path,
    base_model: str,
    config: RunConfig | None,
    device: str,
    token: str | None = None,
) -> Job:
    """Return what an estimate on a device is computed from; a known base needs no network.

    Raises:
        BaseModelError: the shape of the base model is not to be found out.
        ConfigError: an unknown device.
    """
    config = config or default_config(base_model)
    given = _split(demos, config)
    return Job(find_shape(base_model, token), config, guess_workload(given), find_device(device))


def find_shape(base_model: str, token: str | None = None) -> BaseShape:
    """Return a base model's shape: known, or read from its config.

    Raises:
        BaseModelError: it has no config that tells it, or cannot be used.
        HubError: the Hub cannot be asked.
    """
    if base_model in SHAPES:
        return SHAPES[base_model]
    from ditto_hub.hub.preflight import preflight, require_usable

    shape = require_usable(preflight(base_model, token)).shape
    if shape is None:
        raise BaseModelError(
            f"The config of {base_model!r} does not tell its layers and widths.",
            "Estimate on this machine instead: --device here.",
        )
    return shape


def guess_workload(demos: DemoSet) -> Workload:
    """Return about how long the texts are in tokens, on the high side, without a tokenizer."""
    prompts = [
        sum(guess_tokens(turn["content"]) + TEMPLATE_TOKENS for turn in demo.prompt)
        for demo in demos.train
    ]
    completions = [guess_tokens(demo.completion) + 1 for demo in demos.train]
    return Workload(
        train=len(completions),
        held_out=len(demos.held_out),
        prompt_tokens=sum(prompts) / len(prompts),
        completion_tokens=sum(completions) / len(completions),
        longest_completion=int(max(completions)) + 1,
    )


def require_room(found: Estimate) -> Estimate:
    """Return an estimate, unless the run cannot fit even in the smallest batches.

    Raises:
        MemoryShortError: saying what would fit.
    """
    if found.possible:
        return found
    raise MemoryShortError(
        f"The run needs {found.memory_bytes / 1e9:.0f} GB of memory, more than {found.words} has,"
        " even in the smallest batches.",
        f"What fits: {'; '.join(found.remedies) or 'a smaller base model'}.",
    )


def note_estimate(run: Run, device: str) -> Estimate | None:
    """Write into a run's record what it should take on a device, once; None without figures.

    Raises:
        MemoryShortError: the run cannot fit there even in the smallest batches.
    """
    try:
        found = estimate_run(run.demos(), str(run.record.base_model["id"]), run.config, device)
    except (BaseModelError, ConfigError, HubError):
        return None
    require_room(found)
    if not run.record.estimate:
        run.record.estimate = found.to_json()
        run.save_record()
    return found


class Watch:
    """Refine a run's estimate by its own first steps, once they tell all kinds of stages.

    Args:
        run: whose record is changed; the driver saves it.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.progress: Progress | None = None

    def see(self, event: Event) -> None:
        """Take in the next event."""
        if isinstance(event, RunStarted):
            self.progress = None if event.resumed else Progress(_stages(self.run))
        if self.progress is None:
            return
        self.progress.see(event)
        left = self.progress.seconds_left() if isinstance(event, StageFinished) else None
        if left is not None:
            record = self.run.record
            used = sum(record.stage_seconds.values())
            record.estimate = refine(record.estimate, used, left)
            self.progress = None


def _stages(run: Run) -> list[tuple[str, int]]:
    return [(name, steps) for name, _, steps in plan_of(run.config, len(run.demos()))]


def _split(demos: DemoSet | str | Path, config: RunConfig) -> DemoSet:
    given = demos if isinstance(demos, DemoSet) else read_demos(demos)
    require_usable(given)
    held_out = config.selection.held_out
    return given.split(None if held_out < 0 else held_out, config.seed)


def _measured(demos: DemoSet, base_model: str, config: RunConfig | None) -> Estimate:
    from ditto_hub.algorithm.base_model import load_base
    from ditto_hub.algorithm.calibration import calibrate, workload
    from ditto_hub.algorithm.policy import Policy
    from ditto_hub.algorithm.state import Work
    from ditto_hub.hub.preflight import preflight
    from ditto_hub.hub.preflight import require_usable as require_base

    config = config or default_config(base_model)
    require_base(preflight(base_model))
    base = {"id": base_model, "revision": None, "quantize": config.base.quantize}
    model, tokenizer = load_base(base)
    work = Work(Policy(model, tokenizer, config.lora, config.seed, base), demos, config)
    work.begin()
    return estimate(config, workload(work), calibrate(work))
