"""Whole runs on tiny random models, a few tenths of a second each.

A model of 30,000 random weights writes noise and hardly ever ends a turn, so the settings here call
nothing degenerate and cap a completion at twelve tokens.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ditto_hub.config import RunConfig
from ditto_hub.demos.demonstrations import DemoSet
from ditto_hub.ditto.loop import ditto
from ditto_hub.ditto.losses import PreferenceLoss
from ditto_hub.ditto.optimizer import Stepper, StepResult
from ditto_hub.ditto.state import Artifact, Checkpoint
from ditto_hub.engine.base_model import load_base
from ditto_hub.engine.fast import FastEngine
from ditto_hub.engine.protocol import Row
from ditto_hub.events import Event
from ditto_hub.runs.folder import Run
from ditto_hub.tokens import NOBODY

PAIRS = (
    ("Write to the lab.", "Hi all,\n\nsee you there!"),
    ("Write to the team.", "hey team,\nbring notes"),
    ("Write to the lab.", "Dear lab, cheers!"),  # the first one's prompt once more
    ("Write an email.", "Hi, let me know. Ann"),
)
CPU = torch.device("cpu")
TINY = (
    "warm_start.learning_rate=0.01",
    "warm_start.max_steps=2",
    "warm_start.batch_size=2",
    "warm_start.stop=never",
    "sampling.samples=2",
    "sampling.max_new_tokens=12",
    "update.rounds=2",
    "update.steps=2",
    "update.pairs=4",
    "update.learning_rate=0.01",
    "update.warmup_ratio=0",
    "update.beta=0.1",
    "lora.rank=2",
    "lora.alpha=4",
    "selection.samples=2",
    "selection.max_length_ratio=100",
    "selection.max_unfinished=1",
    "selection.min_distinct=0",
)


def tiny_config(*settings: str, seed: int = 0) -> RunConfig:
    """Return settings for a tiny run, changed by `SECTION.FIELD=JSON` texts."""
    config = RunConfig(seed=seed)
    for text in (*TINY, *settings):
        config = config.with_setting(text)
    return config


def tiny_demos(n: int = 2, held_out: int = 0, edited: bool = False) -> DemoSet:
    """Return demonstrations, the last ones held out; the first edited from a model's output."""
    demos = DemoSet.from_pairs(PAIRS[:n]).demos
    marked = [replace(d, split="held_out") if i >= n - held_out else d for i, d in enumerate(demos)]
    if edited:
        marked[0] = replace(marked[0], original="Dear all, greetings to you.")
    return DemoSet(tuple(marked))


def tiny_policy(folder: Path, config: RunConfig | None = None) -> FastEngine:
    """Load a tiny model with a fresh adapter on it."""
    config = config or tiny_config()
    base = {"id": str(folder), "revision": None}
    model, tokenizer = load_base(base, device=CPU, token=NOBODY)
    engine = FastEngine(model, tokenizer, config.lora, config.seed, base)
    engine.token_budget = config.update.token_budget
    return engine


def tiny_run(folder: Path, run: Path, *settings: str, **demos: Any) -> Run:
    """Create a run folder on a tiny model."""
    base = {"id": str(folder), "revision": None}
    return Run.create(tiny_demos(**demos), base, tiny_config(*settings), run)


def fail_step(patch: pytest.MonkeyPatch, number: int) -> None:
    """Let the preference step with this number, from 0, have a loss that is not sound."""
    inner = Stepper.step

    def step(self: Stepper, rows: Sequence[Row], loss: Any, **options: Any) -> StepResult:
        if isinstance(loss, PreferenceLoss) and self.step_count == number:
            options["explode"] = -math.inf
        return inner(self, rows, loss, **options)

    patch.setattr(Stepper, "step", step)


def made(folder: Path) -> dict[str, bytes]:
    """Return the files of a run folder that settings and seed decide, byte for byte."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for part in ("adapter", "candidates", "rollouts", "lessons")
        for path in (folder / part).rglob("*")
        if path.is_file()
    }


@dataclass
class Trace:
    """Hold all that a loop yielded.

    `states` are its checkpoints' bytes, `before` the number of events and the files before each.
    """

    events: list[Event] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    states: list[bytes] = field(default_factory=list)
    before: list[tuple[int, set[str]]] = field(default_factory=list)

    def of(self, kind: type[Any]) -> list[Any]:
        """Return the events of one type."""
        return [e for e in self.events if isinstance(e, kind)]

    @property
    def weights(self) -> dict[str, str]:
        """Candidate -> hash of its adapter's weights."""
        return {
            path.split("/")[1]: hashlib.sha256(data).hexdigest()[:12]
            for path, data in self.files.items()
            if path.endswith("adapter_model.safetensors")
        }

    @property
    def rollouts(self) -> dict[str, bytes]:
        """File -> content of the rollouts."""
        return {path: data for path, data in self.files.items() if path.startswith("rollouts/")}

    @property
    def happened(self) -> list[Event]:
        """The events without how long they took."""
        return [replace(e, seconds=0.0) if hasattr(e, "seconds") else e for e in self.events]


def follow(
    folder: Path,
    config: RunConfig | None = None,
    demos: DemoSet | None = None,
    saved: bytes | None = None,
    keep_states: bool = False,
) -> Trace:
    """Run the loop to its end on a fresh policy."""
    config = config or tiny_config()
    loop = ditto(tiny_policy(folder, config), demos or tiny_demos(), config, saved)
    return collect(loop, keep_states)


def collect(items: Iterable[Event | Artifact | Checkpoint], keep_states: bool = False) -> Trace:
    """Gather what a loop yields."""
    trace = Trace()
    for item in items:
        if isinstance(item, Event):
            trace.events.append(item)
        elif isinstance(item, Artifact):
            trace.files[item.path] = item.data
        elif keep_states:
            trace.states.append(item.save())
            trace.before.append((len(trace.events), set(trace.files)))
    return trace
