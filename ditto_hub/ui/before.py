"""What was written for a run's own prompts: by the base model before, and by every candidate."""

from __future__ import annotations

from collections.abc import Sequence

from ditto_hub import api
from ditto_hub.demos import Demonstration
from ditto_hub.profiles import Profile
from ditto_hub.runs import Run
from ditto_hub.storage import from_jsonl, to_jsonl_bytes
from ditto_hub.ui import bases
from ditto_hub.ui.words import say

BASE_FILE = "rollouts/base.jsonl"
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
    token: str | None = None,
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
    texts = bases.write(run, asked, profile, owner, token)
    have |= {demo.id: written[0] for demo, written in zip(missing, texts, strict=True)}
    rows = ({"demo": name, "text": text} for name, text in have.items())
    run.write(BASE_FILE, to_jsonl_bytes(rows))


def texts_for(run: Run, demo_id: str, sample: int, locale: str) -> list[Told]:
    """Return what was shown for a demonstration and all that was written for it, in order.

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
    files.append(("sft-long", say("voice.sft-long", locale)))
    for file, heading in files:
        path = run.folder / "rollouts" / f"{file}.jsonl"
        rows = [r for r in (from_jsonl(path) if path.is_file() else []) if r["demo"] == demo_id]
        if rows:
            row = rows[sample % len(rows)]
            found.append((heading, row["text"], row["ended"]))
    return found


def _heading(t: int, locale: str) -> str:
    return say("voice.round", locale, n=t) if t else say("voice.sft", locale)
