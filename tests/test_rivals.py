"""SPIN and DPO on labelled pairs: what they start from, whom they learn from, what they leave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import build_tiny
from tiny_runs import fail_step, tiny_config, tiny_demos, tiny_policy, tiny_run

from ditto_hub import api
from ditto_hub.api.comparing import label_notes
from ditto_hub.ditto.rivals import (
    DRAWS_A_PAIR,
    RIVALS,
    begin,
    label_pairs,
    labelled,
    rival,
    rival_config,
)
from ditto_hub.ditto.state import Checkpoint, Work
from ditto_hub.errors import ConfigError, RunError
from ditto_hub.events import StageFinished, StepTaken
from ditto_hub.runs.folder import Run
from ditto_hub.runs.results import Evaluation
from ditto_hub.tokens import NOBODY
from ditto_hub.words import Message

Prompt = Sequence[Mapping[str, str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base model."""
    return build_tiny("llama3", tmp_path_factory.mktemp("tiny"))


@dataclass
class Shorter:
    """Prefers the shorter text, and writes down what it was asked."""

    asked: list[tuple[Prompt, str, str]] = field(default_factory=list)

    def __call__(self, prompt: Prompt, a: str, b: str) -> str:
        self.asked.append((prompt, a, b))
        return "tie" if len(a) == len(b) else "a" if len(a) < len(b) else "b"


def started(folder: Path, name: str, *settings: str) -> Work:
    """Return a rival's state at its start, from an adapter that is not zero."""
    config = rival_config(name, tiny_config(*settings))
    policy = tiny_policy(folder, config)
    start = {k: torch.full_like(v, 0.02) for k, v in policy.snapshot().items()}
    return begin(policy, tiny_demos(), config, start)


def finish(work: Work, name: str, label: Any = None, pairs: int = 0) -> list[Any]:
    """Train to the end and return all that was yielded."""
    return list(rival(work, name, label, pairs))


def same(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> bool:
    """Tell whether two adapters are equal, bit for bit."""
    return all(torch.equal(a[name], b[name]) for name in a)


# ---- SPIN -------------------------------------------------------------------------------------


def test_spin_compares_demonstrations_with_the_newest_samples_alone() -> None:
    """No replay, no intermodel, no NLL term: the opponent is the previous iterate."""
    update = rival_config("spin", tiny_config("update.sft_weight=1", "update.edit=0.2")).update
    assert update.shares == {"online": 1.0, "replay": 0.0, "intermodel": 0.0, "edit": 0.0}
    assert (update.sft_weight, update.resample) == (0.0, "every-round")


@pytest.mark.parametrize(("weight", "rate"), [(0.0, 0.01), (1.0, 0.005), (19.0, 0.0005)])
def test_without_the_nll_term_the_rate_is_the_preference_losss_share(
    weight: float, rate: float
) -> None:
    """A rate chosen with an NLL term beside it would be too high without."""
    config = rival_config("dpo-sft", tiny_config(f"update.sft_weight={weight}"))
    assert config.update.learning_rate == pytest.approx(rate)


def test_spins_reference_is_the_previous_iterate(folder: Path) -> None:
    """After the second round's first step the reference is the adapter the round began with."""
    work = started(folder, "spin")
    before: list[Any] = []
    for item in rival(work, "spin"):
        if isinstance(item, StageFinished) and (item.stage, item.round) == ("update", 0):
            before.append(work.policy.snapshot())
    assert same(work.reference, before[0])
    assert not same(work.reference, work.pi_0)


def test_spin_takes_as_many_steps_as_ditto(folder: Path) -> None:
    """Rounds times steps."""
    steps = [i for i in finish(started(folder, "spin"), "spin") if isinstance(i, StepTaken)]
    assert len(steps) == 2 * 2


# ---- DPO on labelled pairs --------------------------------------------------------------------


def test_a_pair_is_two_samples_for_a_demonstrations_prompt(folder: Path) -> None:
    """The judge is shown the demonstrations' prompts in turn, and the samples' texts."""
    work, judge = started(folder, "dpo-sft"), Shorter()
    list(label_pairs(work, judge, 4))
    prompts = [demo.prompt for demo in work.train]
    assert [prompt for prompt, _, _ in judge.asked[:4]] == [prompts[k % 2] for k in range(4)]


def test_winners_come_first_and_ties_are_dropped(folder: Path) -> None:
    """Each labelled pair's winner is what the judge preferred."""
    work, judge = started(folder, "dpo-sft"), Shorter()
    list(label_pairs(work, judge, 3))
    texts = [
        (work.progress.rows[p.winner].text, work.progress.rows[p.loser].text)
        for p in labelled(work)
    ]
    wanted = [
        (min(a, b, key=len), max(a, b, key=len)) for _, a, b in judge.asked if len(a) != len(b)
    ]
    assert texts == wanted[:3]


def test_fewer_pairs_are_the_first_of_more(folder: Path) -> None:
    """So a curve over the number of pairs changes nothing else."""
    few, many = started(folder, "dpo-sft"), started(folder, "dpo-sft")
    list(label_pairs(few, Shorter(), 2))
    list(label_pairs(many, Shorter(), 6))
    assert few.progress.rows == many.progress.rows[: len(few.progress.rows)]


def test_a_judge_that_ties_everything_is_told(folder: Path) -> None:
    """After a few draws a pair it is said that nothing was labelled."""
    work = started(folder, "dpo-sft")
    with pytest.raises(RunError, match=f"any of {2 * DRAWS_A_PAIR} pairs"):
        list(label_pairs(work, lambda *_: "tie", 2))


def test_missing_pairs_are_the_reason_of_the_stage(folder: Path) -> None:
    """A judge that ties most leaves fewer pairs than wanted, and that is said."""
    work, answers = started(folder, "dpo-sft"), iter(["a", *["tie"] * 100])
    found = finish(work, "dpo-sft", lambda *_: next(answers), 3)
    ended = [i for i in found if isinstance(i, StageFinished)]
    assert ended[0].reason == Message("ditto.pairs_missing", missing=2, wanted=3)
    assert len([i for i in found if isinstance(i, StepTaken)]) == 4


def test_the_reference_is_where_it_started(folder: Path) -> None:
    """Samples are scored under the starting adapter, whose log-probability they were drawn with."""
    work = started(folder, "dpo-sft")
    finish(work, "dpo-sft", Shorter(), 3)
    rows = [work.progress.rows[i] for p in labelled(work) for i in (p.winner, p.loser)]
    assert [r.reference_log_prob for r in rows] == pytest.approx(
        [r.policy_log_prob for r in rows], abs=1e-3
    )
    assert not same(work.policy.snapshot(), work.pi_0)


@pytest.mark.parametrize("pairs", [0, 3])
def test_labelled_dpo_needs_a_judge_and_pairs(folder: Path, pairs: int) -> None:
    """Without either it is refused."""
    with pytest.raises(ConfigError, match="needs a judge"):
        finish(started(folder, "dpo-base"), "dpo-base", None if pairs else Shorter(), pairs)


def test_there_is_no_other_rival() -> None:
    """An unknown name is refused with those there are."""
    with pytest.raises(ConfigError, match="spin, dpo-base, dpo-sft"):
        rival_config("kto", tiny_config())


@pytest.mark.parametrize("name", RIVALS)
def test_a_resumed_rival_is_the_same(folder: Path, name: str) -> None:
    """Started again from its last stage it ends with the same bytes."""
    label = None if name == "spin" else Shorter()
    whole, states = started(folder, name), []
    for item in rival(whole, name, label, 3):
        if isinstance(item, Checkpoint) and item.boundary:
            states.append(item.save())
    again = Work(tiny_policy(folder, whole.config), tiny_demos(), whole.config)
    again.load_bytes(states[0])
    finish(again, name, label, 3)
    assert same(again.policy.snapshot(), whole.policy.snapshot())


# ---- a step that fails ------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "at"), [("spin", 3), ("dpo-sft", 2)])
def test_what_was_sound_is_kept_at_its_final_scale(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, at: int
) -> None:
    """SPIN keeps its last whole iterate, labelled DPO its steps; both at the scale asked for."""
    fail_step(monkeypatch, at)
    work, after = started(folder, name, "lora.strength=0.5"), []
    for item in rival(work, name, Shorter(), 3):
        if isinstance(item, StepTaken):
            after.append(work.policy.snapshot())
    assert work.progress.stopped_early
    half = {k: v * 0.5 if "lora_B" in k else v for k, v in after[1].items()}
    assert same(half, work.policy.snapshot())


def test_a_labelled_rival_without_a_sound_step_is_where_it_started(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The very first step fails: nothing was trained, so nothing is scaled."""
    fail_step(monkeypatch, 0)
    work = started(folder, "dpo-sft", "lora.strength=0.5")
    finish(work, "dpo-sft", Shorter(), 3)
    assert same(work.policy.snapshot(), work.pi_0)


@pytest.mark.parametrize("name", ["spin", "dpo-sft"])
def test_a_rival_that_failed_goes_on_from_every_checkpoint(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Stopped anywhere, it ends with the same bytes."""
    fail_step(monkeypatch, 3)
    whole, states = started(folder, name, "lora.strength=0.5"), []
    for item in rival(whole, name, Shorter(), 3):
        if isinstance(item, Checkpoint):
            states.append(item.save())
    for state in states:
        again = Work(tiny_policy(folder, whole.config), tiny_demos(), whole.config)
        again.load_bytes(state)
        finish(again, name, Shorter(), 3)
        assert same(again.policy.snapshot(), whole.policy.snapshot())


# ---- on a run ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished tiny run."""
    return api.resume(tiny_run(folder, tmp_path_factory.mktemp("rivals") / "run"))


def test_a_missing_rival_is_named_with_what_trains_it(run: Run) -> None:
    """The other methods are compared; this one's absence says what ends it."""
    found = [
        item
        for item in api.stream_evaluate(
            run, methods=("zero-shot", "spin"), prompts=("Write a note.",), samples=1
        )
        if isinstance(item, Evaluation)
    ]
    assert "--train-rivals" in str(found[-1].missing["spin"])
    assert {a.method for a in found[-1].answers} == {"zero-shot"}


@pytest.mark.parametrize("name", RIVALS)
def test_a_rival_is_a_candidate_that_loads(run: Run, name: str) -> None:
    """Its adapter lies where methods look for it, and the run's own rollouts are as they were."""
    before = {p: p.read_bytes() for p in (run.folder / "rollouts").iterdir()}
    list(api.train_rival(run, name, judge="stylometric", pairs=2, token=NOBODY))
    policy = tiny_policy(Path(run.record.base_model["id"]), run.config)
    policy.load_adapter(run.candidate(name))
    assert {p: p.read_bytes() for p in (run.folder / "rollouts").iterdir()} == before
    assert not (run.folder / "rivals" / f"{name}.safetensors").exists()
    notes = label_notes(run, ("sft", name))
    assert ("2 pairs that the judge stylometric" in " ".join(map(str, notes))) == (name != "spin")


def test_a_rival_needs_the_warm_start(folder: Path, tmp_path: Path) -> None:
    """A run that has not begun has nothing to start from."""
    with pytest.raises(RunError, match="no adapter 'sft'"):
        list(api.train_rival(tiny_run(folder, tmp_path / "new"), "spin", token=NOBODY))


def test_labelled_pairs_follow_the_schedule(folder: Path) -> None:
    """DPO on labelled pairs warms up and decays as `update.schedule` says, over all its steps."""
    shape = ("update.schedule=linear", "update.warmup_ratio=0.25", "update.learning_rate=0.01")
    work = started(folder, "dpo-sft", *shape)
    found = [i for i in finish(work, "dpo-sft", Shorter(), 3) if isinstance(i, StepTaken)]
    rates = [step.learning_rate / 0.01 for step in found]
    assert rates == pytest.approx([1, 1, 2 / 3, 1 / 3])
