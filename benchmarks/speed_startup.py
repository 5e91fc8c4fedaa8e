"""Start-up: how long until the package, the help text, the first token and the first progress."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from typing import Any

from speed_timing import spread

FIRST_TOKEN = """
from ditto_hub.engine.base_model import load_base
from ditto_hub.engine.fast import FastEngine
from ditto_hub.config import Lora, Sampling
from ditto_hub.tokens import NOBODY
base = {"id": "pocket", "revision": None}
policy = FastEngine(*load_base(base, token=NOBODY), Lora(), 0, base)
prompt = policy.format.prompt_ids([{"role": "user", "content": "Write an email to the lab."}])
assert policy.sample([prompt], [[1]], Sampling(), 1)
"""
FIRST_EVENT = """
import ditto_hub
for event in ditto_hub.stream("example:harbor", base_model="pocket", output="run"):
    if type(event).__name__ == "StepTaken":
        break
"""
ACTS = {
    "import ditto_hub": ["-c", "import ditto_hub"],
    "--help": ["-m", "ditto_hub", "--help"],
    "first token": ["-c", FIRST_TOKEN],
    "first progress event": ["-c", FIRST_EVENT],
}


def measure(turns: int) -> dict[str, Any]:
    """Return CPU and wall seconds of a fresh process for each act, in interleaved turns."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ACTS}
    for _ in range(turns):
        for name, arguments in ACTS.items():
            taken[name].append(_run(arguments))
    return {
        name: {"cpu_s": spread([c for c, _ in got]), "wall_s": spread([w for _, w in got])}
        for name, got in taken.items()
    }


def _run(arguments: list[str]) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, *arguments],
            check=True,
            cwd=folder,
            capture_output=True,
            env={**os.environ, "DITTO_HUB_HOME": folder, "HF_HUB_OFFLINE": "1"},
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, time.perf_counter() - began
