"""Compare methods: write, judge, count, saving as it goes, so that it can be stopped anywhere.

`compare_methods` is a generator. It yields progress, and each judge's evaluation whenever there is
more of it, which the caller saves; started again with what was saved, it repeats nothing.
"""

from __future__ import annotations

import datetime
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

from ditto_hub.errors import ChatTemplateError, ConfigError, JudgeError, RunError
from ditto_hub.evaluation.degeneration import measure
from ditto_hub.evaluation.forgetting import ProbedStudio, Right, probe
from ditto_hub.evaluation.judges import (
    QUESTIONS,
    DearJudge,
    Judge,
    JudgeStopped,
    Messages,
    ScoringJudge,
    judge_pair,
)
from ditto_hub.evaluation.methods import Studio, candidate_of, find_method
from ditto_hub.evaluation.winrate import all_win_rates, mean_scores
from ditto_hub.runs.results import (
    Answer,
    Evaluation,
    EvaluationPrompt,
    JudgedPair,
    Rating,
    count_prompts,
    file_name,
    tally,
)
from ditto_hub.words import Message, Text, chained

PAIRS_A_SAVE = 20  # of a machine's verdicts; a person's are saved one by one


@dataclass(frozen=True)
class Brief:
    """Say what to compare.

    Args:
        methods: names of `METHODS`, or round-N, in the order of the table.
        prompts: from `prepare_prompts`.
        prompts_source: user, model-written or shipped.
        prompts_independent: they had no part in training, stopping or selection.
        samples: answers a method gives to each prompt.
        seed: of the sampling, the order of judging and the bootstrap.
        focus: judge only pairs with this method; empty for all pairs.
        max_pairs: that a judge whose answers cost something is asked about, drawn by the seed; 0
            for all, or for as many as a person is asked.
        settings: all else that an answer depends on (sampling, length cap, which candidate stands
            for DITTO); a saved evaluation with other settings is not continued.
        notes: what a reader of the result must know.
        probes: prompts of the forgetting probe, which have nothing to do with the demonstrations.
        right: marks a probe's content, where there is a way to know.
    """

    methods: tuple[str, ...]
    prompts: tuple[EvaluationPrompt, ...]
    prompts_source: str = "user"
    prompts_independent: bool = True
    samples: int = 4
    seed: int = 0
    focus: str = ""
    max_pairs: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[Text, ...] = ()
    probes: tuple[Messages, ...] = ()
    right: Right | None = None


@dataclass(frozen=True)
class Progress:
    """Say how far a comparison is.

    Args:
        step: writing or judging.
        name: of the method or the judge.
        done: answers or pairs so far.
        total: of them.
        words: what should be known before this begins, such as what a judge will cost; or empty.
    """

    step: str
    name: str
    done: int
    total: int
    words: Text = ""


PairKey = tuple[str, str, str, int, int]
Pair = tuple[EvaluationPrompt, Answer, Answer]


def compare_methods(
    brief: Brief,
    studio: Studio,
    judges: Sequence[Judge],
    earlier: Iterable[Evaluation] = (),
) -> Iterator[Progress | Evaluation]:
    """Compare methods under each judge.

    Args:
        brief: what to compare.
        studio: the model at work.
        judges: each makes an evaluation of its own.
        earlier: saved evaluations of the same run; what they hold of the same is taken over.

    Yields:
        Progress, and evaluations to save; of each judge the last one yielded stands, and it is
        `complete` unless the judge failed.

    Raises:
        ConfigError: an unknown method, or fewer than two names.
        RunError: no method could write anything.
        JudgeError: a judge failed; raised when the others have finished, its part being saved.
    """
    _check(brief)
    known = {e.judge: e for e in earlier if _same_question(e, brief)}
    drafts = {judge.name: _draft(brief, judge, known.get(judge.name)) for judge in judges}
    answers: dict[str, tuple[Answer, ...]] = {}
    missing: dict[str, Text] = {}
    for note in seen_notes(brief):
        yield Progress("writing", "prompts", 0, len(brief.methods), note)
    for done, method in enumerate(brief.methods, 1):
        try:
            answers[method] = _answers(brief, studio, method, list(known.values()))
        except (RunError, ConfigError, ChatTemplateError) as error:
            missing[method] = error.both
        for name, draft in drafts.items():
            drafts[name] = _with_answers(draft, answers, missing)
            yield drafts[name]
        yield Progress("writing", method, done, len(brief.methods))
    if not answers:
        raise RunError(
            "evaluation.no_method_worked", values=chained("words.then", missing.values())
        )
    degeneration = _degeneration(studio, answers)
    forgetting = _forgetting(brief, studio, list(answers), known.values())
    failures: list[JudgeError] = []
    for judge in judges:
        draft = replace(drafts[judge.name], degeneration=degeneration, forgetting=forgetting)
        yield from _judge_all(brief, judge, draft, failures)
    if failures:
        raise failures[0]


def pairs_to_judge(brief: Brief, answers: Sequence[Answer]) -> list[Pair]:
    """Return which answers meet: sample k of a method with sample k of another, on each prompt.

    The order is shuffled by the seed, so that what is judged before an interruption, or before a
    person has had enough, is a fair part of the whole.
    """
    by_key = {(a.method, a.prompt_id, a.sample): a for a in answers}
    found = []
    for a, b in combinations(brief.methods, 2):
        if brief.focus and brief.focus not in (a, b):
            continue
        for prompt in brief.prompts:
            for k in range(brief.samples):
                first, second = by_key.get((a, prompt.id, k)), by_key.get((b, prompt.id, k))
                if first and second:
                    found.append((prompt, first, second))
    random.Random(brief.seed).shuffle(found)
    return found[: brief.max_pairs] if brief.max_pairs else found


def count(brief: Brief, evaluation: Evaluation) -> Evaluation:
    """Return an evaluation with its scores, win rates and tally counted from its rows.

    Scores and `win_rates` count prompts not seen in training, `seen_win_rates` the others.
    """
    seen = {prompt.id for prompt in brief.prompts if prompt.seen}
    new = [pair for pair in evaluation.pairs if pair.prompt_id not in seen]
    old = [pair for pair in evaluation.pairs if pair.prompt_id in seen]
    ratings = [rating for rating in evaluation.ratings if rating.prompt_id not in seen]
    return replace(
        evaluation,
        scores=mean_scores(ratings, brief.methods, seed=brief.seed),
        win_rates=all_win_rates(new, brief.methods, seed=brief.seed),
        seen_win_rates=all_win_rates(old, brief.methods, seed=brief.seed),
        tally=tally(evaluation.pairs),
    )


def _check(brief: Brief) -> None:
    for method in brief.methods:
        find_method(method)
    if len(set(brief.methods)) != len(brief.methods):
        raise ConfigError("evaluation.method_named_twice")
    if not brief.methods or brief.samples < 1:
        raise ConfigError("evaluation.nothing_compare")
    if brief.focus and brief.focus not in brief.methods:
        raise ConfigError("evaluation.method_not_compared", focus=brief.focus)
    if not brief.prompts:
        raise ConfigError("evaluation.no_prompt")


def _same_question(evaluation: Evaluation, brief: Brief) -> bool:
    mine = (brief.prompts, brief.samples, brief.seed, dict(brief.settings))
    its = (evaluation.prompts, evaluation.samples, evaluation.seed, dict(evaluation.settings))
    return mine == its


def begun(brief: Brief, judge: Judge, answers: Sequence[Answer]) -> Evaluation:
    """Return an evaluation with nothing judged, its answers written elsewhere."""
    return replace(_draft(brief, judge, None), answers=tuple(answers))


def _draft(brief: Brief, judge: Judge, earlier: Evaluation | None) -> Evaluation:
    """Begin an evaluation, with what an earlier one under the same judge had found."""
    kept = earlier if earlier and earlier.grammar_hash == judge.grammar_hash else None
    return Evaluation(
        name=file_name(judge.name),
        judge=judge.name,
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        prompts_source=brief.prompts_source,
        prompts_independent=brief.prompts_independent,
        methods=brief.methods,
        prompts=brief.prompts,
        samples=brief.samples,
        seed=brief.seed,
        settings=dict(brief.settings),
        answers=kept.answers if kept else (),
        pairs=kept.pairs if kept else (),
        notes=(*brief.notes, *seen_notes(brief)),
        grammar_hash=judge.grammar_hash,
    )


def seen_notes(brief: Brief) -> list[Message]:
    """Say how many prompts stood among the demonstrations."""
    seen = sum(prompt.seen for prompt in brief.prompts)
    return [Message("evaluation.seen_prompts", prompts=count_prompts(seen))] if seen else []


def _answers(
    brief: Brief, studio: Studio, method: str, earlier: Sequence[Evaluation]
) -> tuple[Answer, ...]:
    """Let a method write, or take over what it wrote for the same question before."""
    for evaluation in earlier:
        kept = tuple(evaluation.answered(method))
        if len(kept) == len(brief.prompts) * brief.samples:
            return kept
    writer = find_method(method).make(studio)
    texts = writer([prompt.messages for prompt in brief.prompts], brief.samples, brief.seed)
    return tuple(
        Answer(method, prompt.id, k, text)
        for prompt, drawn in zip(brief.prompts, texts, strict=True)
        for k, text in enumerate(drawn)
    )


def _with_answers(
    draft: Evaluation, answers: Mapping[str, tuple[Answer, ...]], missing: Mapping[str, Text]
) -> Evaluation:
    """Put in what was written; keep earlier answers of methods that have not had their turn.

    Earlier verdicts on texts that are no longer there go.
    """
    turned = {*answers, *missing}
    waiting = [answer for answer in draft.answers if answer.method not in turned]
    now = (*(answer for rows in answers.values() for answer in rows), *waiting)
    gone = {(a.method, a.prompt_id, a.sample) for a in set(draft.answers) - set(now)}
    pairs = tuple(
        pair
        for pair in draft.pairs
        if (pair.a, pair.prompt_id, pair.sample_a) not in gone
        and (pair.b, pair.prompt_id, pair.sample_b) not in gone
    )
    return replace(draft, answers=now, pairs=pairs, missing=dict(missing))


def _degeneration(
    studio: Studio, answers: Mapping[str, Sequence[Answer]]
) -> dict[str, dict[str, float]]:
    own = [demo.completion for demo in studio.demonstrations]
    return {method: measure([a.text for a in rows], own) for method, rows in answers.items()}


def _forgetting(
    brief: Brief, studio: Studio, written: Sequence[str], earlier: Iterable[Evaluation]
) -> dict[str, dict[str, float]]:
    """Probe the adapters of the methods that wrote, or take over what was found before."""
    kept = {name: dict(marks) for e in earlier for name, marks in e.forgetting.items()}
    adapters = {name: candidate_of(name, studio) for name in written}
    wanted = {n: c for n, c in adapters.items() if c is not None and n not in kept}
    if wanted and brief.probes and isinstance(studio, ProbedStudio):
        kept |= probe(studio, wanted, brief.probes, brief.seed, brief.right)
    return {name: kept[name] for name in written if name in kept}


def _judge_all(
    brief: Brief, judge: Judge, draft: Evaluation, failures: list[JudgeError]
) -> Iterator[Progress | Evaluation]:
    """Judge every pair that is not judged yet; a judge that fails leaves what it has."""
    answers = [a for a in draft.answers if a.method in draft.degeneration]
    wanted, left_out = _asked(brief, judge, answers)
    before = {_pair_key(pair): pair for pair in draft.pairs}
    judged: list[JudgedPair] = []
    size = 1 if judge.asks_once else PAIRS_A_SAVE
    draft = replace(draft, answers=tuple(answers), ratings=())
    try:
        draft = replace(draft, ratings=_rate(judge, brief, answers))
        if isinstance(judge, DearJudge):
            new = [pair for pair in wanted if _key(*pair) not in before]
            words = judge.plan([(p.messages, a.text, b.text) for p, a, b in new])
            yield Progress("judging", judge.name, 0, len(wanted), words)
        for prompt, a, b in wanted:
            kept = before.get(_key(prompt, a, b))
            judged.append(kept or judge_pair(judge, prompt, a, b))
            if len(judged) % size == 0:
                yield replace(draft, pairs=_all_pairs(judged, before))
                yield Progress("judging", judge.name, len(judged), len(wanted))
    except JudgeStopped:
        left_out = Message("evaluation.stopped_pairs", done=len(judged), total=len(wanted))
    except JudgeError as error:
        failures.append(error)
        part = Message("evaluation.judged_part", done=len(judged), total=len(wanted))
        draft = replace(draft, notes=(*draft.notes, error.happened, part))
        yield count(brief, replace(draft, pairs=_all_pairs(judged, before)))
        return
    notes = (*draft.notes, left_out) if left_out else draft.notes
    draft = replace(draft, notes=notes)
    yield count(brief, replace(draft, pairs=tuple(judged), complete=True))
    yield Progress("judging", judge.name, len(judged), len(wanted))


def _asked(brief: Brief, judge: Judge, answers: Sequence[Answer]) -> tuple[list[Pair], Text]:
    """Return the pairs that a judge is asked about, and a note where those are not all."""
    every = pairs_to_judge(replace(brief, max_pairs=0), answers)
    if not isinstance(judge, DearJudge):
        return every, ""
    limit = brief.max_pairs or (QUESTIONS if judge.asks_once else len(every))
    if limit >= len(every):
        return every, ""
    return every[:limit], Message("evaluation.judged_drawn", limit=limit, total=len(every))


def _rate(judge: Judge, brief: Brief, answers: Sequence[Answer]) -> tuple[Rating, ...]:
    if not isinstance(judge, ScoringJudge):
        return ()
    prompts = {prompt.id: prompt.messages for prompt in brief.prompts}
    return tuple(
        Rating(a.method, a.prompt_id, a.sample, judge.marks(prompts[a.prompt_id], a.text))
        for a in answers
    )


def _key(prompt: EvaluationPrompt, a: Answer, b: Answer) -> PairKey:
    return prompt.id, a.method, b.method, a.sample, b.sample


def _pair_key(pair: JudgedPair) -> PairKey:
    return pair.prompt_id, pair.a, pair.b, pair.sample_a, pair.sample_b


def _all_pairs(
    judged: Sequence[JudgedPair], before: Mapping[PairKey, JudgedPair]
) -> tuple[JudgedPair, ...]:
    return tuple({**before, **{_pair_key(pair): pair for pair in judged}}.values())
