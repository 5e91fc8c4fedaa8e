"""Align a language model to a few demonstrations with DITTO (arXiv 2406.00888)."""

from typing import Any

__version__ = "0.1.0"
__all__ = [
    "DemoSet",
    "Demonstration",
    "Run",
    "RunConfig",
    "evaluate",
    "load",
    "preset",
    "resume",
    "stream",
    "train",
]

_HOMES = {
    "Demonstration": "demos",
    "DemoSet": "demos",
    "Run": "runs",
    "RunConfig": "config",
    "preset": "config",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for, so that this package loads in an instant."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'api')}"), name)
