"""From demonstrations to a finished run, and its publication."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ditto_hub import pocket
from ditto_hub.backends.base import Backend
from ditto_hub.backends.local import LocalBackend, assist, launched_as
from ditto_hub.config import RunConfig, preset
from ditto_hub.demos import DemoSet, Finding, check, require_usable
from ditto_hub.errors import RunError
from ditto_hub.events import Event, RunFinished
from ditto_hub.importers import load_demos
from ditto_hub.runs import Run

if TYPE_CHECKING:
    from ditto_hub.hub.publish import PublishStep
    from ditto_hub.hub.receipt import Receipt

Stop = Callable[[], str]


def read_demos(source: str | Path) -> DemoSet:
    """Read demonstrations from a file, or a set shipped in the package as "example:NAME".

    Raises:
        DemoError: the file or the set is missing or unusable.
    """
    return load_demos(_demo_path(source))


def check_demos(
    source: str | Path | DemoSet, base_model: str | None = None
) -> tuple[DemoSet, list[Finding]]:
    """Return demonstrations and what is wrong or could be better with them.

    Args:
        source: file, "example:NAME", or the demonstrations.
        base_model: counts lengths in its tokens where given.

    Raises:
        DemoError: nothing could be read.
    """
    demos = source if isinstance(source, DemoSet) else read_demos(source)
    if base_model is None:
        return demos, check(demos)
    from ditto_hub.algorithm.base_model import load_format

    return demos, check(demos, load_format(base_model).count)


def default_config(base_model: str, seed: int = 0) -> RunConfig:
    """Return the preset a base model gets when none is asked for: pocket's own, else fast."""
    return preset("pocket" if base_model == "pocket" else "fast", seed)


def create_run(
    demos: DemoSet | str | Path,
    base_model: str = "pocket",
    config: RunConfig | None = None,
    *,
    output: str | Path | None = None,
    owner: str | None = None,
    parent: Run | None = None,
    revision: str | None = None,
    token: str | None = None,
) -> Run:
    """Check the input, then make a run folder; nothing is trained yet.

    Args:
        demos: the demonstrations, a file of them, or "example:NAME".
        base_model: pocket, a Hub id or a folder.
        config: settings; default the base model's preset, or the parent's.
        output: the run's folder; default a new one under the home folder.
        owner: Hub user name or browser secret; None for the machine's own user.
        parent: a finished run to start from: its adapter is trained on, and its demonstrations
            come before the new ones.
        revision: of the base model on the Hub.
        token: of the Hub, to read a private or gated base model.

    Raises:
        DemoError, BaseModelError, ConfigError, RunError, StorageError: with what to do.
    """
    from ditto_hub.hub.preflight import preflight
    from ditto_hub.hub.preflight import require_usable as require_base

    given = demos if isinstance(demos, DemoSet) else read_demos(demos)
    if parent is not None:
        base_model = str(parent.record.base_model["id"])
        revision = parent.record.base_model.get("revision")
        config = config or parent.config
        given = join_demos(parent.demos(), given)
    config = config or default_config(base_model)
    require_usable(given)
    held_out = config.selection.held_out
    given = given.split(None if held_out < 0 else held_out, config.seed)
    found = require_base(preflight(base_model, token, revision))
    where = str(Path(base_model).resolve()) if Path(base_model).is_dir() else base_model
    base = {"id": where, "revision": found.revision, "licence": found.licence.to_json()}
    if config.base.quantize != "none":
        base["quantize"] = config.base.quantize
    run = Run.create(given, base, config, Path(output) if output else None, owner)
    if parent is not None:
        inherit(run, parent)
    if not isinstance(demos, DemoSet):
        _keep_traits(run, _demo_path(demos))
    return run


def join_demos(old: DemoSet, new: DemoSet) -> DemoSet:
    """Return a parent's demonstrations followed by those of `new` that are not among them."""
    have = {(d.prompt_key, d.completion) for d in old}
    taken = {d.id for d in old}
    joined = list(old)
    for demo in new:
        if (demo.prompt_key, demo.completion) in have:
            continue
        name, n = demo.id, len(joined) + 1
        while name in taken:
            name, n = f"demo-{n}", n + 1
        taken.add(name)
        joined.append(replace(demo, id=name))
    return DemoSet(tuple(joined))


def inherit(run: Run, parent: Run) -> None:
    """Let a new run start from a finished one's adapter, and write down which.

    Raises:
        RunError: the parent has no adapter.
    """
    folder = parent.candidate()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        run.write(f"parent/{name}", (folder / name).read_bytes())
    run.record.parent = parent.record.id
    run.save_record()


def drive(
    run: Run,
    *,
    backend: Backend | None = None,
    should_stop: Stop = lambda: "",
    token: str | None = None,
) -> Iterator[Event]:
    """Work on a run, from where it stands, and yield its events; closing this pauses it.

    Raises:
        DittoError: whatever stopped it; the run is kept.
    """
    marker = run.folder / ".cancel"
    marker.unlink(missing_ok=True)

    def stop() -> str:
        return "cancel" if marker.exists() else should_stop()

    from ditto_hub.api.estimating import Watch

    watch = Watch(run)
    for event in (backend or LocalBackend()).drive(run, stop, token):
        watch.see(event)
        if isinstance(event, RunFinished):
            write_card(run)
        yield event
    marker.unlink(missing_ok=True)


def assisting(token: str | None = None) -> bool:
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
    backend: Backend | None = None,
    **options: Any,
) -> Iterator[Event]:
    """Make a run and yield its events as they happen; see `create_run` for the arguments."""
    run = create_run(demos, base_model, config, **options)
    yield from drive(run, backend=backend, token=options.get("token"))


def train(
    demos: DemoSet | str | Path,
    base_model: str = "pocket",
    config: RunConfig | None = None,
    **options: Any,
) -> Run:
    """Turn demonstrations into an adapter and return the finished run; see `create_run`.

    Raises:
        DittoError: whatever stopped it; the run is kept.
    """
    run = create_run(demos, base_model, config, **options)
    for _ in drive(run, token=options.get("token")):
        pass
    return run


def resume(run: Run, **options: Any) -> Run:
    """Go on with a run until it is finished; see `drive`."""
    for _ in drive(run, **options):
        pass
    return run


def publish(
    run: Run, repo_id: str, *, token: str | None = None, **options: Any
) -> Generator[PublishStep, None, Receipt]:
    """Publish a run's adapter to the user's own Hub repo, saying each step before it is taken.

    Args:
        run: with an `adapter/`.
        repo_id: USER/NAME, or NAME in the user's own namespace.
        token: of the user; None takes the one saved on this machine.
        options: fields of `hub.publish.PublishOptions`.

    Returns:
        The receipt, as the generator's value.

    Raises:
        RunError, ConfigError, BaseModelError, HubError: the run is untouched; another call goes on.
    """
    from ditto_hub.hub.publish import PublishOptions, publish_steps

    return publish_steps(run, repo_id, token=token, options=PublishOptions(**options))


def cancel(run: Run, token: str | None = None) -> None:
    """Cancel a run, whichever process or job works on it: what it has is kept, and it can resume.

    Args:
        token: of the Hub, to stop a job.

    Raises:
        RunError: the run is finished.
        HubError: its job could not be stopped.
    """
    from ditto_hub.api.jobs import cancel_job, has_job

    if run.record.status == "finished":
        raise RunError(f"Run {run.record.id} is finished.", "There is nothing to cancel.")
    if has_job(run):
        cancel_job(run, token)
        return
    run.write(".cancel", b"")
    with contextlib.suppress(BlockingIOError), run.lock():
        run.record.status = "cancelled"
        run.save_record()
        (run.folder / ".cancel").unlink(missing_ok=True)


def write_card(run: Run) -> None:
    """Write the adapter's README.md and its pictures from the record and the evaluations."""
    from ditto_hub.hub.publish import local_card

    files = local_card(run)
    for name, data in files.items():
        run.write(f"adapter/{name}", data)
    for old in (run.folder / "adapter").glob("*.png"):
        if old.name not in files:
            old.unlink()


def _keep_traits(run: Run, demos: Path) -> None:
    """Copy what the grammar's judge and the comparison need from beside a demonstrations file."""
    for suffix, name in ((".traits.json", "traits.json"), (".prompts.jsonl", "prompts.jsonl")):
        beside = demos.with_name(demos.stem + suffix)
        if beside.is_file():
            run.write(name, beside.read_bytes())


def _demo_path(source: str | Path) -> Path:
    text = str(source)
    if text.startswith("example:"):
        return pocket.voice_path(text.removeprefix("example:"))
    return Path(text)
