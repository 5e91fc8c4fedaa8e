"""One's own machine: CUDA, MPS or CPU, in this process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, cast

from ditto_hub.backends.driver import Driver
from ditto_hub.events import Event
from ditto_hub.runs.folder import Run
from ditto_hub.tokens import Token

if TYPE_CHECKING:
    from ditto_hub.engine.choice import AnyEngine
    from ditto_hub.engine.processes import Seat


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
        self, run: Run, should_stop: Callable[[], str] = lambda: "", *, token: Token | str
    ) -> Iterator[Event]:
        """Work on a run until it ends or is told to stop; see `Backend.drive`."""
        seat = take_seat()
        if seat is None:
            driver = Driver(
                run,
                lambda r: open_policy(r, self.device, token=token),
                should_stop,
                self.save_every_s,
            )
            return driver.events()
        return self._lead(run, seat, should_stop, token)

    def _lead(
        self, run: Run, seat: Seat, should_stop: Callable[[], str], token: Token | str
    ) -> Iterator[Event]:
        """Work on a run with the other processes that were launched; let them go at the end."""
        from ditto_hub.engine.base_model import pick_device
        from ditto_hub.engine.processes import TeamEngine, join

        teams: list[TeamEngine] = []

        def open_with_team(run: Run) -> AnyEngine:
            join(seat, pick_device(self.device))
            engine = open_policy(run, self.device, token=token, engine=TeamEngine)
            teams.append(engine)
            return cast("AnyEngine", engine)

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
    from ditto_hub.engine.processes import Seat

    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size < 2:
        return None
    address = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    seat = Seat(launched_as(), size, int(os.environ.get("LOCAL_RANK", "0")), address)
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        os.environ.pop(name, None)
    return seat


def assist(device: str | None = None, *, token: Token | str) -> None:
    """Compute for the first process until it lets this one go."""
    from ditto_hub.engine.base_model import pick_device
    from ditto_hub.engine.processes import assist as serve

    seat = take_seat()
    if seat is not None:
        serve(seat, pick_device(device), token)


def open_policy(
    run: Run,
    device: str | None = None,
    *,
    token: Token | str,
    engine: Callable[..., Any] | None = None,
) -> Any:
    """Load a run's base model with a fresh adapter, or its parent's, on it.

    Args:
        engine: builds the engine; default the one that runs this model best.

    Raises:
        BaseModelError: the base model cannot be loaded or is another than at the run's beginning,
            or the parent's adapter does not fit it.
    """
    from ditto_hub.engine.base_model import load_base, pick_device
    from ditto_hub.engine.fingerprint import require_same_base

    require_same_base(run.record.base_model)
    loaded = load_base(run.record.base_model, device=pick_device(device), token=token)
    return dress(run, *loaded, engine=engine)


def dress(
    run: Run, model: Any, tokenizer: Any, engine: Callable[..., Any] | None = None
) -> AnyEngine:
    """Put a fresh adapter of a run's shape, or its parent's, on a loaded base model.

    Args:
        engine: builds the engine; default the one that runs this model best.

    Raises:
        BaseModelError: the parent's adapter does not fit it.
    """
    from ditto_hub.engine.choice import open_engine

    config, build = run.config, engine or open_engine
    policy: AnyEngine = build(model, tokenizer, config.lora, config.seed, run.record.base_model)
    policy.token_budget = config.update.token_budget
    parent = run.folder / "parent"
    if parent.is_dir():
        policy.load_adapter(parent)
    return policy
