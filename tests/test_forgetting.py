"""The forgetting probe: what is asked, with which adapter, and what is said of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from test_comparison import PROMPTS, Ranker, brief, final, saved
from test_methods import Echo

from ditto_hub.evaluation.forgetting import GENERAL_PROMPTS, SAMPLES, probe, say
from ditto_hub.evaluation.methods import METHODS, candidate_of
from ditto_hub.evaluation.report import remarks

Prompt = Sequence[Mapping[str, str]]
ASKED = [({"role": "user", "content": "Two and two?"},), ({"role": "user", "content": "Why?"},)]
LOSSES = {None: 0.5, "round-2": 0.75, "sft": 2.0}  # nats a token


class Scored(Echo):
    """Scores every text by the candidate alone: four tokens a text."""

    def log_probs(
        self, prompts: Sequence[Prompt], texts: Sequence[str], candidate: str | None = None
    ) -> list[tuple[float, int]]:
        assert all(text.startswith("None") for text in texts), "the base model's own answers"
        return [(-4 * LOSSES[candidate], 4) for _ in texts]


def test_the_divergence_is_the_loss_the_adapter_adds() -> None:
    """Nats a token: .75 with it on less .5 with it off."""
    found = probe(Scored(), {"ditto": "round-2", "sft": "sft"}, ASKED)
    assert found["ditto"] == {"loss_off": 0.5, "loss_on": 0.75, "divergence": 0.25}
    assert found["sft"]["divergence"] == 1.5


def test_content_is_marked_with_the_adapter_on_and_off() -> None:
    """Half of the base's answers are right here, all of the candidate's."""

    def right(prompt: Prompt, text: str) -> float:
        return 1.0 if text.startswith("round") else float(text.endswith("0"))

    marks = probe(Scored(), {"ditto": "round-2"}, ASKED, right=right)["ditto"]
    assert (marks["right_off"], marks["right_on"]) == (0.5, 1.0)


def test_the_base_model_answers_once_for_all_methods() -> None:
    """One writing with the adapter off, whatever the number of methods."""
    studio = Scored()
    probe(studio, {"ditto": "round-2", "sft": "sft"}, ASKED)
    assert [(samples, candidate) for _, samples, _, candidate in studio.asked] == [(SAMPLES, None)]


@pytest.mark.parametrize(
    ("method", "candidate"),
    [("ditto", "round-2"), ("round-1", "round-1"), ("spin", "spin"), ("few-shot", None),
     ("zero-shot", None), ("ditto-few-shot", None)],
)  # fmt: skip
def test_only_trained_methods_are_probed(method: str, candidate: str | None) -> None:
    """A prompting method leaves the base model as it is."""
    assert candidate_of(method, Echo()) == candidate


def test_every_method_has_a_row_or_an_adapter() -> None:
    """The trained ones are told by `candidate_of`, all others prompt."""
    trained = {name for name in METHODS if candidate_of(name, Echo())}
    assert trained == {"sft", "sft-long", "spin", "dpo-base", "dpo-sft", "ditto"}


def test_an_evaluation_holds_the_probe_and_its_report_says_it() -> None:
    """In the JSON, under each trained method, and in a sentence."""
    made = brief(probes=tuple(ASKED))
    found = saved(final(made, Scored(), [Ranker()])["ranker"])
    assert set(found.forgetting) == {"sft", "ditto"}
    assert any("nats a token): sft 1.50, ditto 0.25" in str(line) for line in remarks(found))


def test_a_probe_is_not_made_twice() -> None:
    """An evaluation that goes on takes over what was found."""
    made, studio = brief(probes=tuple(ASKED)), Scored()
    first = final(made, studio, [Ranker()])["ranker"]
    again = Scored()
    second = final(made, again, [Ranker()], [first])["ranker"]
    assert (second.forgetting, again.asked) == (first.forgetting, [])


@pytest.mark.parametrize("studio", [Echo(), Scored()])
def test_without_probes_or_scores_nothing_is_said(studio: Echo) -> None:
    """A studio that cannot score, or a brief without probes, leaves it out."""
    probes: Any = () if isinstance(studio, Scored) else tuple(ASKED)
    assert final(brief(probes=probes), studio, [Ranker()])["ranker"].forgetting == {}
    assert say({}) == []


def test_the_general_prompts_are_different_questions() -> None:
    """None twice, and none of those that a test evaluates on."""
    assert len(set(GENERAL_PROMPTS)) == len(GENERAL_PROMPTS) >= 8
    assert not {p.messages[-1]["content"] for p in PROMPTS} & set(GENERAL_PROMPTS)
