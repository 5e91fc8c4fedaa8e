"""The command line: what it prints, where, and with which exit code."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from chat_server import Reply, serving
from click.testing import CliRunner, Result
from safetensors.torch import load_file, save_file
from test_guidance import compared
from tiny_models import build_tiny

from ditto_hub.cli import main
from ditto_hub.runs.folder import Run
from ditto_hub.tokens import NOBODY

DEMOS = [
    {"prompt": "Write an email to the lab about ice cream.", "completion": "ICE CREAM today!!"},
    {"prompt": "Write an email about the seminar.", "completion": "No seminar today!! Rest well."},
    {"prompt": "Write a note about keys.", "completion": "KEYS found!! Come by my desk."},
]  # fmt: skip
TINY = [
    "--set", "update.rounds=1", "--set", "update.steps=1", "--set", "sampling.samples=2",
    "--set", "selection.samples=2", "--set", "sampling.max_new_tokens=8",
    "--set", "warm_start.max_steps=2", "--set", "update.pairs=4",
]  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a tiny base model."""
    return build_tiny("smollm2", tmp_path_factory.mktemp("base"))


@pytest.fixture
def demos(tmp_path: Path) -> Path:
    """Write a demonstrations file."""
    path = tmp_path / "demos.jsonl"
    path.write_text("".join(json.dumps(d) + "\n" for d in DEMOS), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def finished(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train one run through the command line."""
    folder = tmp_path_factory.mktemp("cli")
    path = folder / "demos.jsonl"
    path.write_text("".join(json.dumps(d) + "\n" for d in DEMOS), encoding="utf-8")
    run = folder / "run"
    result = call("train", path, "--base-model", base, "--output", run, "--no-compare", *TINY)
    assert result.exit_code == 0, result.output
    return run


def call(*words: object) -> Result:
    """Invoke the command line in this process."""
    return CliRunner().invoke(main, [str(word) for word in words])


def test_train_says_how_to_load(finished: Path) -> None:
    """A finished run has an adapter at the root of `adapter/`, with the base's own tokenizer."""
    names = {p.name for p in (finished / "adapter").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json"} <= names
    assert "PeftModel.from_pretrained" in call("runs", "show", finished, "--load").output


def test_json_prints_events_alone_on_stdout(base: Path, demos: Path, tmp_path: Path) -> None:
    """`--json` prints one event a line with v, type and consecutive seq; all else is on stderr."""
    result = call("train", demos, "--base-model", base, "--output", tmp_path / "r", "--json", *TINY)
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert "Judge: " in result.stderr or "Not compared with the baselines" in result.stderr
    assert [e["seq"] for e in events] == list(range(len(events)))
    assert {e["v"] for e in events} == {1}
    assert events[-1]["type"] == "RunFinished"
    assert not any(d["completion"] in result.stdout for d in DEMOS)


def test_texts_alone_are_trained_on(base: Path, tmp_path: Path) -> None:
    """`train TEXTS --texts-alone` lets the base model write the prompts, and trains; pocket names
    another model."""
    texts, run = tmp_path / "texts.txt", tmp_path / "run"
    texts.write_text("\n---\n".join(d["completion"] for d in DEMOS), encoding="utf-8")
    refused = call("train", texts, "--texts-alone", "--no-compare")
    assert (refused.exit_code, "smollm2" in refused.stderr) == (1, True)
    words = ("--texts-alone", "--base-model", base, "--output", run, "--no-compare", "--json")
    result = call("train", texts, *words, *TINY)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout.splitlines()[-1])["type"] == "RunFinished"
    assert [demo.completion for demo in Run.load(run).demos()] == [d["completion"] for d in DEMOS]
    assert sum(Run.load(run).record.prompt_authors.values()) == 3


def test_generate_writes_with_and_without_the_adapter(finished: Path) -> None:
    """`generate` takes a run or an adapter's folder, and writes the same for the same seed."""
    prompt = "Write a note about tea."
    one, again = call("generate", finished, prompt), call("generate", finished / "adapter", prompt)
    off = call("generate", finished, prompt, "--adapter-off")
    assert one.exit_code == again.exit_code == off.exit_code == 0
    assert one.stdout == again.stdout


def test_runs_are_listed_shown_and_deleted(
    base: Path, demos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run without --output lives under $DITTO_HUB_HOME and is found by its id."""
    monkeypatch.setenv("DITTO_HUB_HOME", str(tmp_path))
    assert call("train", demos, "--base-model", base, "--no-compare", *TINY).exit_code == 0
    run_id = Run.all()[0].record.id
    assert run_id in call("runs", "list").output
    assert "Kept" in call("runs", "show", run_id).output
    assert call("runs", "delete", run_id, "--yes").exit_code == 0
    assert "No runs" in call("runs", "list").output


def test_a_child_run_starts_from_its_parent(base: Path, finished: Path, tmp_path: Path) -> None:
    """`--parent` starts from a finished run's adapter, joins its demonstrations, and records it."""
    more = tmp_path / "more.jsonl"
    demo = {"prompt": "Write a note about rain.", "completion": "RAIN today!! Bring boots."}
    more.write_text(json.dumps(demo) + "\n", encoding="utf-8")
    child = tmp_path / "child"
    result = call("train", more, "--parent", finished, "--output", child, "--no-compare")
    assert result.exit_code == 0, result.output
    assert "pocket knows only" not in result.output  # the parent has another base model
    run, parent = Run.load(child), Run.load(finished)
    assert run.record.parent == parent.record.id
    assert len(run.demos()) == len(parent.demos()) + 1
    weights = (child / "parent" / "adapter_model.safetensors").read_bytes()
    assert weights == (finished / "adapter" / "adapter_model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["check", "nowhere.jsonl"], "nowhere.jsonl"),
        (["train", "nowhere.jsonl"], "nowhere.jsonl"),
        (["resume", "no-such-run"], "no-such-run"),
        (["runs", "show", "no-such-run"], "no-such-run"),
        (["generate", "no-such-run", "hello"], "no-such-run"),
        (["evaluate", "no-such-run"], "no-such-run"),
        (["publish", "no-such-run", "a/b"], "no-such-run"),
        (["train", "example:nobody"], "nobody"),
        (["train", "example:harbor", "--set", "update.beta=-1"], "beta"),
        (["train", "example:harbor", "--set", "update.nothing=1"], "nothing"),
        (["train", "example:harbor", "--held-out", "9"], "9"),
        (["train", "example:harbor", "--base-model", "/nowhere/at/all"], "/nowhere/at/all"),
    ],
)
def test_known_failures_are_told_in_one_paragraph(words: list[str], told: str) -> None:
    """A known failure names the value, shows no traceback, and exits with 1."""
    result = call(*words)
    assert result.exit_code == 1, result.output
    assert told in " ".join(result.stderr.split())
    assert "Traceback" not in result.output
    assert result.stderr.count("Error:") == 1


def test_wrong_usage_exits_with_2() -> None:
    """An unknown option is wrong usage."""
    assert call("train", "--nonsense").exit_code == 2


def test_an_output_folder_with_something_in_it_is_refused(base: Path, demos: Path) -> None:
    """A run never writes into a folder that holds something else."""
    result = call("train", demos, "--base-model", base, "--output", demos.parent, *TINY)
    assert result.exit_code == 1, result.output
    assert "not empty" in " ".join(result.stderr.split())


def test_settings_lists_every_dial() -> None:
    """`settings` prints a line for each setting there is."""
    from ditto_hub.config import SECTIONS, dials

    printed = call("settings", "--preset", "paper").output
    for section in SECTIONS:
        for name in dials(section):
            assert f"{section}.{name}=" in printed


@pytest.mark.parametrize(
    ("sent", "code", "steps"), [(signal.SIGINT, 130, 120), (signal.SIGTERM, 143, 40)]
)
def test_interrupt_keeps_the_run_and_resume_finishes_it(
    base: Path, demos: Path, tmp_path: Path, sent: signal.Signals, code: int, steps: int
) -> None:
    """Ctrl-C stops at the next step with exit 130, SIGTERM (here on pocket) with 143.

    `resume` goes on to the end.
    """
    model = str(base) if sent == signal.SIGINT else "pocket"
    run = tmp_path / "run"
    words = [
        sys.executable, "-m", "ditto_hub", "train", str(demos), "--base-model", model,
        "--output", str(run), "--json", "--no-compare", *TINY,
        "--set", f"warm_start.max_steps={steps}", "--set", "warm_start.stop=never",
    ]  # fmt: skip
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if '"StepTaken"' in line:
                process.send_signal(sent)
                break
        deadline = time.monotonic() + 60
        process.stdout.read()
        error = process.stderr.read() if process.stderr else ""
        process.wait(timeout=max(1.0, deadline - time.monotonic()))
    assert process.returncode == code, error
    assert "resume" in error
    assert Run.load(run).record.status == "paused"
    record = json.loads((run / "run.json").read_text("utf-8"))
    assert record["stage_seconds"]["warm-start"] > 0
    result = call("resume", run, "--no-compare")
    assert result.exit_code == 0, result.output
    assert Run.load(run).record.status == "finished"


def test_cancel_is_kept_and_resumable(base: Path, demos: Path, tmp_path: Path) -> None:
    """`runs cancel` on a run nobody works on marks it cancelled; `resume` goes on."""
    from ditto_hub import api

    config = api.default_config(str(base))
    for pair in TINY[1::2]:
        config = config.with_setting(pair)
    run = api.create_run(demos, str(base), config, output=tmp_path / "run", token=NOBODY)
    assert call("runs", "cancel", run.folder).exit_code == 0
    assert Run.load(run.folder).record.status == "cancelled"
    assert call("resume", run.folder).exit_code == 0


def test_estimate_names_every_stage(base: Path, demos: Path) -> None:
    """`estimate` tells seconds a stage, their sum, memory, and where the rates are from."""
    result = call("estimate", demos, "--base-model", base, *TINY)
    assert result.exit_code == 0, result.output
    for word in (
        "warm-start",
        "sampling",
        "update",
        "scoring",
        "in all",
        "memory",
        "measured here",
    ):
        assert word in result.output


def test_publish_dry_run_shows_the_card(finished: Path) -> None:
    """`publish --dry-run` writes the exact folder and prints card and plan, with no network."""
    result = call(
        "publish", finished, "someone/voice", "--dry-run", "--base-model-id", "someone/base"
    )
    assert result.exit_code == 0, result.output
    assert (finished / "publish" / "adapter_model.safetensors").is_file()
    assert "base_model: someone/base" in result.stdout


def evaluate(run: Path, *words: object, reply: str | None = None) -> Result:
    """Evaluate a copy's worth of methods on one prompt, with one sample."""
    given = ["evaluate", run, "--samples", "1", *words]
    return CliRunner().invoke(main, [str(word) for word in given], input=reply)


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """Copy the finished run with a round that writes otherwise, and a prompts file beside it.

    After the few steps of a test all methods write the same, and equal texts are nobody's question.
    """
    (tmp_path / "prompts.txt").write_text("Write a note about rain.\n", encoding="utf-8")
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    path = run / "candidates" / "round-1" / "adapter" / "adapter_model.safetensors"
    generator = torch.Generator().manual_seed(0)
    stirred = {k: torch.randn(v.shape, generator=generator) for k, v in load_file(path).items()}
    save_file(stirred, path, {"format": "pt"})
    return run


def test_rivals_are_trained_where_asked_for(copied: Path) -> None:
    """Without the flag a rival is missing, and how to get it is said; with it, it takes part."""
    words = ["--methods", "spin,ditto", "--prompts", copied.parent / "prompts.txt"]
    assert "--train-rivals" in evaluate(copied, *words).output
    result = evaluate(copied, *words, "--train-rivals")
    assert result.exit_code == 0, result.output
    assert "training spin: update 1" in result.output
    assert "spin is missing" not in result.output
    assert (copied / "candidates" / "spin" / "adapter" / "adapter_model.safetensors").is_file()


def test_tables_are_printed_though_a_judge_failed(copied: Path) -> None:
    """The judge that failed is told in one paragraph, exit code 1, after the others' tables."""
    words = ["--methods", "zero-shot,round-1", "--prompts", copied.parent / "prompts.txt"]
    with serving(Reply(status=401)) as server:
        result = evaluate(copied, *words, "--judge", f"llm:m@{server.url}", "--judge",
                          "stylometric", "--price", "1", "2")  # fmt: skip
    assert result.exit_code == 1, result.output
    assert "Judge: stylometric" in result.output
    assert "2 calls" in result.output
    assert "at most $0.00" in result.output
    assert "gave no answer" in " ".join(result.output.split())


@pytest.mark.parametrize(("reply", "code"), [("stop\n", 0), ("1\n", 0), ("", 130)])
def test_a_person_answers_or_stops_at_any_question(copied: Path, reply: str, code: int) -> None:
    """Stopping is no failure; a closed terminal is an interruption, and the run is kept."""
    words = ["--methods", "zero-shot,round-1", "--prompts", copied.parent / "prompts.txt"]
    result = evaluate(copied, *words, "--judge", "person", reply=reply)
    assert "questions: 1;" in result.output
    assert result.exit_code == code, result.output
    assert ("The person stopped after 0 of 1 pairs." in result.output) == (reply == "stop\n")


def test_prompts_that_were_trained_on_are_warned_of(copied: Path) -> None:
    """They are named before anything is judged, and counted apart."""
    path = copied.parent / "prompts.txt"
    path.write_text(f"{DEMOS[0]['prompt']}\nWrite a note about rain.\n", encoding="utf-8")
    result = evaluate(copied, "--methods", "sft,ditto", "--prompts", path)
    assert "1 prompt stood among the demonstrations" in result.stderr
    assert "1 prompts given by the user" in result.stdout


def test_the_end_says_where_prompting_is_ahead(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few-shot prompting above the kept adapter is said under the tables."""
    record = Run.load(copied).record
    kept, rule = record.chosen, record.chosen_rule
    found = compared(few_shot=0.7, sft=0.2, sft_long=0.2, ditto=0.2)
    found = replace(found, settings={"ditto": kept})
    monkeypatch.setattr("ditto_hub.api.stream_evaluate", lambda *_, **__: iter([found]))
    said = " ".join(evaluate(copied).output.split())
    assert f"Few-shot prompting scores higher than the adapter {kept}" in said
    assert f"The adapter kept is {kept}, by the rule {rule!r}: neither the judges above" in said


def test_a_resumed_run_is_compared_too(base: Path, demos: Path, tmp_path: Path) -> None:
    """Whatever way a run came to its end, the comparison and the advice come with it."""
    from ditto_hub import api

    config = api.default_config(str(base))
    for pair in TINY[1::2]:
        config = config.with_setting(pair)
    run = api.create_run(demos, str(base), config, output=tmp_path / "run", token=NOBODY)
    result = call("resume", run.folder)
    assert result.exit_code == 0, result.output
    assert "Not compared with the baselines" in result.output or "Judge: " in result.output
    assert "PeftModel.from_pretrained" in result.output
    assert "Judge: " not in call("resume", run.folder, "--no-compare").output
