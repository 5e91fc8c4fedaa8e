"""One's own machine: CUDA, MPS or CPU, in this process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ditto_hub.backends.base import Driver
from ditto_hub.events import Event
from ditto_hub.runs import Run

if TYPE_CHECKING:
    from ditto_hub.algorithm.policy import Policy
    from ditto_hub.algorithm.team import Seat


class LocalBackend:
    """Run here and now.

    Args:
        device: "cpu", "cuda", "mps"; default the best there is.
        save_every_s: seconds between two saves within a stage.
    """

    def __init__(self, device: str | None = None, save_every_s: float = 5.0) -> None:
        self.device = device
        self.save_every_s = save_every_s

    def drive(
        self, run: Run, should_stop: Callable[[], str] = lambda: "", token: str | None = None
    ) -> Iterator[Event]:
        """Work on a run until it ends or is told to stop; see `Backend.drive`."""
        seat = take_seat()
        if seat is None:
            driver = Driver(
                run,
                lambda r: open_policy(r, self.device, token),
                should_stop,
                self.save_every_s,
            )
            return driver.events()
        return self._lead(run, seat, should_stop, token)

    def _lead(
        self, run: Run, seat: Seat, should_stop: Callable[[], str], token: str | None
    ) -> Iterator[Event]:
        """Work on a run with the other processes that were launched; let them go at the end."""
        from ditto_hub.algorithm.base_model import pick_device
        from ditto_hub.algorithm.team import Team, join

        teams: list[Team] = []

        def open_with_team(run: Run) -> Policy:
            join(seat, pick_device(self.device))
            policy = open_policy(run, self.device, token)
            policy.team = Team(policy, run.record.base_model, run.config.lora)
            teams.append(policy.team)
            return policy

        try:
            yield from Driver(run, open_with_team, should_stop, self.save_every_s).events()
        finally:
            for team in teams:
                team.end()


def launched_as() -> int:
    """Return which of the processes that `accelerate launch` started this is; 0 without it."""
    return int(os.environ.get("RANK", "0"))


def take_seat() -> Seat | None:
    """Return this process's place among those launched, once, or None where it is alone.

    What the launcher set is taken away, or the trainers would wait for the others on their own.
    """
    from ditto_hub.algorithm.team import Seat

    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size < 2:
        return None
    address = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    seat = Seat(launched_as(), size, int(os.environ.get("LOCAL_RANK", "0")), address)
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        os.environ.pop(name, None)
    return seat


def assist(device: str | None = None, token: str | None = None) -> None:
    """Compute for the first process until it lets this one go."""
    from ditto_hub.algorithm.base_model import pick_device
    from ditto_hub.algorithm.team import assist as serve

    seat = take_seat()
    if seat is not None:
        serve(seat, pick_device(device), token)


def open_policy(run: Run, device: str | None = None, token: str | None = None) -> Policy:
    """Load a run's base model with a fresh adapter, or its parent's, on it.

    Raises:
        BaseModelError: the base model cannot be loaded, or the parent's adapter does not fit it.
    """
    from ditto_hub.algorithm.base_model import load_base, pick_device

    return dress(run, *load_base(run.record.base_model, device=pick_device(device), token=token))


def dress(run: Run, model: Any, tokenizer: Any) -> Policy:
    """Put a fresh adapter of a run's shape, or its parent's, on a loaded base model.

    Raises:
        BaseModelError: the parent's adapter does not fit it.
    """
    from ditto_hub.algorithm.policy import Policy

    config = run.config
    policy = Policy(model, tokenizer, config.lora, config.seed, run.record.base_model)
    parent = run.folder / "parent"
    if parent.is_dir():
        policy.load_adapter(parent)
    return policy
