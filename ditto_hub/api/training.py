"""From demonstrations to a finished run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from ditto_hub.api.creation import create_run
from ditto_hub.api.estimating import Watch
from ditto_hub.api.notices import NO_CARD, refresh_card
from ditto_hub.backends.driver import Backend
from ditto_hub.backends.local import LocalBackend, assist, launched_as
from ditto_hub.config import RunConfig
from ditto_hub.demos.demonstrations import DemoSet
from ditto_hub.events import Event, Noticed, RunFinished
from ditto_hub.runs.folder import Run
from ditto_hub.runs.storage import told_as_storage_error
from ditto_hub.tokens import MACHINE, Token
from ditto_hub.words import Text

Stop = Callable[[], str]


def drive(
    run: Run,
    *,
    backend: Backend | None = None,
    should_stop: Stop = lambda: "",
    token: Token | str,
) -> Iterator[Event]:
    """Work on a run, from where it stands, and yield its events; closing this pauses it.

    Raises:
        DittoError: whatever stopped it; the run is kept.
    """
    marker = run.folder / ".cancel"
    with told_as_storage_error(marker):
        marker.unlink(missing_ok=True)

    def stop() -> str:
        return "cancel" if marker.exists() else should_stop()

    watch = Watch(run)
    message: Text = ""
    for event in (backend or LocalBackend()).drive(run, stop, token=token):
        watch.see(event)
        if isinstance(event, RunFinished):
            message = refresh_card(run)
        yield event
        if message:
            told = Noticed(code=NO_CARD, message=message)
            told = replace(told, run_id=event.run_id, seq=event.seq + 1, time=event.time)
            run.append_events([told])
            yield told
    with told_as_storage_error(marker):
        marker.unlink(missing_ok=True)


def assisting(token: Token | str) -> bool:
    """Compute for the first of several launched processes, where this is another; tell whether.

    Args:
        token: of the Hub, to read a private or gated base model.

    Raises:
        BaseModelError: the base model cannot be loaded.
    """
    if launched_as() == 0:
        return False
    assist(token=token)
    return True


def stream(
    demos: DemoSet | str | Path,
    base_model: str = "pocket",
    config: RunConfig | None = None,
    *,
    output: str | Path | None = None,
    owner: str | None = None,
    parent: Run | None = None,
    revision: str | None = None,
    token: Token | str = MACHINE,
    backend: Backend | None = None,
) -> Iterator[Event]:
    """Make a run and yield its events as they happen; closing this pauses the run.

    Args: as `train`.

    Raises:
        DittoError: whatever stopped it; the run is kept.
    """
    run = create_run(
        demos, base_model, config, output=output, owner=owner, parent=parent, revision=revision,
        token=token,
    )  # fmt: skip
    yield from drive(run, backend=backend, token=token)


def train(
    demos: DemoSet | str | Path,
    base_model: str = "pocket",
    config: RunConfig | None = None,
    *,
    output: str | Path | None = None,
    owner: str | None = None,
    parent: Run | None = None,
    revision: str | None = None,
    token: Token | str = MACHINE,
    backend: Backend | None = None,
) -> Run:
    """Turn demonstrations into an adapter and return the finished run.

    Args:
        demos: the demonstrations, a file of them, or "example:NAME".
        base_model: pocket, a Hub id or a folder.
        config: settings; default the base model's preset, or the parent's.
        output: the run's folder; default a new one under the home folder.
        owner: Hub user name or browser secret; None for the machine's own user.
        parent: a finished run to start from.
        revision: of the base model on the Hub.
        token: of the Hub, to read a private or gated base model.
        backend: what works on the run; default this machine.

    Raises:
        DittoError: whatever stopped it; the run is kept.
    """
    run = create_run(
        demos, base_model, config, output=output, owner=owner, parent=parent, revision=revision,
        token=token,
    )  # fmt: skip
    return resume(run, backend=backend, token=token)


def stream_resume(
    run: Run,
    *,
    backend: Backend | None = None,
    should_stop: Stop = lambda: "",
    token: Token | str = MACHINE,
) -> Iterator[Event]:
    """Continue a run and yield its events as they happen; closing this pauses the run.

    Args:
        run: created, paused, cancelled or failed.
        backend: what works on the run; default this machine.
        should_stop: asked at every step; a reason pauses the run, "cancel" cancels it.
        token: of the Hub, to read a private or gated base model.

    Raises:
        DittoError: whatever stopped it; the run is kept.
    """
    return drive(run, backend=backend, should_stop=should_stop, token=token)


def resume(
    run: Run,
    *,
    backend: Backend | None = None,
    should_stop: Stop = lambda: "",
    token: Token | str = MACHINE,
) -> Run:
    """Continue a run until it is finished, and return it.

    Args: as `stream_resume`.

    Raises:
        DittoError: whatever stopped it; the run is kept.
    """
    for _ in drive(run, backend=backend, should_stop=should_stop, token=token):
        pass
    return run
