"""A whole run: ours against the plain assembly of SFTTrainer, pipeline and DPOTrainer.

The same work on both sides: SFT steps of four demonstrations, then rounds of ten samples a
demonstration and K steps of 24 pairs against pi_0. The assembly does what the reference code does,
without its defects: it samples through the pipeline, two prompts at a time, builds a DPOTrainer
each round whose reference is an adapter, and decodes nothing again. Ours scores its samples under
the reference while it samples, the assembly while it updates, so that is counted beside the update.
What the assembly has no counterpart of (every candidate's scores with the implicit reward's order,
the last candidate's samples, sft-long) is timed apart: left out of `same work`, counted in `all of
ours`.
"""

from __future__ import annotations

import contextlib
import random
import tempfile
import time
import warnings
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from speed_models import BASE, SHARES, base
from speed_timing import spread
from speed_trainers import trainer_arguments
from transformers import GenerationConfig, pipeline
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from ditto_hub.config import RunConfig, preset
from ditto_hub.demos.demonstrations import DemoSet
from ditto_hub.ditto import sampling
from ditto_hub.ditto.loop import ditto
from ditto_hub.ditto.ranking import (
    Comparison,
    Ranked,
    comparisons,
    draw,
    pair_counts,
    present_shares,
)
from ditto_hub.ditto.rollout import Rollout
from ditto_hub.engine.fast import FastEngine
from ditto_hub.engine.targets import lora_targets
from ditto_hub.events import StageFinished
from ditto_hub.pocket.persona import TUNING_SEEDS, demonstrations

OURS_ALONE = ("candidates' scores", "scoring", "sft-long")
REFERENCE = "reference scores"


class Assembly:
    """Algorithm 1 from stock parts, as one would write it in an afternoon.

    Args:
        model: "pocket" or a random model's name.
        demos: what is trained on.
        config: the run's settings.
    """

    def __init__(self, model: str, demos: DemoSet, config: RunConfig) -> None:
        self.config, self.fixed = config, model != "pocket"
        plain, self.tokenizer = base(model)
        lora = config.lora
        shape = LoraConfig(
            r=lora.rank,
            lora_alpha=int(lora.alpha),
            target_modules=lora_targets(plain, lora.targets),
            task_type="CAUSAL_LM",
        )
        helper = FastEngine(deepcopy(plain), deepcopy(self.tokenizer), lora, 0, BASE)
        self.arguments = {**trainer_arguments(helper, 4), "output_dir": tempfile.mkdtemp()}
        self.format, self.stops = helper.format, set(helper.format.stop_ids)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.model = get_peft_model(plain, shape)
        self.turns = [demo.prompt for demo in demos.train]
        self.rows = []
        for i, demo in enumerate(demos.train):
            ids = self.format.encode(demo.prompt, demo.completion)
            self.rows.append(Rollout(i, -1, tuple(ids.prompt_ids), tuple(ids.completion_ids)))
        self.seconds: dict[str, float] = {}

    def run(self) -> None:
        """Warm-start, then sample and update, round by round."""
        self._timed("warm-start", self.warm_start)
        pi_0 = get_peft_model_state_dict(self.model)
        pi_0 = {k: v.clone() for k, v in pi_0.items()}
        for t in range(self.config.update.rounds):
            self._timed("sampling", lambda t=t: self.sample(t))
            self._timed("update", lambda t=t: self.update(t, pi_0))

    def warm_start(self) -> None:
        """Train on the demonstrations with SFTTrainer."""
        settings = self.config.warm_start
        args = SFTConfig(
            **{**self.arguments, "per_device_train_batch_size": settings.batch_size},
            max_steps=settings.max_steps,
            learning_rate=settings.learning_rate,
            lr_scheduler_type="cosine",
        )
        turns = [
            {
                "prompt": [dict(t) for t in demo],
                "completion": [
                    {"role": "assistant", "content": self.format.decode(r.completion_ids)}
                ],
            }
            for demo, r in zip(self.turns, self.rows, strict=True)
        ]
        SFTTrainer(
            model=self.model,
            args=args,
            train_dataset=Dataset.from_list(turns),
            processing_class=deepcopy(self.tokenizer),
        ).train()

    def sample(self, t: int) -> None:
        """Draw the round's completions through the pipeline."""
        tokenizer = deepcopy(self.tokenizer)
        tokenizer.padding_side, tokenizer.pad_token_id = "left", self.format.pad_id
        cap = self.config.sampling.max_new_tokens
        config = GenerationConfig(
            do_sample=True,
            temperature=1.0,
            top_k=0,
            max_new_tokens=cap,
            min_new_tokens=cap if self.fixed else None,
            num_return_sequences=self.config.sampling.samples,
            pad_token_id=self.format.pad_id,
            eos_token_id=sorted(self.stops),
        )
        self.model.eval()
        pipe = pipeline("text-generation", model=self.model, tokenizer=tokenizer)
        turns = [[dict(turn) for turn in prompt] for prompt in self.turns]
        out = pipe(turns, batch_size=2, generation_config=config, return_tensors=True)
        for demo, mine in enumerate(out):
            prompt = self.rows[demo].prompt_ids
            for row in mine:
                ids = tuple(row["generated_token_ids"][-cap:])
                end = next((k + 1 for k, i in enumerate(ids) if i in self.stops), len(ids))
                self.rows.append(Rollout(demo, t, prompt, ids if self.fixed else ids[:end]))

    def update(self, t: int, pi_0: dict[str, torch.Tensor]) -> None:
        """Take K steps with a DPOTrainer whose reference adapter is pi_0."""
        update = self.config.update
        pairs = self._pairs(t, update.steps * update.pairs)
        pi = {k: v.clone() for k, v in get_peft_model_state_dict(self.model).items()}
        set_peft_model_state_dict(self.model, pi_0)  # the trainer keeps what it finds as reference
        args = DPOConfig(
            **{**self.arguments, "per_device_train_batch_size": update.pairs},
            max_steps=update.steps,
            learning_rate=update.learning_rate,
            beta=update.beta,
        )
        trainer = TokenisedDPOTrainer(
            model=self.model,
            args=args,
            train_dataset=Dataset.from_list(
                [
                    {
                        "prompt_ids": list(self.rows[p.winner].prompt_ids),
                        "chosen_ids": list(self.rows[p.winner].completion_ids),
                        "rejected_ids": list(self.rows[p.loser].completion_ids),
                    }
                    for p in pairs
                ]
            ),
            processing_class=deepcopy(self.tokenizer),
        )
        set_peft_model_state_dict(self.model, pi)
        trainer.train()
        self.model.delete_adapter("ref")

    def _pairs(self, t: int, count: int) -> list[Comparison]:
        ranked = [Ranked(i, r.demo, r.round) for i, r in enumerate(self.rows)]
        pools = comparisons(ranked, t)
        counts = pair_counts(present_shares(SHARES, pools), self.config.update.pairs)
        rng = random.Random(t)
        steps = -(-count // self.config.update.pairs)
        return [p for _ in range(steps) for p in draw(pools, next(counts), rng)]

    def _timed(self, stage: str, act: Any) -> None:
        began = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            act()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.process_time() - began


class TokenisedDPOTrainer(DPOTrainer):  # type: ignore[misc]
    """The stock trainer on token ids, so that neither side pays for tokenising twice."""

    def _prepare_dataset(self, dataset: Any, *_: object, **__: object) -> Any:
        return dataset


def ours(model: str, demos: DemoSet, config: RunConfig) -> dict[str, float]:
    """Run our loop and return CPU seconds a stage, candidates' scores apart."""
    plain, tokenizer = base(model)
    policy = FastEngine(plain, tokenizer, config.lora, config.seed, BASE)
    if model != "pocket":
        policy.format.stop_ids = (2**31 - 1,)
    seconds = dict.fromkeys((*OURS_ALONE, REFERENCE), 0.0)
    began = time.process_time()
    with timed("score_candidate") as scores, timed("score_under_reference") as reference:
        for item in ditto(policy, demos, config):
            if isinstance(item, StageFinished):
                apart = {OURS_ALONE[0]: sum(scores)}
                if item.stage == "sampling":
                    apart[REFERENCE] = sum(reference)
                now = time.process_time()
                apart[item.stage] = now - began - sum(apart.values())
                for stage, spent in apart.items():
                    seconds[stage] = seconds.get(stage, 0.0) + spent
                scores.clear()
                reference.clear()
                began = now
    return seconds


@contextlib.contextmanager
def timed(name: str) -> Iterator[list[float]]:
    """Note the CPU seconds of every call of a function that sampling calls, inside the block."""
    real, spent = vars(sampling)[name], []

    def run(*given: Any) -> Any:
        began = time.process_time()
        found = list(real(*given))
        spent.append(time.process_time() - began)
        return found

    setattr(sampling, name, run)
    try:
        yield spent
    finally:
        setattr(sampling, name, real)


def settings(model: str, rounds: int, steps: int, warm: int, cap: int) -> RunConfig:
    """Return the paper's recipe, shortened."""
    config = preset("pocket", 0)
    changes = {
        "warm_start.max_steps": warm,
        "warm_start.stop": "never",
        "update.rounds": rounds,
        "update.steps": steps,
        "update.sft_weight": 0.0,
        "sampling.max_new_tokens": cap,
        "sampling.length_factor": 0.0,
        "sampling.near_duplicate": 1.0,
        "selection.samples": 1,
    }
    for path, value in changes.items():
        config = config.with_value(path, value)
    return replace(config, preset="custom")


def measure(
    model: str, rounds: int, steps: int, warm: int, cap: int, turns: int = 1
) -> dict[str, Any]:
    """Return both sides' CPU seconds a stage and how many times faster ours is.

    `as_the_paper_does` puts the measured stages together to 30 SFT steps, 4 samplings and 40
    updates, which is what a shortened run stands for; a run of those counts is it.
    """
    config = settings(model, rounds, steps, warm, cap)
    pairs = demonstrations(TUNING_SEEDS[0], 7, 0)
    demos = DemoSet.from_pairs(pairs).split(0)
    done: dict[str, list[dict[str, float]]] = {"stock": [], "ours": []}
    for _ in range(turns):
        assembly = Assembly(model, demos, config)
        assembly.run()
        done["stock"].append(assembly.seconds)
        done["ours"].append(ours(model, demos, config))
    same = {
        side: [sum(v for k, v in run.items() if k not in OURS_ALONE) for run in runs]
        for side, runs in done.items()
    }
    paper = {side: [_whole(run, config) for run in runs] for side, runs in done.items()}
    every = {"stock": same["stock"], "ours": [sum(run.values()) for run in done["ours"]]}
    ratio = {
        "as measured": _ratio(same),
        "all of ours": _ratio(every),
        "as_the_paper_does": _ratio(paper),
    }
    for stage in ("warm-start", "sampling", "update"):
        ratio[stage] = _ratio({side: [r[stage] for r in runs] for side, runs in done.items()})
    both = [r["update"] + r[REFERENCE] for r in done["ours"]]
    ratio[f"update with {REFERENCE}"] = _ratio(
        {"stock": [r["update"] for r in done["stock"]], "ours": both}
    )
    return {
        "model": model,
        "rounds": rounds,
        "steps": steps,
        "warm_start_steps": warm,
        "max_new_tokens": cap,
        "turns": turns,
        "cpu_seconds": {
            side: {k: round(sum(r[k] for r in runs) / len(runs), 2) for k in runs[0]}
            for side, runs in done.items()
        },
        "ratio": ratio,
    }


def _whole(run: dict[str, float], config: RunConfig) -> float:
    update = config.update
    return (
        run["warm-start"] * 30 / config.warm_start.max_steps
        + (run["sampling"] + run.get(REFERENCE, 0.0)) * 4 / update.rounds
        + run["update"] * 40 / (update.rounds * update.steps)
    )


def _ratio(sides: dict[str, list[float]]) -> dict[str, float]:
    return spread([a / b for a, b in zip(sides["stock"], sides["ours"], strict=True)])
