"""Texts side by side, and blind votes on them: what a person sees of a comparison.

Whatever writes is handed in, so that all texts of a question are written at once: here, or in one
lease of a GPU.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from ditto_hub.api.comparing import (
    answer_settings,
    keep,
    make_judge,
    of_the_grammar,
    shipped_prompts,
    traits_of,
)
from ditto_hub.api.notices import refresh_card
from ditto_hub.backends.generation import WriteRequest
from ditto_hub.errors import ConfigError, RunError
from ditto_hub.runs.folder import Run
from ditto_hub.tokens import NOBODY

if TYPE_CHECKING:
    from ditto_hub.evaluation.comparison import Progress
    from ditto_hub.evaluation.judges import Question
    from ditto_hub.runs.results import Answer, Evaluation, EvaluationPrompt

Write = Callable[[tuple[WriteRequest, ...]], list[list[str]]]
VOTES_LOCK = ".votes.lock"
MEASURED_SAMPLES, MEASURED_PROMPTS = 2, 10


def comparable_methods(run: Run) -> list[str]:
    """Return the methods a run's texts can be written with, best known first, then every round."""
    have = run.candidates()
    rounds = sorted((n for n in have if n.startswith("round-")), key=lambda n: int(n[6:]))
    trained = [name for name in ("sft", "sft-long") if name in have]
    return ["zero-shot", "few-shot", "self-prompt", *trained, *rounds]


def write_side_by_side(
    run: Run,
    methods: Sequence[str],
    prompt: str,
    write: Write,
    *,
    seed: int = 0,
    self_prompt: str = "",
) -> list[tuple[str, str]]:
    """Return (method, text) of each method for one prompt.

    Raises:
        ConfigError: there is no prompt or no method, or self-prompt has no words.
        RunError: the run has no such candidate.
    """
    asked = _prompts(run, [prompt])
    answers = _answers(run, methods, asked, write, 1, seed, self_prompt)
    return [(answer.method, answer.text) for answer in answers]


def proposed_tasks(run: Run, count: int) -> list[str]:
    """Return requests to test a run with, without writing any.

    They are those that come with it, where its demonstrations are of their kind, else the prompts
    of the demonstrations that were kept out of training.
    """
    if found := _own_kind(run, 0, count):
        return found
    return [demo.prompt_text for demo in run.demos().held_out][:count]


def suggest_tasks(run: Run, write: Write, count: int, seed: int = 0) -> list[str]:
    """Let the base model write requests in the manner of the demonstrations'.

    Returns:
        At most `count`, none of them a demonstration's; fewer, or none, where it cannot.
    """
    from ditto_hub.demos.prompting import TRIES_A_PROMPT, new_requests, request_for_prompts

    own = [demo.prompt[-1]["content"] for demo in run.demos()]
    samples = count * TRIES_A_PROMPT
    asked = WriteRequest(request_for_prompts(own), samples=samples, seed=seed, candidate=None)
    return new_requests(write((asked,))[0], own)[:count]


def _own_kind(run: Run, seed: int, count: int) -> list[str]:
    """Return prompts that come with a run, unless they are of another kind than its own."""
    came_along = (run.folder / "prompts.jsonl").is_file()
    return shipped_prompts(run, seed, count) if came_along or of_the_grammar(run) else []


def begin_trial(
    run: Run,
    methods: Sequence[str],
    prompts: Sequence[str],
    write: Write,
    *,
    seed: int = 0,
    self_prompt: str = "",
) -> Evaluation:
    """Write what methods answer to a person's test tasks, and save it as a trial without a vote.

    Raises:
        ConfigError: not two tasks, or fewer than two methods.
        RunError: the run has no such candidate.
    """
    from ditto_hub.evaluation import trial
    from ditto_hub.evaluation.comparison import Brief
    from ditto_hub.runs import results

    run.require_writable()
    asked = _prompts(run, prompts)
    if len(asked) != trial.TASKS:
        raise ConfigError("api.too_few_test_tasks", tasks=trial.TASKS, count=len(asked))
    if len(set(methods)) < 2:
        raise ConfigError("api.nothing_to_vote_on")
    answers = _answers(run, methods, asked, write, 1, seed, self_prompt)
    brief = Brief(tuple(methods), asked, samples=1, seed=seed, settings=_settings(run, self_prompt))
    with FileLock(run.folder / VOTES_LOCK):
        begun = trial.begin(brief, answers, [e.name for e in results.load_all(run)])
        results.save(run, begun)
    return begun


def current_trial(run: Run) -> Evaluation | None:
    """Return the run's newest vote, under way or done, or None."""
    from ditto_hub.evaluation.trial import PERSON
    from ditto_hub.runs import results

    found = [e for e in results.load_all(run) if e.judge == PERSON and "votes" in e.settings]
    return max(found, key=lambda e: int(e.name.partition("-")[2] or 1), default=None)


def ballot(run: Run, trial: Evaluation) -> Question | None:
    """Return what is asked next, or None when the vote is over."""
    from ditto_hub.evaluation import trial as trials

    return trials.ballot(trial, [demo.completion for demo in run.demos().train])


def cast_vote(run: Run, name: str, number: int, reply: str) -> Evaluation:
    """Save one vote and return the trial; a vote that is there already is not counted again.

    Args:
        name: of the trial, so that a page left open on an old one changes nothing.
        number: of votes there were when it was asked.
        reply: left, right, tie, skip; or stop to end the vote here.

    Raises:
        RunError: there is no such trial.
        JudgeError: the reply is none of these.
    """
    from ditto_hub.evaluation import trial as trials
    from ditto_hub.runs import results

    with FileLock(run.folder / VOTES_LOCK):
        kept = current_trial(run)
        if kept is None or kept.name != name:
            raise RunError("api.vote_is_old")
        new = trials.close(kept) if reply == "stop" else trials.vote(kept, number, reply)
        if new != kept:
            results.save(run, new)
    if new.complete and (run.folder / "adapter").is_dir():
        refresh_card(run)
    return new


def votes(trial: Evaluation) -> tuple[int, int]:
    """Return how many votes are cast, and how many there are to cast."""
    from ditto_hub.evaluation import trial as trials

    return trials.votes(trial), trials.planned(trial)


def measure(
    run: Run,
    write: Write,
    *,
    prompts: Sequence[str] = (),
    samples: int = MEASURED_SAMPLES,
    seed: int = 0,
) -> Iterator[Progress | Evaluation]:
    """Compare a run with its baselines by the judge that needs no network, in one writing.

    Args:
        prompts: that had no part in training; default those that come with the voice, or ones
            that the base model writes in the manner of the demonstrations'.

    Raises:
        ConfigError: there are no prompts.
        RunError, JudgeError: as `evaluate` does.
    """
    from ditto_hub.evaluation.comparison import Brief, Progress, begun, compare_methods
    from ditto_hub.evaluation.methods import DEFAULT_METHODS
    from ditto_hub.runs import results

    source, texts = "user", list(prompts)
    if not texts:
        source, texts = "shipped", _own_kind(run, seed, MEASURED_PROMPTS)
    if not texts:
        source, texts = "model-written", suggest_tasks(run, write, MEASURED_PROMPTS, seed)
    if not texts:
        raise ConfigError("api.no_prompt_to_measure")
    # the grammar's judge understands the prompts that come with a voice, and no others
    known = source == "shipped" and traits_of(run)
    judge = make_judge("grammar" if known else "stylometric", run, token=NOBODY, seed=seed)
    brief = Brief(
        methods=DEFAULT_METHODS,
        prompts=_prompts(run, texts),
        prompts_source=source,
        samples=samples,
        seed=seed,
        settings=_settings(run, ""),
    )
    have = [m for m in DEFAULT_METHODS if _candidate(run, m) in (None, *run.candidates())]
    yield Progress("writing", judge.name, 0, len(have))
    answers = _answers(run, have, brief.prompts, write, samples, seed, "")
    earlier, kept = [begun(brief, judge, answers)], results.load_all(run)
    for item in compare_methods(brief, _Written(run), [judge], earlier):
        if not isinstance(item, Progress):
            keep(run, item, kept)
        yield item
    if (run.folder / "adapter").is_dir():
        refresh_card(run)


class _Written:
    """Stand in for a studio where all is written: nothing may be written any more."""

    self_prompt = ""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.demonstrations = tuple(run.demos())
        self.ditto = str(_candidate(run, "ditto"))

    def write(self, *asked: Any) -> list[list[str]]:
        """Refuse."""
        raise RunError("api.ballot_text_missing")

    def require(self, candidate: str) -> None:
        """Refuse a candidate that is not there."""
        self._run.candidate(candidate)

    def fits(self, messages: Sequence[Mapping[str, str]]) -> bool:
        """Say yes: what writes has made it fit."""
        return True


def _prompts(run: Run, prompts: Sequence[str]) -> tuple[EvaluationPrompt, ...]:
    from ditto_hub.evaluation.prompts import prepare_prompts

    given = [text.strip() for text in prompts if text.strip()]
    if not given:
        raise ConfigError("api.no_prompt")
    return prepare_prompts(given, run.demos())


def _settings(run: Run, self_prompt: str) -> dict[str, Any]:
    return answer_settings(run, _candidate(run, "ditto"), self_prompt)


def _candidate(run: Run, method: str) -> str | None:
    """Return whose adapter a method wears, or None for the bare base model."""
    from ditto_hub.evaluation.methods import ditto_candidate

    if method == "ditto":
        return ditto_candidate(run)
    return method if re.fullmatch(r"sft|sft-long|round-[1-9]\d*", method) else None


def _answers(
    run: Run,
    methods: Sequence[str],
    prompts: Sequence[EvaluationPrompt],
    write: Write,
    samples: int,
    seed: int,
    self_prompt: str,
) -> list[Answer]:
    """Write everything at once."""
    from ditto_hub.runs.results import Answer

    if not methods:
        raise ConfigError("api.no_method_chosen")
    places = [(method, prompt) for method in methods for prompt in prompts]
    requests = tuple(
        _request(run, method, prompt, samples, seed, self_prompt) for method, prompt in places
    )
    return [
        Answer(method, prompt.id, k, text)
        for (method, prompt), texts in zip(places, write(requests), strict=True)
        for k, text in enumerate(texts)
    ]


def _request(
    run: Run, method: str, prompt: EvaluationPrompt, samples: int, seed: int, self_prompt: str
) -> WriteRequest:
    """Put a method into words for what writes."""
    from ditto_hub.evaluation.methods import find_method, with_instructions

    find_method(method)
    messages: Sequence[Mapping[str, str]] = prompt.messages
    if method == "self-prompt":
        words = self_prompt.strip()
        if not words:
            raise ConfigError("api.own_prompt_empty")
        messages = with_instructions(messages, words)
    candidate = _candidate(run, method)
    if candidate is not None:
        run.candidate(candidate)
    return WriteRequest(
        messages=tuple(dict(turn) for turn in messages),
        samples=samples,
        seed=seed,
        candidate=candidate,
        few_shot=method == "few-shot",
    )
