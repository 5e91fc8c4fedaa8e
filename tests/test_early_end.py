"""Rounds that end early: the last sound one is kept, scored and resumed at its final scale."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load as tensors_from_bytes
from tiny_runs import Trace, fail_step, follow, tiny_config, tiny_demos, tiny_policy

from ditto_hub.ditto.state import Work
from ditto_hub.ditto.warm_start import mean_loss
from ditto_hub.events import CandidateScored, StageFinished

Tiny = Callable[[str], Path]
EARLY = ("update.rounds=4", "update.learning_rate=0.3", "update.explode=5", "update.beta=20")
HALF = "lora.strength=0.5"


@pytest.fixture(scope="module")
def ended(tiny: Tiny) -> Callable[..., Trace]:
    """Return settings -> a run whose rounds end early, once for all tests."""
    known: dict[tuple[str, ...], Trace] = {}

    def run(*settings: str) -> Trace:
        if settings not in known:
            known[settings] = follow(
                tiny("llama3"), tiny_config(*EARLY, *settings), keep_states=True
            )
        return known[settings]

    return run


def last_round(trace: Trace) -> str:
    """Return the last sound round's name."""
    return max(name for name in trace.weights if name.startswith("round-"))


def test_the_rounds_do_end_early(ended: Callable[..., Trace]) -> None:
    """The run of these tests has a sound round and one that failed."""
    trace = ended(HALF)
    assert [e.reason for e in trace.of(StageFinished) if e.stage == "update" and e.reason]
    assert "round-1" in trace.weights
    assert "round-4" not in trace.weights


def test_the_last_sound_round_is_scaled(ended: Callable[..., Trace]) -> None:
    """Its files hold B at the scale of the settings, as a run's that went to its end would."""
    full, half = ended(), ended(HALF)
    assert last_round(full) == last_round(half)
    path = f"candidates/{last_round(half)}/adapter/adapter_model.safetensors"
    ours, theirs = (tensors_from_bytes(trace.files[path]) for trace in (half, full))
    for key, value in theirs.items():
        assert torch.equal(ours[key], value * 0.5 if "lora_B" in key else value)


def test_its_score_is_of_the_scaled_adapter(tiny: Tiny, ended: Callable[..., Trace]) -> None:
    """The last score of the last sound round is that of the adapter in its files."""
    trace, config = ended(HALF), tiny_config(*EARLY, HALF)
    name = last_round(trace)
    scored = [e.scores for e in trace.of(CandidateScored) if e.name == name]
    work = Work(tiny_policy(tiny("llama3"), config), tiny_demos(), config)
    work.begin()
    path = f"candidates/{name}/adapter/adapter_model.safetensors"
    work.policy.restore(tensors_from_bytes(trace.files[path]))
    expected = mean_loss(work.policy, work.demo_rows)
    assert scored[-1]["demonstration_loss"] == pytest.approx(expected, rel=1e-5)


def test_it_is_resumed_to_the_same_bytes(tiny: Tiny, ended: Callable[..., Trace]) -> None:
    """From every fourth checkpoint the run goes on to the same files and the same choice."""
    whole = ended(HALF)
    for state in whole.states[::4]:
        rest = follow(tiny("llama3"), tiny_config(*EARLY, HALF), saved=state)
        assert {k: whole.files[k] for k in rest.files} == rest.files
        assert rest.happened[-1] == whole.happened[-1]


def adapter(trace: Trace, name: str) -> dict[str, torch.Tensor]:
    """Return a candidate's adapter as its file has it."""
    path = f"candidates/{name}/adapter/adapter_model.safetensors"
    return tensors_from_bytes(trace.files[path])


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Tell whether two adapters are equal, bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_at_full_strength_nothing_is_scored_twice(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kept adapter is the one that was scored, so its file and its score stay."""
    whole = follow(tiny("llama3"), tiny_config())
    fail_step(monkeypatch, 3)
    trace = follow(tiny("llama3"), tiny_config())
    assert [e.name for e in trace.of(CandidateScored)] == ["sft", "round-1", "sft-long"]
    assert same(adapter(trace, "round-1"), adapter(whole, "round-1"))


@pytest.mark.parametrize("number", [0, 1])
def test_a_first_round_that_fails_leaves_the_warm_start_as_it_is(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """The warm start is no finished round: its file and score are those of pi_0."""
    whole = follow(tiny("llama3"), tiny_config())
    fail_step(monkeypatch, number)
    trace = follow(tiny("llama3"), tiny_config(HALF))
    assert same(adapter(trace, "sft"), adapter(whole, "sft"))
    assert [e.name for e in trace.of(CandidateScored)] == ["sft", "sft-long"]


def test_only_copies_in_a_later_round_keep_the_round_before(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round without a comparison ends the rounds as a failed one does."""
    import ditto_hub.ditto.update as update

    inner = update.comparisons
    monkeypatch.setattr(update, "comparisons", lambda rows, t: {} if t == 1 else inner(rows, t))
    trace = follow(tiny("llama3"), tiny_config(HALF))
    monkeypatch.undo()
    (reason,) = [e.reason for e in trace.of(StageFinished) if e.reason]
    assert "round 1" in str(reason)
    whole = adapter(follow(tiny("llama3"), tiny_config()), "round-1")
    half = {k: v * 0.5 if "lora_B" in k else v for k, v in whole.items()}
    assert same(adapter(trace, "round-1"), half)
