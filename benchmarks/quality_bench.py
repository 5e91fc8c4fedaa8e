"""A setup of the quality benchmark at work: its demonstrations, its model, its judge.

The arms of a setup go on from the same warm start and first samples, the very bytes, which are
kept in `state/`.
"""

from __future__ import annotations

import random
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quality_voices import Setup, make_demos, make_persona, make_requests

from ditto_hub.config import RunConfig, Sampling, preset
from ditto_hub.demos.demonstrations import Demonstration, DemoSet
from ditto_hub.events import CandidateScored, OrderMeasured, StageFinished
from ditto_hub.pocket.judge import GrammarJudge
from ditto_hub.runs.storage import write_atomic
from ditto_hub.tokens import NOBODY

if TYPE_CHECKING:
    from ditto_hub.engine.fast import FastEngine
from ditto_hub.engine.protocol import Tensors

PROMPTS, SAMPLES, LENGTH_CAP = 24, 2, 256
SFT_STEPS = 700  # supervised steps that take as long as DITTO's rounds (LAB.md)
SFT_STOPS = 4  # points on the way at which that is a candidate
ABLATIONS = {
    "reference": "update.reference=every-round",
    "once": "update.resample=once",
    "no-replay": "update.replay=0",
    "no-intermodel": "update.intermodel=0",
    "no-preference": "update.beta=0.0001",  # the NLL term alone, on the same schedule
}


@dataclass(frozen=True)
class Unit:
    """Say what to train and where its result goes.

    Args:
        setup: what it is trained on.
        arm: main, spin, sft, sft-time, orders, ablation:NAME, samples:M, rounds:T, dpo-base:N or
            dpo-sft:N; after an @ settings that change the arm alone, with commas between them.
        settings: SECTION.FIELD=JSON texts that change the preset.
        out: folder.
    """

    setup: Setup
    arm: str
    settings: tuple[str, ...]
    out: Path

    @property
    def path(self) -> Path:
        """The result's file."""
        name = re.sub(r"[^A-Za-z0-9.=_-]", "-", self.arm)
        return self.out / f"{self.setup.key}.{name}.json"


def _with(config: RunConfig, *settings: str) -> RunConfig:
    for text in settings:
        config = config.with_setting(text)
    return config


class Bench:
    """A setup at work: its demonstrations, its model, its judge.

    Args:
        unit: what is asked for.
    """

    def __init__(self, unit: Unit) -> None:
        self.unit = unit
        self.config = _with(preset("pocket", unit.setup.seed), *unit.settings)
        held_out = self.config.selection.held_out
        self.demos = make_demos(unit.setup, 1 if held_out < 0 else held_out)
        self.persona = make_persona(unit.setup)
        self.requests = make_requests(unit.setup, PROMPTS)
        self._judge = GrammarJudge(self.persona)

    def changed(self, *settings: str) -> RunConfig:
        """Return the settings of an arm: no supervised continuation, which the main run has."""
        return self.own(_with(self.config, "selection.sft_long=false", *settings))

    def own(self, config: RunConfig) -> RunConfig:
        """Return settings with what the arm alone changes."""
        return _with(config, *filter(None, self.unit.arm.partition("@")[2].split(",")))

    def policy(self) -> FastEngine:
        """Return the base model with a fresh adapter."""
        import torch

        from ditto_hub.engine.base_model import load_base
        from ditto_hub.engine.fast import FastEngine

        base = {"id": "pocket", "revision": None}
        model, tokenizer = load_base(base, device=torch.device("cpu"), token=NOBODY)
        return FastEngine(model, tokenizer, self.config.lora, self.config.seed, base)

    # ---- the common beginning ------------------------------------------------------------------

    def state(self, name: str) -> bytes:
        """Return the main run's state after a stage: warm-start or sampling-0.

        Trained anew where the file is missing; the bytes are the same, for a run depends on its
        settings and seed alone.
        """
        path = self.state_path(name)
        if not path.is_file():
            for _ in self.follow(self.config, until=name):
                pass
        return path.read_bytes()

    def state_path(self, name: str) -> Path:
        """Return where a state of this setup is kept."""
        return self.unit.out / "state" / f"{self.unit.setup.key}.{name}.safetensors"

    def follow(
        self, config: RunConfig, saved: bytes | None = None, until: str = ""
    ) -> Iterator[Any]:
        """Run the loop, or the rest of it, and yield its events and artifacts.

        Args:
            until: a stage to stop after; the states on the way there are kept.
        """
        from ditto_hub.ditto.loop import ditto, stage_key
        from ditto_hub.ditto.state import Checkpoint

        keep = {"warm-start", "sampling-0"}
        done = ""
        self.live = self.policy()
        for item in ditto(self.live, self.demos, config, saved):
            if isinstance(item, StageFinished):
                done = stage_key(item.stage, item.round)
            if isinstance(item, Checkpoint):
                if item.boundary and saved is None and done in keep:
                    write_atomic(self.state_path(done), item.save())
                if item.boundary and done == until:
                    return
            else:
                yield item

    def train(self, config: RunConfig, saved: bytes | None = None) -> dict[str, Any]:
        """Train and gather adapters, scores, orders and seconds."""
        from safetensors.torch import load

        from ditto_hub.ditto.state import Artifact

        found: dict[str, Any] = {"scores": {}, "order": [], "stages": []}
        adapters: dict[str, Tensors] = {}
        for item in self.follow(config, saved):
            if isinstance(item, Artifact) and item.path.endswith("adapter_model.safetensors"):
                adapters[item.path.split("/")[1]] = load(item.data)
            elif isinstance(item, CandidateScored):
                found["scores"][item.name] = {**item.scores, "degenerate": str(item.degenerate)}
            elif isinstance(item, OrderMeasured):
                found["order"].append({**item.rewards, "ordered": item.ordered})
            elif isinstance(item, StageFinished):
                found["stages"].append([item.stage, item.round, item.seconds, str(item.reason)])
        return {**found, "adapters": adapters}

    # ---- judging -------------------------------------------------------------------------------

    def marks(self, texts: Sequence[Sequence[str]]) -> dict[str, Any]:
        """Return the grammar's marks of texts, a row a request: means, and each text's."""
        rows = list(zip(self.requests, texts, strict=True))
        found = [self._judge.score(request, text) for request, row in rows for text in row]
        totals = [v.persona_score * v.content_score for v in found]
        return {
            "persona": statistics.fmean(v.persona_score for v in found),
            "content": statistics.fmean(v.content_score for v in found),
            "whole": statistics.fmean(v.whole for v in found),
            "total": statistics.fmean(totals),
            "habit_distance": self._judge.habit_distance([t for _, row in rows for t in row]),
            "length": statistics.fmean(len(t) for row in texts for t in row),
            "texts": totals,
        }

    def judge(
        self, policy: FastEngine, shown: Sequence[Demonstration] | DemoSet = ()
    ) -> dict[str, Any]:
        """Let the model write as it is, and mark it.

        Args:
            shown: demonstrations to put before the prompt.
        """
        from ditto_hub.ditto.rollout import row_seed

        examples = [
            {"role": role, "content": text}
            for demo in shown
            for role, text in (("user", demo.prompt[-1]["content"]), ("assistant", demo.completion))
        ]
        prompts = [[*examples, {"role": "user", "content": r.prompt}] for r in self.requests]
        seed, form = self.unit.setup.seed, policy.format
        seeds = [[row_seed(seed, "judge", i, k) for k in range(SAMPLES)] for i in range(PROMPTS)]
        ids = [form.prompt_ids(p) for p in prompts]
        drawn = policy.sample(ids, seeds, Sampling(), LENGTH_CAP)
        return self.marks([[form.decode(d.token_ids) for d in row] for row in drawn])

    def judge_adapters(
        self, policy: FastEngine, adapters: Mapping[str, Tensors]
    ) -> dict[str, dict[str, Any]]:
        """Return name -> marks of each adapter."""
        truth = {}
        for name, tensors in adapters.items():
            policy.restore(tensors)
            truth[name] = self.judge(policy)
        return truth

    def author(self) -> dict[str, Any]:
        """Mark the persona's own texts for the same requests."""
        rng = random.Random(f"author {self.unit.setup.key}")
        write = self.persona.write
        return self.marks([[write(r, rng) for _ in range(SAMPLES)] for r in self.requests])

    def label(self, prompt: Sequence[Mapping[str, str]], a: str, b: str) -> str:
        """Label a pair of samples as the grammar's judge does, total by total."""
        asked = prompt[-1]["content"]
        marks = [self._judge.score(asked, text) for text in (a, b)]
        first, second = (v.persona_score * v.content_score for v in marks)
        return "tie" if first == second else "a" if first > second else "b"
