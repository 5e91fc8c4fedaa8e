"""A blind trial by one person, in the manner of the paper's study: two tasks, twenty votes at most.

A trial is an `Evaluation` whose judge is "person" and whose answers are all written before the
first vote. It is kept after every vote, so it can be left and gone on with anywhere; which two
texts come next, and which of them stands on which side, follow from its seed alone. Everything here
is pure: texts come in, evaluations go out.

Source: Shaikh et al., 2024, arXiv 2406.00888, section 5 (user study: two test tasks and 20 blind
preferences a person).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ditto_hub.errors import JudgeError
from ditto_hub.evaluation.comparison import Brief, Pair, begun, count, pairs_to_judge
from ditto_hub.evaluation.judges import QUESTIONS, PersonJudge, Question, judge_pair
from ditto_hub.runs.results import Answer, Evaluation, JudgedPair, file_name
from ditto_hub.words import Message

TASKS = 2
MAX_VOTES = QUESTIONS
REPLIES = ("left", "right", "tie", "skip")
PERSON = PersonJudge.name


def begin(brief: Brief, answers: Sequence[Answer], earlier: Iterable[str] = ()) -> Evaluation:
    """Return a trial without any vote; equal texts are ties that nobody is asked about.

    Args:
        brief: which methods on which prompts.
        answers: what each method wrote for each prompt.
        earlier: names of evaluations that must not be overwritten.
    """
    taken, name, number = set(earlier), file_name(PERSON), 2
    while name in taken:
        name, number = f"{file_name(PERSON)}-{number}", number + 1
    limit = min(brief.max_pairs or MAX_VOTES, MAX_VOTES)
    draft = begun(brief, PersonJudge(_never, (), brief.seed), answers)
    draft = replace(draft, name=name, settings={**draft.settings, "votes": limit})
    return _counted(draft)


def ballot(trial: Evaluation, examples: Sequence[str]) -> Question | None:
    """Return what is asked next, sides shuffled and no method named; None when all is judged.

    Args:
        examples: the author's own texts, shown beside.
    """
    waiting = _waiting(trial)
    if not waiting:
        return None
    shown: list[Question] = []

    def keep(question: Question) -> str:
        shown.append(question)
        return "skip"

    judge_pair(PersonJudge(keep, examples, trial.seed), *waiting[0])
    return shown[0]


def vote(trial: Evaluation, number: int, reply: str) -> Evaluation:
    """Return the trial with one more vote; unchanged where that vote was cast already.

    Args:
        number: of votes there were when the person was asked, so that a second click on the same
            question is no vote on the next one.
        reply: one of `REPLIES`.

    Raises:
        JudgeError: the reply is none of these.
    """
    if reply not in REPLIES:
        raise JudgeError("evaluation.no_vote", reply=reply, replies=", ".join(REPLIES))
    waiting = _waiting(trial)
    if number != votes(trial) or not waiting:
        return trial
    pair = judge_pair(PersonJudge(lambda _: reply, (), trial.seed), *waiting[0])
    return _counted(replace(trial, pairs=(*trial.pairs, pair)))


def close(trial: Evaluation) -> Evaluation:
    """Return the trial as ended before its last vote; what is judged counts, and it says so."""
    if trial.complete:
        return trial
    note = Message("evaluation.stopped_votes", done=votes(trial), total=planned(trial))
    return replace(trial, complete=True, notes=(*trial.notes, note))


def votes(trial: Evaluation) -> int:
    """Return how many questions have been answered."""
    return len(trial.pairs) - len(_equal(trial))


def planned(trial: Evaluation) -> int:
    """Return how many questions a person is asked in all."""
    return len(_wanted(trial)) - len(_equal(trial))


def _brief(trial: Evaluation) -> Brief:
    settings: Mapping[str, Any] = trial.settings
    return Brief(
        methods=trial.methods,
        prompts=trial.prompts,
        prompts_source=trial.prompts_source,
        prompts_independent=trial.prompts_independent,
        samples=trial.samples,
        seed=trial.seed,
        max_pairs=min(int(settings.get("votes", MAX_VOTES)), MAX_VOTES),
    )


def _counted(trial: Evaluation) -> Evaluation:
    """Add the ties of equal texts once, count, and tell whether all is judged."""
    if not trial.pairs:
        trial = replace(trial, pairs=tuple(_equal(trial)))
    done = bool(trial.pairs) and not _waiting(trial)
    return replace(count(_brief(trial), trial), complete=done)


def _wanted(trial: Evaluation) -> list[Pair]:
    return pairs_to_judge(_brief(trial), trial.answers)


def _waiting(trial: Evaluation) -> list[Pair]:
    judged = {(p.prompt_id, p.a, p.b, p.sample_a, p.sample_b) for p in trial.pairs}
    return [
        (prompt, a, b)
        for prompt, a, b in ([] if trial.complete else _wanted(trial))
        if (prompt.id, a.method, b.method, a.sample, b.sample) not in judged
        and a.text.strip() != b.text.strip()
    ]


def _equal(trial: Evaluation) -> list[JudgedPair]:
    judge = PersonJudge(_never, (), trial.seed)
    return [
        judge_pair(judge, prompt, a, b)
        for prompt, a, b in _wanted(trial)
        if a.text.strip() == b.text.strip()
    ]


def _never(question: Question) -> str:
    raise AssertionError("equal texts need no person")
