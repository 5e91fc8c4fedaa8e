"""Seconds of a whole run at the paper's settings on the GPU at hand, and the distance to the floor.

    python benchmarks/gpu.py --out gpu.json             three shapes, under ten minutes
    python benchmarks/gpu.py --shapes mistral-7b        one of them
    python benchmarks/gpu.py --shapes tiny --lengths 12,24 --demo-tokens 20     on a CPU: it runs

Random weights in the real shapes, bfloat16 on CUDA, so nothing is downloaded and no sample ends by
itself: every one has exactly the length asked for. Each kind of work is timed as the run does it (a
whole sampling, three steps of each kind of training after one to warm up, one pass of scoring) and
counted as often as a run with 7 demonstrations, 10 samples, 4 rounds and 40 updates of 24 pairs
does it, candidates and their samples included. Every shape has
a process of its own, so that none holds another's memory and one that fails costs no other. Other
ways to sample are timed last, at the first length alone.

The floor is counted, not measured: a decoding step reads the weights and the cache once at the
data sheet's bandwidth, a trained token costs 4 operations a weight (the base is frozen), a scored
one 2, at the data sheet's dense rate. Loading the model is not in the table.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from speed_models import BASE, batch_of_pairs, rows
from speed_timing import machine
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from ditto_hub import pocket
from ditto_hub.config import Lora, Sampling, preset
from ditto_hub.cost.devices import DEVICES, Device
from ditto_hub.cost.shapes import BaseShape
from ditto_hub.ditto.losses import PreferenceLoss, supervised
from ditto_hub.ditto.optimizer import Stepper, schedule
from ditto_hub.ditto.rollout import Rollout
from ditto_hub.ditto.selection import ORDERED_ROWS
from ditto_hub.engine.decoding import pad_rows
from ditto_hub.engine.fast import FastEngine

DEMOS, SAMPLES, ROUNDS, STEPS, SFT_STEPS, SFT_ROWS = 7, 10, 4, 40, 30, 4
DRAWS = ROUNDS + 2  # the last round's candidate and sft-long are sampled too
DEMO_TOKENS = 300  # of a demonstration's completion
SHAPE_S = 190  # seconds after which a shape's process is ended
TARGETS = {"total_s": 60.0, "over": 2.0, "peak_bytes": 40e9}  # of 7 B on an H200, 350 tokens
EARLIER = sum(DEMOS + ORDERED_ROWS * min(t, ROUNDS) for t in range(DRAWS))  # rows scored again


@dataclass(frozen=True)
class Model:
    """Name a family and its real shape."""

    kind: str
    shape: BaseShape


MODELS = {
    "smollm2-135m": Model("llama", BaseShape(30, 576, 1536, 9, 3, 64, 49_152, tied=True)),
    "smollm2-360m": Model("llama", BaseShape(32, 960, 2560, 15, 5, 64, 49_152, tied=True)),
    "qwen3-4b": Model(
        "qwen3", BaseShape(36, 2560, 9728, 32, 8, 128, 151_936, tied=True, head_norm=True)
    ),
    "mistral-7b": Model("mistral", BaseShape(32, 4096, 14_336, 32, 8, 128, 32_000)),
    "tiny": Model("mistral", BaseShape(2, 64, 128, 4, 2, 16, 1024)),
}

SHEETS = {
    **DEVICES,
    "h100": replace(
        DEVICES["h200"], name="h100", words="H100 SXM, 80 GB", memory_bytes=80 * 10**9,
        bandwidth=3.35e12,
    ),
}  # fmt: skip


class Bench:
    """One model on the device, with everything a run does to it.

    Args:
        name: of MODELS.
        device: "cuda" or "cpu".
        demo_tokens: length of a demonstration's completion.
    """

    def __init__(self, name: str, device: torch.device, demo_tokens: int) -> None:
        self.device, self.demo_tokens = device, demo_tokens
        tokenizer = AutoTokenizer.from_pretrained(pocket.resolve("pocket"))
        self.policy = FastEngine(random_model(MODELS[name], device), tokenizer, Lora(), 0, BASE)
        self.policy.format.stop_ids = (2**31 - 1,)  # no sample ends by itself
        self.policy.fixed_buffers = True  # as a GPU has them, so that a CPU tries the same code
        self.update = preset("paper").update
        self.demos = [r for r in rows(DEMOS, demo_tokens, samples=0) if r.round < 0]

    def sample(self, length: int) -> list[Rollout]:
        """Draw ten completions of every demonstration's prompt."""
        prompts = [r.prompt_ids for r in self.demos]
        seeds = [[100 * i + k for k in range(SAMPLES)] for i in range(DEMOS)]
        drawn = self.policy.sample(prompts, seeds, Sampling(), length)
        return [
            replace(demo, round=0, completion_ids=row.token_ids)
            for demo, mine in zip(self.demos, drawn, strict=True)
            for row in mine
        ]

    def another_way(self, length: int, way: str) -> None:
        """Draw without replaying, or with the library's `generate` or `generate_batch`."""
        if way == "launched":
            kept, self.policy.fixed_buffers = self.policy.fixed_buffers, False
            try:
                self.sample(length)
            finally:
                self.policy.fixed_buffers = kept
            return
        prompts = [r.prompt_ids for r in self.demos for _ in range(SAMPLES)]
        settings = GenerationConfig(
            do_sample=True,
            top_k=0,
            max_new_tokens=length,
            pad_token_id=0,
            cache_implementation=None if way == "continuous" else way,
            disable_compile=True,  # ZeroGPU forbids it
        )
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            if way == "continuous":
                inputs = [list(p) for p in prompts]
                self.policy.model.get_base_model().generate_batch(
                    inputs=inputs, generation_config=settings
                )
                return
            ids, mask = pad_rows(prompts, 0, left=True)
            self.policy.model.generate(
                input_ids=ids.to(self.device),
                attention_mask=mask.to(self.device),
                generation_config=settings,
            )

    def supervised_step(self) -> Callable[[], Any]:
        """Return a step on four demonstrations."""
        stepper, given = self._stepper(), [r.row for r in self.demos[:SFT_ROWS]]
        tokens = sum(row.tokens for row in given)
        return lambda: stepper.step(given, lambda scores: supervised(scores, tokens))

    def update_step(self, drawn: list[Rollout]) -> tuple[Callable[[], Any], int]:
        """Return a step of 24 pairs, and how many tokens its different rows have."""
        known = [*self.demos, *drawn, *(replace(r, round=1) for r in drawn)]
        pairs = batch_of_pairs(known, self.update.pairs)
        stepper = self._stepper()

        def step() -> None:
            loss = PreferenceLoss(known, pairs, self.update)
            stepper.step(loss.rows, loss)

        return step, sum(len(r.ids) for r in PreferenceLoss(known, pairs, self.update).rows)

    def stock_update(self, drawn: list[Rollout]) -> Callable[[], Any]:
        """Return TRL's step on the same 24 pairs, its reference scores stored."""
        known = [*self.demos, *drawn, *(replace(r, round=1) for r in drawn)]
        pairs = batch_of_pairs(known, self.update.pairs)
        return stock_step(self.policy, known, pairs, self.update)

    def score(self, drawn: list[Rollout]) -> None:
        """Score a sampling's rows once."""
        self.policy.log_probs([r.row for r in drawn])

    def _stepper(self) -> Stepper:
        return Stepper(
            self.policy,
            optimizer="adamw",
            learning_rate=1e-6,
            schedule=schedule("constant", 0.0, 1),
            max_grad_norm=1.0,
            seed=0,
        )


def random_model(model: Model, device: torch.device) -> Any:
    """Return a model of random weights in a shape, in the device's dtype."""
    shape = model.shape
    config = AutoConfig.for_model(
        model.kind,
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        tie_word_embeddings=shape.tied,
        max_position_embeddings=8192,
        sliding_window=None,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=None,
    )
    torch.manual_seed(0)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    with device:
        made = AutoModelForCausalLM.from_config(config, dtype=dtype)
    return made.eval().requires_grad_(False)


class Clock:
    """Seconds and peak memory of a piece of work."""

    def __init__(self, device: torch.device) -> None:
        self.cuda = device.type == "cuda"

    def __call__(self, act: Callable[[], Any], times: int = 1) -> tuple[float, int]:
        """Run something and return the seconds of one time, and the most bytes allocated."""
        if self.cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        began = time.perf_counter()
        for _ in range(times):
            act()
        if self.cuda:
            torch.cuda.synchronize()
        peak = torch.cuda.max_memory_allocated() if self.cuda else 0
        return (time.perf_counter() - began) / times, peak


def measure(
    name: str, given: argparse.Namespace, device: torch.device, keep: Callable[[Any], None]
) -> None:
    """Time one model's stages for each sample length, floor and peak memory beside them.

    Args:
        name: of MODELS.
        given: the command's arguments.
        device: to run on.
        keep: is handed what has been found so far.
    """
    began = time.perf_counter()
    bench, clock = Bench(name, device, given.demo_tokens), Clock(device)
    found: dict[str, Any] = {"build_s": round(time.perf_counter() - began, 1), "lengths": {}}
    supervised = bench.supervised_step()
    supervised()
    bench.score(bench.sample(4))
    supervised()  # a recording has emptied the allocator's cache
    sft = clock(supervised, 5)
    for length in given.lengths:
        found["lengths"][str(length)] = stages(bench, clock, sft, MODELS[name].shape, given, length)
        keep(found)
    first = given.lengths[0]
    if given.profile:
        found["kernels"] = busiest(bench, first)
        keep(found)
    if given.stock:
        found["updates"] = compare_updates(bench, clock, first)
        keep(found)
    ways = {"ours": found["lengths"][str(first)]["one_sampling_s"]}
    found["ways"] = ways
    for way in given.ways:
        try:
            ways[way] = round(clock(partial(bench.another_way, first, way))[0], 3)
        except (RuntimeError, ValueError, TypeError, AttributeError, ImportError) as error:
            ways[way] = f"{type(error).__name__}: {str(error).splitlines()[0][:160]}"
        keep(found)


def stock_step(
    policy: FastEngine, known: list[Rollout], pairs: Any, update: Any
) -> Callable[[], Any]:
    """Return a call that runs TRL's DPOTrainer forward and backward on pairs, as documented."""
    from copy import deepcopy

    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    class Stored(DPOTrainer):  # type: ignore[misc]
        def _prepare_dataset(self, dataset: Any, *_: object, **__: object) -> Any:
            return dataset  # rows are token ids already

    with tempfile.TemporaryDirectory() as folder:
        settings = DPOConfig(
            output_dir=folder, per_device_train_batch_size=len(pairs), beta=update.beta,
            bf16=False, gradient_checkpointing=True, max_length=None, report_to=[],
            use_cpu=policy.device.type == "cpu", save_strategy="no",
        )  # fmt: skip
        nothing = Dataset.from_list([{"prompt_ids": [0], "chosen_ids": [0], "rejected_ids": [0]}])
        trainer = Stored(
            model=policy.model, args=settings, train_dataset=nothing,
            processing_class=deepcopy(policy.tokenizer),
        )  # fmt: skip
    policy.model.delete_adapter("ref")
    trainer.precompute_ref_logps = True
    trainer.current_gradient_accumulation_steps = 1
    lines = [known[p.winner] for p in pairs] + [known[p.loser] for p in pairs]
    ids, mask = pad_rows([r.row.ids for r in lines], 0)
    completion = mask.clone()
    for k, row in enumerate(lines):
        completion[k, : len(row.prompt_ids)] = 0
    zeros = torch.zeros(len(pairs))
    batch = {
        "input_ids": ids, "attention_mask": mask, "completion_mask": completion,
        "ref_chosen_logps": zeros, "ref_rejected_logps": zeros,
    }  # fmt: skip

    def step() -> None:
        for parameter in policy.parameters():
            parameter.grad = None
        trainer.training_step(policy.model, dict(batch))

    return step


def compare_updates(bench: Bench, clock: Clock, length: int) -> dict[str, Any]:
    """Return seconds of one update, ours and TRL's, on the same pairs."""
    drawn = bench.sample(length)
    ours, _ = bench.update_step(drawn)
    ours()
    told: dict[str, Any] = {"ours": round(clock(ours, 3)[0], 4)}
    try:
        stock = bench.stock_update(drawn)
        stock()
        told["trl"] = round(clock(stock, 3)[0], 4)
        told["ratio"] = round(told["trl"] / told["ours"], 2)
    except (RuntimeError, ValueError, TypeError, AttributeError, ImportError) as error:
        told["trl"] = f"{type(error).__name__}: {str(error).splitlines()[0][:160]}"
    return told


def busiest(bench: Bench, length: int) -> dict[str, str]:
    """Return tables of the kernels that an update and a short sampling spend their time in."""
    from torch.profiler import ProfilerActivity, profile

    drawn = bench.sample(length)
    update, _ = bench.update_step(drawn)
    update()
    told = {}
    for name, act in {"update": update, "sampling of 40 tokens": lambda: bench.sample(40)}.items():
        with profile(  # type: ignore[no-untyped-call]
            activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]
        ) as profiled:
            act()  # type: ignore[no-untyped-call]
        rows = [(e.key[:90], e.self_device_time_total / 1e3, e.count)
                for e in profiled.key_averages()  # type: ignore[no-untyped-call]
                if e.self_device_time_total]  # fmt: skip
        rows.sort(key=lambda row: -row[1])
        total = sum(row[1] for row in rows)
        lines = [f"{ms:9.2f} ms {count:7} {key}" for key, ms, count in rows[:16]]
        told[name] = "\n".join([f"{total:9.2f} ms on the device", *lines])
    return told


def stages(
    bench: Bench,
    clock: Clock,
    sft: tuple[float, int],
    shape: BaseShape,
    given: argparse.Namespace,
    length: int,
) -> dict[str, Any]:
    """Return a whole run's seconds at one length of samples, stage by stage."""
    drawn: list[Rollout] = []
    sample_s, sample_peak = clock(lambda: drawn.extend(bench.sample(length)))
    score_s, score_peak = clock(lambda: bench.score(drawn))
    update, tokens = bench.update_step(drawn)
    update()
    update_s, update_peak = clock(update, 3)
    lower = floors(shape, given.sheet, given.demo_tokens, length, tokens)
    seconds = {
        "warm-start": SFT_STEPS * sft[0],
        "sampling": ROUNDS * sample_s,
        "scoring under the reference": ROUNDS * score_s,
        "update": STEPS * update_s,
        "sft-long": STEPS * sft[0],
        "candidates' samples": (DRAWS - ROUNDS) * (sample_s + score_s),
        "implicit order of earlier samples": EARLIER / (DEMOS * SAMPLES) * score_s,
    }
    return {
        "stages": {
            k: {"s": round(v, 3), "floor_s": round(lower[k], 3), "over": _over(v, lower[k])}
            for k, v in seconds.items()
        },
        "total_s": round(sum(seconds.values()), 2),
        "floor_s": round(sum(lower.values()), 2),
        "one_sampling_s": round(sample_s, 3),
        "peak_bytes": {
            "sft": sft[1],
            "sampling": sample_peak,
            "scoring": score_peak,
            "update": update_peak,
        },
        "update_tokens": tokens,
        "training_tokens": bench.policy.budget.tokens(bench.policy, [bench.demos[0].row]),
        "bytes_a_token": int(bench.policy.budget.bytes_a_token),
        "notices": [notice.to_json() for notice in bench.policy.notices()],
    }


def floors(
    shape: BaseShape, sheet: Device, demo_tokens: int, length: int, update_tokens: int
) -> dict[str, float]:
    """Return the least seconds each stage can take on a device, by its data sheet."""
    prompt = 25
    drawn, weight = DEMOS * SAMPLES, sheet.weight_bytes
    context = prompt + length / 2
    step = shape.multiplied * weight + drawn * context * shape.cache_bytes(weight)
    sampling = length * max(step / sheet.bandwidth, 2 * drawn * shape.multiplied / sheet.flops)
    row_s = 2 * shape.multiplied * (prompt + length) / sheet.flops
    supervised = 4 * shape.multiplied * SFT_ROWS * (prompt + demo_tokens) / sheet.flops
    return {
        "warm-start": SFT_STEPS * supervised,
        "sampling": ROUNDS * sampling,
        "scoring under the reference": ROUNDS * drawn * row_s,
        "update": STEPS * 4 * shape.multiplied * update_tokens / sheet.flops,
        "sft-long": STEPS * supervised,
        "candidates' samples": (DRAWS - ROUNDS) * (sampling + drawn * row_s),
        "implicit order of earlier samples": EARLIER * row_s,
    }


def _over(seconds: float, floor: float) -> float:
    return float(f"{seconds / floor:.3g}")


def data_sheet(device: torch.device) -> Device:
    """Return the data sheet of the device at hand, told from its name."""
    if device.type != "cuda":
        return DEVICES["cpu-basic"]
    name = torch.cuda.get_device_name(device).lower()
    marks = {"h200": "h200", "h100": "h100", "rtx pro 6000": "rtx-pro-6000", "a100": "a100-large",
             "l40s": "l40sx1", "a10g": "a10g-small", "l4": "l4x1", "t4": "t4-small"}  # fmt: skip
    found = next((sheet for mark, sheet in marks.items() if mark in name), None)
    if found is None:
        raise SystemExit(f"No data sheet for {name!r}; say --sheet {'|'.join(SHEETS)}.")
    return SHEETS[found]


def show(found: dict[str, Any]) -> None:
    """Print the table against the floor."""
    for name, case in found["models"].items():
        for length, told in case.get("lengths", {}).items():
            print(f"\n{name}, samples of {length} tokens, {found['device']}")
            for stage, line in told["stages"].items():
                far = "" if line["over"] <= TARGETS["over"] else "  more than twice"
                print(f"  {stage:36} {line['s']:9.2f} s  floor {line['floor_s']:8.2f}"
                      f"  {line['over']:6.3g} times{far}")  # fmt: skip
            print(f"  {'in all':36} {told['total_s']:9.2f} s  floor {told['floor_s']:8.2f}")
            peaks = ", ".join(f"{k} {v / 1e9:.1f}" for k, v in told["peak_bytes"].items())
            print(f"  peak memory, GB: {peaks}")
            for notice in told["notices"]:
                print(f"  {notice['type']}: {notice}")
        print(f"  one sampling, seconds: {case.get('ways', {})}")
        print(f"  one update, seconds: {case.get('updates', {})}")
        for kind, table in case.get("kernels", {}).items():
            print(f"  kernels of a {kind}:\n{table}")
        if "error" in case:
            print(f"  {name} stopped: {case['error']}")


def header(given: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Return what the figures were made on."""
    cuda = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if cuda else "CPU",
        "sheet": given.sheet.name,
        "date": datetime.date.today().isoformat(),
        "machine": machine() | {"dtype": "bfloat16" if cuda else "float32"},
        "targets": TARGETS,
        "models": {},
    }


def each_alone(names: list[str], found: dict[str, Any], keep: Callable[[Any], None]) -> None:
    """Measure every shape in a process of its own, with this command's other arguments."""
    others = [a for a in sys.argv[1:] if not a.startswith(("--shapes=", "--out="))]
    for flag in ("--shapes", "--out"):
        if flag in others:
            place = others.index(flag)
            del others[place : place + 2]
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            out, error = Path(folder) / f"{name}.json", ""
            command = [sys.executable, __file__, *others, "--shapes", name, "--out", str(out)]
            print(f"{name} ...", file=sys.stderr, flush=True)
            try:
                done = subprocess.run(command, stdout=subprocess.DEVNULL, timeout=SHAPE_S)
                error = f"exit status {done.returncode}" if done.returncode else ""
            except subprocess.TimeoutExpired:
                error = f"ended after {SHAPE_S} s"
            case = {}
            with contextlib.suppress(OSError, ValueError, KeyError):
                case = json.loads(out.read_text("utf-8"))["models"][name]
            found["models"][name] = case | ({"error": error} if error else {})
            keep(found)


def main() -> None:
    """Measure the shapes asked for and print the table, then JSON."""
    parser = argparse.ArgumentParser(description="A whole run on a GPU against its floor.")
    parser.add_argument("--shapes", default="mistral-7b,qwen3-4b,smollm2-135m")
    parser.add_argument("--lengths", default="350,1024", help="tokens of a sample")
    parser.add_argument("--ways", default="launched,static,continuous", help="or none")
    parser.add_argument("--stock", action="store_true", help="time TRL's update too")
    parser.add_argument("--profile", action="store_true", help="name the busiest kernels")
    parser.add_argument("--sheet", choices=list(SHEETS), help="default told from the GPU's name")
    parser.add_argument("--demo-tokens", type=int, default=DEMO_TOKENS)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    given.lengths = [int(n) for n in given.lengths.split(",")]
    given.ways = [] if given.ways == "none" else given.ways.split(",")
    given.sheet = SHEETS[given.sheet] if given.sheet else data_sheet(device)
    found = header(given, device)

    def keep(found: dict[str, Any]) -> None:
        if given.out:
            given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")

    names = given.shapes.split(",")
    if len(names) > 1:
        each_alone(names, found, keep)
    else:

        def noted(case: dict[str, Any]) -> None:
            found["models"][names[0]] = case
            keep(found)

        measure(names[0], given, device, noted)
    show(found)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
