"""Demonstrations for real language models that are part of the package, written for it.

`texts/NAME.jsonl` holds prompts with completions, `texts/NAME.prompts.jsonl` prompts without, to
compare methods on.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).with_name("texts")


def example_text_path(name: str) -> Path | None:
    """Return the file of a set of demonstrations, or None where there is none of that name."""
    names = [path.stem for path in FOLDER.glob("*.jsonl") if not path.stem.endswith(".prompts")]
    return FOLDER / f"{name}.jsonl" if name in names else None
