"""Methods, on a studio without a model: what each asks for, and from whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from ditto_hub.demos.demonstrations import Demonstration, DemoSet
from ditto_hub.demos.prompting import with_demonstrations
from ditto_hub.errors import ConfigError, RunError
from ditto_hub.evaluation.judges import Messages
from ditto_hub.evaluation.methods import (
    DEFAULT_METHODS,
    METHODS,
    find_method,
    with_instructions,
)

DEMOS = DemoSet.from_pairs([("Write one.", "one!"), ("Write two.", "two!")]).demos
PROMPT = ({"role": "user", "content": "Write three."},)
ASKED = {"role": "user", "content": "Write three."}


@dataclass
class Echo:
    """Answers with the candidate's name and the sample's number; writes down what was asked."""

    demonstrations: Sequence[Demonstration] = DEMOS
    self_prompt: str = ""
    ditto: str = "round-2"
    candidates: tuple[str, ...] = ("sft", "sft-long", "round-1", "round-2")
    room: int = 10_000
    asked: list[tuple[Any, int, int, str | None]] = field(default_factory=list)

    def write(
        self, prompts: Sequence[Messages], samples: int, seed: int, candidate: str | None = None
    ) -> list[list[str]]:
        self.asked.append(([list(p) for p in prompts], samples, seed, candidate))
        return [[f"{candidate} {k}" for k in range(samples)] for _ in prompts]

    def require(self, candidate: str) -> None:
        if candidate not in self.candidates:
            raise RunError(f"There is no candidate {candidate!r}.")

    def fits(self, messages: Messages) -> bool:
        return sum(len(turn["content"]) for turn in messages) <= self.room


def run(name: str, studio: Echo | None = None) -> tuple[list[list[str]], Echo]:
    studio = studio or Echo()
    return find_method(name).make(studio)([PROMPT], 2, 7), studio


@pytest.mark.parametrize(
    ("name", "candidate"),
    [
        ("zero-shot", None),
        ("few-shot", None),
        ("sft", "sft"),
        ("sft-long", "sft-long"),
        ("ditto", "round-2"),
        ("ditto-few-shot", "round-2"),
        ("round-1", "round-1"),
    ],
)
def test_a_method_writes_with_its_adapter(name: str, candidate: str | None) -> None:
    """Prompting methods use the base model, trained ones their candidate; samples and seed pass."""
    texts, studio = run(name)
    assert texts == [[f"{candidate} 0", f"{candidate} 1"]]
    assert [asked[1:] for asked in studio.asked] == [(2, 7, candidate)]


@pytest.mark.parametrize("name", ["zero-shot", "sft", "sft-long", "ditto", "round-1"])
def test_these_see_the_bare_prompt(name: str) -> None:
    """Neither zero-shot nor a trained method is shown a demonstration."""
    assert run(name)[1].asked[0][0] == [[ASKED]]


@pytest.mark.parametrize("name", ["few-shot", "ditto-few-shot"])
def test_few_shot_shows_the_demonstrations_as_turns(name: str) -> None:
    """All demonstrations stand before the prompt as turns of user and assistant, in order."""
    assert run(name)[1].asked[0][0] == [
        [
            {"role": "user", "content": "Write one."},
            {"role": "assistant", "content": "one!"},
            {"role": "user", "content": "Write two."},
            {"role": "assistant", "content": "two!"},
            ASKED,
        ]
    ]


@pytest.mark.parametrize(("room", "shown"), [(10_000, 2), (26, 1), (12, 0), (0, 0)])
def test_few_shot_leaves_out_what_does_not_fit(room: int, shown: int) -> None:
    """The last demonstrations go first; the prompt itself always stays."""
    studio = run("few-shot", Echo(room=room))[1]
    (prompt,) = studio.asked[0][0]
    assert len(prompt) == 2 * shown + 1
    assert prompt[-1] == ASKED


def test_a_system_turn_stays_in_front() -> None:
    """The prompt's system turn comes before the demonstrations, and theirs are left out."""
    system = {"role": "system", "content": "Be brief."}
    demo = Demonstration("d", ({"role": "system", "content": "Old."}, *PROMPT), "three!")
    asked = {"role": "user", "content": "Write four."}
    shown = with_demonstrations([system, asked], [demo], lambda _: True)
    assert [turn["role"] for turn in shown] == ["system", "user", "assistant", "user"]
    assert shown[0] == system


def test_few_shot_is_not_shown_the_answer() -> None:
    """A demonstration of the very prompt that is asked is left out."""
    demos = [Demonstration("d", PROMPT, "three!"), Demonstration("e", "Write two.", "two!")]
    shown = with_demonstrations([ASKED], demos, lambda _: True)
    assert [turn["content"] for turn in shown] == ["Write two.", "two!", ASKED["content"]]


def test_self_prompt_puts_the_users_words_first() -> None:
    """The user's instructions stand in the user's turn, before the prompt."""
    studio = run("self-prompt", Echo(self_prompt=" Be loud. "))[1]
    assert studio.asked[0][0] == [[{"role": "user", "content": "Be loud.\n\nWrite three."}]]


def test_self_prompt_without_a_prompt_is_refused() -> None:
    """Nothing is made up in the user's name."""
    with pytest.raises(ConfigError, match="self-prompt"):
        run("self-prompt")


def test_a_style_guide_is_written_and_followed() -> None:
    """The base model first sees the texts, then its own guide before the prompt."""
    studio = run("style-guide")[1]
    request, use = studio.asked
    assert "one!" in request[0][0][0]["content"]
    assert request[1] == 1
    assert use[0][0][0]["content"] == "Follow this style guide:\nNone 0\n\nWrite three."


def test_a_style_guide_sees_what_fits() -> None:
    """The request for a guide leaves out demonstrations that do not fit."""
    studio = run("style-guide", Echo(room=0))[1]
    assert "one!" not in studio.asked[0][0][0][0]["content"]


def test_instructions_keep_earlier_turns() -> None:
    """Only the last turn is changed, and the given prompt is left as it was."""
    prompt = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, ASKED]
    assert with_instructions(prompt, "Be loud.")[:2] == prompt[:2]
    assert prompt[2] == {"role": "user", "content": "Write three."}


@pytest.mark.parametrize("name", ["spin", "dpo-base", "dpo-sft", "round-9"])
def test_a_missing_adapter_is_told_before_writing(name: str) -> None:
    """A trained method whose adapter is missing fails when it is made."""
    studio = Echo()
    with pytest.raises(RunError, match=name):
        find_method(name).make(studio)
    assert studio.asked == []


@pytest.mark.parametrize("name", ["magic", "round-0", "round-", "round-x", ""])
def test_an_unknown_method_is_refused(name: str) -> None:
    """The message lists the methods there are."""
    with pytest.raises(ConfigError, match="zero-shot"):
        find_method(name)


def test_default_methods_are_in_the_registry() -> None:
    """The cheap part of a run's end names methods that exist."""
    assert set(DEFAULT_METHODS) <= set(METHODS)


def test_rows_are_found_by_their_own_name() -> None:
    """Each row of the registry stands under its name."""
    assert all(METHODS[name].name == name for name in METHODS)
