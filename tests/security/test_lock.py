"""What is installed: ranges with both ends for everybody, and a lock for running it again."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]


def pins(name: str) -> dict[str, str]:
    """Return package -> version of a file of pins."""
    lines = (ROOT / ".github" / name).read_text("utf-8").splitlines()
    rows = [line.partition("==") for line in lines if "==" in line and not line.startswith("#")]
    return {canonicalize_name(package): version for package, _, version in rows}


REQUIRED = [
    Requirement(line)
    for line in (ROOT / "requirements.txt").read_text("utf-8").splitlines()
    if line and not line.startswith("#")
]


@pytest.mark.parametrize("required", REQUIRED, ids=lambda required: required.name)
def test_a_requirement_has_both_ends_and_is_locked(required: Requirement) -> None:
    """A range ends before the next major version; the locked version is inside it."""
    ends = {bound.operator for bound in required.specifier}
    assert ends == {">=", "<"}
    assert required.specifier.contains(pins("lock.txt")[canonicalize_name(required.name)])


def test_the_lock_and_the_constraints_agree() -> None:
    """One version a package, the one that the tests ran with; nothing but exact pins."""
    locked, tested = pins("lock.txt"), pins("constraints.txt")
    assert locked.items() <= tested.items()
    text = (ROOT / ".github" / "lock.txt").read_text("utf-8")
    rows = [line for line in text.splitlines() if not line.startswith("#")]
    assert all(Requirement(row).specifier for row in rows)
    assert len(rows) == len(locked) > 40


def test_a_space_does_not_get_the_lock() -> None:
    """Its builder brings its own gradio, spaces and torch, which a lock would contradict."""
    from ditto_hub.hub.spaces import folder

    assert "lock.txt" not in Path(folder.__file__).read_text("utf-8")
