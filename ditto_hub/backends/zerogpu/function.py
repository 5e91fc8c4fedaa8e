"""ZeroGPU's door: the one decorated function, and the base model that sits on the GPU.

Import this, and call `hold`, before the app is launched: what stands at module level then is packed
for the workers. The main process loads and keeps; it computes nothing, for a fork after threaded
computing hangs. Off ZeroGPU a lease runs in this process, by the same clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from queue import Empty
from typing import Any

from ditto_hub.backends.zerogpu.broker import Platform
from ditto_hub.backends.zerogpu.lease import Item, Opened, work_items, write_items
from ditto_hub.backends.zerogpu.refusals import Refusal, read_refusal
from ditto_hub.tokens import NOBODY

try:
    import spaces
except ImportError:  # not a Space
    spaces = None


@dataclass
class Resident:
    """Hold the base model that sits on the GPU from the start; `key` is (id, revision)."""

    key: tuple[str, str | None] = ("", None)
    model: Any = None
    tokenizer: Any = None


_resident = Resident()


def hold(base_model: Mapping[str, Any]) -> None:
    """Put a base model on the GPU at module level: in the main process, before the app's launch.

    Args:
        base_model: {id, revision}.

    Raises:
        BaseModelError: it cannot be loaded.
    """
    from ditto_hub.engine.base_model import load_base

    _resident.model, _resident.tokenizer = load_base(base_model, token=NOBODY)
    commit = getattr(_resident.model.config, "_commit_hash", None)
    _resident.key = (str(base_model["id"]), base_model.get("revision") or commit)


def holds(base_model: Mapping[str, Any]) -> bool:
    """Tell whether this very base model sits on the GPU already; no revision means any."""
    name, revision = _resident.key
    same = str(base_model["id"]) == name and base_model.get("revision") in (None, revision)
    return _resident.model is not None and same


def _open_base(order: Mapping[str, Any]) -> Opened:
    """Return the base model of an order, clean: the one on the GPU, or one loaded from disk."""
    from ditto_hub.engine.base_model import load_base, strip_adapters

    if holds(order["base_model"]):
        strip_adapters(_resident.model)
        return _resident.model, _resident.tokenizer
    fetched = {"id": order["weights"], "revision": None}
    loaded: Opened = load_base(fetched if order["weights"] else order["base_model"], token=NOBODY)
    return loaded


def _declared_s(order: Mapping[str, Any]) -> int:
    """Return the seconds a lease declares; the platform asks this of the lease's own order."""
    return int(order["declared_s"])


def _lease(order: dict[str, Any]) -> Iterator[Item]:
    """Do what an order says until its clock says stop. The one function that gets a GPU."""
    from ditto_hub.engine.base_model import free_memory

    items = work_items if order["task"] == "work" else write_items
    try:
        yield from items(order, lambda: _open_base(order))
    finally:
        free_memory()


# One decorated function for all: two never share a worker, nor what sits on its GPU.
gpu: Callable[[dict[str, Any]], Iterator[Item]] = (
    spaces.GPU(_lease, duration=_declared_s) if spaces else _lease
)


def on_zerogpu() -> bool:
    """Tell whether the platform's GPU is there to be leased."""
    return gpu is not _lease


def asked_factor() -> float:
    """Return the seconds of quota that admission asks for each declared one: 1.5 or 2 by size."""
    if not on_zerogpu():
        return 1.0
    from spaces.zero import client, default_gpu_size

    size = default_gpu_size()
    seconds = float(client.get_duration_seconds(timedelta(seconds=100), size))
    return seconds / 100 * (2.0 if size == "xlarge" else 1.0)


def charged_factor() -> float:
    """Return the seconds of quota that a second of use costs in the end."""
    if not on_zerogpu():
        return 0.0
    from spaces.zero import default_gpu_size

    return 2.0 if default_gpu_size() == "xlarge" else 1.0


def refusal_of(error: Exception) -> Refusal | None:
    """Return what an error of the platform means, or None where it is another's.

    Gradio's Error says by its title what it is about; the rest are RuntimeErrors, those of the
    platform's HTTP client, and `Empty` where a worker said nothing for twenty minutes.
    """
    if isinstance(error, Empty):
        return Refusal("aborted")
    if type(error).__module__.partition(".")[0] in ("httpx", "httpcore"):
        return read_refusal("ZeroGPU client error", "the device's API cannot be reached")
    title = str(getattr(error, "title", ""))
    return read_refusal(title, str(getattr(error, "message", error)))


PLATFORM = Platform(gpu, asked_factor, charged_factor, refusal_of)
