"""Make the finished run that the package ships: SmolLM2-135M on `example:workshop`.

    python benchmarks/example_run.py --work build/example      # minutes on two cores; goes on
    ditto-hub runs show example:smollm2

Trains, lets the base model answer the demonstrations' prompts, compares the methods on prompts that
had no part, and copies what a reader needs into the package: demonstrations, events, samples of
every stage, the comparison, the adapter in bfloat16. Candidates' adapters and state are left out.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes

from ditto_hub import api
from ditto_hub.config import RunConfig, preset
from ditto_hub.evaluation.prompts import read_prompts
from ditto_hub.runs.examples import FOLDER, PREFIX
from ditto_hub.runs.folder import Run
from ditto_hub.runs.results import Evaluation
from ditto_hub.runs.storage import to_jsonl_bytes
from ditto_hub.tokens import NOBODY

NAME, DEMOS, BASE_MODEL = "smollm2", "example:workshop", "smollm2"
METHODS = ("zero-shot", "few-shot", "sft", "ditto", "sft-long")
SAMPLES = 1  # texts a method writes to each prompt: the run is to be read, not measured
# Of preset `small`, but an adapter under 5 MB, and fewer steps and samples: minutes on a CPU.
CHANGES = (
    "lora.rank=4",
    "lora.alpha=8",
    "warm_start.learning_rate=1e-3",
    "warm_start.max_steps=16",
    "sampling.samples=3",
    "sampling.max_new_tokens=120",
    "sampling.length_factor=1.3",
    "update.learning_rate=2e-4",
    "update.steps=4",
    "update.pairs=4",
    "selection.samples=1",
)
SHIPPED = ("run.json", "demos.jsonl", "prompts.jsonl", "events.jsonl", "rollouts", "evaluation")
ADAPTER = ("adapter_config.json", "adapter_model.safetensors")


def say(words: str) -> None:
    """Print a line of progress."""
    print(words, file=sys.stderr, flush=True)


def settings() -> RunConfig:
    """Return the run's settings."""
    config = preset("small")
    for text in CHANGES:
        config = config.with_setting(text)
    return config


def trained(work: Path) -> Run:
    """Return the finished run in a folder, training it from where it stands."""
    if (work / "run.json").is_file():
        run = Run.load(work)
    else:
        run = api.create_run(DEMOS, BASE_MODEL, settings(), output=work, token=NOBODY)
    if run.record.status != "finished":
        for event in api.drive(run, token=NOBODY):
            say(f"{event.stage} {type(event).__name__} {event.step or ''}")
    return Run.load(work)


def write_before(run: Run) -> None:
    """Let the base model answer the demonstrations' prompts, once."""
    if (run.folder / "rollouts" / "base.jsonl").is_file():
        return
    voice = api.load(run)
    voice.cap = run.config.sampling.max_new_tokens
    rows = [
        {"demo": d.id, "text": voice.generate(d.prompt, seed=run.record.seed, adapter_off=True)[0]}
        for d in run.demos()
    ]
    run.write("rollouts/base.jsonl", to_jsonl_bytes(rows))


def compare(run: Run) -> None:
    """Compare the methods on the prompts that had no part; goes on with one under way."""
    prompts = read_prompts(run.folder / "prompts.jsonl")
    for item in api.stream_evaluate(run, methods=METHODS, prompts=prompts, samples=SAMPLES):
        if not isinstance(item, Evaluation):
            say(f"{item.step} {item.name}: {item.done}/{item.total}")


def pack(run: Run, target: Path) -> int:
    """Copy what is shipped of a run; return its bytes."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name in SHIPPED:
        source = run.folder / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("*.png", "cache"))
        else:
            shutil.copyfile(source, target / name)
    for name in ("run.json", "events.jsonl"):
        told = (target / name).read_text("utf-8").replace(run.record.id, PREFIX + target.name)
        (target / name).write_text(told, encoding="utf-8")
    _pack_adapter(run.candidate(), target / "adapter")
    return sum(path.stat().st_size for path in target.rglob("*") if path.is_file())


def _pack_adapter(source: Path, target: Path) -> None:
    import torch

    target.mkdir()
    config, weights = ADAPTER
    shutil.copyfile(source / config, target / config)
    tensors = tensors_from_bytes((source / weights).read_bytes())
    halved = {name: tensor.to(torch.bfloat16) for name, tensor in tensors.items()}
    (target / weights).write_bytes(tensors_to_bytes(halved, metadata={"format": "pt"}))


def main() -> None:
    """Train, compare and pack."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path("build/example"))
    parser.add_argument("--output", type=Path, default=FOLDER / NAME)
    options = parser.parse_args()
    run = trained(options.work)
    write_before(run)
    compare(run)
    say(f"{pack(run, options.output) / 1e6:.1f} MB in {options.output}")


if __name__ == "__main__":
    main()
