"""A small Gradio app over `api.work` and `api.write`, started as a Space on ZeroGPU starts.

`--base FOLDER` puts a base model on the GPU at module level. In a run's folder, `die.json` makes
the worker kill itself at the event it names, [stage, step, type], as the platform would: once; and
as long as there is a `hang` the worker does nothing after its first step.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import spaces  # noqa: F401  first, as in a Space's app.py

from ditto_hub.tokens import NOBODY

# isort: split
import gradio as gr

from ditto_hub import api
from ditto_hub.backends.driver import Driver
from ditto_hub.backends.zerogpu import function as zerogpu
from ditto_hub.cost.profiles import load_profile
from ditto_hub.errors import LeaseError
from ditto_hub.events import Event
from ditto_hub.runs.folder import Run

PARENT = os.getpid()
SPACE = replace(load_profile("zerogpu"), name="own")  # which may name folders, as tests do
put = Driver._put


def die_there(self: Driver, event: Event) -> Event:
    """Write an event down; end the worker where the run's folder says so."""
    done = put(self, event)
    path = self.run.folder / "die.json"
    if os.getpid() != PARENT and path.is_file():
        there = json.loads(path.read_text())
        if (event.stage, event.step, type(event).__name__) == tuple(there):
            path.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
    while event.step and (self.run.folder / "hang").is_file():
        time.sleep(0.02)
    return done


Driver._put = die_there  # type: ignore[method-assign]


def work(run: str, owner: str, cap_s: float) -> Iterator[str]:
    """Take one lease; yield events as JSON."""
    profile = replace(SPACE, lease_cap_s=int(cap_s))
    for event in api.work(Run.load(run), profile, visitor=owner, token=NOBODY):
        yield json.dumps(event.to_json())


def write(target: str, requests: str, owner: str) -> str:
    """Write texts in one lease; return them as JSON."""
    wanted = [api.WriteRequest(**row) for row in json.loads(requests)]
    try:
        texts: Any = api.write(target, wanted, SPACE, visitor=owner, token=NOBODY)
    except LeaseError as error:
        refusal: Any = error.refusal
        texts = {**refusal.to_json(), "words": error.what}
    return json.dumps(texts)


def main() -> None:
    """Build, launch, and say on which port."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--base", default="")
    given = parser.parse_args()
    assert zerogpu.on_zerogpu()
    if given.base:
        zerogpu.hold({"id": given.base, "revision": None})
    import ditto_hub.ditto.loop  # noqa: F401  as api.prepare does

    with gr.Blocks() as app:
        boxes = [gr.Textbox(), gr.Textbox(), gr.Number()]
        texts = [gr.Textbox(), gr.Textbox(), gr.Textbox()]
        out = gr.Textbox()
        gr.Button().click(work, boxes, out, api_name="work", concurrency_limit=4)
        gr.Button().click(write, texts, out, api_name="write")
    app.queue(max_size=20)
    app.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1")
    print(f"listening on {app.server_port}", flush=True)
    signal.pause()  # until the test ends this; waiting on stdin would hang every fork


if __name__ == "__main__":
    main()
