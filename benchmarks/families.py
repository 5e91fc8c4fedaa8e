"""Is every type of model that we name trained? Each is built tiny and taken through a short run.

    python benchmarks/families.py [TYPE ...] [--again] [--output ditto_hub/engine/families.json]

Each type has a process and a time limit of its own, and the table is written after each: what was
interrupted goes on where it stopped, and new versions of the libraries begin a new table.

A type is trained by the fast engine where that engine's scores, gradients and samples are the plain
one's; by the plain engine where they are not and the plain one trains; and is refused where
neither does. Trained means: a warm start, a round, a stop in the middle and a resume, and an
adapter that plain PEFT loads with the logits that the run's probe has kept. The table is read by
the preflight and by `open_engine`.
"""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import json
import logging
import multiprocessing
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import transformers
from families_models import build_family
from peft import PeftModel
from safetensors.torch import load_file

from ditto_hub.backends.driver import Driver
from ditto_hub.config import Lora, RunConfig, Sampling
from ditto_hub.demos.demonstrations import DemoSet
from ditto_hub.engine.base_model import load_base, try_out
from ditto_hub.engine.choice import decodes_fast
from ditto_hub.engine.fast import FastEngine
from ditto_hub.engine.plain import PlainEngine
from ditto_hub.engine.protocol import Row
from ditto_hub.errors import DittoError
from ditto_hub.hub.architectures import CAUSAL
from ditto_hub.runs.folder import Run
from ditto_hub.tokens import NOBODY

TABLE = Path(__file__).parents[1] / "ditto_hub" / "engine" / "families.json"
CPU = torch.device("cpu")
SETTINGS = (
    "warm_start.max_steps=2", "warm_start.batch_size=2", "warm_start.learning_rate=0.01",
    "sampling.samples=2", "sampling.max_new_tokens=8", "update.rounds=1", "update.steps=2",
    "update.pairs=4", "update.learning_rate=0.01", "lora.rank=2", "lora.alpha=4",
    "lora.targets=all-linear", "selection.samples=1", "selection.held_out=0",
    "selection.max_length_ratio=100", "selection.max_unfinished=1", "selection.min_distinct=0",
)  # fmt: skip
PAIRS = (("Write to the lab.", "Hi all, see you there!"), ("Ask.", "hey team,\nbring your notes"))
CLOSE = 2e-3  # relative
LIMIT_S = 300
LIBRARIES = ("transformers", "peft", "torch")


def examine(model_type: str, folder: Path) -> dict[str, str]:
    """Build a type and return who trains it, "fast", "plain" or "nobody", and why not another.

    Args:
        model_type: transformers' name.
        folder: empty.
    """
    try:
        base = build_family(model_type, folder / "base")
    except Exception as error:
        return {"trained_by": "unknown", "why": f"No tiny model could be built: {_words(error)}"}
    why = ""
    for name, engine in (("fast", FastEngine), ("plain", PlainEngine)):
        try:
            why_not = differs(base) if name == "fast" else ""
            if not why_not:
                take_through(base, folder / name, engine)
                return {"trained_by": name, "why": why}
        except Exception as error:
            why_not = _words(error)
        why = f"{why} {name}: {why_not}".strip()
        gc.collect()
    return {"trained_by": "nobody", "why": why}


def take_through(base: Path, folder: Path, engine: Callable[..., Any]) -> None:
    """Run, stop in the middle, resume, and load what came out in plain PEFT.

    Raises:
        Exception: whatever a type's own code raises, or an AssertionError.
    """
    config = RunConfig()
    for text in SETTINGS:
        config = config.with_setting(text)
    run = Run.create(DemoSet.from_pairs(PAIRS), {"id": str(base), "revision": None}, config, folder)

    def open_policy(run: Run) -> Any:
        model, tokenizer = load_base(run.record.base_model, device=CPU, token=NOBODY)
        opened = engine(model, tokenizer, config.lora, config.seed, run.record.base_model)
        try_out(opened.model, model_type_of(base))
        return opened

    for _ in Driver(run, open_policy, stop_at(3), 0.0).events():
        pass
    assert run.record.status == "paused", "the run did not stop in the middle"
    for _ in Driver(run, open_policy, save_every_s=60.0).events():
        pass
    assert run.record.status == "finished", "the run did not finish"
    same_in_peft(base, run.folder)


def model_type_of(base: Path) -> str:
    """Return the type of a model in a folder."""
    return str(json.loads((base / "config.json").read_text())["model_type"])


def stop_at(count: int) -> Callable[[], str]:
    """Return what asks a run to stop at a checkpoint of this number."""
    left = iter(range(count))
    return lambda: "" if next(left, None) is not None else "enough"


def same_in_peft(base: Path, run: Path) -> None:
    """Compare the adapter's logits in plain PEFT with the run's probe."""
    kept = load_file(run / "probe.safetensors")
    model = transformers.AutoModelForCausalLM.from_pretrained(
        base, dtype=torch.float32, trust_remote_code=False, use_safetensors=True
    )
    loaded = PeftModel.from_pretrained(model, run / "adapter").eval()
    size = int(kept["attention_mask"][0].sum())
    with torch.no_grad():
        out = loaded(input_ids=kept["input_ids"][:1, :size], use_cache=False)
    logits, known = out.logits[0, -1].float(), kept["adapter_on"][0]
    assert bool(torch.isfinite(known).all()), "the logits are not finite"
    assert _near(logits, known), "plain PEFT gives other logits"


@torch.no_grad()
def _rough(engine: Any) -> None:
    """Give the adapter weights that change what the model says."""
    torch.manual_seed(1)
    tensors = engine.snapshot()
    engine.restore({name: torch.randn_like(value) * 0.1 for name, value in tensors.items()})


def differs(base: Path) -> str:
    """Return what the fast engine does differently from the plain one, or nothing."""
    found = []
    for kind in (FastEngine, PlainEngine):
        model, tokenizer = load_base({"id": str(base)}, device=CPU, token=NOBODY)
        if not decodes_fast(model.config):
            return "it keeps a state of earlier tokens, not their keys and values"
        engine = kind(model, tokenizer, Lora(rank=2, targets="all-linear"), 0, {"id": "base"})
        _rough(engine)
        found.append(list(_answers(engine)))
    for (what, ours), (_, plain) in zip(*found, strict=True):
        if not _near(ours, plain):
            return f"other {what} than the plain engine's"
    return ""


def _answers(engine: Any) -> Iterator[tuple[str, torch.Tensor]]:
    encode = engine.format.encode
    texts = [*PAIRS, ("Ask.", "one two"), ("Ask.", "three four five six seven eight nine ten" * 3)]
    coded = [encode([{"role": "user", "content": p}], c) for p, c in texts]
    rows = [Row(tuple(c.prompt_ids), tuple(c.completion_ids)) for c in coded]
    yield "scores", torch.tensor(engine.log_probs(rows), dtype=torch.float64)
    engine.backward(rows, lambda scores: -scores.sum())
    yield "gradients", torch.cat([_flat(p.grad, p) for p in engine.parameters()])
    prompts = [row.prompt_ids for row in (rows[0], rows[2])]
    drawn = engine.sample(prompts, [[1, 2], [3]], Sampling(temperature=1.0, top_p=1.0), 20)
    scores = [row.log_prob for rows in drawn for row in rows]
    yield "samples", torch.tensor(scores, dtype=torch.float64)


def _flat(gradient: torch.Tensor | None, parameter: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(parameter).flatten() if gradient is None else gradient.flatten()


def _near(ours: torch.Tensor, plain: torch.Tensor) -> bool:
    scale = float(plain.abs().max())
    return bool(torch.allclose(ours, plain, rtol=CLOSE, atol=CLOSE * scale))


def _words(error: BaseException) -> str:
    """Return what a library raised in one line, without names of temporary folders."""
    error = error.__cause__ or error
    what = error.what if isinstance(error, DittoError) else str(error)
    first = (what.strip().splitlines() or [""])[0]
    return re.sub(r"\S*/tmp\S*", "it", f"{type(error).__name__}: {first}")[:200]


def examined(model_type: str) -> dict[str, str]:
    """Examine a type in a process of its own, which a crash or a long wait cannot outlive."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        process = multiprocessing.get_context("fork").Process(
            target=_examine_into, args=(model_type, folder)
        )
        process.start()
        process.join(LIMIT_S)
        if process.is_alive():
            process.kill()
            process.join()
            return {"trained_by": "unknown", "why": f"No answer within {LIMIT_S} s."}
        answer = folder / "answer.json"
        if not answer.exists():
            why = f"The process ended with exit code {process.exitcode}."
            return {"trained_by": "unknown", "why": why}
        found: dict[str, str] = json.loads(answer.read_text())
        return found


def _examine_into(model_type: str, folder: Path) -> None:
    transformers.utils.logging.disable_progress_bar()
    found = examine(model_type, folder / "work")
    (folder / "answer.json").write_text(json.dumps(found))


def main() -> None:
    """Examine types and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("types", nargs="*", help="default: all that are not in the table")
    parser.add_argument("--again", action="store_true", help="also those in the table")
    parser.add_argument("--output", type=Path, default=TABLE)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    known = json.loads(given.output.read_text()) if given.output.exists() else {}
    versions = {name: importlib.metadata.version(name) for name in LIBRARIES}
    types = dict(known.get("types", {})) if known.get("versions") == versions else {}
    names = given.types or sorted(n for n in CAUSAL if given.again or n not in types)
    for name in names:
        began = time.monotonic()
        types[name] = examined(name)
        seconds = time.monotonic() - began
        print(f"{name:28}{types[name]['trained_by']:8}{seconds:5.1f} s  {types[name]['why']}")
        sys.stdout.flush()
        day = datetime.now(UTC).date().isoformat()
        whole = {"date": day, "versions": versions, "types": dict(sorted(types.items()))}
        given.output.write_text(json.dumps(whole, indent=1) + "\n")


if __name__ == "__main__":
    main()
