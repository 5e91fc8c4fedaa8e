"""The model at work: a tiny random model that wears a run's candidates in turn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ditto_hub.config import Lora, RunConfig, Sampling
from ditto_hub.demos.demonstrations import DemoSet, Message
from ditto_hub.engine.base_model import load_base
from ditto_hub.engine.fast import FastEngine
from ditto_hub.errors import RunError
from ditto_hub.evaluation.judges import Messages
from ditto_hub.evaluation.writers import PolicyStudio
from ditto_hub.runs.folder import Run
from ditto_hub.tokens import NOBODY

PROMPTS: list[Messages] = [
    ({"role": "user", "content": text},) for text in ("Hi.", "Write a note.")
]
HELLO: tuple[Message, ...] = ({"role": "user", "content": "Hello."},)


@pytest.fixture
def policy(tiny: Callable[[str], Path]) -> FastEngine:
    base = {"id": str(tiny("qwen3")), "revision": None}
    model, tokenizer = load_base(base, device=torch.device("cpu"), token=NOBODY)
    return FastEngine(model, tokenizer, Lora(), 0, base)


@pytest.fixture
def run(tmp_path: Path, policy: FastEngine) -> Run:
    """Return a run with three candidates, each with other weights."""
    demos = DemoSet.from_pairs([("Write a note.", "a note"), ("Write a card.", "a card")])
    found = Run.create(demos, {"id": "tiny", "revision": None}, RunConfig(), tmp_path / "run")
    blank = policy.snapshot()
    for seed, name in enumerate(("sft", "round-2", "round-10"), 1):
        drawn = torch.Generator().manual_seed(seed)
        policy.restore({k: torch.randn(v.shape, generator=drawn) for k, v in blank.items()})
        for file, data in policy.adapter_files().items():
            found.write(f"candidates/{name}/adapter/{file}", data)
    policy.restore(blank)
    return found


def studio(run: Run, policy: FastEngine, sampling: Sampling | None = None) -> PolicyStudio:
    return PolicyStudio(run, policy, sampling or Sampling(), cap=8, context=64)


def test_samples_come_by_prompt(run: Run, policy: FastEngine) -> None:
    """Each prompt gets its number of texts."""
    texts = studio(run, policy).write(PROMPTS, 3, 0)
    assert [len(row) for row in texts] == [3, 3]


def test_the_seed_fixes_the_texts(run: Run, policy: FastEngine) -> None:
    """The same seed writes the same, another something else."""
    made = studio(run, policy)
    assert made.write(PROMPTS, 2, 0) == made.write(PROMPTS, 2, 0)
    assert made.write(PROMPTS, 2, 0) != made.write(PROMPTS, 2, 1)


def test_batches_do_not_change_the_texts(run: Run, policy: FastEngine) -> None:
    """Rows side by side are a matter of speed."""
    small = studio(run, policy, replace(Sampling(), batch_rows=2))
    assert small.write(PROMPTS, 2, 0) == studio(run, policy).write(PROMPTS, 2, 0)


def test_each_candidate_writes_its_own(run: Run, policy: FastEngine) -> None:
    """Base model and candidates write different texts from the same draws."""
    made = studio(run, policy)
    written = [made.write(PROMPTS, 2, 0, c) for c in (None, "sft", "round-2", "round-10")]
    assert all(a != b for i, a in enumerate(written) for b in written[:i])


def test_the_policy_is_as_before(run: Run, policy: FastEngine) -> None:
    """Whatever was worn, the policy's own adapter is there again."""
    before = policy.snapshot()
    studio(run, policy).write(PROMPTS, 1, 0, "sft")
    after = policy.snapshot()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_missing_candidate_is_told(run: Run, policy: FastEngine) -> None:
    """The message names those there are."""
    with pytest.raises(RunError, match="round-10, round-2, sft"):
        studio(run, policy).write(PROMPTS, 1, 0, "spin")


@pytest.mark.parametrize(
    ("chosen", "name"), [("round-2", "round-2"), ("sft", "round-10"), (None, "round-10")]
)
def test_which_candidate_stands_for_ditto(
    run: Run, policy: FastEngine, chosen: str | None, name: str
) -> None:
    """The chosen one where it is a round, else the last round, counted and not spelt."""
    run.record.chosen = chosen
    assert studio(run, policy).ditto == name


def test_a_prompt_must_leave_room_for_the_answer(run: Run, policy: FastEngine) -> None:
    """Prompt and length cap together must fit the context."""
    made = studio(run, policy)
    long = ({"role": "user", "content": "Hello. " * 60},)
    assert made.fits(HELLO)
    assert not made.fits(long)
