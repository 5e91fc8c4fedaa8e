"""Drive runs in forked processes that can be killed at a named place; run as a script.

Importing torch and TRL takes seconds, so one process imports them, does no work with them, and
forks for each line of JSON on its stdin: {"run": folder, "place": [name, n] or null,
"after_s": x or null, "save_every_s": x}. It answers on stdout with how the fork ended: "exit 0",
"signal 9", ...
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ditto_hub.backends import driver as base
from ditto_hub.backends.local import LocalBackend
from ditto_hub.ditto import loop, selection, update, warm_start
from ditto_hub.engine import fast as policy
from ditto_hub.events import Event, StageFinished
from ditto_hub.runs import folder as runs
from ditto_hub.tokens import NOBODY


def die(*_: Any, **__: Any) -> None:
    """End this process as `kill -9` does: nothing is cleaned up."""
    os.kill(os.getpid(), signal.SIGKILL)


def before(owner: Any, name: str, wanted: Callable[..., bool] = lambda *_, **__: True) -> Any:
    """Return a place: before the n-th wanted call of a function."""

    def arm(n: int) -> None:
        inner, left = getattr(owner, name), iter(range(n - 1))

        def call(*args: Any, **kwargs: Any) -> Any:
            if wanted(*args, **kwargs) and next(left, None) is None:
                die()
            return inner(*args, **kwargs)

        setattr(owner, name, call)

    return arm


def after(owner: Any, name: str, wanted: Callable[..., bool] = lambda *_, **__: True) -> Any:
    """Return a place: after the n-th wanted call of a function."""

    def arm(n: int) -> None:
        inner, left = getattr(owner, name), iter(range(n - 1))

        def call(*args: Any, **kwargs: Any) -> Any:
            found = inner(*args, **kwargs)
            if wanted(*args, **kwargs) and next(left, None) is None:
                die()
            return found

        setattr(owner, name, call)

    return arm


def half_written(n: int) -> None:
    """Arm the middle of the n-th write: half of the temporary file is there, under no name."""
    left = iter(range(n - 1))
    inner = os.fsync

    def fsync(fd: int) -> None:
        if next(left, None) is None:
            os.ftruncate(fd, os.fstat(fd).st_size // 2)
            die()
        inner(fd)

    os.fsync = fsync


def to(name: str) -> Callable[..., bool]:
    """Return a test for renames onto a path of this name."""
    return lambda _, target: Path(target).name == name


def stage_ended(_: object, event: Event) -> bool:
    return isinstance(event, StageFinished)


PLACES: dict[str, Callable[[int], None]] = {
    "in the middle of a write": half_written,
    "in the middle of sampling": before(policy.FastEngine, "_next_logits"),
    "in the middle of an update, after its backward pass": after(
        policy.FastEngine, "backward", lambda *a: a[3] is None
    ),
    "in an update, between two steps": before(update, "PreferenceLoss"),
    "in the warm start, after its backward pass": before(torch.nn.utils, "clip_grad_norm_"),
    "after a stage, before its state is saved": after(base.Driver, "_put", stage_ended),
    "while saving the state": before(os, "replace", to("state.safetensors")),
    "just after saving the state": after(os, "replace", to("state.safetensors")),
    "while saving the record": before(os, "replace", to("run.json")),
    "while writing a candidate": before(os, "replace", to("adapter_model.safetensors")),
    "while writing rollouts": before(os, "replace", lambda _, to: "rollouts" in str(to)),
    "while scoring": before(selection, "measure"),
    "while scoring under the reference": before(warm_start, "score_under_reference"),
    "in sft-long": after(warm_start, "_train_step", lambda *a: a[2] == 4),
    "while choosing": before(loop, "choose"),
    "while replacing adapter/": before(os, "replace", to("adapter")),
    "after replacing adapter/": after(os, "replace", to("adapter")),
    "while writing the probe": before(os, "replace", to("probe.safetensors")),
    "after the run is finished, while its state goes": before(runs.Run, "clear_state"),
}


def drive(job: dict[str, Any]) -> None:
    """Drive the run to its end, or to where it is killed."""
    if job["place"]:
        name, n = job["place"]
        PLACES[name](n)
    run = runs.Run.load(job["run"])
    for _ in LocalBackend("cpu", job["save_every_s"]).drive(run, token=NOBODY):
        pass


def fork(job: dict[str, Any]) -> str:
    """Do a job in a process of its own and tell how that ended."""
    child = os.fork()
    if child == 0:
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            drive(job)
            os._exit(0)
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)
    if job["after_s"] is not None:
        time.sleep(job["after_s"])
        os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return f"signal {-code}" if code < 0 else f"exit {code}"


if __name__ == "__main__":
    for line in sys.stdin:
        print(fork(json.loads(line)), flush=True)
