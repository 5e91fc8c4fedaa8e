"""One's own machine: CUDA, MPS or CPU, in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ditto_hub.backends.base import Driver
from ditto_hub.events import Event
from ditto_hub.runs import Run

if TYPE_CHECKING:
    from ditto_hub.algorithm.policy import Policy


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
        driver = Driver(
            run,
            lambda r: open_policy(r, self.device, token),
            should_stop,
            self.save_every_s,
        )
        return driver.events()


def open_policy(run: Run, device: str | None = None, token: str | None = None) -> Policy:
    """Load a run's base model with a fresh adapter, or its parent's, on it.

    Raises:
        BaseModelError: the base model cannot be loaded, or the parent's adapter does not fit it.
    """
    from ditto_hub.algorithm.base_model import load_base, pick_device
    from ditto_hub.algorithm.policy import Policy

    model, tokenizer = load_base(run.record.base_model, device=pick_device(device), token=token)
    config = run.config
    policy = Policy(model, tokenizer, config.lora, config.seed, run.record.base_model)
    parent = run.folder / "parent"
    if parent.is_dir():
        policy.load_adapter(parent)
    return policy
