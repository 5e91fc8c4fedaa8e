"""What an evaluation found, as frozen records that evaluation/ writes and the card reads.

One file a judge, `RUN/evaluation/NAME.json`, with every answer, every rating and every judged pair
in it, so that any number in a table can be counted again by hand.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ditto_hub.errors import RunError
from ditto_hub.runs.folder import Run
from ditto_hub.runs.storage import to_json_bytes
from ditto_hub.validation import Told, validated
from ditto_hub.words import Message, Text, chained

SCHEMA_VERSION = 1
VERDICTS = ("a", "b", "tie", "refused", "unparsable")
PARTIAL = ".partial"  # ends the name of an evaluation under way beside a whole one
SOURCES = ("user", "model-written", "shipped")
OTHERS = "all others"


@dataclass(frozen=True)
class EvaluationPrompt:
    """Hold a prompt that the methods answered.

    Args:
        id: unique within the evaluation.
        messages: the conversation, as {role, content}, user turn last.
        seen: it stood among the demonstrations, so it is counted apart.
    """

    id: str
    messages: tuple[Mapping[str, str], ...]
    seen: bool = False


@dataclass(frozen=True)
class Answer:
    """Hold one text that a method wrote; `sample` counts from 0 within its prompt."""

    method: str
    prompt_id: str
    sample: int
    text: str


@dataclass(frozen=True)
class Rating:
    """Hold a scoring judge's marks for one answer; `marks["total"]` is what ranks."""

    method: str
    prompt_id: str
    sample: int
    marks: Mapping[str, float]


@dataclass(frozen=True)
class JudgedPair:
    """Hold what a judge said of two answers to one prompt.

    Args:
        prompt_id: of the prompt.
        a: name of a method.
        b: name of the other.
        sample_a: which of a's answers.
        sample_b: which of b's answers.
        forward: verdict with a shown first, one of `VERDICTS`.
        backward: verdict with b shown first, in the same letters; None where asked only once.
    """

    prompt_id: str
    a: str
    b: str
    sample_a: int
    sample_b: int
    forward: str
    backward: str | None = None

    @property
    def usable(self) -> bool:
        """Tell whether every order asked got a verdict."""
        return {self.forward, self.backward} <= {"a", "b", "tie", None}

    @property
    def verdict(self) -> str | None:
        """Return a, b or tie (also where the two orders disagree); None where not usable."""
        if not self.usable:
            return None
        return self.forward if self.backward in (None, self.forward) else "tie"

    @property
    def favoured_place(self) -> str:
        """Return first or second where the choice went with the place and not the text, else ""."""
        return {("a", "b"): "first", ("b", "a"): "second"}.get(
            (self.forward, self.backward or ""), ""
        )


@dataclass(frozen=True)
class Score:
    """Hold a method's mean mark with its 95 % interval, clustered by prompt.

    Args:
        method: name of the method.
        mark: which of a rating's marks.
        low: of the interval; None where one prompt gives none.
        high: likewise.
        n: answers behind the mean.
        prompts: different prompts behind it.
    """

    method: str
    mark: str
    mean: float
    low: float | None
    high: float | None
    n: int
    prompts: int


def count_prompts(n: int) -> Message:
    """Return a number of prompts in words."""
    return Message("evaluation.one_prompt" if n == 1 else "evaluation.many_prompts", n=n)


@dataclass(frozen=True)
class WinRate:
    """Hold how often a method was preferred, ties counted as half, with its 95 % interval.

    Args:
        method: name of the method.
        against: name of the other, or `OTHERS`.
        n: usable pairs, so wins + ties + losses.
        void: pairs without a usable verdict, left out of the rate.
        prompts: different prompts behind it.
        interval: how low and high were found: wilson or bootstrap.
        small: too few prompts to lean on.
    """

    method: str
    against: str
    wins: int
    ties: int
    losses: int
    n: int
    void: int
    rate: float
    low: float
    high: float
    prompts: int
    interval: str
    small: bool

    @property
    def unresolved(self) -> bool:
        """Whether the interval leaves open which of the two is better."""
        return self.low <= 0.5 <= self.high

    def sentence(self, names: Mapping[str, str] = MappingProxyType({})) -> Text:
        """Return the same in words for somebody who has never seen an interval.

        Args:
            names: method -> its name in words; its own where there is none.
        """
        method, other = (names.get(name, name) for name in (self.method, self.against))
        beside: Text = Message("evaluation.other_methods") if self.against == OTHERS else other
        if not self.n:
            return Message("evaluation.win_rate_none", method=method, other=beside)
        said = [
            Message(
                "evaluation.win_rate",
                method=method,
                other=beside,
                rate=self.rate,
                comparisons=Message(
                    "evaluation.one_comparison" if self.n == 1 else "evaluation.many_comparisons",
                    n=self.n,
                ),
                prompts=count_prompts(self.prompts),
                low=self.low,
                high=self.high,
            ),
            Message("evaluation.win_rate_open")
            if self.unresolved
            else Message("evaluation.win_rate_better", better=method if self.low > 0.5 else beside),
        ]
        if self.small:
            said.append(Message("evaluation.win_rate_small"))
        if self.void:
            said.append(Message("evaluation.win_rate_void", void=self.void))
        return chained("words.then", said)


@dataclass(frozen=True)
class JudgeTally:
    """Count how a judge behaved over all pairs.

    Args:
        pairs: judged.
        ties: said to be equal in every order asked.
        disagreements: the two orders gave different verdicts; counted as ties.
        first: of those, how often the text shown first was preferred both times.
        second: likewise the text shown second.
        refused: pairs in which it declined at least once.
        unparsable: pairs in which an answer made no sense at least once.
    """

    pairs: int = 0
    ties: int = 0
    disagreements: int = 0
    first: int = 0
    second: int = 0
    refused: int = 0
    unparsable: int = 0


def tally(pairs: tuple[JudgedPair, ...] | list[JudgedPair]) -> JudgeTally:
    """Count ties, order bias, refusals and unparsable answers."""
    usable = [p for p in pairs if p.usable]
    return JudgeTally(
        pairs=len(pairs),
        ties=sum(p.forward == "tie" and p.backward in (None, "tie") for p in usable),
        disagreements=sum(p.backward not in (None, p.forward) for p in usable),
        first=sum(p.favoured_place == "first" for p in usable),
        second=sum(p.favoured_place == "second" for p in usable),
        refused=sum("refused" in (p.forward, p.backward) for p in pairs),
        unparsable=sum("unparsable" in (p.forward, p.backward) for p in pairs),
    )


@dataclass(frozen=True)
class Evaluation:
    """Hold all that one judge found out about one run.

    Args:
        name: of its file, without the ending.
        judge: name of the judge: grammar, stylometric, llm:MODEL or person.
        date: day it was finished, ISO 8601.
        prompts_source: one of `SOURCES`.
        prompts_independent: the prompts had no part in training, stopping or selection; where this
            is false no number of it may be reported as a result.
        methods: names in the order of the table.
        samples: answers a method gave to each prompt.
        seed: of the sampling.
        settings: the one sampling setting for all methods, as plain JSON.
        degeneration: method -> name of the measure -> value (evaluation/degeneration.py).
        forgetting: trained method -> name of the measure -> value (evaluation/forgetting.py).
        win_rates: on prompts not seen in training; `seen_win_rates` on the others.
        missing: method -> why it could not be evaluated.
        notes: what a reader must know.
        complete: false while an evaluation is under way or after it was interrupted.
        grammar_hash: of the grammar, where it judged.
    """

    name: str
    judge: str
    date: str
    prompts_source: str
    prompts_independent: bool
    methods: tuple[str, ...]
    prompts: tuple[EvaluationPrompt, ...] = ()
    samples: int = 1
    seed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    answers: tuple[Answer, ...] = ()
    ratings: tuple[Rating, ...] = ()
    pairs: tuple[JudgedPair, ...] = ()
    scores: tuple[Score, ...] = ()
    win_rates: tuple[WinRate, ...] = ()
    seen_win_rates: tuple[WinRate, ...] = ()
    tally: JudgeTally = JudgeTally()
    degeneration: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    forgetting: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    missing: Mapping[str, Told] = field(default_factory=dict)
    notes: tuple[Told, ...] = ()
    complete: bool = False
    grammar_hash: str = ""
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        if self.prompts_source not in SOURCES:
            raise ValueError(f"prompts_source is {self.prompts_source!r}, not one of {SOURCES}")

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any], where: str = "evaluation") -> Evaluation:
        """Build from `to_json`'s form; fields of a newer version are left out.

        Raises:
            RunError: written by a newer version of the schema, or damaged.
        """
        version = data.get("schema_version")
        if type(version) is not int or version > SCHEMA_VERSION:
            raise RunError(
                "runs.schema_too_new",
                where=where,
                version=version,
                schema_version=SCHEMA_VERSION,
            )
        try:
            return validated(cls, data)
        except ValueError as error:
            raise RunError("runs.evaluation_not_valid", where=where, error=error) from error

    @property
    def reportable(self) -> bool:
        """Whether its numbers are results: whole, and on independent prompts."""
        return self.complete and self.prompts_independent and bool(self.scores or self.win_rates)

    def method_of(self, candidate: str) -> str:
        """Return its name for a candidate: "ditto" is the round that it stood for then."""
        if candidate in ("sft", "sft-long", *self.methods):
            return candidate
        return "ditto" if self.settings.get("ditto", candidate) == candidate else candidate

    def answered(self, method: str) -> list[Answer]:
        """Return a method's answers in the order they were written."""
        return [a for a in self.answers if a.method == method]


def file_name(judge: str) -> str:
    """Return the name of a judge's file: its letters and digits, the rest as hyphens.

    >>> file_name("llm:Qwen/Qwen3-8B")
    'llm-Qwen-Qwen3-8B'
    """
    return re.sub(r"[^A-Za-z0-9._]+", "-", judge).strip("-.") or "evaluation"


def save(run: Run, evaluation: Evaluation) -> None:
    """Write `evaluation/NAME.json` of a run atomically.

    Raises:
        StorageError: the disk refused.
    """
    run.write(f"evaluation/{evaluation.name}.json", to_json_bytes(evaluation.to_json()))


def save_progress(run: Run, evaluation: Evaluation, earlier: Iterable[Evaluation]) -> None:
    """Write an evaluation under way so that no whole one is lost for it.

    Where the run has a whole one under the same name, this one is kept beside it, as
    `NAME.partial.json`, until it is whole itself.

    Args:
        earlier: the run's evaluations before this one began.

    Raises:
        StorageError: the disk refused.
    """
    beside = replace(evaluation, name=f"{evaluation.name}{PARTIAL}")
    if evaluation.complete:
        save(run, evaluation)
        (run.folder / "evaluation" / f"{beside.name}.json").unlink(missing_ok=True)
        return
    stands = any(e.complete and e.name == evaluation.name for e in earlier)
    save(run, beside if stands else evaluation)


def pictures(run: Run, evaluation: Evaluation) -> list[Path]:
    """Return the PNG files of an evaluation that a run has: win rates, and measures by round."""
    folder = run.folder / "evaluation"
    found = [folder / f"{evaluation.name}{end}.png" for end in ("", "-rounds")]
    return [path for path in found if path.is_file()]


def load(path: Path) -> Evaluation:
    """Read an evaluation.

    Raises:
        RunError: there is none, or it is damaged or newer than this program.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError("runs.no_evaluation", path=path) from None
    except OSError as error:
        raise RunError("runs.could_not_read", path=path, strerror=error.strerror) from error
    except ValueError as error:
        raise RunError("runs.evaluation_damaged", path=path, error=error) from error
    if not isinstance(data, dict):
        raise RunError("runs.holds_no_evaluation", path=path)
    return Evaluation.from_json(data, str(path))


def load_all(run: Run) -> list[Evaluation]:
    """Return a run's evaluations by name.

    Raises:
        RunError: one of them is damaged or newer than this program.
    """
    return [load(path) for path in sorted((run.folder / "evaluation").glob("*.json"))]
