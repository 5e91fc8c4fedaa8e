"""An app that is built and not served, and its handlers by name."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from types import SimpleNamespace
from typing import Any

import gradio as gr

from ditto_hub.cost.profiles import load_profile
from ditto_hub.ui.app import build_app

SECRET = "s" * 43


@cache
def built(profile: str) -> gr.Blocks:
    """Build a profile's app once, in a thread of its own, for Gradio wants a loop without others.

    Playwright's loop may run in this one.
    """

    async def build() -> gr.Blocks:
        return build_app(load_profile(profile))

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, build()).result()


def handler(profile: str, name: str) -> Callable[..., Any]:
    """Return an app's handler by its name; one that `on` wired takes who asks before its inputs."""
    for block in built(profile).fns.values():
        function = inspect.unwrap(block.fn) if block.fn else None
        act = getattr(function, "act", function)  # of a handler that `on` wired
        act = getattr(act, "func", act)
        if getattr(act, "__qualname__", "").rpartition(".")[2] == name:
            return function  # type: ignore[return-value]
    raise LookupError(name)


def request(**query: str) -> Any:
    """Return what Gradio gives a handler as the request."""
    return SimpleNamespace(headers={}, query_params=query, username=None)
