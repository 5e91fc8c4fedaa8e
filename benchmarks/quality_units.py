"""Units of work of the quality benchmark: train one arm of one setup, judge it, save one file.

An arm is what is trained: the main run with its baselines, a rival, an ablation, a curve's point.
A unit's result is one JSON file, written whole; a second start repeats none that is there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from quality_bench import ABLATIONS, SAMPLES, SFT_STEPS, SFT_STOPS, Bench, Unit

from ditto_hub.config import RunConfig, Selection
from ditto_hub.events import OrderMeasured
from ditto_hub.pocket.grammar import grammar_hash
from ditto_hub.runs.storage import write_atomic

if TYPE_CHECKING:
    from ditto_hub.engine.protocol import Tensors


def run_unit(unit: Unit) -> str:
    """Train, write, judge and save one unit; say in a line how long it took."""
    import torch
    from transformers.utils import logging

    torch.set_num_threads(1)
    logging.disable_progress_bar()
    began, spent = time.perf_counter(), time.process_time()
    bench = Bench(unit)
    kind, _, value = unit.arm.partition("@")[0].partition(":")
    found: dict[str, Any] = ARMS[kind](bench, value)
    result = {
        "persona": unit.setup.persona,
        "seed": unit.setup.seed,
        "setup": unit.setup.__dict__,
        "arm": unit.arm,
        "settings": unit.settings,
        "config": bench.config.to_json(),
        "grammar_hash": grammar_hash(),
        "texts_a_prompt": SAMPLES,
        **found,
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - spent,
    }
    write_atomic(unit.path, (json.dumps(_round(result)) + "\n").encode())
    return f"{unit.path.name}: {result['seconds']:.0f} s, {result['cpu_seconds']:.0f} s of CPU"


def _round(value: Any) -> Any:
    """Return the value with its numbers cut to five digits after the point."""
    if isinstance(value, float):
        return round(value, 5)
    if isinstance(value, Mapping):
        return {str(key): _round(v) for key, v in value.items()}
    return [_round(v) for v in value] if isinstance(value, list | tuple) else value


# ---- arms --------------------------------------------------------------------------------------


def main_arm(bench: Bench, _: str) -> dict[str, Any]:
    """Train the product's run, and let every baseline that comes with it write."""
    found = bench.train(bench.config)
    adapters, policy = found.pop("adapters"), bench.live
    truth = {"author": bench.author()}
    with policy.adapter_off():
        truth["zero-shot"] = bench.judge(policy)
        truth["few-shot"] = bench.judge(policy, bench.demos)
    truth |= bench.judge_adapters(policy, adapters)
    truth |= bench.judge_adapters(policy, at_strengths(bench.config, adapters))
    return {**found, "truth": truth}


def at_strengths(config: RunConfig, adapters: Mapping[str, Tensors]) -> dict[str, Tensors]:
    """Return what a run does not make: earlier rounds softened, finished adapters at full strength.

    So that rounds can be compared at one strength, and each finished adapter with itself.
    """
    strength, last = config.lora.strength, f"round-{config.update.rounds}"
    if strength == 1:
        return {}
    full = {f"{name}, full": scaled(adapters[name], 1 / strength) for name in (last, "sft-long")}
    rounds = [name for name in adapters if name.startswith("round-") and name != last]
    return full | {f"{name}, softened": scaled(adapters[name], strength) for name in rounds}


def ablation_arm(bench: Bench, name: str) -> dict[str, Any]:
    """Train DITTO with one part taken away, from the main run's samples of pi_0."""
    return _last_round(bench, bench.changed(ABLATIONS[name]), "sampling-0", f"ablation:{name}")


def samples_arm(bench: Bench, count: str) -> dict[str, Any]:
    """Train DITTO with another number of samples a demonstration, from the main run's pi_0."""
    config = bench.changed(f"sampling.samples={count}")
    return _last_round(bench, config, "warm-start", f"samples:{count}")


def _last_round(bench: Bench, config: RunConfig, start: str, name: str) -> dict[str, Any]:
    found = bench.train(config, bench.state(start))
    adapters = found.pop("adapters")
    last = f"round-{config.update.rounds}"
    return {**found, "truth": bench.judge_adapters(bench.live, {name: adapters[last]})}


def rounds_arm(bench: Bench, count: str) -> dict[str, Any]:
    """Train DITTO with another number of rounds, its rate falling over all of them."""
    config = bench.changed(f"update.rounds={count}")
    found = bench.train(config, bench.state("sampling-0"))
    adapters = found.pop("adapters")
    strength, last = config.lora.strength, f"round-{config.update.rounds}"
    rounds = {
        f"{name} of {count}": tensors if name == last else scaled(tensors, strength)
        for name, tensors in adapters.items()
        if name.startswith("round-")
    }
    return {**found, "truth": bench.judge_adapters(bench.live, rounds)}


def spin_arm(bench: Bench, _: str) -> dict[str, Any]:
    """Train SPIN from pi_0."""
    from ditto_hub.ditto.rivals import begin, rival, rival_config

    config, policy = bench.own(rival_config("spin", bench.changed())), bench.policy()
    work = begin(policy, bench.demos, config, _pi_0(bench))
    order = [
        {**item.rewards, "ordered": item.ordered}
        for item in rival(work, "spin")
        if isinstance(item, OrderMeasured)
    ]
    return {"order": order, "truth": {bench.unit.arm: bench.judge(policy)}}


def dpo_arm(name: str, bench: Bench, count: str) -> dict[str, Any]:
    """Train DPO on labelled pairs of the base model's samples, or of pi_0's."""
    from ditto_hub.ditto.rivals import begin, labelled, rival, rival_config

    config, policy = bench.own(rival_config(name, bench.changed())), bench.policy()
    start = policy.snapshot() if name == "dpo-base" else _pi_0(bench)
    work = begin(policy, bench.demos, config, start)
    for _ in rival(work, name, bench.label, int(count)):
        pass
    truth = {bench.unit.arm: bench.judge(policy)}
    return {"pairs": len(labelled(work)), "truth": truth}


def sft_time_arm(bench: Bench, _: str) -> dict[str, Any]:
    """Continue SFT for as long as DITTO's rounds take; the selection rule picks where it stops."""
    from ditto_hub.ditto.sampling import sample_candidate
    from ditto_hub.ditto.selection import choose
    from ditto_hub.ditto.state import Work
    from ditto_hub.ditto.warm_start import sft_long

    steps = SFT_STEPS // bench.config.update.rounds
    config, policy = bench.changed(f"update.steps={steps}"), bench.policy()
    work = Work(policy, bench.demos, config)
    work.load_bytes(bench.state("sampling-0"))
    adapters: dict[str, Tensors] = {"sft": work.pi_0}
    total = steps * config.update.rounds
    for item in sft_long(work):
        step = getattr(item, "step", None)
        if step and step % (total // SFT_STOPS) == 0:
            adapters[f"sft-{step}"] = scaled(policy.snapshot(), config.lora.strength)
    for t, (name, tensors) in enumerate(adapters.items()):
        if name not in work.progress.candidates:
            policy.restore(tensors)
            work.progress.step = 0
            for _item in sample_candidate(work, name, 10 + t):
                pass
    kept = choose(work.progress.candidates, Selection(rule=config.selection.rule))[0]
    truth = bench.judge_adapters(policy, adapters)
    truth["sft-time"] = truth[kept]
    scores = {
        n: {**c["scores"], "degenerate": str(c["degenerate"])}
        for n, c in work.progress.candidates.items()
    }
    return {"scores": scores, "kept": kept, "truth": truth}


def sft_arm(bench: Bench, _: str) -> dict[str, Any]:
    """Train the warm start and its continuation alone: how SFT's rate and steps are tuned."""
    from ditto_hub.ditto.state import Work
    from ditto_hub.ditto.warm_start import sft_long, warm_start

    policy = bench.policy()
    work = Work(policy, bench.demos, bench.changed())
    work.begin()
    for stage in (warm_start, sft_long):
        for _item in stage(work):
            pass
        work.progress.step = 0
    return {"truth": {bench.unit.arm: bench.judge(policy)}}


def orders_arm(bench: Bench, _: str) -> dict[str, Any]:
    """Show the demonstrations in several orders: how few-shot prompting is tuned."""
    policy, demos = bench.policy(), list(bench.demos)
    orders = {
        "as given": demos,
        "reversed": demos[::-1],
        "shortest first": sorted(demos, key=lambda d: len(d.completion)),
        "longest first": sorted(demos, key=lambda d: -len(d.completion)),
    }
    with policy.adapter_off():
        return {"truth": {f"few-shot {n}": bench.judge(policy, o) for n, o in orders.items()}}


def _pi_0(bench: Bench) -> Tensors:
    from ditto_hub.ditto.state import Work

    work = Work(bench.policy(), bench.demos, bench.config)
    work.load_bytes(bench.state("warm-start"))
    return work.pi_0


ARMS: dict[str, Any] = {
    "main": main_arm,
    "spin": spin_arm,
    "sft": sft_arm,
    "sft-time": sft_time_arm,
    "orders": orders_arm,
    "ablation": ablation_arm,
    "samples": samples_arm,
    "rounds": rounds_arm,
    "dpo-base": lambda bench, count: dpo_arm("dpo-base", bench, count),
    "dpo-sft": lambda bench, count: dpo_arm("dpo-sft", bench, count),
}


def scaled(tensors: Tensors, share: float) -> Tensors:
    """Return an adapter that changes the weights by a share of what this one does."""
    return {k: v * share if "lora_B" in k else v for k, v in tensors.items()}
