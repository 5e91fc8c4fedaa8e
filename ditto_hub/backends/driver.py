"""What a backend is, and the driver that saves what the loop yields.

The loop computes and yields; the driver stamps its events, writes its artifacts and its state
through runs.py, and starts it again from any saved state. A backend decides where that happens.
"""

from __future__ import annotations

import importlib.metadata
import logging
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from ditto_hub import events as ev
from ditto_hub.errors import DittoError, RunError, StorageError
from ditto_hub.runs.folder import Run
from ditto_hub.runs.storage import require_plain_files
from ditto_hub.tokens import Token

if TYPE_CHECKING:
    from ditto_hub.engine.choice import AnyEngine

log = logging.getLogger(__name__)
PACKAGES = ("ditto-hub", "torch", "transformers", "peft", "trl", "accelerate")


class Backend(Protocol):
    """A place where runs execute."""

    def drive(
        self, run: Run, should_stop: Callable[[], str], *, token: Token | str
    ) -> Iterator[ev.Event]:
        """Work on a run until it ends or is told to stop.

        Args:
            run: created, paused, cancelled or failed.
            should_stop: asked at every checkpoint; a reason pauses the run, "" goes on, and
                "cancel" cancels it.
            token: of the Hub, to read a private base model.
        """
        ...


class Driver:
    """Drive one run in this process.

    Args:
        run: whose folder is written.
        open_policy: loads the base model and puts an adapter of the run's shape on it.
        should_stop: see `Backend.drive`.
        save_every_s: seconds between two saves of the state within a stage, or ten times what a
            save takes where that is more; 0 saves at every point.

    Attributes:
        opening: events to begin with, before the base model is loaded.
        save_s: seconds that the longest save took.
    """

    def __init__(
        self,
        run: Run,
        open_policy: Callable[[Run], AnyEngine],
        should_stop: Callable[[], str] = lambda: "",
        save_every_s: float = 5.0,
    ) -> None:
        self.run = run
        self.open_policy = open_policy
        self.should_stop = should_stop
        self.save_every_s = save_every_s
        self.opening: tuple[ev.Event, ...] = ()
        self.save_s = 0.0
        self._seq = 0
        self._stage = ""
        self._since = 0.0

    def events(self) -> Iterator[ev.Event]:
        """Yield the run's events until it finishes, pauses, or fails; closing this pauses it.

        Raises:
            RunError: the run cannot be resumed, or somebody else is working on it.
            DittoError: whatever stopped it, after a `RunFailed` event.
        """
        run = self.run
        with run.lock():
            run.record = Run.load(run.folder).record  # another process may have worked meanwhile
            if run.record.status == "finished":
                raise RunError("backends.nothing_to_resume", run_id=run.record.id)
            run.sweep()
            require_plain_files(run.folder)
            yield from self._locked()

    def _locked(self) -> Iterator[ev.Event]:
        run, record = self.run, self.run.record
        self._seq = run.next_seq()
        resumed = run.load_state() is not None
        record.status, record.error = "running", None
        record.versions = versions()
        run.save_record()
        try:
            for event in self.opening:
                yield self._put(event)
            policy = self.open_policy(run)
            record.hardware = hardware(policy)
            yield self._put(self._started(resumed))
            yield from self._loop(policy)
        except GeneratorExit:
            if record.status == "running":
                self._end("paused")
            raise
        except KeyboardInterrupt:
            if record.status == "running":
                self._end("paused", ev.RunPaused(reason="interrupted"))
            raise
        except Exception as error:  # the backend's boundary: told as an event, raised for operators
            yield from self._fail(error)
            raise

    def _loop(self, policy: AnyEngine) -> Iterator[ev.Event]:
        from ditto_hub.ditto.loop import ditto
        from ditto_hub.ditto.state import Artifact, Checkpoint

        run = self.run
        loop = ditto(policy, run.demos(), run.config, run.load_state())
        saved = self._since = time.monotonic()
        try:
            for item in loop:
                if isinstance(item, ev.Event):
                    yield self._put(item)
                elif isinstance(item, Artifact):
                    run.write(item.path, item.data)
                elif isinstance(item, Checkpoint):
                    why = self.should_stop()
                    pause = max(self.save_every_s, 10 * self.save_s) if self.save_every_s else 0.0
                    if why or item.boundary or time.monotonic() - saved >= pause:
                        self._save(item)
                        saved = time.monotonic()
                    if why:
                        yield self._stop(why)
                        return
        except GeneratorExit:
            for item in loop if run.record.status == "running" else ():
                if isinstance(item, ev.Event):  # on to the next point where it may stop
                    self._put(item)
                elif isinstance(item, Artifact):
                    run.write(item.path, item.data)
                elif isinstance(item, Checkpoint):
                    self._save(item)
                    break
            raise
        self._clock("")
        yield from self._finish(policy)

    def _started(self, resumed: bool) -> ev.RunStarted:
        from ditto_hub.ditto.loop import plan

        demos = self.run.demos()
        return ev.RunStarted(
            base_model=str(self.run.record.base_model["id"]),
            demonstrations=len(demos.train),
            held_out=len(demos.held_out),
            total_stages=len(plan(self.run.config)),
            resumed=resumed,
        )

    def _finish(self, policy: AnyEngine) -> Iterator[ev.Event]:
        """Write the chosen adapter and its probe; the run is done."""
        run, record = self.run, self.run.record
        assert record.chosen is not None
        folder = run.candidate(record.chosen)
        policy.load_adapter(folder)
        files = {f: (folder / f).read_bytes() for f in ADAPTER_FILES}
        run.replace_folder("adapter", {**policy.tokenizer_files(), **files})
        run.write("probe.safetensors", make_probe(run, policy))
        seconds = sum(record.stage_seconds.values())
        record.status = "finished"
        done = ev.RunFinished(
            chosen=record.chosen,
            seconds=seconds,
            stopped_early=record.stopped_early,
        )
        event = self._put(done)
        run.save_record()
        run.clear_state()
        yield event

    def _put(self, event: ev.Event) -> ev.Event:
        """Stamp an event, write it down, and fold it into the record."""
        record = self.run.record
        event = replace(event, run_id=record.id, seq=self._seq, time=time.time())
        self._seq += 1
        self.run.append_events([event])
        if isinstance(event, ev.StageStarted):
            self._clock(event.stage)
        elif isinstance(event, ev.StageFinished):
            self._clock("")
            if event.reason and event.stage in ("sampling", "update"):
                record.stopped_early = event.reason
        fold(record, event)
        if isinstance(event, ev.StageFinished | ev.CandidateScored | ev.CandidateChosen):
            self.run.save_record()
        return event

    def _clock(self, stage: str) -> None:
        """Add the time since the last call to the stage that ran, and begin another."""
        now = time.monotonic()
        if self._stage:
            seconds = self.run.record.stage_seconds
            seconds[self._stage] = seconds.get(self._stage, 0.0) + now - self._since
        self._stage, self._since = stage, now

    def _save(self, point: Any) -> None:
        began = time.monotonic()
        self._clock(self._stage)
        self.run.save_state(point.save())
        self.run.save_record()
        self.save_s = max(self.save_s, time.monotonic() - began)

    def _stop(self, why: str) -> ev.Event:
        event: ev.Event = ev.RunPaused(reason=why)
        if why == "cancel":
            event = ev.RunCancelled()
        return self._end("cancelled" if why == "cancel" else "paused", event)

    def _end(self, status: str, event: ev.Event | None = None) -> ev.Event:
        self._clock("")
        self.run.record.status = status
        event = self._put(event or ev.RunPaused(reason="closed"))
        self.run.save_record()
        return event

    def _fail(self, error: Exception) -> Iterator[ev.Event]:
        what = error.happened if isinstance(error, DittoError) else type(error).__name__
        if not isinstance(error, DittoError):
            log.exception("run %s failed", self.run.record.id)
        self.run.record.error = {"type": type(error).__name__, "message": what}
        try:
            yield self._end("failed", ev.RunFailed(error=type(error).__name__, message=what))
        except StorageError:
            log.error("run %s failed and its folder cannot be written", self.run.record.id)


ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


def fold(record: Any, event: ev.Event) -> None:
    """Fold one event into the run record."""
    if isinstance(event, ev.StageFinished):
        entry = {"name": event.stage, "round": event.round, "seconds": event.seconds}
        same = [s for s in record.stages if (s["name"], s["round"]) != (event.stage, event.round)]
        record.stages = [*same, {**entry, "reason": event.reason}]
    elif isinstance(event, ev.CandidateScored):
        record.candidates[event.name] = {
            "scores": ev.finite(event.scores),
            "degenerate": event.degenerate,
            "round": event.round,
        }
    elif isinstance(event, ev.OrderMeasured):
        same = [o for o in record.order if o["round"] != event.round]
        measured = {"rewards": ev.finite(event.rewards), "ordered": event.ordered}
        record.order = [*same, {"round": event.round, **measured}]
    elif isinstance(event, ev.CandidateChosen):
        record.chosen = event.name
        record.chosen_rule = event.rule
        record.chosen_reason = event.reason
    elif isinstance(event, ev.GraphsRecorded):
        known = record.hardware.get("cuda_graphs", {"recorded": 0, "replayed": 0})
        record.hardware["cuda_graphs"] = {
            "recorded": known["recorded"] + event.recorded,
            "replayed": known["replayed"] + event.replayed,
            "fallback": event.fallback,
        }
    elif isinstance(event, ev.Noticed):
        record.notices.append({"code": event.code, "message": event.message})


def make_probe(run: Run, policy: AnyEngine) -> bytes:
    """Return what a load-back of the adapter that the policy wears is compared with."""
    from ditto_hub.engine.probe import probe

    prompts = [policy.format.prompt_ids(demo.prompt) for demo in run.demos().train[:3]]
    return probe(policy, prompts)


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages a result depends on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def hardware(policy: AnyEngine) -> dict[str, Any]:
    """Return what the run executes on."""
    return {"device": policy.device.type, "name": policy.device_name(), "dtype": policy.dtype_name}
