"""Methods that answer the same prompts from the same demonstrations, each a function and a row.

A method turns a studio (a model, the demonstrations, the candidates of a run) into a writer. Those
that prompt use the base model with the adapter off; those that train use a candidate's adapter. A
new prompting method is a function; a new trained one (its adapter lying among the candidates under
its name) is a row.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ditto_hub.demos.demonstrations import Demonstration, Message
from ditto_hub.demos.prompting import with_demonstrations
from ditto_hub.errors import ConfigError
from ditto_hub.evaluation.judges import Messages
from ditto_hub.runs.folder import Run

Writer = Callable[[Sequence[Messages], int, int], list[list[str]]]
"""(prompts, samples, seed) -> for each prompt, that many texts."""

GUIDE_REQUEST = (
    "Below are texts by one author. Describe how this author writes, as a short list of rules that"
    " somebody else could follow: greeting, tone, length, layout, punctuation, habits. Describe the"
    " manner only, not what the texts are about."
)


class Studio(Protocol):
    """What methods need: a model that writes with or without an adapter, and the demonstrations.

    Attributes:
        demonstrations: all of the run, in their order.
        self_prompt: instructions that the user wrote for the self-prompt method; may be empty.
        ditto: name of the candidate that stands for DITTO.
    """

    @property
    def demonstrations(self) -> Sequence[Demonstration]: ...

    @property
    def self_prompt(self) -> str: ...

    @property
    def ditto(self) -> str: ...

    def write(
        self, prompts: Sequence[Messages], samples: int, seed: int, candidate: str | None = None
    ) -> list[list[str]]:
        """Sample texts for each prompt from a candidate, or from the base model where it is None.

        Raises:
            RunError: there is no such candidate.
        """

    def require(self, candidate: str) -> None:
        """Raise RunError where there is no such candidate."""

    def fits(self, messages: Messages) -> bool:
        """Tell whether a prompt leaves room for an answer in the model's context."""


@dataclass(frozen=True)
class Method:
    """Hold a row of the registry.

    Args:
        name: as in the table and on the command line.
        make: checks that the studio has what it needs, and returns the writer.
    """

    name: str
    make: Callable[[Studio], Writer]


def zero_shot(studio: Studio) -> Writer:
    """Return a writer that gives the base model the bare prompt."""
    return lambda prompts, samples, seed: studio.write(prompts, samples, seed)


def few_shot(studio: Studio, candidate: str | None = None) -> Writer:
    """Return a writer that puts the demonstrations before the prompt, as earlier turns."""

    def write(prompts: Sequence[Messages], samples: int, seed: int) -> list[list[str]]:
        shown = [with_demonstrations(p, studio.demonstrations, studio.fits) for p in prompts]
        return studio.write(shown, samples, seed, candidate)

    return write


def self_prompt(studio: Studio) -> Writer:
    """Return a writer that puts the user's own instructions before the prompt.

    Raises:
        ConfigError: the user wrote none.
    """
    words = studio.self_prompt.strip()
    if not words:
        raise ConfigError("evaluation.self_prompt_missing")

    def write(prompts: Sequence[Messages], samples: int, seed: int) -> list[list[str]]:
        return studio.write([with_instructions(p, words) for p in prompts], samples, seed)

    return write


def style_guide(studio: Studio) -> Writer:
    """Return a writer that lets the base model describe the demonstrations, and follow that."""

    def write(prompts: Sequence[Messages], samples: int, seed: int) -> list[list[str]]:
        request = guide_request(studio.demonstrations, studio.fits)
        guide = studio.write([request], 1, seed)[0][0].strip()
        words = f"Follow this style guide:\n{guide}"
        return studio.write([with_instructions(p, words) for p in prompts], samples, seed)

    return write


def trained(candidate: str) -> Callable[[Studio], Writer]:
    """Return a method that uses one candidate's adapter; it raises RunError where it is missing."""

    def make(studio: Studio) -> Writer:
        studio.require(candidate)
        return lambda prompts, samples, seed: studio.write(prompts, samples, seed, candidate)

    return make


def ditto(studio: Studio) -> Writer:
    """Return a writer with the run's DITTO candidate.

    Raises:
        RunError: the run has no round yet.
    """
    return trained(studio.ditto)(studio)


def ditto_few_shot(studio: Studio) -> Writer:
    """Return a writer with the run's DITTO candidate and the demonstrations in the prompt.

    Raises:
        RunError: the run has no round yet.
    """
    studio.require(studio.ditto)
    return few_shot(studio, studio.ditto)


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("zero-shot", zero_shot),
        Method("few-shot", few_shot),
        Method("self-prompt", self_prompt),
        Method("style-guide", style_guide),
        Method("sft", trained("sft")),
        Method("sft-long", trained("sft-long")),
        Method("spin", trained("spin")),
        Method("dpo-base", trained("dpo-base")),
        Method("dpo-sft", trained("dpo-sft")),
        Method("ditto", ditto),
        Method("ditto-few-shot", ditto_few_shot),
    )
}
RIVALS = ("spin", "dpo-base", "dpo-sft")  # trained only where asked for
TRAINED = ("sft", "sft-long", *RIVALS)  # each has its adapter's name
DEFAULT_METHODS = ("zero-shot", "few-shot", "sft", "sft-long", "ditto")


def find_method(name: str) -> Method:
    """Return a method by name; `round-N` is DITTO after that round.

    Raises:
        ConfigError: there is none of that name.
    """
    if re.fullmatch(r"round-[1-9]\d*", name):
        return Method(name, trained(name))
    if name not in METHODS:
        raise ConfigError("evaluation.no_method", name=name, methods=", ".join(METHODS))
    return METHODS[name]


def candidate_of(name: str, studio: Studio) -> str | None:
    """Name the adapter that a method writes with on the bare prompt; None for prompting methods."""
    if name == "ditto":
        return studio.ditto
    return name if name in TRAINED or name.startswith("round-") else None


def with_instructions(prompt: Messages, words: str) -> list[Message]:
    """Put instructions before the last user turn, in the turn itself: every template takes that."""
    last = {**prompt[-1], "content": f"{words}\n\n{prompt[-1]['content']}"}
    return [*(dict(turn) for turn in prompt[:-1]), last]


def guide_request(
    demonstrations: Sequence[Demonstration], fits: Callable[[Messages], bool]
) -> list[Message]:
    """Ask for a style guide, showing as many demonstrations as fit."""
    for count in range(len(demonstrations), 0, -1):
        texts = "\n\n---\n\n".join(demo.completion for demo in demonstrations[:count])
        request = [{"role": "user", "content": f"{GUIDE_REQUEST}\n\n{texts}"}]
        if fits(request):
            return request
    return [{"role": "user", "content": GUIDE_REQUEST}]


def ditto_candidate(run: Run) -> str:
    """Name the candidate that stands for DITTO: the chosen one if that is a round, else the last.

    Args:
        run: one without a round gets round-1, which `Studio.require` then misses.
    """
    rounds = [name for name in run.candidates() if name.startswith("round-")]
    rounds.sort(key=lambda name: int(name.removeprefix("round-")))
    if run.record.chosen in rounds:
        return str(run.record.chosen)
    return rounds[-1] if rounds else "round-1"
