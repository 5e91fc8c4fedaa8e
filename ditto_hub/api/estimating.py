"""What a run will take, here or on a device that is not at hand, and what it took in the end."""

from __future__ import annotations

import datetime
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ditto_hub.api.base_models import choose_smollm2
from ditto_hub.api.creation import default_config, read_demos
from ditto_hub.backends.backtranslation import plain_prompt
from ditto_hub.config import RunConfig
from ditto_hub.cost.devices import DEVICES, Device, find_device
from ditto_hub.cost.estimates import Estimate, Workload, estimate, refine
from ditto_hub.cost.job_price import SETUP_S, job_usd
from ditto_hub.cost.quota import Use, estimate_leased
from ditto_hub.cost.roofline import Job, guess_tokens
from ditto_hub.cost.shapes import SHAPES, BaseShape
from ditto_hub.demos.demonstrations import DemoSet, as_messages
from ditto_hub.demos.findings import require_usable
from ditto_hub.errors import BaseModelError, ConfigError, HubError, MemoryShortError
from ditto_hub.events import Event, RunStarted, StageFinished
from ditto_hub.runs.folder import Run
from ditto_hub.runs.progress import Progress, plan_of
from ditto_hub.tokens import MACHINE, Token
from ditto_hub.words import Message, Text

TEMPLATE_TOKENS = 12  # of a chat template, a turn


def estimate_run(
    demos: DemoSet | str | Path,
    base_model: str = "pocket",
    config: RunConfig | None = None,
    device: str | None = None,
    *,
    use: Use | None = None,
    token: Token | str = MACHINE,
) -> Estimate:
    """Say what a run will take: here, from a few measured steps, or on a device, computed.

    Args:
        demos: the demonstrations, a file of them, or "example:NAME"; texts without prompts too, for
            which the time to write these is counted.
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
    given, unwritten = with_stand_ins(demos)
    given = _split(given, config or default_config(base_model))
    return _measured(given, unwritten, base_model, config, token)


def estimate_here(
    demos: DemoSet, base_model: str, config: RunConfig | None = None, *, loaded: bool,
    token: Token | str,
) -> Estimate:  # fmt: skip
    """Compute what a run will take on this machine, without loading the base model.

    Args:
        loaded: whether the heavy libraries are loaded; before that no GPU is seen.
        token: of the Hub, to read a private or gated base model's config.

    Raises: as `estimate_run`.
    """
    job = planned_job(demos, base_model, config, "cpu-basic", token)
    return estimate_leased(replace(job, device=this_machine(loaded, job.shape.multiplied)))


def this_machine(loaded: bool, parameters: int) -> Device:
    """Return the device that is nearest to this machine, with this machine's memory and, of a CPU,
    its pace.

    Args:
        loaded: whether torch is loaded whole; nothing is loaded to look for a GPU or to measure.
        parameters: of the base model, by which threads are used.
    """
    torch = sys.modules.get("torch") if loaded else None
    if torch is None or not torch.cuda.is_available():
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        found = replace(DEVICES["cpu-basic"], memory_bytes=memory, words=_here(memory))
        return found if torch is None else _paced(found, parameters)
    memory = torch.cuda.get_device_properties(0).total_memory
    gpus = [d for d in DEVICES.values() if not d.name.startswith("cpu-") and not d.leased]
    nearest = min(gpus, key=lambda device: abs(device.memory_bytes - memory))
    return replace(nearest, name="", memory_bytes=memory, words=_here(memory))


def _paced(device: Device, parameters: int) -> Device:
    """Return a device with the rates that this machine's CPU has now."""
    from ditto_hub.engine.pace import pace

    flops, bandwidth = pace(parameters)
    return replace(
        device,
        flops=flops,
        bandwidth=bandwidth,
        source=Message("cost.sheet_here"),
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
    )


def _here(memory_bytes: int) -> Message:
    return Message("cost.device_here", gb=round(memory_bytes / 1e9))


def estimate_devices(
    demos: DemoSet | str | Path,
    base_model: str = "pocket",
    config: RunConfig | None = None,
    *,
    prices: Mapping[str, float] | None = None,
    token: Token | str,
) -> list[Estimate]:
    """Say what a run will take on each device there are figures for, computed.

    Args:
        prices: device -> dollars an hour, as `live_prices` reads them; default the
            dated table's.
    """
    job = planned_job(demos, base_model, config, "cpu-basic", token)
    found = []
    for device in DEVICES.values():
        one = Job(job.shape, job.config, job.work, device)
        price = (prices or {}).get(device.name)
        found.append(estimate_leased(one, price_usd_h=price))
    return found


def live_prices(token: Token | str) -> dict[str, float]:
    """Return flavor -> dollars an hour as the Hub says now; empty where it cannot be asked.

    Args:
        token: of the user, or nobody's.
    """
    from ditto_hub.hub.prices import live_prices as ask

    return ask(token)


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
    words: Text
    seconds: float
    usd: float


def job_offers(
    demos: DemoSet, base_model: str, config: RunConfig, token: Token | str
) -> list[JobOffer]:
    """Return the GPUs that a run fits as a Hub Job, cheapest first; none without figures."""
    try:
        found = estimate_devices(with_stand_ins(demos)[0], base_model, config, token=token)
    except (BaseModelError, ConfigError, HubError):
        return []
    offers = []
    for one in found:
        device = DEVICES[one.device]
        price = device.price_usd_h
        if one.possible and price is not None and not one.device.startswith("cpu-"):
            seconds, usd = one.total_seconds + SETUP_S, job_usd(one.total_seconds, price)
            offers.append(JobOffer(one.device, one.words, seconds, usd))
    return sorted(offers, key=lambda offer: offer.usd)


def planned_job(
    demos: DemoSet | str | Path,
    base_model: str,
    config: RunConfig | None,
    device: str,
    token: Token | str,
) -> Job:
    """Return what an estimate on a device is computed from; a known base needs no network.

    Raises:
        BaseModelError: the shape of the base model is not to be found out.
        ConfigError: an unknown device.
    """
    config = config or default_config(base_model)
    given, unwritten = with_stand_ins(demos)
    work = replace(guess_workload(_split(given, config)), unwritten=unwritten)
    return Job(find_shape(base_model, token), config, work, find_device(device))


def with_stand_ins(demos: DemoSet | str | Path) -> tuple[DemoSet, int]:
    """Return demonstrations whose missing prompts are plain ones, and how many those are.

    Raises:
        DemoError: a file cannot be read.
    """
    given = demos if isinstance(demos, DemoSet) else read_demos(demos)
    found = tuple(
        replace(d, prompt=as_messages(plain_prompt(d.completion))) if d.lacks_prompt else d
        for d in given
    )
    return DemoSet(found, given.notices), sum(d.lacks_prompt for d in given)


def find_shape(base_model: str, token: Token | str) -> BaseShape:
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
        raise BaseModelError("api.config_without_shape", base_model=base_model)
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
        "api.run_too_large",
        memory_bytes=found.memory_bytes / 1e9,
        said=found.words,
        remedies=found.remedy,
    )


def note_estimate(run: Run, device: str, token: Token | str) -> Estimate | None:
    """Write into a run's record what it should take on a device, once; None without figures.

    Raises:
        MemoryShortError: the run cannot fit there even in the smallest batches.
    """
    try:
        base = str(run.record.base_model["id"])
        found = estimate_run(run.demos(), base, run.config, device, token=token)
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


def _split(demos: DemoSet, config: RunConfig) -> DemoSet:
    require_usable(demos)
    held_out = config.selection.held_out
    return demos.split(None if held_out < 0 else held_out, config.seed)


def _measured(
    demos: DemoSet,
    unwritten: int,
    base_model: str,
    config: RunConfig | None,
    token: Token | str,
) -> Estimate:
    from ditto_hub.ditto.calibration import calibrate, workload
    from ditto_hub.ditto.state import Work
    from ditto_hub.engine.base_model import load_base
    from ditto_hub.engine.choice import open_engine
    from ditto_hub.hub.preflight import preflight
    from ditto_hub.hub.preflight import require_usable as require_base

    config = config or default_config(base_model)
    base_model = choose_smollm2(base_model)
    require_base(preflight(base_model, token))
    base = {"id": base_model, "revision": None, "quantize": config.base.quantize}
    model, tokenizer = load_base(base, token=token)
    work = Work(open_engine(model, tokenizer, config.lora, config.seed, base), demos, config)
    work.begin()
    return estimate(config, replace(workload(work), unwritten=unwritten), calibrate(work))
