"""The use cases in Python."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import tiny_config, tiny_demos

import ditto_hub
from ditto_hub import api
from ditto_hub.errors import BaseModelError, DemoError, JudgeError, RunOwnerError
from ditto_hub.events import RunFinished
from ditto_hub.pocket import voice_path
from ditto_hub.runs.folder import Run
from ditto_hub.runs.results import Evaluation, load_all
from ditto_hub.tokens import NOBODY

Tiny = Callable[[str], Path]


@pytest.fixture
def run(tiny: Tiny, tmp_path: Path) -> Run:
    """Train a tiny run."""
    return ditto_hub.train(
        tiny_demos(3), str(tiny("llama3")), tiny_config(), output=tmp_path / "run"
    )


def test_train_returns_a_finished_run(run: Run) -> None:
    """`train` blocks until the run is finished and its adapter is there with a card."""
    assert run.record.status == "finished"
    assert (run.folder / "adapter" / "README.md").read_text("utf-8").startswith("---")


def test_stream_ends_with_run_finished(tiny: Tiny, tmp_path: Path) -> None:
    """`stream` yields the run's events, the last one of them RunFinished."""
    events = list(
        ditto_hub.stream(tiny_demos(), str(tiny("llama3")), tiny_config(), output=tmp_path / "run")
    )
    assert isinstance(events[-1], RunFinished)


def test_a_run_belongs_to_its_owner(tiny: Tiny, tmp_path: Path) -> None:
    """Another owner cannot open a run, and the owner's name is not written down."""
    made = api.create_run(
        tiny_demos(),
        str(tiny("llama3")),
        tiny_config(),
        output=tmp_path / "r",
        owner="alice",
        token=NOBODY,
    )
    with pytest.raises(RunOwnerError):
        Run.load(made.folder, owner="mallory")
    assert Run.load(made.folder, owner="alice").record.id == made.record.id
    assert "alice" not in (made.folder / "run.json").read_text("utf-8")


def test_adapter_off_is_the_base_logit_for_logit(run: Run, tiny: Tiny) -> None:
    """A loaded voice with its adapter off has exactly the base model's logits."""
    import torch
    from transformers import AutoModelForCausalLM

    voice = ditto_hub.load(run)
    ids = torch.tensor([voice.policy.format.prompt_ids([{"role": "user", "content": "Hi"}])])
    base = AutoModelForCausalLM.from_pretrained(tiny("llama3"))
    with torch.no_grad(), voice.policy.adapter_off():
        off = voice.policy.model(input_ids=ids).logits
        assert torch.equal(off, base(input_ids=ids).logits)
    with torch.no_grad():
        assert not torch.equal(voice.policy.model(input_ids=ids).logits, off)


def test_evaluate_saves_and_the_card_shows_it(run: Run) -> None:
    """An evaluation on one's own prompts is saved in the run and stands in the card."""
    items = list(
        ditto_hub.evaluate(
            run,
            methods=("zero-shot", "sft", "ditto"),
            prompts=["Write to the crew.", "Write to the class."],
            judges=("stylometric",),
            samples=1,
        )
    )
    assert any(isinstance(item, Evaluation) for item in items)
    assert load_all(run)[0].complete
    assert "stylometric" in (run.folder / "adapter" / "README.md").read_text("utf-8")


def compare(run: Run, **options: Any) -> list[Evaluation]:
    """Evaluate on a prompt of one's own with one sample, and return what was saved by its end."""
    given = {"methods": ("zero-shot", "sft"), "prompts": ["Write to the crew."], "samples": 1}
    list(ditto_hub.evaluate(run, **{**given, "judges": ("stylometric",), **options}))
    return load_all(run)


def test_pictures_are_kept_and_go_into_the_card(run: Run) -> None:
    """Win rates are drawn, rounds only where they were compared, and no old picture stays."""
    folder = run.folder / "evaluation"
    compare(run, methods=("sft", "rounds"))
    assert sorted(p.name for p in folder.glob("*.png")) == [
        "stylometric-rounds.png", "stylometric.png",
    ]  # fmt: skip
    card = (run.folder / "adapter" / "README.md").read_text("utf-8")
    assert "(evaluation-stylometric-rounds.png)" in card
    compare(run)
    assert [p.name for p in folder.glob("*.png")] == ["stylometric.png"]
    card = (run.folder / "adapter" / "README.md").read_text("utf-8")
    linked = set(re.findall(r"\(([\w-]+\.png)\)", card))
    assert linked == {p.name for p in (run.folder / "adapter").glob("*.png")}
    assert "evaluation-stylometric.png" in linked


def test_another_prompt_of_ones_own_is_another_question(run: Run) -> None:
    """What was written to one self-prompt is not shown as the answer to another."""
    asked = {"methods": ("self-prompt", "sft")}
    first = compare(run, self_prompt="Be brief.", **asked)[0]
    second = compare(run, self_prompt="Write at length, and shout.", **asked)[0]
    assert first.settings["self_prompt"] != second.settings["self_prompt"]
    assert first.answered("sft") == second.answered("sft")
    assert first.answered("self-prompt") != second.answered("self-prompt")


def test_a_judge_that_fails_takes_nothing_from_the_others(run: Run) -> None:
    """The grammar cannot judge such a prompt: what style says is saved, and stands in the card."""
    run.write("traits.json", voice_path("harbor").with_suffix(".traits.json").read_bytes())
    with pytest.raises(JudgeError, match="grammar"):
        compare(run, judges=("grammar", "stylometric"), prompts=["Write an ode."])
    assert [(e.judge, e.complete) for e in load_all(run)] == [
        ("grammar", False), ("stylometric", True),
    ]  # fmt: skip
    assert "Judge: stylometric" in (run.folder / "adapter" / "README.md").read_text("utf-8")


def test_the_grammar_judges_unasked_only_what_it_can(run: Run) -> None:
    """Prompts of one's own that are not of the grammar are judged by style."""
    from ditto_hub.api.comparing import default_judge
    from ditto_hub.pocket.grammar import requests

    assert default_judge(run) == "stylometric"
    run.write("traits.json", voice_path("harbor").with_suffix(".traits.json").read_bytes())
    assert default_judge(run) == "grammar"
    own = [r.prompt for r in requests("test", 2, held_out=True)]
    assert default_judge(run, own) == "grammar"
    assert default_judge(run, [*own, "Write an ode to rain."]) == "stylometric"


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_demonstrations_make_no_run(count: int, tiny: Tiny, tmp_path: Path) -> None:
    """Fewer than two demonstrations are refused before a folder is made."""
    with pytest.raises(DemoError):
        api.create_run(
            tiny_demos(count), str(tiny("llama3")), output=tmp_path / "run", token=NOBODY
        )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("what", ["adapter", "encoder", "no-template"])
def test_unfit_base_models_are_refused_before_they_are_loaded(
    what: str, tiny: Tiny, tmp_path: Path
) -> None:
    """An adapter, an encoder, or a base without chat template is refused, and no run is made."""
    import json
    import shutil

    base = tmp_path / "base"
    shutil.copytree(tiny("llama3"), base)
    if what == "adapter":
        (base / "config.json").rename(base / "adapter_config.json")
    if what == "encoder":
        config = json.loads((base / "config.json").read_text())
        config |= {"architectures": ["BertModel"], "model_type": "bert"}
        (base / "config.json").write_text(json.dumps(config))
    if what == "no-template":
        (base / "chat_template.jinja").unlink(missing_ok=True)
        path = base / "tokenizer_config.json"
        settings = json.loads(path.read_text())
        settings.pop("chat_template", None)
        path.write_text(json.dumps(settings))
    with pytest.raises(BaseModelError):
        api.create_run(tiny_demos(), str(base), output=tmp_path / "run", token=NOBODY)
    assert not (tmp_path / "run").exists()


def test_a_parents_demonstrations_come_first_and_none_twice() -> None:
    """Joined demonstrations keep the parent's, drop repeats, and have ids of their own."""
    from ditto_hub.api.creation import join_demos

    joined = join_demos(tiny_demos(2), tiny_demos(3))
    assert [d.completion for d in joined] == [d.completion for d in tiny_demos(3)]
    assert len({d.id for d in joined}) == 3


def test_a_start_that_adds_nothing_is_refused(run: Run, tmp_path: Path) -> None:
    """A run goes on from another with at least one new demonstration."""
    with pytest.raises(DemoError, match="Nothing new would be trained"):
        api.create_run(run.demos(), parent=run, output=tmp_path / "child", token=NOBODY)
    assert not (tmp_path / "child").exists()


def test_pocket_is_compared_on_prompts_of_its_grammar(run: Run) -> None:
    """The embedded base model gets new prompts from its grammar, for it cannot think of any."""
    from ditto_hub.api.comparing import own_prompts
    from ditto_hub.pocket.grammar import parse_prompt

    run.record.base_model = {"id": "pocket", "revision": None}
    source, prompts = own_prompts(run, studio=None, seed=0)
    assert source == "shipped"
    assert len(prompts) == 10
    assert all(parse_prompt(prompt).held_out for prompt in prompts)
