"""Algorithm 1, whole: what each setting changes, what never moves, and going on from anywhere."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load as tensors_from_bytes
from tiny_models import FAMILIES
from tiny_runs import Trace, collect, follow, tiny_config, tiny_demos, tiny_policy

from ditto_hub.config import SECTIONS, dials
from ditto_hub.ditto.loop import ditto, plan, total_steps
from ditto_hub.ditto.state import Work
from ditto_hub.engine.fast import FastEngine
from ditto_hub.errors import RunError
from ditto_hub.events import (
    BatchSampled,
    CandidateChosen,
    CandidateScored,
    OrderMeasured,
    RoundSampled,
    StageFinished,
    StageStarted,
    StepTaken,
)

Tiny = Callable[[str], Path]
STAGES = [
    "warm-start",
    "sampling",
    "update",
    "sampling",
    "update",
    "scoring",
    "sft-long",
    "scoring",
]


@pytest.fixture(scope="module")
def llama(tiny: Tiny) -> Path:
    return tiny("llama3")


@pytest.fixture(scope="module")
def traced(llama: Path) -> Callable[..., Trace]:
    """Return settings -> the trace of a whole run with them, run once."""

    @cache
    def run(*settings: str, seed: int = 0, **demos: Any) -> Trace:
        return follow(llama, tiny_config(*settings, seed=seed), tiny_demos(**demos))

    return run


def tensors_of(state: bytes, part: str) -> dict[str, torch.Tensor]:
    """Return one part of a checkpoint's tensors."""
    found = tensors_from_bytes(state).items()
    return {k.partition("/")[2]: v for k, v in found if k.startswith(f"{part}/")}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def kinds(trace: Trace) -> Counter[str]:
    """Return how many comparisons of each kind a run trained on."""
    counts: Counter[str] = Counter()
    for step in trace.of(StepTaken):
        pairs = {k: int(v) for k, v in step.metrics.items() if k.startswith("pairs_")}
        counts.update(pairs)
    return counts


# ---- the shape of a run ----------------------------------------------------------------------


def test_stages_come_in_order(traced: Callable[..., Trace]) -> None:
    """Warm start, then sampling and update each round, then the last scores and sft-long."""
    trace = traced()
    assert [e.stage for e in trace.of(StageStarted)] == STAGES
    assert [e.stage for e in trace.of(StageFinished)] == STAGES
    assert [e.index for e in trace.of(StageStarted)] == list(range(8))


def test_plan_is_what_happens(traced: Callable[..., Trace]) -> None:
    """The stages told beforehand are those that come, with no more steps than told."""
    trace = traced()
    assert plan(tiny_config()) == [(e.stage, e.round) for e in trace.of(StageStarted)]
    steps = Counter((e.stage, e.round) for e in trace.of(StepTaken) + trace.of(BatchSampled))
    for start in trace.of(StageStarted):
        assert start.total_steps == total_steps(tiny_config(), start.stage, 2)
        assert steps[start.stage, start.round] == start.total_steps


def test_held_out_prompts_are_answered_and_not_trained_on(traced: Callable[..., Trace]) -> None:
    """Their samples stand beside the others, score every candidate, and are in no comparison."""
    trace, ids = traced(n=4, held_out=1), [d.id for d in tiny_demos(4, held_out=1)]
    for data in trace.rollouts.values():
        rows = [json.loads(line) for line in data.splitlines()]
        assert {row["demo"] for row in rows} == set(ids)
    assert all("held_out_style" in e.scores for e in trace.of(CandidateScored))
    apart = [e.rows for e in trace.of(RoundSampled)]
    assert apart == [3 * tiny_config().sampling.samples] * 2
    for start in trace.of(StageStarted):
        assert start.total_steps == total_steps(tiny_config(), start.stage, 4)


def test_every_stage_is_a_candidate(traced: Callable[..., Trace]) -> None:
    """The warm start, every round and sft-long hand out an adapter, are scored, and differ."""
    trace = traced()
    names = ["sft", "round-1", "round-2", "sft-long"]
    assert sorted(trace.weights) == sorted(names)
    assert [e.name for e in trace.of(CandidateScored)] == names
    assert len(set(trace.weights.values())) == 4
    assert len(trace.of(OrderMeasured)) == 4


def test_one_candidate_is_chosen_last(traced: Callable[..., Trace]) -> None:
    """The last event names the candidate to keep."""
    chosen = traced().events[-1]
    assert isinstance(chosen, CandidateChosen)
    assert chosen.name in traced().weights


def test_rollouts_are_readable(traced: Callable[..., Trace]) -> None:
    """Each round's rollouts are JSON lines with ids, tokens, text and both log-probabilities."""
    trace = traced()
    assert sorted(trace.rollouts) == [
        "rollouts/round-0.jsonl",
        "rollouts/round-1.jsonl",
        "rollouts/round-2.jsonl",
        "rollouts/sft-long.jsonl",
    ]
    rows = [json.loads(x) for x in trace.rollouts["rollouts/round-0.jsonl"].split(b"\n") if x]
    assert [r["demo"] for r in rows] == ["demo-1", "demo-1", "demo-2", "demo-2"]
    assert set(rows[0]) == {
        "demo",
        "round",
        "token_ids",
        "text",
        "ended",
        "policy_log_prob",
        "reference_log_prob",
        "copy_of",
    }
    assert all(r["policy_log_prob"] == pytest.approx(r["reference_log_prob"], abs=1e-3)
               for r in rows)  # fmt: skip  # pi_0 is both


def test_no_text_in_an_event(traced: Callable[..., Trace]) -> None:
    """Neither a prompt nor a completion nor a sample stands in any event."""
    trace = traced(n=3)
    told = json.dumps([e.to_json() for e in trace.events], ensure_ascii=False)
    samples = [
        json.loads(line)["text"] for data in trace.rollouts.values() for line in data.splitlines()
    ]
    shown = [d.completion for d in tiny_demos(3)] + [d.prompt_text for d in tiny_demos(3)]
    for text in [*samples, *shown]:
        for piece in text.split("\n"):
            assert len(piece) < 4 or piece not in told


def test_demonstrations_of_one_prompt_both_count(traced: Callable[..., Trace]) -> None:
    """Two demonstrations of one prompt each get their own samples."""
    rows = traced(n=3).rollouts["rollouts/round-0.jsonl"].splitlines()
    assert Counter(json.loads(r)["demo"] for r in rows) == {
        "demo-1": 2,
        "demo-2": 2,
        "demo-3": 2,
    }


def test_shares_over_a_run(traced: Callable[..., Trace]) -> None:
    """Once all kinds exist the paper's shares are met exactly: 7, 2 and 1 of ten pairs."""
    trace = traced("update.pairs=10", "update.rounds=3", "sampling.samples=4")
    later = Trace([e for e in trace.of(StepTaken) if e.stage == "update" and e.round])
    assert kinds(later) == {"pairs_online": 28, "pairs_replay": 8, "pairs_intermodel": 4}


# ---- the reference ---------------------------------------------------------------------------


def test_reference_never_moves(llama: Path) -> None:
    """From the warm start's end to the run's, every checkpoint holds the same pi_0, bit by bit."""
    trace = follow(llama, keep_states=True)
    references = [tensors_of(state, "pi_0") for state in trace.states]
    held = [r for r in references if r]
    assert len(held) >= len(references) - 2  # all but the warm start's own
    assert all(same(r, held[0]) for r in held)
    assert not any(tensors_of(state, "reference") for state in trace.states)
    assert same(held[0], tensors_from_bytes(trace.files["candidates/sft/adapter/"
                                                        "adapter_model.safetensors"]))  # fmt: skip


def test_stored_scores_are_under_pi_0(llama: Path) -> None:
    """At the end of a run every row's stored score is its log-probability under pi_0."""
    config = tiny_config("update.rounds=3")
    trace = follow(llama, config, keep_states=True)
    work = Work(tiny_policy(llama, config), tiny_demos(), config)
    work.load_bytes(trace.states[-1])
    work.policy.restore(work.pi_0)
    rows = work.progress.rows
    scores = work.policy.log_probs([r.row for r in rows])
    assert [r.reference_log_prob for r in rows] == pytest.approx(scores, rel=1e-5)
    assert {r.round for r in rows} == {-1, 0, 1, 2}


def test_each_round_starts_from_log_2(traced: Callable[..., Trace]) -> None:
    """The first update's loss is log 2, the policy being the reference; the next round's is not."""
    first = {e.round: e.loss for e in reversed(traced().of(StepTaken)) if e.stage == "update"}
    assert first[0] == pytest.approx(0.693147, rel=1e-3)
    assert first[1] != pytest.approx(0.693147, rel=1e-3)


def test_ablation_reference_moves(llama: Path, traced: Callable[..., Trace]) -> None:
    """With reference=every-round each round starts from log 2 and from a reference that moved."""
    moving = "update.reference=every-round"
    trace = follow(llama, tiny_config(moving, "update.rounds=3"), keep_states=True)
    first = {e.round: e.loss for e in reversed(trace.of(StepTaken)) if e.stage == "update"}
    assert list(first.values()) == pytest.approx([0.693147] * 3, rel=1e-3)
    moved = [tensors_of(state, "reference") for state in trace.states]
    different = {tuple(float(m[k].sum()) for k in sorted(m)) for m in moved if m}
    assert len(different) == 2  # rounds 1 and 2


# ---- ablations -------------------------------------------------------------------------------


def test_ablation_sample_once(traced: Callable[..., Trace]) -> None:
    """With resample=once every comparison is online, over the samples of round 0 alone."""
    assert set(kinds(traced("update.resample=once"))) == {"pairs_online"}
    assert set(kinds(traced())) == {"pairs_online", "pairs_replay", "pairs_intermodel"}


@pytest.mark.parametrize("kind", ["online", "replay", "intermodel"])
def test_ablation_without_a_kind(traced: Callable[..., Trace], kind: str) -> None:
    """A share of 0 leaves its kind out once others exist, and a batch keeps its size."""
    trace = traced(f"update.{kind}=0", "update.pairs=10")
    later = Trace([e for e in trace.of(StepTaken) if e.stage == "update" and e.round == 1])
    assert f"pairs_{kind}" not in kinds(later)
    assert sum(kinds(later).values()) == 10 * len(later.events)


def test_no_online_share_needs_no_first_round(traced: Callable[..., Trace]) -> None:
    """Without an online share round 0 has no comparison: its update is empty; the run goes on."""
    trace = traced("update.online=0", "update.pairs=10")
    assert not [e for e in trace.of(StepTaken) if e.stage == "update" and e.round == 0]
    assert [e for e in trace.of(StepTaken) if e.stage == "update" and e.round == 1]


def test_no_kind_with_a_share(traced: Callable[..., Trace]) -> None:
    """Where no kind that exists has a share, the rounds end and say so."""
    settings = ("update.online=0", "update.replay=0", "update.intermodel=0")
    trace = traced("update.edit=1", *settings, "update.rounds=3")  # and nothing was edited
    assert "share" in next(str(e.reason) for e in trace.of(StageFinished) if e.reason)


def test_edits_become_comparisons(traced: Callable[..., Trace]) -> None:
    """The output that a demonstration was edited from is its loser, when edits have a share."""
    with_share = kinds(traced("update.edit=0.3", edited=True))
    assert with_share["pairs_edit"] > 0
    assert "pairs_edit" not in kinds(traced(edited=True))
    assert "pairs_edit" not in kinds(traced("update.edit=0.3"))


def test_finished_adapters_are_softened(traced: Callable[..., Trace]) -> None:
    """The last round's adapter and the continued warm start's are weakened, no other one is."""
    full, half = traced(), traced("lora.strength=0.5")
    for name in ("sft", "round-1", "round-2", "sft-long"):
        path = f"candidates/{name}/adapter/adapter_model.safetensors"
        ours, theirs = (tensors_from_bytes(trace.files[path]) for trace in (half, full))
        share = 0.5 if name in ("round-2", "sft-long") else 1.0
        for key, value in theirs.items():
            assert torch.equal(ours[key], value * share if "lora_B" in key else value)


def test_an_adapter_is_softened_once(llama: Path) -> None:
    """From whatever moment a run goes on, its finished adapters have one strength."""
    config = tiny_config("lora.strength=0.5")
    whole = follow(llama, config, keep_states=True)
    for state in whole.states:
        rest = follow(llama, config, saved=state)
        assert {k: whole.files[k] for k in rest.files} == rest.files


# ---- every setting does something -------------------------------------------------------------

# Setting -> a changed value, settings it needs beside it to matter at all, and demonstrations.
HELD = {"n": 4, "held_out": 1}
STOP_HELD = ("warm_start.stop=held-out", "warm_start.learning_rate=0", "warm_start.max_steps=5")
LOOPS = ("sampling.top_k=1", "sampling.max_new_tokens=80", "sampling.length_factor=0")
DISTIL = ("warm_start.objective=distillation",)
CHANGES: dict[str, tuple[Any, tuple[str, ...], dict[str, Any]]] = {
    "warm_start.objective": ("distillation", (), {}),
    "warm_start.prompts": (0, DISTIL, {}),
    "warm_start.draws": (1, DISTIL, {}),
    "warm_start.learning_rate": (0.02, (), {}),
    "warm_start.max_steps": (3, (), {}),
    "warm_start.batch_size": (1, (), {}),
    "warm_start.schedule": ("constant", ("warm_start.max_steps=4",), {}),
    "warm_start.warmup_ratio": (1.0, (), {}),
    "warm_start.stop": ("loss", ("warm_start.stop_loss=100",), {}),
    "warm_start.stop_loss": (100.0, ("warm_start.stop=loss",), {}),
    "warm_start.stop_unit": (
        "token",
        ("warm_start.stop=loss", "warm_start.stop_loss=4.5", "warm_start.max_steps=3"),
        {},
    ),
    "warm_start.patience": (2, STOP_HELD, HELD),
    "warm_start.train_on_prompt": (True, (), {}),
    "sampling.samples": (3, (), {}),
    "sampling.temperature": (0.5, (), {}),
    "sampling.top_p": (0.5, (), {}),
    "sampling.top_k": (5, (), {}),
    "sampling.max_new_tokens": (9, (), {}),
    "sampling.length_factor": (0.5, (), {}),
    "sampling.batch_rows": (1, (), {}),
    "sampling.near_duplicate": (0.0, (), {}),
    "update.rounds": (3, (), {}),
    "update.steps": (3, (), {}),
    "update.pairs": (5, (), {}),
    "update.learning_rate": (0.02, (), {}),
    "update.warmup_ratio": (1.0, (), {}),
    "update.schedule": ("cosine", (), {}),
    "update.optimizer": ("rmsprop", (), {}),
    "update.beta": (0.2, (), {}),
    "update.loss": ("ipo", (), {}),
    "update.sft_weight": (0.5, (), {}),
    "update.online": (0.1, (), {}),
    "update.replay": (0.9, (), {}),
    "update.intermodel": (0.9, (), {}),
    "update.edit": (0.5, (), {"edited": True}),
    "update.reference": ("every-round", (), {}),
    "update.resample": ("once", (), {}),
    "update.max_grad_norm": (1e-6, (), {}),
    "update.explode": (1.0, ("update.sft_weight=1",), {}),
    "lora.rank": (3, (), {}),
    "lora.alpha": (8.0, (), {}),
    "lora.dropout": (0.5, (), {}),
    "lora.targets": ("all-linear", (), {}),
    "lora.strength": (0.5, (), {}),
    "selection.rule": ("last", (), {}),
    "selection.sft_long": (False, (), {}),
    "selection.samples": (3, (), {}),
    "selection.max_length_ratio": (1.0, (), {}),
    "selection.max_unfinished": (0.0, (), {}),
    "selection.min_distinct": (1.0, LOOPS, {}),
    "selection.max_over_base": (0.01, (), {"n": 4, "held_out": 1}),
}
ELSEWHERE = {  # changes no result on purpose, or nothing in the loop
    "update.token_budget",  # test_token_budget_bounds_memory
    "selection.held_out",  # test_held_out_is_the_split's
    "base.quantize",  # tests/test_quantize.py: the loop is handed a loaded model
    *(f"reading.{name}" for name in dials("reading")),  # tests/test_reading.py: never in training
}


def test_every_setting_is_tried() -> None:
    """The table above holds each setting that there is."""
    there = {f"{section}.{name}" for section in SECTIONS for name in dials(section)}
    assert set(CHANGES) | ELSEWHERE == there


def result(trace: Trace) -> tuple[Any, ...]:
    """Return all that a run made and told, but for the shape written in an adapter's config."""
    files = {k: v for k, v in trace.files.items() if not k.endswith("adapter_config.json")}
    return files, trace.happened


@pytest.mark.parametrize("path", CHANGES)
def test_every_setting_changes_the_result(traced: Callable[..., Trace], path: str) -> None:
    """Changing a setting changes weights, rollouts or events of a whole run."""
    value, needed, demos = CHANGES[path]
    changed = f"{path}={json.dumps(value)}"
    assert result(traced(*needed, **demos)) != result(traced(*needed, changed, **demos))


@pytest.mark.parametrize("path", [p for p in CHANGES if p.partition(".")[0] in ("update", "lora")])
def test_update_and_adapter_settings_change_the_weights(
    traced: Callable[..., Trace], path: str
) -> None:
    """What is said of the update or the adapter changes what is learnt, not only what is told."""
    value, needed, demos = CHANGES[path]
    changed = f"{path}={json.dumps(value)}"
    assert traced(*needed, **demos).weights != traced(*needed, changed, **demos).weights


def test_token_budget_bounds_memory(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A smaller token budget has an update's rows go pass by pass; the course stays."""
    pushed = []
    inner = FastEngine.push

    def count(self: FastEngine, rows: Any, *rest: Any) -> None:
        pushed.append(len(rows))
        inner(self, rows, *rest)

    monkeypatch.setattr(FastEngine, "push", count)
    settings = ("update.pairs=16", "sampling.samples=6", "sampling.max_new_tokens=30")
    whole = follow(llama, tiny_config(*settings))
    assert not pushed
    cut = follow(llama, tiny_config(*settings, "update.token_budget=256"))
    assert pushed
    losses = [[e.loss for e in t.of(StepTaken)] for t in (whole, cut)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)


@pytest.mark.parametrize(("held_out", "expected"), [(-1, 1), (0, 0), (2, 2)])
def test_held_out_is_the_split(held_out: int, expected: int) -> None:
    """selection.held_out is what the demonstrations' split takes."""
    config = tiny_config(f"selection.held_out={held_out}")
    assert len(tiny_demos(4).split(config.selection.held_out).held_out) == expected


# ---- seeds -----------------------------------------------------------------------------------


def test_same_seed_same_bytes(llama: Path, traced: Callable[..., Trace]) -> None:
    """A CPU run is reproduced byte for byte, files and events, by its seed."""
    again = follow(llama, tiny_config(), tiny_demos())
    assert again.files == traced().files
    assert again.happened == traced().happened


def test_other_seed_other_run(traced: Callable[..., Trace]) -> None:
    """Another seed gives other adapters and other rollouts throughout."""
    one, two = traced(), traced(seed=1)
    assert all(one.weights[name] != two.weights[name] for name in one.weights)
    assert all(one.rollouts[name] != two.rollouts[name] for name in one.rollouts)


def test_global_random_state_does_not_matter(llama: Path, traced: Callable[..., Trace]) -> None:
    """What else a process draws at random between two steps does not reach a run."""
    config = tiny_config("lora.dropout=0.3")
    torch.manual_seed(99)
    one = collect(ditto(tiny_policy(llama, config), tiny_demos(), config))
    loop = ditto(tiny_policy(llama, config), tiny_demos(), config)
    two = collect(item for item in loop if torch.rand(1) is not None)
    assert one.files == two.files


# ---- going on from anywhere ------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_whole_run_and_resume_on_every_family(tiny: Tiny, family: str) -> None:
    """Each family runs to its end, and from the middle of an update to the same bytes."""
    whole = follow(tiny(family), keep_states=True)
    assert [e.stage for e in whole.of(StageFinished)] == STAGES
    middle = len(whole.states) // 2
    rest = follow(tiny(family), saved=whole.states[middle])
    assert {k: whole.files[k] for k in rest.files} == rest.files
    assert whole.before[middle][1] | set(rest.files) == set(whole.files)


def test_state_of_another_adapter(llama: Path) -> None:
    """A state that does not fit the settings is refused in words."""
    state = follow(llama, keep_states=True).states[-1]
    with pytest.raises(ValueError, match="does not fit"):
        follow(llama, tiny_config("lora.rank=4"), saved=state)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda s: s[:100],
        lambda s: b"x" * 400,
        lambda s: s[:-10],
        lambda s: s.replace(b'{\\"version\\": 3', b'{\\"version\\": 9', 1),
        lambda s: s.replace(b'\\"progress\\"', b'\\"progrezz\\"', 1),
        lambda s: s.replace(b'\\"best_loss\\"', b'\\"best_lozz\\"', 1),
    ],
    ids=["cut", "foreign", "short", "newer", "without progress", "with a strange field"],
)
def test_damaged_state(llama: Path, spoil: Callable[[bytes], bytes]) -> None:
    """A state that is cut, foreign or newer is a RunError."""
    state = follow(llama, keep_states=True).states[-1]
    assert spoil(state) != state
    with pytest.raises(RunError, match="state"):
        follow(llama, saved=spoil(state))


# ---- when it goes wrong ----------------------------------------------------------------------


def test_exploding_loss_ends_the_rounds(traced: Callable[..., Trace]) -> None:
    """A loss above the limit ends the rounds; what was good is kept, scored and chosen from."""
    trace = traced(
        "update.learning_rate=1", "update.explode=5", "update.beta=20", "update.rounds=3"
    )
    (reason,) = [e.reason for e in trace.of(StageFinished) if e.reason]
    assert "loss" in str(reason)
    assert {"sft", "sft-long"} <= set(trace.weights)
    assert "round-3" not in trace.weights
    scored = [e.name for e in trace.of(CandidateScored)]
    assert sorted(scored) == sorted(trace.weights)
    assert trace.events[-1].name in trace.weights


def test_explosion_in_the_first_step(traced: Callable[..., Trace]) -> None:
    """When the very first update explodes, warm start and sft-long are what is left."""
    trace = traced("update.explode=1", "update.sft_weight=1")
    assert sorted(trace.weights) == ["sft", "sft-long"]
    assert [e.name for e in trace.of(CandidateScored)] == ["sft", "sft-long"]


def test_resume_after_an_early_end(llama: Path) -> None:
    """A run whose rounds ended early resumes, before and after that, to the same choice."""
    config = tiny_config("update.explode=1", "update.sft_weight=1")
    whole = follow(llama, config, keep_states=True)
    for state in whole.states[::3]:
        rest = follow(llama, config, saved=state)
        assert {k: whole.files[k] for k in rest.files} == rest.files
        assert rest.happened[-1] == whole.happened[-1]


def test_weights_that_are_no_numbers(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that turn NaN in an update's last step end the rounds and are never chosen."""
    import ditto_hub.ditto.update as update

    inner = update.update_round

    def spoiled(work: Work, t: int) -> Any:
        reason = yield from inner(work, t)
        if t == 0:
            with torch.no_grad():
                for parameter in work.policy.parameters():
                    parameter.fill_(float("nan"))
        return reason

    monkeypatch.setattr("ditto_hub.ditto.loop.update_round", spoiled)
    trace = follow(llama, tiny_config("update.rounds=3"))
    scores = {e.name: e.degenerate for e in trace.of(CandidateScored)}
    assert "nan" in str(scores["round-1"])
    assert [e.reason for e in trace.of(StageFinished) if e.stage == "update"][1]
    assert trace.events[-1].name in ("sft", "sft-long")


def test_copies_are_dropped_and_counted(traced: Callable[..., Trace]) -> None:
    """When every sample counts as a copy, the rounds end and say why."""
    trace = traced("sampling.near_duplicate=0")
    (first,) = trace.of(RoundSampled)[:1]
    assert (first.rows, first.kept, first.copies_of_demonstration) == (4, 0, 4)
    assert "copy" in next(str(e.reason) for e in trace.of(StageFinished) if e.reason)
    assert sorted(trace.weights) == ["sft", "sft-long"]
