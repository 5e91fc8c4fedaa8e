"""A run's comparisons and a person's votes as preference data, in the form that TRL reads."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ditto_hub.demos.demonstrations import Demonstration, Message
from ditto_hub.ditto.ranking import Ranked, comparisons
from ditto_hub.errors import RunError
from ditto_hub.runs.folder import Run
from ditto_hub.runs.results import Evaluation, load_all
from ditto_hub.runs.storage import from_jsonl, to_jsonl_bytes

KINDS = ("online", "intermodel", "edit", "vote")


@dataclass(frozen=True)
class Preference:
    """Hold one pair of completions.

    Args:
        prompt: turns of {role, content}, the last one the user's.
        chosen: the completion that is preferred.
        rejected: the other one.
        kind: online (a demonstration over a sample; in later rounds the same pair is a replay),
            intermodel (a later round's sample over an earlier one's), edit (a demonstration over
            the text that it was edited from), or vote (a person's blind choice).
        round: in which the pair could be drawn first, from 0; None for a vote.
    """

    prompt: tuple[Message, ...]
    chosen: str
    rejected: str
    kind: str
    round: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return TRL's conversational form, with the kind and the round beside it."""
        return {
            "prompt": [dict(turn) for turn in self.prompt],
            "chosen": [{"role": "assistant", "content": self.chosen}],
            "rejected": [{"role": "assistant", "content": self.rejected}],
            "kind": self.kind,
            "round": self.round,
        }


def preferences(run: Run, kinds: Collection[str] = KINDS) -> list[Preference]:
    """Return the pairs that a run could learn from so far, each once, and its owner's votes.

    Near-duplicates are left out, as in training, and so are held-out demonstrations.

    Args:
        kinds: those wanted, of `KINDS`.

    Raises:
        RunError: a file of the run is damaged, or there is no such pair yet.
    """
    found = [pair for pair in (*_trained(run), *_voted(run)) if pair.kind in kinds]
    if not found:
        raise RunError("api.no_preferences", run_id=run.record.id, kinds=", ".join(kinds))
    return found


def preferences_bytes(run: Run, kinds: Collection[str] = KINDS) -> bytes:
    """Return `preferences` as JSON lines.

    Raises:
        RunError: as `preferences`.
    """
    return to_jsonl_bytes(pair.to_json() for pair in preferences(run, kinds))


def _trained(run: Run) -> Iterator[Preference]:
    """Yield the pairs of eq. 2, demonstration by demonstration."""
    demos = run.demos().train
    texts, ranked = _rows(run, demos)
    found: list[tuple[int, Preference]] = []
    for pair in [pair for group in comparisons(ranked, newest=-1).values() for pair in group]:
        place = ranked[pair.winner].demo
        kind = "online" if pair.kind == "replay" else pair.kind
        newer = max(0, ranked[pair.winner].rank, ranked[pair.loser].rank)
        both = texts[pair.winner], texts[pair.loser]
        found.append((place, Preference(demos[place].prompt, *both, kind, newer)))
    for _, preference in sorted(found, key=_early):
        yield preference


def _early(found: tuple[int, Preference]) -> tuple[int, int, bool]:
    """Return what puts a demonstration's own pairs together, an edit and earlier rounds first."""
    place, preference = found
    return place, preference.round or 0, preference.kind != "edit"


def _rows(run: Run, demos: Sequence[Demonstration]) -> tuple[list[str], list[Ranked]]:
    """Return the texts that may be compared, and where each is in the ranking."""
    rows = [(demo.completion, place, -1) for place, demo in enumerate(demos)]
    rows += [(demo.original, place, -2) for place, demo in enumerate(demos) if demo.original]
    places = {demo.id: place for place, demo in enumerate(demos)}
    for t in _rounds(run):
        path = run.folder / "rollouts" / f"round-{t}.jsonl"
        try:
            rows += [
                (str(row["text"]), places[row["demo"]], t)
                for row in from_jsonl(path)
                if row["demo"] in places and not row["copy_of"]
            ]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError("runs.missing_damaged", path=path, error=error) from error
    ranked = [Ranked(row, demo, rank) for row, (_, demo, rank) in enumerate(rows)]
    return [text for text, _, _ in rows], ranked


def _rounds(run: Run) -> list[int]:
    """Return the rounds whose samples are there and were compared; the last ones only score."""
    update = run.config.update
    rounds = range(update.rounds if update.resample == "every-round" else 1)
    there = {path.stem for path in Path(run.folder, "rollouts").glob("round-*.jsonl")}
    return [t for t in rounds if f"round-{t}" in there]


def _voted(run: Run) -> Iterator[Preference]:
    """Yield a person's blind choices; a tie is none."""
    from ditto_hub.evaluation.trial import PERSON

    for evaluation in load_all(run):
        if evaluation.judge == PERSON:
            yield from _votes_of(evaluation)


def _votes_of(evaluation: Evaluation) -> Iterator[Preference]:
    prompts = {prompt.id: prompt.messages for prompt in evaluation.prompts}
    texts = {(a.method, a.prompt_id, a.sample): a.text for a in evaluation.answers}
    for pair in evaluation.pairs:
        if pair.verdict not in ("a", "b"):
            continue
        a = texts.get((pair.a, pair.prompt_id, pair.sample_a))
        b = texts.get((pair.b, pair.prompt_id, pair.sample_b))
        asked = prompts.get(pair.prompt_id)
        if a is None or b is None or asked is None:
            continue
        chosen, rejected = (a, b) if pair.verdict == "a" else (b, a)
        yield Preference(tuple(dict(turn) for turn in asked), chosen, rejected, "vote")
