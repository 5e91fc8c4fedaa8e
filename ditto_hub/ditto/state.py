"""What the loop knows at any moment: enough to stop between any two steps and go on elsewhere.

On disk a state is one safetensors file: the tensors by name, and everything else as JSON in its
metadata. No pickle.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes

from ditto_hub.config import RunConfig
from ditto_hub.demos.demonstrations import Demonstration, DemoSet
from ditto_hub.ditto.optimizer import Stepper
from ditto_hub.ditto.rollout import DEMONSTRATION, ORIGINAL, Rollout
from ditto_hub.engine.protocol import Distribution, Engine, Tensors
from ditto_hub.errors import RunError
from ditto_hub.words import Text, text_from_json

STATE_VERSION = 3


@dataclass(frozen=True)
class Artifact:
    """A file the run folder is to hold: path relative to it, and content."""

    path: str
    data: bytes


@dataclass(frozen=True)
class Checkpoint:
    """A point where the loop may stop; `save` returns its state while the loop waits here.

    Args:
        save: builds the state's bytes.
        boundary: whether a stage has just ended, where the driver always saves.
    """

    save: Callable[[], bytes]
    boundary: bool = False


@dataclass
class Progress:
    """Hold what changes while the loop runs and is not a tensor.

    Args:
        done: keys of the stages that have ended.
        step: steps or batches done in the stage under way.
        rows: demonstrations, originals, and all rollouts that may be compared.
        partial: rollouts of the sampling under way.
        steps_by_kinds: "online,replay,..." -> update steps taken with those kinds present.
        base_loss: held-out loss before the first step, of the base model or the parent.
        best_loss: lowest held-out loss of the warm start so far, with the step it was at.
        losses: the warm start's batch losses so far.
        prompts: that the model wrote for the warm start; while it writes them, its drafts.
        lessons: texts of the warm start where it distils.
        candidates: name -> {scores, degenerate}.
        stopped_early: why the rounds ended before T.
        room: tokens and rows at a time, where memory ran out; 0 for no bound.
    """

    done: list[str] = field(default_factory=list)
    step: int = 0
    rows: list[Rollout] = field(default_factory=list)
    partial: list[Rollout] = field(default_factory=list)
    steps_by_kinds: dict[str, int] = field(default_factory=dict)
    base_loss: float | None = None
    best_loss: float | None = None
    best_step: int = 0
    losses: list[float] = field(default_factory=list)
    prompts: list[str] = field(default_factory=list)
    lessons: list[Rollout] = field(default_factory=list)
    candidates: dict[str, dict[str, Any]] = field(default_factory=dict)
    stopped_early: Text = ""
    room: dict[str, int] = field(default_factory=dict)


class Work:
    """Everything a stage works on.

    Args:
        policy: the engine; its adapter is pi.
        demos: with their split.
        config: of the run.
    """

    def __init__(self, policy: Engine, demos: DemoSet, config: RunConfig) -> None:
        self.policy = policy
        self.config = config
        self.train: Sequence[Demonstration] = demos.train
        self.held_out: Sequence[Demonstration] = demos.held_out
        self.progress = Progress()
        self.pi_0: Tensors = {}
        self.moved_reference: Tensors = {}
        self.best: Tensors = {}
        self.round_start: Tensors = {}
        self.lessons: list[tuple[Rollout, Distribution]] = []
        self.stepper: Stepper | None = None
        self.pending_optimizer: Tensors = {}
        self.held_out_rows = [_row(policy, d, -1, DEMONSTRATION) for d in self.held_out]

    def begin(self) -> None:
        """Put the demonstrations, and the originals they were edited from, into the rows."""
        rows = [_row(self.policy, d, i, DEMONSTRATION) for i, d in enumerate(self.train)]
        for i, demo in enumerate(self.train):
            if demo.original:
                edited = replace(demo, completion=demo.original)
                rows.append(_row(self.policy, edited, i, ORIGINAL))
        self.progress.rows = rows

    @property
    def reference(self) -> Tensors:
        """The reference's adapter: pi_0 for the whole run, save in the ablation that moves it."""
        return self.moved_reference or self.pi_0

    @property
    def demo_rows(self) -> list[Rollout]:
        """The demonstrations' rows, by index."""
        return [r for r in self.progress.rows if r.round == DEMONSTRATION]

    @property
    def prompt_rows(self) -> list[Rollout]:
        """Rows of all demonstrations whose prompts are sampled from, held-out ones last."""
        return [*self.demo_rows, *self.held_out_rows]

    def take_stepper(self, build: Callable[[], Stepper]) -> Stepper:
        """Return the optimiser under way, or a new one that goes on from a loaded state."""
        if self.stepper is None:
            self.stepper = build()
            if self.pending_optimizer:
                self.stepper.load_state(self.pending_optimizer)
                self.pending_optimizer = {}
        return self.stepper

    def drop_stepper(self) -> None:
        """Forget the optimiser: the next stage that trains begins with a fresh one."""
        self.stepper = None
        self.pending_optimizer = {}

    def scale(self) -> None:
        """Bring a finished adapter to the scale at which it is scored and kept.

        Source: between a model and its fine-tuned form there is mostly a better one than either
        (Wortsman et al., arXiv 2109.01903). What it gives: LAB.md.
        """
        scale = self.config.lora.strength
        if scale != 1:
            tensors = self.policy.snapshot()
            self.policy.restore({k: v * scale if "lora_B" in k else v for k, v in tensors.items()})

    def checkpoint(self, boundary: bool = False) -> Checkpoint:
        """Return the point where the loop stands."""
        return Checkpoint(self.to_bytes, boundary)

    def to_bytes(self) -> bytes:
        """Return the state as one safetensors file."""
        parts = {
            "adapter": self.policy.snapshot(),
            "pi_0": self.pi_0,
            "reference": self.moved_reference,
            "best": self.best,
            "round_start": self.round_start,
            "lessons": self._lesson_tensors(),
            "optimizer": self.stepper.state() if self.stepper else self.pending_optimizer,
        }
        self.progress.room = dict(self.policy.limits)
        self.progress.lessons = [row for row, _ in self.lessons]
        tensors = {f"{part}/{k}": v for part, group in parts.items() for k, v in group.items()}
        plain = {"version": STATE_VERSION, "progress": asdict(self.progress)}
        return tensors_to_bytes(tensors, {"state": json.dumps(plain)})

    def load_bytes(self, data: bytes) -> None:
        """Go on from what `to_bytes` returned.

        Raises:
            RunError: the bytes are damaged or of a newer version.
        """
        self.progress, parts = _read_state(data)
        self.policy.limits = self.progress.room
        self.policy.restore(parts["adapter"])
        self.pi_0, self.moved_reference = parts["pi_0"], parts["reference"]
        self.best, self.round_start = parts["best"], parts["round_start"]
        self.pending_optimizer = parts["optimizer"]
        expected = parts["lessons"]
        self.lessons = [
            (row, Distribution(expected[f"{i}.ids"], expected[f"{i}.probs"]))
            for i, row in enumerate(self.progress.lessons)
        ]

    def _lesson_tensors(self) -> Tensors:
        found: Tensors = {}
        for i, (_, expected) in enumerate(self.lessons):
            found |= {f"{i}.ids": expected.ids, f"{i}.probs": expected.probs}
        return found


def _read_state(data: bytes) -> tuple[Progress, dict[str, Tensors]]:
    names = ("adapter", "pi_0", "reference", "best", "round_start", "lessons", "optimizer")
    parts: dict[str, Tensors] = {name: {} for name in names}
    try:
        header = int.from_bytes(data[:8], "little")
        plain = json.loads(json.loads(data[8 : 8 + header])["__metadata__"]["state"])
        if plain["version"] > STATE_VERSION:
            raise RunError("ditto.state_too_new", version=plain["version"], known=STATE_VERSION)
        for name, value in tensors_from_bytes(data).items():
            part, _, key = name.partition("/")
            parts[part][key] = value
        progress = plain["progress"]
        for key in ("rows", "partial", "lessons"):
            progress[key] = [Rollout.from_json(row) for row in progress.get(key, ())]
        for i, row in enumerate(progress["lessons"]):
            shapes = {parts["lessons"][f"{i}.{part}"].shape[:1] for part in ("ids", "probs")}
            if shapes != {(len(row.completion_ids),)}:
                raise ValueError("a lesson's distribution has another length")
        progress["stopped_early"] = text_from_json(progress["stopped_early"])
        return Progress(**progress), parts
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise RunError("ditto.state_damaged", error=error) from error


def _row(policy: Engine, demo: Demonstration, index: int, kind: int) -> Rollout:
    encoded = policy.format.encode(demo.prompt, demo.completion)
    return Rollout(
        demo=index,
        round=kind,
        prompt_ids=tuple(encoded.prompt_ids),
        completion_ids=tuple(encoded.completion_ids),
        text=demo.completion,
    )
