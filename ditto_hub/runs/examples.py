"""Finished runs that are part of the package: opened as `example:NAME`, never written to.

A folder of `shipped/` is a run folder without its state and its candidates' adapters, made by
`benchmarks/example_run.py`; anybody may read it, whoever owns the other runs of the machine.
"""

from __future__ import annotations

from pathlib import Path

PREFIX = "example:"
FOLDER = Path(__file__).with_name("shipped")


def example_runs() -> list[str]:
    """Return the ids of the runs shipped in the package, such as `example:smollm2`."""
    return sorted(PREFIX + path.parent.name for path in FOLDER.glob("*/run.json"))


def example_folder(run: str | Path) -> Path | None:
    """Return the folder of a shipped run; None where `run` is no id of one.

    Args:
        run: an id, such as `example:smollm2`, or anything else that names a run.
    """
    return FOLDER / str(run).removeprefix(PREFIX) if str(run) in example_runs() else None


def is_shipped(folder: Path) -> bool:
    """Tell whether a run folder is part of the package."""
    return folder.resolve().parent == FOLDER.resolve()
