"""What follows a run: choose another candidate, preview the card, pack a zip, write and vote."""

from __future__ import annotations

import io
import json
import shutil
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from run_folders import SECRET, make_run

from ditto_hub import api
from ditto_hub.api import trials
from ditto_hub.api.publishing import PublishOptions, publishing, require_scope
from ditto_hub.demos.importers import load_demos
from ditto_hub.errors import ConfigError, HubError, RunBusyError, RunError
from ditto_hub.events import CandidateChosen
from ditto_hub.hub.publishing.bundle import read_adapter
from ditto_hub.pocket import voice_path
from ditto_hub.runs import results
from ditto_hub.runs.folder import Run
from ditto_hub.runs.results import Evaluation
from ditto_hub.runs.storage import to_jsonl_bytes
from ditto_hub.tokens import NOBODY

WEIGHTS = "adapter_model.safetensors"


@pytest.fixture(scope="module")
def made(tiny: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on a tiny model, with the candidates sft and round-2."""
    folder = tmp_path_factory.mktemp("runs") / "made"
    run = make_run(folder, tiny("llama3"), {"id": str(tiny("llama3")), "revision": None})
    chosen = CandidateChosen(name="round-2", rule="mixture", reason=run.record.chosen_reason)
    run.append_events([chosen])
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Run:
    return Run.load(shutil.copytree(made, tmp_path / "run"))


def echo(requests: tuple[api.WriteRequest, ...]) -> list[list[str]]:
    """Stand for a model: say who was asked what, a different text for every sample."""
    return [
        [f"{r.candidate} {r.few_shot} {r.messages[-1]['content']} {k}" for k in range(r.samples)]
        for r in requests
    ]


# ---- choosing ------------------------------------------------------------------------------------


def test_the_chosen_candidate_is_the_adapter(run: Run) -> None:
    """Its weights, with the tokenizer as before and a card that says who picked it."""
    api.choose(run, "sft", probe=False, token=NOBODY)
    own = run.folder / "candidates" / "sft" / "adapter" / WEIGHTS
    assert (run.folder / "adapter" / WEIGHTS).read_bytes() == own.read_bytes()
    assert (run.folder / "adapter" / "tokenizer.json").is_file()
    card = (run.folder / "adapter" / "README.md").read_text("utf-8")
    assert "the author picked it; the rule 'mixture' had kept round-2" in card
    assert Run.load(run.folder).record.chosen == "sft"


def test_choosing_the_runs_own_choice_again_restores_its_reason(run: Run) -> None:
    """There and back: rule, reason and weights are those of the run."""
    rule, reason = run.record.chosen_rule, run.record.chosen_reason
    before = (run.folder / "adapter" / WEIGHTS).read_bytes()
    api.choose(run, "sft", probe=False, token=NOBODY)
    api.choose(run, "round-2", probe=False, token=NOBODY)
    assert (run.record.chosen_rule, run.record.chosen_reason) == (rule, reason)
    assert (run.folder / "adapter" / WEIGHTS).read_bytes() == before


def test_an_old_probe_is_known_to_be_of_another_candidate(run: Run) -> None:
    """Where it is not made anew, a publication must not compare logits with it."""
    assert read_adapter(run).probed
    api.choose(run, "sft", probe=False, token=NOBODY)
    assert not read_adapter(run).probed
    api.choose(run, "round-2", probe=False, token=NOBODY)
    assert read_adapter(run).probed


def test_the_probe_is_made_anew(run: Run) -> None:
    """With the base model at hand the probe holds the new adapter's logits."""
    before = (run.folder / "probe.safetensors").read_bytes()
    run.record.config["lora"] |= {"rank": 4, "alpha": 8.0, "targets": "q_proj,v_proj"}
    run.save_record()
    api.choose(run, "sft", token=NOBODY)
    assert read_adapter(run).probed
    assert (run.folder / "probe.safetensors").read_bytes() != before


def test_an_interrupted_choice_is_noticed_and_mended(run: Run) -> None:
    """An adapter that is not the recorded candidate's is refused until one is chosen again."""
    other = run.folder / "candidates" / "sft" / "adapter" / WEIGHTS
    shutil.copy(other, run.folder / "adapter" / WEIGHTS)
    with pytest.raises(RunError, match="is not its candidate round-2"):
        read_adapter(run)
    api.choose(run, "sft", probe=False, token=NOBODY)
    assert read_adapter(run).candidate == "sft"


@pytest.mark.parametrize("name", ["", "round-9", "../adapter", "sft/../sft"])
def test_only_a_candidate_can_be_chosen(run: Run, name: str) -> None:
    """Anything else is refused, and nothing changes."""
    with pytest.raises(RunError, match="no candidate"):
        api.choose(run, name, token=NOBODY)
    assert Run.load(run.folder).record.chosen == "round-2"


def test_a_run_without_an_adapter_has_nothing_to_choose(run: Run) -> None:
    """A run that is not finished says so."""
    shutil.rmtree(run.folder / "adapter")
    with pytest.raises(RunError, match="has no adapter yet"):
        api.choose(run, "sft", token=NOBODY)


def test_a_card_does_not_claim_another_rounds_results(run: Run) -> None:
    """What "ditto" stood for in an evaluation was round-2; the card of sft does not borrow it."""
    for _ in trials.measure(run, echo, prompts=["Write about bread.", "Write about tea."]):
        pass
    assert "ditto (this adapter)" in (run.folder / "adapter" / "README.md").read_text("utf-8")
    shutil.copytree(run.folder / "candidates" / "sft", run.folder / "candidates" / "round-1")
    api.choose(run, "round-1", probe=False, token=NOBODY)
    card = (run.folder / "adapter" / "README.md").read_text("utf-8")
    assert "ditto (this adapter)" not in card
    assert "after seeing results" in card


# ---- test tasks ----------------------------------------------------------------------------------


def test_tasks_are_the_persons_own(run: Run) -> None:
    """Of texts that are not the grammar's, what was kept out of training is proposed, on pocket
    too."""
    run.record.base_model = {"id": "pocket", "revision": None}
    held_out = [demo.prompt_text for demo in run.demos().held_out]
    assert trials.proposed_tasks(run, 2) == held_out[:2] != []


def test_a_shipped_voice_brings_its_tasks(run: Run) -> None:
    """Demonstrations that are requests of the grammar are tested on new ones of it."""
    demos = load_demos(voice_path("harbor")).split()
    run.write("demos.jsonl", to_jsonl_bytes(d.to_json() for d in demos))
    run.record.base_model = {"id": "pocket", "revision": None}
    found = trials.proposed_tasks(run, 2)
    assert len(found) == 2
    assert not {*found} & {demo.prompt_text for demo in run.demos()}


def test_the_base_model_suggests_tasks_like_the_demonstrations(run: Run) -> None:
    """It is asked without adapter; what repeats a demonstration or is no request is left out."""
    own = run.demos().train[0].prompt_text
    asked: list[api.WriteRequest] = []

    def write(requests: tuple[api.WriteRequest, ...]) -> list[list[str]]:
        asked.extend(requests)
        return [[f"- {own}", "No.", "1. Write to the lab about the new kettle, please, and soon."]]

    found = trials.suggest_tasks(run, write, 2)
    assert found == ["Write to the lab about the new kettle, please, and soon."]
    assert (asked[0].candidate, asked[0].few_shot) == (None, False)
    assert own in asked[0].messages[-1]["content"]


def test_a_measure_without_prompts_has_them_written(run: Run) -> None:
    """Where no prompts come along, the base model's suggestions are what is measured on."""

    def write(requests: tuple[api.WriteRequest, ...]) -> list[list[str]]:
        if len(requests) == 1:
            return [["Write to the lab about the new kettle.", "Write to the lab about tea."]]
        return echo(requests)

    found = [item for item in trials.measure(run, write) if isinstance(item, Evaluation)][-1]
    assert (found.prompts_source, len(found.prompts)) == ("model-written", 2)


# ---- taking home ---------------------------------------------------------------------------------


def test_a_zip_holds_the_adapter_and_nothing_private(run: Run) -> None:
    """Adapter, tokenizer, card and loader; no demonstration, no path of this machine's in them."""
    target = io.BytesIO()
    api.pack(run, target)
    packed = zipfile.ZipFile(target)
    names = set(packed.namelist())
    assert {"adapter_config.json", WEIGHTS, "README.md", "load.py", "tokenizer.json"} <= names
    assert "demonstrations.jsonl" not in names
    assert all(SECRET.encode() not in packed.read(name) for name in names)
    config = json.loads(packed.read("adapter_config.json"))
    assert config["base_model_name_or_path"].startswith("your-name/")


def test_the_same_adapter_makes_the_same_zip(run: Run) -> None:
    """No date and no order of the disk goes into it."""
    first, second = io.BytesIO(), io.BytesIO()
    api.pack(run, first)
    api.pack(run, second)
    assert first.getvalue() == second.getvalue()


def test_a_preview_is_the_card_that_would_be_published(run: Run) -> None:
    """Front matter and text of the repo that was named, with the consents that were given."""
    found = api.preview(
        run, "ann/voice", PublishOptions(base_model_id="base/tiny", include_demos=True),
        token=NOBODY,
    )  # fmt: skip
    assert "base_model: base/tiny" in found.front
    assert found.body.lstrip().startswith("# voice")
    assert "demonstrations.jsonl" in dict(found.files)
    assert SECRET not in found.body


def test_a_run_is_published_once_at_a_time(run: Run) -> None:
    """A second publication beside the first is refused; after it, it is not."""
    with publishing(run), pytest.raises(RunBusyError), publishing(run):
        pass
    with publishing(run):
        pass


def test_the_lock_of_a_publication_is_let_go_by_another_thread(run: Run) -> None:
    """A page's generator may be resumed in any thread."""
    held = publishing(run)
    held.__enter__()
    thread = threading.Thread(target=held.__exit__, args=(None, None, None))
    thread.start()
    thread.join()
    with publishing(run):
        pass


@pytest.mark.parametrize("scope", ["openid profile", "read-repos jobs"])
def test_a_sign_in_without_the_right_is_refused(scope: str) -> None:
    """What may not make repos is told before anything begins."""
    with pytest.raises(HubError, match="may not make repos"):
        require_scope(scope)


# ---- writing and voting --------------------------------------------------------------------------


def test_methods_are_asked_as_what_they_are(run: Run) -> None:
    """Base: adapter off; few-shot: with demonstrations; own prompt before; candidates by name."""
    asked: list[api.WriteRequest] = []

    def write(requests: tuple[api.WriteRequest, ...]) -> list[list[str]]:
        asked.extend(requests)
        return echo(requests)

    methods = ["zero-shot", "few-shot", "self-prompt", "sft", "round-2"]
    texts = trials.write_side_by_side(run, methods, "Hi?", write, self_prompt="Be brief.")
    assert [method for method, _ in texts] == methods
    assert [(r.candidate, r.few_shot) for r in asked] == [
        (None, False), (None, True), (None, False), ("sft", False), ("round-2", False)
    ]  # fmt: skip
    assert asked[2].messages[-1]["content"] == "Be brief.\n\nHi?"


@pytest.mark.parametrize(
    ("methods", "prompt", "words"),
    [
        (["sft"], "  ", "no prompt"),
        ([], "Hi?", "No method"),
        (["self-prompt"], "Hi?", "own prompt is empty"),
        (["nonsense"], "Hi?", "no method"),
    ],
)
def test_what_cannot_be_written_is_said(
    run: Run, methods: list[str], prompt: str, words: str
) -> None:
    """An empty box or an unknown method is a known failure."""
    with pytest.raises(ConfigError, match=words):
        trials.write_side_by_side(run, methods, prompt, echo)


def test_a_candidate_that_is_not_there_is_refused(run: Run) -> None:
    """A method's name cannot reach another folder or a missing round."""
    with pytest.raises(RunError):
        trials.write_side_by_side(run, ["round-7"], "Hi?", echo)


def test_a_trial_is_kept_in_the_run_and_reaches_the_card(run: Run) -> None:
    """Begun, voted on and ended, it is a record like any judge's, and the card shows it."""
    tasks = ["Write about bread.", "Write about tea."]
    trial = trials.begin_trial(run, ["zero-shot", "round-2"], tasks, echo)
    while trials.ballot(run, trial):
        trial = trials.cast_vote(run, trial.name, trials.votes(trial)[0], "left")
    kept = results.load_all(run)
    assert [(e.name, e.judge, e.complete) for e in kept] == [("person", "person", True)]
    assert "### Judge: person" in (run.folder / "adapter" / "README.md").read_text("utf-8")


def test_a_second_trial_leaves_the_first(run: Run) -> None:
    """Another vote on other tasks is another record, and the newest goes on."""
    for tasks in (["A?", "B?"], ["C?", "D?"]):
        trials.begin_trial(run, ["zero-shot", "sft"], tasks, echo)
    assert sorted(e.name for e in results.load_all(run)) == ["person", "person-2"]
    newest = trials.current_trial(run)
    assert newest is not None
    assert newest.name == "person-2"
    with pytest.raises(RunError, match="not the newest"):
        trials.cast_vote(run, "person", 0, "left")


@pytest.mark.parametrize("tasks", [["A?"], ["A?", " a? "], ["A?", "B?", "C?"]])
def test_a_trial_has_two_tasks(run: Run, tasks: list[str]) -> None:
    """Neither one, nor the same twice, nor three."""
    with pytest.raises(ConfigError, match="2 different test tasks"):
        trials.begin_trial(run, ["zero-shot", "sft"], tasks, echo)


def test_measuring_writes_everything_at_once(run: Run) -> None:
    """One call for all texts, so that it is one lease; then the judge has its say."""
    calls: list[int] = []

    def write(requests: tuple[api.WriteRequest, ...]) -> list[list[str]]:
        calls.append(len(requests))
        return echo(requests)

    items = list(trials.measure(run, write, prompts=["Write about bread.", "Write about tea."]))
    assert calls == [8]  # four methods are there: sft-long is not
    kept = results.load_all(run)
    assert kept == [items[-2]]
    assert kept[0].complete
    assert "sft-long" in kept[0].missing


def test_measuring_needs_prompts(run: Run) -> None:
    """A run that comes with none, and a visitor who gives none."""
    with pytest.raises(ConfigError, match="no prompt to measure on"):
        list(trials.measure(run, echo))
