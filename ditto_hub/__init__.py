"""Align a language model to a few demonstrations with DITTO (arXiv 2406.00888).

Each function runs to its end when it is called and returns its result; a `stream` variant yields
the steps on the way. Names are imported when they are first used, so that this package loads at
once, without torch or gradio.
"""

from typing import TYPE_CHECKING

from ditto_hub.version import VERSION as __version__

if TYPE_CHECKING:
    from ditto_hub.api.adapters import Voice, load
    from ditto_hub.api.comparing import evaluate, stream_evaluate
    from ditto_hub.api.creation import check
    from ditto_hub.api.estimating import estimate_run as estimate
    from ditto_hub.api.exporting import export
    from ditto_hub.api.prompting import prompts_for
    from ditto_hub.api.publishing import publish, stream_publish
    from ditto_hub.api.training import resume, stream, stream_resume, train
    from ditto_hub.config import RunConfig, preset
    from ditto_hub.demos.demonstrations import Demonstration, DemoSet
    from ditto_hub.demos.findings import Finding
    from ditto_hub.errors import DittoError
    from ditto_hub.events import Event
    from ditto_hub.hub.publishing.options import PublishOptions
    from ditto_hub.hub.publishing.receipt import Receipt
    from ditto_hub.runs.folder import Run
    from ditto_hub.runs.results import Evaluation

__all__ = [
    "DemoSet",
    "Demonstration",
    "DittoError",
    "Evaluation",
    "Event",
    "Finding",
    "PublishOptions",
    "Receipt",
    "Run",
    "RunConfig",
    "Voice",
    "__version__",
    "check",
    "estimate",
    "evaluate",
    "export",
    "load",
    "preset",
    "prompts_for",
    "publish",
    "resume",
    "stream",
    "stream_evaluate",
    "stream_publish",
    "stream_resume",
    "train",
]

# name -> the module that has it, and its name there where that differs
_HOMES = {
    "DemoSet": "demos.demonstrations",
    "Demonstration": "demos.demonstrations",
    "DittoError": "errors",
    "Evaluation": "runs.results",
    "Event": "events",
    "Finding": "demos.findings",
    "PublishOptions": "hub.publishing.options",
    "Receipt": "hub.publishing.receipt",
    "Run": "runs.folder",
    "RunConfig": "config",
    "Voice": "api.adapters",
    "check": "api.creation",
    "estimate": "api.estimating:estimate_run",
    "evaluate": "api.comparing",
    "export": "api.exporting",
    "load": "api.adapters",
    "preset": "config",
    "prompts_for": "api.prompting",
    "publish": "api.publishing",
    "resume": "api.training",
    "stream": "api.training",
    "stream_evaluate": "api.comparing",
    "stream_publish": "api.publishing",
    "stream_resume": "api.training",
    "train": "api.training",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module, _, inside = _HOMES[name].partition(":")
    found: object = getattr(import_module(f"{__name__}.{module}"), inside or name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """Return every public name, imported already or not."""
    return sorted({*globals(), *__all__})
