"""What was written for a run's own prompts: by the base model before, and by every candidate."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from ditto_hub import api
from ditto_hub.api.reports import spoiled_texts, turn
from ditto_hub.cost.profiles import Profile
from ditto_hub.demos.demonstrations import Demonstration
from ditto_hub.errors import RunError
from ditto_hub.runs import results
from ditto_hub.runs.folder import Run
from ditto_hub.runs.storage import from_jsonl, to_jsonl_bytes
from ditto_hub.tokens import Token
from ditto_hub.ui.html.render import candidate_name
from ditto_hub.ui.html.side_by_side import chosen_words
from ditto_hub.ui.serving import base_models
from ditto_hub.words import say, told

BASE_FILE = "rollouts/base.jsonl"
THUMBNAIL = 300  # characters of a text in a list
SPOILED = 5  # texts of which one gone wrong is told of
Told = tuple[str, str, bool]  # heading, text, whether it came to an end


def base_texts(run: Run) -> dict[str, str]:
    """Return demonstration id -> what the base model wrote for its prompt, where it was asked."""
    path = run.folder / BASE_FILE
    rows = from_jsonl(path) if path.is_file() else []
    return {row["demo"]: row["text"] for row in rows}


def write_base_texts(
    run: Run,
    demos: Sequence[Demonstration],
    profile: Profile,
    owner: str,
    token: Token | str,
) -> None:
    """Let the base model answer some of a run's prompts, and keep that in the run folder.

    Raises:
        DittoError: it could not be loaded, or could not write.
    """
    have = base_texts(run)
    missing = [demo for demo in demos if demo.id not in have]
    if not missing:
        return
    asked = [
        api.WriteRequest(demo.prompt, samples=1, seed=run.record.seed, candidate=None)
        for demo in missing
    ]
    texts = base_models.write(run, asked, profile, owner, token)
    have |= {demo.id: written[0] for demo, written in zip(missing, texts, strict=True)}
    rows = ({"demo": name, "text": text} for name, text in have.items())
    run.write(BASE_FILE, to_jsonl_bytes(rows))


def verdict_of(run: Run, locale: str) -> list[tuple[str, str]]:
    """Say what came of a finished run in words to act on, and which candidate was kept and why.

    Returns:
        Lines with their kind of notice: warning, good or plain.
    """
    record = run.record
    if not record.chosen:
        return []
    lines = [*_spoiled(run, locale)] or [_standing(run, locale)]
    base = str(record.base_model["id"])
    if base == "pocket" and api.outside_pocket(run.demos()):
        lines.insert(0, (say("train.other_voice", locale, other="smollm2"), "warning"))
    if by := sum(record.prompt_authors.values()):
        lines.append((say("verdict.prompts", locale, n=by, of=len(run.demos())), "plain"))
    name = candidate_name(record.chosen, locale)
    why = chosen_words(run, name, locale)
    return [*lines, (say("verdict.kept", locale, name=name, why=why.rstrip(".")), "plain")]


def _spoiled(run: Run, locale: str) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the texts of the candidate that was kept."""
    chosen = run.record.chosen or ""
    why = run.record.candidates.get(chosen, {}).get("degenerate", "")
    if why:
        yield say("verdict.degenerate", locale, why=told(why, locale)), "warning"
    counts, of = spoiled_texts(run, chosen)
    for kind, count in counts.items():
        if count * SPOILED >= of and count:
            yield say(f"verdict.{kind}", locale, n=count, of=of), "warning"


def _standing(run: Run, locale: str) -> tuple[str, str]:
    """Say how the adapter stands to few-shot prompting where that was measured."""
    rates = [
        rate if rate.against == "few-shot" else turn(rate)
        for found in results.load_all(run)
        if found.reportable
        for rate in found.win_rates
        if {rate.method, rate.against} == {found.method_of(run.record.chosen or ""), "few-shot"}
    ]
    if not rates:
        return say("verdict.sound", locale), "plain"
    rate = rates[-1]
    key = "better" if rate.low > 0.5 else "worse" if rate.high < 0.5 else "even"
    figures = {k: f"{getattr(rate, k):.0%}" for k in ("rate", "low", "high")}
    words = say(f"verdict.{key}", locale, n=rate.n, **figures)
    return words, "good" if key == "better" else "plain"


def texts_for(run: Run, demo_id: str, sample: int, locale: str) -> list[Told]:
    """Return what was shown for a demonstration and all that was written for it, in order.

    What the kept candidate wrote comes last, whichever came last in training; what was written
    first stays first, for all else is shown beside it.

    Args:
        sample: which of a candidate's samples, counted round.
    """
    demo = next((d for d in run.demos() if d.id == demo_id), None)
    if demo is None:
        return []
    found: list[Told] = [(say("voice.shown", locale), demo.completion, True)]
    before = base_texts(run).get(demo_id)
    if before is not None:
        found.append((say("voice.before", locale), before, True))
    rounds = run.config.update.rounds
    files = [(f"round-{t}", _heading(t, locale)) for t in range(rounds + 1)]
    files.insert(1, ("sft-long", say("voice.sft-long", locale)))
    kept = "round-0" if run.record.chosen == "sft" else run.record.chosen
    written: list[tuple[bool, Told]] = []
    for file, heading in files:
        if file == kept:
            heading = say("voice.kept", locale, what=heading)
        path = run.folder / "rollouts" / f"{file}.jsonl"
        rows = [r for r in (from_jsonl(path) if path.is_file() else []) if r["demo"] == demo_id]
        if rows:
            row = rows[sample % len(rows)]
            written.append((file == kept, (heading, row["text"], row["ended"])))
    first = written[: before is None]
    later = sorted(written[len(first) :], key=lambda pair: pair[0])
    return found + [text for _, text in first + later]


def latest_text(run: Run) -> str:
    """Return a text of the kept candidate's or, before there is one, of the newest; else one that
    was shown."""
    rounds = [f"round-{t}" for t in range(run.config.update.rounds, 0, -1)]
    for name in (run.record.chosen or "", *rounds, "sft"):
        file = "round-0" if name == "sft" else name
        if text := _first_text(run.folder / "rollouts" / f"{file}.jsonl"):
            return text
    with contextlib.suppress(RunError):
        return run.demos().train[0].completion[:THUMBNAIL]
    return ""


def _first_text(path: Path) -> str:
    """Return what the first line of samples says, "" where there is none."""
    try:
        with path.open(encoding="utf-8") as lines:
            return str(json.loads(lines.readline())["text"])[:THUMBNAIL]
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _heading(t: int, locale: str) -> str:
    return say("voice.round", locale, n=t) if t else say("voice.sft", locale)
