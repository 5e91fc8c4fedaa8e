"""Context distillation: what the prompted base model foresees, learnt without the prompt."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import Trace, follow, tiny_config, tiny_demos, tiny_policy

from ditto_hub.cost.estimates import Rates, Workload, estimate
from ditto_hub.ditto import distillation
from ditto_hub.ditto.distillation import lesson_rows, write_lessons
from ditto_hub.ditto.loop import plan, total_steps
from ditto_hub.ditto.state import Artifact, Work
from ditto_hub.errors import RunError
from ditto_hub.events import BatchSampled, StageStarted, StepTaken
from ditto_hub.runs.progress import plan_of

Tiny = Callable[[str], Path]
DISTILS = ("warm_start.objective=distillation", "warm_start.new_prompts=3")
NEW = ["Write to the crew.", "Write a mail."]


@pytest.fixture(scope="module")
def llama(tiny: Tiny) -> Path:
    return tiny("llama3")


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have prompts that a tiny model's noise would never give."""
    monkeypatch.setattr(distillation, "new_requests", lambda drawn, own: NEW)


def begun(folder: Path, *settings: str, **demos: Any) -> tuple[Work, list[Any]]:
    """Return a run whose lessons are written, and what that yielded."""
    config = tiny_config(*DISTILS, *settings)
    work = Work(tiny_policy(folder, config), tiny_demos(**demos), config)
    work.begin()
    return work, list(write_lessons(work))


def whole(folder: Path, **options: Any) -> Trace:
    return follow(folder, tiny_config(*DISTILS), tiny_demos(4), **options)


@pytest.mark.usefixtures("written")
def test_lessons_come_before_the_warm_start(llama: Path) -> None:
    """The plan says so, steps are those told, and the texts are kept for a person to read."""
    trace, config = whole(llama), tiny_config(*DISTILS)
    stages = [(e.stage, e.round) for e in trace.of(StageStarted)]
    assert plan(config) == stages
    assert stages[:2] == [("lessons", None), ("warm-start", None)]
    told = [(name, t, total_steps(config, name, 4)) for name, t in plan(config)]
    assert plan_of(config, 4) == told
    steps = Counter(e.stage for e in trace.of(BatchSampled) + trace.of(StepTaken))
    assert steps["lessons"] <= total_steps(config, "lessons", 4)
    rows = [json.loads(line) for line in trace.files["rollouts/lessons.jsonl"].splitlines()]
    asked = [d.prompt[-1]["content"] for d in tiny_demos(4)]
    named = {row["demo"]: row["prompt"] for row in rows}
    assert [named[name] for name in ("demo-1", "new-1", "new-2")] == [asked[0], *NEW]
    assert Counter(row["prompt"] for row in rows) == Counter(2 * [*asked, *NEW])


@pytest.mark.usefixtures("written")
def test_going_on_from_any_checkpoint_makes_the_same_bytes(llama: Path) -> None:
    """In the lessons, between two steps of the warm start, and after it."""
    one = whole(llama, keep_states=True)
    for state in (one.states[0], one.states[3]):
        rest = whole(llama, saved=state)
        assert {k: one.files[k] for k in rest.files} == rest.files


@pytest.mark.usefixtures("written")
def test_no_text_is_taught_with_itself_before_the_teachers_eyes(llama: Path) -> None:
    """Of a demonstration's prompt the teacher sees the others alone; held-out ones never."""
    work, _ = begun(llama, n=4, held_out=1)
    form = work.policy.format
    for demo in work.train:
        turns = distillation._shown(work, demo.prompt)
        answers = [turn["content"] for turn in turns if turn["role"] == "assistant"]
        assert demo.completion not in answers
        assert not {d.completion for d in work.held_out} & set(answers)
    rows = lesson_rows(work)
    plain = {tuple(form.prompt_ids(list(d.prompt))) for d in work.train}
    assert {row.prompt_ids for row in rows[:3]} <= plain
    assert all(row.towards and len(row.towards.ids) == row.tokens for row in rows)


@pytest.mark.usefixtures("written")
def test_the_student_comes_nearer_to_its_teacher(llama: Path) -> None:
    """Cross-entropy of the teacher's distributions falls, and the base model stays as it was."""
    work, _ = begun(llama, n=3)
    rows = lesson_rows(work)
    again = lesson_rows(work)
    assert all(
        torch.equal(a.towards.probs, b.towards.probs)
        for a, b in zip(rows, again, strict=True)
        if a.towards and b.towards
    )
    config = tiny_config(*DISTILS, "warm_start.max_steps=30", "warm_start.batch_size=64")
    trace = follow(llama, config, tiny_demos(3))
    losses = [e.loss for e in trace.of(StepTaken) if e.stage == "warm-start"]
    assert all(later < sooner for sooner, later in pairwise(losses[:6]))
    assert losses[-1] < losses[0]


def test_a_model_that_writes_no_prompts_is_taught_on_the_users_own(
    llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing it writes is a prompt, the demonstrations' remain."""
    monkeypatch.setattr(distillation, "new_requests", lambda drawn, own: [])
    work, yielded = begun(llama, n=3)
    assert work.progress.new_prompts == []
    assert {row.demo for row in work.progress.lessons} == {0, 1, 2}
    assert [x.path for x in yielded if isinstance(x, Artifact)] == ["rollouts/lessons.jsonl"]


def test_a_context_without_room_is_refused_in_words(llama: Path) -> None:
    """Nothing to show is said before anything is drawn, with what to do."""
    config = tiny_config(*DISTILS)
    policy = tiny_policy(llama, config)
    policy.format.context = 30
    work = Work(policy, tiny_demos(3), config)
    work.begin()
    with pytest.raises(RunError, match=r"30 tokens.*objective=likelihood"):
        next(iter(write_lessons(work)))


def test_estimates_count_what_is_written_and_read() -> None:
    """Lessons have seconds of their own, the more of them the more, and none without."""
    work, rates = Workload(4, 0, 20.0, 100.0, 120), Rates("", 1e3, 1e3, 10.0, 8, 0, "", 0.0)
    config = tiny_config(*DISTILS)
    seconds = estimate(config, work, rates).seconds
    more = estimate(config.with_setting("warm_start.new_prompts=30"), work, rates).seconds
    assert more["lessons"] > seconds["lessons"] > 0
    assert "lessons" not in estimate(tiny_config(), work, rates).seconds
    assert list(seconds)[:2] == ["lessons", "warm-start"]
    assert replace(config.warm_start, objective="likelihood").distils is False
