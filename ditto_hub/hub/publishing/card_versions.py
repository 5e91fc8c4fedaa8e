"""The card's section about the version before: numbers side by side, no text."""

from __future__ import annotations

from ditto_hub.hub.publishing.card_sections import Table
from ditto_hub.hub.publishing.card_subject import CardSubject

NOTHING = "not measured"


def changed_demonstrations(subject: CardSubject) -> Table | None:
    """Return the demonstrations of both versions in numbers; None where there is no earlier one."""
    earlier, demos = subject.earlier, subject.demos
    if earlier is None:
        return None
    now, before = demos.counted, earlier.demonstrations
    rows = [
        ("demonstrations", before.get("count"), now["count"]),
        ("of them held out", before.get("held_out"), now["held_out"]),
        ("characters in all completions", before.get("characters"), now["characters"]),
    ]
    return Table(("", earlier.tag, subject.tag), tuple(rows))


def changed_words(subject: CardSubject) -> str:
    """Say how the demonstrations of a version that goes on from the earlier one differ."""
    earlier = subject.earlier
    if earlier is None or subject.record.parent != earlier.run_id or not earlier.run_id:
        return "It was trained anew, on demonstrations of its own."
    count = earlier.demonstrations.get("count")
    more = "more" if count is None else str(subject.demos.counted["count"] - count)
    return (
        "Its training went on from that version's adapter, on the same demonstrations and"
        f" {more} added ones."
    )


def changed_results(subject: CardSubject) -> Table | None:
    """Return the results of both versions; None where neither was evaluated."""
    earlier, now = subject.earlier, subject.figures
    if earlier is None or not (now or earlier.figures):
        return None
    rows = []
    for name in dict.fromkeys([*now, *earlier.figures]):
        cells = [_cell(found.get(name)) for found in (earlier.figures, now)]
        rows.append((name, *cells))
    return Table(("judge and mark", earlier.tag, subject.tag), tuple(rows))


def _cell(found: tuple[float, int] | None) -> str:
    if found is None:
        return NOTHING
    mean, prompts = found
    return f"{mean:.3f} ({prompts} prompt{'s' if prompts != 1 else ''})"
