"""Context distillation as the warm start's objective: what it draws, learns, refuses, resumes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from tiny_runs import Trace, collect, follow, tiny_config, tiny_demos, tiny_policy

from ditto_hub.config import preset
from ditto_hub.demos.demonstrations import DemoSet
from ditto_hub.demos.prompting import with_demonstrations
from ditto_hub.ditto.distillation import draft_prompts, teach
from ditto_hub.ditto.loop import ditto, plan, total_steps
from ditto_hub.ditto.rollout import LESSON
from ditto_hub.ditto.state import Work
from ditto_hub.ditto.warm_start import warm_start
from ditto_hub.engine.fast import FastEngine
from ditto_hub.engine.protocol import Drawn
from ditto_hub.errors import DemoError, RunError
from ditto_hub.events import BatchSampled, Noticed, StageFinished, StageStarted, StepTaken
from ditto_hub.runs.progress import plan_of

Tiny = Callable[[str], Path]
DISTIL = ("warm_start.objective=distillation", "warm_start.prompts=2", "warm_start.draws=2")
NEW = ("Write to the choir.", "Write to the club.", "Write to the lab.", "no\nprompt")


@pytest.fixture(scope="module")
def llama(tiny: Tiny) -> Path:
    return tiny("llama3")


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the model's drafts of prompts be those of `NEW`, in turn; a tiny one writes noise."""
    inner = FastEngine.sample

    def sample(self: FastEngine, prompts: Any, seeds: Any, *rest: Any) -> list[list[Drawn]]:
        drawn = inner(self, prompts, seeds, *rest)
        if "Below are requests" not in self.format.decode(prompts[0]):
            return drawn
        texts = [self.format.tokenizer(NEW[s % 4], add_special_tokens=False) for s in seeds[0]]
        return [[replace(d, token_ids=tuple(t["input_ids"]))
                 for d, t in zip(drawn[0], texts, strict=True)]]  # fmt: skip

    monkeypatch.setattr(FastEngine, "sample", sample)


def work_on(llama: Path, *settings: str, demos: DemoSet | None = None) -> Work:
    config = tiny_config(*DISTIL, *settings)
    work = Work(tiny_policy(llama, config), demos or tiny_demos(4), config)
    work.begin()
    return work


def taught(work: Work) -> Trace:
    """Run the stages before the warm start."""
    first = collect(draft_prompts(work))
    work.progress.step = 0
    second = collect(teach(work))
    work.progress.step = 0
    return Trace(first.events + second.events, first.files | second.files)


# ---- what is drawn ---------------------------------------------------------------------------


@pytest.mark.usefixtures("writes")
def test_lessons(llama: Path) -> None:
    """Each demonstration's own text comes once, then as many texts as asked to each prompt."""
    work = work_on(llama)
    trace = taught(work)
    assert sorted(work.progress.prompts) == sorted(NEW[:2])
    rows = [row for row, _ in work.lessons]
    assert [r.text for r in rows[:4]] == [d.completion for d in work.train]
    assert [r.demo for r in rows[4:]] == [i for i in range(6) for _ in range(2)]
    assert {r.round for r in rows} == {LESSON}
    assert len({r.completion_ids for r in rows}) == 16
    for row, expected in work.lessons:
        assert len(expected.ids) == len(expected.probs) == len(row.completion_ids)
    batches = trace.of(BatchSampled)
    assert (batches[-1].rows, batches[-1].total_rows) == (12, 12)


@pytest.mark.usefixtures("writes")
def test_teacher_sees_the_other_demonstrations(llama: Path) -> None:
    """What is expected is what the model, shown the demonstrations of other prompts, expects."""
    work = work_on(llama)
    taught(work)
    lab, team = (work.train[i] for i in (0, 1))
    others = [d for d in work.train if d.prompt_text != lab.prompt_text]
    turns = [t for d in others for t in (*d.prompt, {"role": "assistant", "content": d.completion})]
    encoded = work.policy.format.encode([*turns, *lab.prompt], lab.completion)
    ids = torch.tensor([[*encoded.prompt_ids, *encoded.completion_ids]])
    with torch.no_grad():
        logits = work.policy.model(ids).logits[0, len(encoded.prompt_ids) - 1 : -1]
    probs, likely = logits.softmax(-1).topk(work.lessons[0][1].ids.shape[1])
    torch.testing.assert_close(work.lessons[0][1].probs, probs, rtol=1e-3, atol=1e-6)
    assert work.lessons[0][1].ids[:, 0].tolist() == likely[:, 0].tolist()
    assert team in others


@pytest.mark.usefixtures("writes")
def test_held_out_demonstrations_are_not_shown(llama: Path) -> None:
    """A held-out demonstration is neither a lesson, nor a prompt, nor shown to the teacher."""
    demos = tiny_demos(4, held_out=1)
    other = DemoSet((*demos.demos[:3], replace(demos.demos[3], completion="other words")))
    lessons = []
    for mine in (demos, other):
        work = work_on(llama, demos=mine)
        taught(work)
        lessons.append(work.lessons)
    assert [r for r, _ in lessons[0]] == [r for r, _ in lessons[1]]
    assert all(torch.equal(a.probs, b.probs) for (_, a), (_, b) in zip(*lessons, strict=True))


@pytest.mark.usefixtures("writes")
def test_texts_are_saved_for_their_owner(llama: Path) -> None:
    """Prompts and texts are files of the run folder, and in no event."""
    work = work_on(llama)
    trace = taught(work)
    rows = [json.loads(x) for x in trace.files["lessons/texts.jsonl"].splitlines()]
    assert [r["by"] for r in rows] == ["user"] * 4 + ["model"] * 12
    assert [r["text"] for r in rows] == [r.text for r, _ in work.lessons]
    drafted = [json.loads(x) for x in trace.files["lessons/prompts.jsonl"].splitlines()]
    assert [r["prompt"] for r in drafted] == work.progress.prompts
    told = json.dumps([e.to_json() for e in trace.events])
    assert not any(r["text"] in told for r in rows if len(r["text"]) > 3)


# ---- what is learnt --------------------------------------------------------------------------


@pytest.mark.usefixtures("writes")
@pytest.mark.parametrize("budget", [0, 256])
def test_the_divergence_falls(llama: Path, budget: int) -> None:
    """The student comes closer to its teacher, in one pass or in several."""
    work = work_on(
        llama, "warm_start.max_steps=12", "warm_start.learning_rate=0.02",
        "warm_start.batch_size=16", f"update.token_budget={budget}",
    )  # fmt: skip
    taught(work)
    losses = [e.loss for e in collect(warm_start(work)).of(StepTaken)]
    assert losses[0] > 0
    assert losses[-1] < 0.9 * losses[0]


def test_pi_0_is_the_reference_of_the_rounds(llama: Path) -> None:
    """A whole run begins its rounds from the student: the first update's loss is log 2."""
    trace = follow(llama, tiny_config(*DISTIL))
    stages = [e.stage for e in trace.of(StageStarted)]
    assert stages[:4] == ["drafting", "teaching", "warm-start", "sampling"]
    (first, *_) = [e.loss for e in trace.of(StepTaken) if e.stage == "update"]
    assert first == pytest.approx(0.693147, rel=1e-3)
    assert sorted(trace.weights) == ["round-1", "round-2", "sft", "sft-long"]


@pytest.mark.parametrize("settings", [DISTIL, (*DISTIL, "warm_start.prompts=0")], ids=["16", "0"])
def test_plan_is_what_happens(llama: Path, settings: tuple[str, ...]) -> None:
    """Stages and their most steps are told beforehand; without new prompts none are drafted."""
    config = tiny_config(*settings)
    trace = follow(llama, config)
    assert plan(config) == [(e.stage, e.round) for e in trace.of(StageFinished)]
    assert [(n, t) for n, t, _ in plan_of(config, 2)] == plan(config)
    for name, _, steps in plan_of(config, 2):
        assert steps == total_steps(config, name, 2)


# ---- going on from anywhere ------------------------------------------------------------------


@pytest.mark.usefixtures("writes")
def test_resumes_from_every_checkpoint(llama: Path) -> None:
    """From any checkpoint of the new stages a fresh policy makes the rest, with the same bytes."""
    config = tiny_config(*DISTIL, "sampling.batch_rows=3", "update.rounds=1")
    whole = follow(llama, config, tiny_demos(4), keep_states=True)
    ends = [i for i, e in enumerate(whole.events) if isinstance(e, StageFinished)]
    for state, (events, files) in zip(whole.states, whole.before, strict=True):
        if events > ends[2] + 1:  # beyond the warm start
            break
        rest = follow(llama, config, tiny_demos(4), saved=state)
        assert {k: whole.files[k] for k in rest.files} == rest.files
        assert files | set(rest.files) == set(whole.files)
        again = not isinstance(whole.events[events - 1], StageFinished)
        assert rest.happened[again:] == whole.happened[events:]


@pytest.mark.parametrize("sft_long", ["true", "false"])
def test_lessons_are_forgotten(llama: Path, sft_long: str) -> None:
    """Once no stage learns from them any more, the state holds no lessons."""
    config = tiny_config(*DISTIL, f"selection.sft_long={sft_long}")
    trace = follow(llama, config, keep_states=True)
    held = [b"lessons/0.ids" in state for state in trace.states]
    assert any(held)
    assert not held[-1]
    if sft_long == "false":
        kept = [h for h, (n, _) in zip(held, trace.before, strict=True)
                if trace.events[n - 1].stage in ("sampling", "update")]  # fmt: skip
        assert not any(kept)


def test_a_state_without_its_lessons_is_refused(llama: Path) -> None:
    """A state whose distributions are missing, or of other texts, is damaged."""
    config = tiny_config(*DISTIL)
    state = follow(llama, config, keep_states=True).states[6]
    tensors = load(state)
    header = json.loads(state[8 : 8 + int.from_bytes(state[:8], "little")])["__metadata__"]
    assert "lessons/0.ids" in tensors
    for ids in (None, tensors["lessons/0.ids"][1:]):
        spoilt = {k: v for k, v in tensors.items() if k != "lessons/0.ids"}
        spoilt |= {} if ids is None else {"lessons/0.ids": ids.clone()}
        with pytest.raises(RunError, match="damaged"):
            follow(llama, config, saved=save(spoilt, header))


# ---- bad cases -------------------------------------------------------------------------------


def test_a_model_that_writes_no_prompts(llama: Path) -> None:
    """Without a usable prompt of its own the run says so and learns from the others."""
    work = work_on(llama)
    trace = taught(work)
    (notice,) = trace.of(Noticed)
    assert notice.code == "few-prompts"
    assert "no usable prompt" in str(notice.message)
    assert len(work.lessons) == 4 + 4 * 2


@pytest.mark.parametrize("demos", [DemoSet.from_pairs([("a", "x"), ("a", "y")]), tiny_demos(1)])
def test_too_few_demonstrations(llama: Path, demos: DemoSet) -> None:
    """Two demonstrations with different prompts are needed, for one is left out each time."""
    with pytest.raises(DemoError, match="at least two demonstrations"):
        collect(ditto(tiny_policy(llama), demos, tiny_config(*DISTIL)))


def test_a_context_that_takes_no_demonstration(llama: Path) -> None:
    """A context too small for one demonstration before a prompt is refused in words."""
    work = work_on(llama, "warm_start.prompts=0")
    shortest = max(len(r.prompt_ids) for r in work.demo_rows)
    work.policy.format.context = shortest + 13
    with pytest.raises(RunError, match="does not take a demonstration"):
        collect(teach(work))
    with pytest.raises(RunError, match="to write more prompts"):
        collect(draft_prompts(work))


def test_a_context_that_takes_some_demonstrations(llama: Path) -> None:
    """Where not all demonstrations fit before a prompt, the last are left out, and it is said."""
    work = work_on(llama, "warm_start.prompts=0")
    form = work.policy.format
    whole = with_demonstrations(work.train[1].prompt, work.train, lambda _: True)
    form.context = len(form.prompt_ids(whole)) + 12 - 1
    (notice,) = collect(teach(work)).of(Noticed)
    assert notice.code == "few-shown"
    assert f"context of {form.context} tokens" in str(notice.message)


def test_presets_keep_the_papers_objective() -> None:
    """No preset distils by itself."""
    assert {preset(name).warm_start.objective for name in ("pocket", "small", "fast", "paper")} == {
        "likelihood"
    }


def test_refused_before_anything_is_loaded(llama: Path, tmp_path: Path) -> None:
    """Making a run with too few demonstrations for it fails at once."""
    from ditto_hub.api.creation import create_run

    with pytest.raises(DemoError, match="two with different prompts"):
        create_run(
            DemoSet.from_pairs([("a", "one text"), ("a", "another text")]), str(llama),
            tiny_config(*DISTIL), output=tmp_path / "run", token="",
        )  # fmt: skip
