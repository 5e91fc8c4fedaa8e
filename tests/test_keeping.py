"""Runs that are kept while they train: when, what a refusal does, what an owner did not want."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tiny_runs import tiny_config, tiny_demos

from ditto_hub import events as ev
from ditto_hub.api.keeping import Keeping, agree_to_keep, how_kept, keep_along
from ditto_hub.errors import HubError
from ditto_hub.runs.folder import Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tiny_demos(2), {"id": "pocket"}, tiny_config(), tmp_path / "run")


@pytest.fixture
def saves(run: Run, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note how many events there were at each time the run was kept."""
    found: list[int] = []

    def save_run(saved: Run, token: str) -> str:
        assert token == "hf_ann"
        found.append(len(saved.events()))
        return "ann/ditto-hub-run-1"

    monkeypatch.setattr("ditto_hub.api.keeping.save_run", save_run)
    return found


def work(run: Run, closed: Callable[[], None] = lambda: None) -> Iterator[ev.Event]:
    """Be a driver: its state is saved after a stage's last event, before the next one."""
    try:
        for event in (
            ev.StageStarted(stage="warm-start", index=0, total_steps=1),
            ev.StageFinished(stage="warm-start", seconds=1.0),
            ev.StageStarted(stage="sampling", index=1, total_steps=1),
            ev.RunPaused(reason="lease"),
        ):
            run.append_events([event])
            run.save_record()
            yield event
    finally:
        closed()


def test_after_each_stage_and_at_the_end(run: Run, saves: list[int]) -> None:
    """Kept once the next event shows that a stage's state is saved, and when all is over."""
    agree_to_keep(run)
    assert len(list(keep_along(run, work(run), "hf_ann"))) == 4
    assert saves == [3, 4]
    found = how_kept(run)
    assert found is not None
    assert (found.repo_id, found.error) == ("ann/ditto-hub-run-1", "")


def test_a_lease_is_kept_at_its_end_alone(run: Run, saves: list[int]) -> None:
    """While another process writes into the run nothing is copied."""
    agree_to_keep(run)
    list(keep_along(run, work(run), "hf_ann", between=False))
    assert saves == [4]


def test_a_closed_page_keeps_what_was_saved(run: Run, saves: list[int]) -> None:
    """Closing ends the work first, so that what its end saves is kept too."""
    agree_to_keep(run)
    order: list[str] = []
    events = keep_along(run, work(run, lambda: order.append(f"closed {len(saves)}")), "hf_ann")
    next(events)
    events.close()  # type: ignore[attr-defined]
    assert (order, saves) == (["closed 0"], [1])


@pytest.mark.parametrize("token", ["hf_ann", None])
def test_nothing_leaves_without_consent_and_a_token(
    run: Run, saves: list[int], token: str | None
) -> None:
    """A run whose owner did not agree, or is signed out, stays where it is."""
    if token is None:
        agree_to_keep(run)
    list(keep_along(run, work(run), token))
    assert saves == []


def test_an_unchanged_run_is_not_sent_again(run: Run, saves: list[int]) -> None:
    """Another event of the app without work on the run keeps nothing anew."""
    agree_to_keep(run)
    for _ in range(2):
        list(keep_along(run, (e for e in ()), "hf_ann"))
    assert len(saves) == 1


def test_a_refusal_stops_nothing_and_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every event comes, and what the Hub said stands beside what is kept."""

    def refuse(saved: Run, token: str) -> str:
        raise HubError("The Hub is away.")

    monkeypatch.setattr("ditto_hub.api.keeping.save_run", refuse)
    agree_to_keep(run, Keeping("ann/ditto-hub-run-1", 5.0))
    assert len(list(keep_along(run, work(run), "hf_ann"))) == 4
    assert how_kept(run) == Keeping("ann/ditto-hub-run-1", 5.0, "The Hub is away.")


def test_consent_does_not_leave_the_folder(run: Run) -> None:
    """The note of it is none of the files that are kept."""
    from ditto_hub.hub.kept import files_of

    agree_to_keep(run)
    assert not [name for name in files_of(run) if "keep" in name]
