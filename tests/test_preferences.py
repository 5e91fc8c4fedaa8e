"""A run's comparisons and votes as preference data: what is in it, and who reads it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from datasets import load_dataset
from test_losses import adapted, arguments
from test_trial import begun, vote_for
from tiny_runs import follow, tiny_config, tiny_demos
from trl import DPOConfig, DPOTrainer

from ditto_hub import api
from ditto_hub.api.preferences import preferences
from ditto_hub.cli import main
from ditto_hub.demos.demonstrations import DemoSet
from ditto_hub.demos.importers import load_demos
from ditto_hub.errors import RunError
from ditto_hub.runs.folder import Run
from ditto_hub.runs.results import save

Tiny = Callable[[str], Path]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Make a run of two demonstrations, one edited and one held out beside, with written samples.

    In each of two rounds there are two samples a demonstration; one of round 0 is a near-copy.
    """
    demos = tiny_demos(3, held_out=1, edited=True)
    run = Run.create(demos, {"id": "pocket"}, tiny_config(), tmp_path / "run")
    for t in range(3):  # the third only scores the last candidate
        rows = [
            {"demo": demo.id, "round": t, "text": f"{demo.id} {t} {m}", "copy_of": ""}
            for demo in demos
            for m in range(2)
        ]
        if t == 0:
            rows[1]["copy_of"] = "sample"
        data = "".join(json.dumps(row) + "\n" for row in rows)
        run.write(f"rollouts/round-{t}.jsonl", data.encode())
    return run


def test_every_comparison_is_there_once(run: Run) -> None:
    """By hand: 1 edit; demonstrations over 1 + 2 and 2 + 2 samples; later over earlier 2 + 4."""
    found = preferences(run)
    assert Counter((p.kind, p.round) for p in found) == {
        ("edit", 0): 1, ("online", 0): 3, ("online", 1): 4, ("intermodel", 1): 6,
    }  # fmt: skip
    completions = {demo.completion for demo in run.demos().train}
    assert all((p.chosen in completions) == (p.kind != "intermodel") for p in found)
    assert not any("demo-3" in p.rejected for p in found)  # held out
    assert not any(p.rejected.endswith(" 2 0") for p in found)  # sampled for the score alone


def test_a_real_runs_samples_are_compared(tiny: Tiny, tmp_path: Path) -> None:
    """The loop's own files are read, and each rejected text is one that it sampled."""
    trace = follow(tiny("llama3"), demos=tiny_demos(3))
    run = Run.create(tiny_demos(3), {"id": "pocket"}, tiny_config(), tmp_path / "run")
    for path, data in trace.rollouts.items():
        run.write(path, data)
    sampled = {json.loads(r)["text"] for d in trace.rollouts.values() for r in d.splitlines()}
    found = preferences(run, ("online",))
    assert {p.rejected for p in found} <= sampled
    assert {p.round for p in found} == {0, 1}


def test_the_ablation_that_samples_once_compares_its_first_samples(run: Run) -> None:
    """Where training saw the first round's samples alone, no later one is in a pair."""
    run.record.config = run.config.with_setting('update.resample="once"').to_json()
    assert {p.round for p in preferences(run)} == {0}


def test_a_persons_votes_come_along(run: Run) -> None:
    """A vote is a pair with its own prompt; a tie is none."""
    trial = vote_for(begun(("zero-shot", "round-1")), "round-1")
    save(run, trial)
    found = preferences(run, ("vote",))
    assert [(p.prompt[0]["content"], p.chosen, p.rejected, p.round) for p in found] == [
        (f"Task {n}", f"round-1 on prompt-{n}", f"zero-shot on prompt-{n}", None) for n in (1, 2)
    ]
    save(run, vote_for(begun(("zero-shot", "round-1")), "neither"))
    with pytest.raises(RunError, match=r"has no pairs of this kind yet \(vote\)"):
        preferences(run, ("vote",))


def test_a_file_comes_back_as_the_demonstrations(run: Run, tmp_path: Path) -> None:
    """What a run exports is read as the demonstrations it was trained on, and no model's text."""
    save(run, vote_for(begun(("zero-shot", "round-1")), "round-1"))
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(api.preferences_bytes(run))
    found = load_demos(path)
    assert told(found) == told(DemoSet(run.demos().train))
    assert found.demos[0].original == "Dear all, greetings to you."
    assert {notice.code for notice in found.notices} == {
        "files.left_model_wrote", "files.left_preferred_again",
    }  # fmt: skip


def told(demos: DemoSet) -> list[tuple[Any, ...]]:
    return [(d.prompt_key, d.completion, d.original) for d in demos]


def test_own_pairs_train_as_edits(tmp_path: Path) -> None:
    """A person's own pairs become demonstrations whose rejected text is an edit's original."""
    rows = [
        {"prompt": "Ask for milk.", "chosen": "Milk, please!", "rejected": "Gimme."},
        {"prompt": "Ask for milk.", "chosen": "Milk, please!", "rejected": "Milk. Now."},
        {"prompt": "Say no.", "chosen": "No, thanks!", "rejected": "Nope."},
    ]
    path = tmp_path / "own.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    demos = load_demos(path)
    run = Run.create(demos, {"id": "pocket"}, tiny_config(), tmp_path / "run")
    assert [(p.kind, p.chosen, p.rejected) for p in preferences(run)] == [
        ("edit", "Milk, please!", "Gimme."),
        ("edit", "No, thanks!", "Nope."),
    ]
    assert "1 more pairs prefer a completion that is there already" in str(demos.notices[0])


# TRL 1.16 calls transformers by the old names.
@pytest.mark.filterwarnings("ignore:.gradient_checkpointing:FutureWarning")
def test_trl_trains_on_the_file(tiny: Tiny, run: Run, tmp_path: Path) -> None:
    """`datasets` reads the file and a stock DPOTrainer takes a step on it, as it is."""
    save(run, vote_for(begun(("zero-shot", "round-1")), "round-1"))
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(api.preferences_bytes(run))
    dataset = load_dataset(
        "json", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert len(dataset) == 16
    model, tokenizer = adapted(tiny("llama3"), {})
    trainer = DPOTrainer(
        model=model,
        args=DPOConfig(
            max_steps=1, per_device_train_batch_size=2, save_strategy="no", **arguments(tmp_path)
        ),
        train_dataset=dataset,
        processing_class=tokenizer,
    )
    assert trainer.train().global_step == 1


def test_the_command_writes_or_prints(run: Run, tmp_path: Path) -> None:
    """Rows go to the file, or to stdout and nothing else there; an unknown kind is refused."""
    path = tmp_path / "pairs.jsonl"
    done = CliRunner().invoke(main, ["pairs", str(run.folder), "--output", str(path)])
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == f"14 pairs in {path}\n"
    printed = CliRunner().invoke(main, ["pairs", str(run.folder), "--kind", "edit"])
    (row,) = [json.loads(line) for line in printed.stdout.splitlines()]
    assert row["rejected"] == [{"role": "assistant", "content": "Dear all, greetings to you."}]
    assert json.loads(path.read_text().splitlines()[0]) == row
    wrong = CliRunner().invoke(main, ["pairs", str(run.folder), "--kind", "replay"])
    assert (wrong.exit_code, "'replay' is none of" in wrong.stderr) == (2, True)
