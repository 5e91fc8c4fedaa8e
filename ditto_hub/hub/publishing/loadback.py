"""Prove that what was published loads: the same logits in a fresh process, or the same hashes."""

from __future__ import annotations

import contextlib
import json
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ditto_hub.errors import ConfigError
from ditto_hub.tokens import clean_environment
from ditto_hub.words import Message, Text

HOW = ("auto", "logits", "hashes")
SCRIPT = Path(__file__).with_name("loadback_script.py")
# Largest difference of a logit, relative to the largest logit, that arithmetic alone explains.
TOLERANCES = {"float32": 1e-3, "float16": 2e-2, "bfloat16": 6e-2}
LARGEST_BYTES = 4 * 1024**3
TIMEOUT_S = 900.0
FOLDER_PREFIX = "ditto-hub-load-back-"


@dataclass(frozen=True)
class LoadBack:
    """Hold what the check found.

    Args:
        status: passed, failed, or not-run where it could not be made.
        kind: logits, or hashes where the files alone were compared.
        message: the result in a sentence.
        on: largest relative difference of logits with the adapter on.
        off: the same with it off, against the base model.
        tolerance: what arithmetic alone explains for this dtype.
        versions: of what it was loaded with.
        seconds: how long it took.
    """

    status: Literal["passed", "failed", "not-run"]
    kind: Literal["logits", "hashes"]
    message: Text
    on: float | None = None
    off: float | None = None
    tolerance: float | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True)
class LoadBackQuestion:
    """Hold what is to be loaded.

    Args:
        repo: id of the adapter's repo.
        commit: the one just made.
        base: id of the base model.
        base_revision: its commit, or None.
        probe: path of the run's probe.safetensors.
        probed: the probe was made with this very adapter.
        base_bytes: size of the base model's weights.
        token: of the user; goes to the process by stdin.
        endpoint: of the Hub.
        quantised: the run's base model was in 4 bits, so its logits are not those of the whole one.
    """

    repo: str
    commit: str
    base: str
    base_revision: str | None
    probe: Path
    probed: bool
    base_bytes: int
    token: str = field(repr=False)
    endpoint: str = ""
    quantised: bool = False


def require_known(how: str) -> None:
    """Refuse an unknown way of checking.

    Raises:
        ConfigError: it is none of `HOW`.
    """
    if how not in HOW:
        raise ConfigError("hub.unknown_load_back", how=how, how2=", ".join(HOW))


def check_load_back(
    question: LoadBackQuestion, how: str = "auto", python: Path | None = None
) -> LoadBack:
    """Compare logits where this machine can load the base, else say that only hashes were.

    Args:
        how: auto, logits (insist) or hashes (the files were compared already).
        python: interpreter of another environment to load it in; None for this one.
    """
    if how == "hashes":
        return _hashes_only(Message("hub.hashes_asked_for"))
    if question.quantised:
        return _hashes_only(Message("hub.base_in_four_bits"))
    if not question.probe.is_file():
        return _hashes_only(Message("hub.no_probe"))
    if how == "auto" and (why := _too_large(question.base_bytes)):
        return _hashes_only(why)
    started = time.monotonic()
    remove_left_over()
    with tempfile.TemporaryDirectory(prefix=FOLDER_PREFIX) as home:
        try:
            answer = _ask(question, home, python or Path(sys.executable))
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            words = _last_line(error)
            return LoadBack(
                "failed" if "exit status" in str(error) else "not-run",
                "logits",
                Message("hub.not_loadable", error=words),
                seconds=time.monotonic() - started,
            )
    return _judge(answer, question.probed, time.monotonic() - started)


def remove_left_over() -> None:
    """Remove folders of processes that were killed: none at work is as old as two time limits."""
    oldest = time.time() - 2 * TIMEOUT_S
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*"):
        with contextlib.suppress(OSError):  # another process's removal, or another user's folder
            made = folder.lstat()
            if stat.S_ISDIR(made.st_mode) and made.st_mtime < oldest:
                shutil.rmtree(folder)


def _hashes_only(why: Message) -> LoadBack:
    return LoadBack("passed", "hashes", Message("hub.hashes_only", why=why))


def _too_large(base_bytes: int) -> Message | None:
    """Return why the base is too large to be loaded here; None where it is not."""
    free_disk = shutil.disk_usage(tempfile.gettempdir()).free
    limit = min(LARGEST_BYTES, free_disk * 2 // 3, _free_memory() // 2)
    if base_bytes <= limit:
        return None
    return Message("hub.base_too_large_here", size=base_bytes / 1024**3)


def _free_memory() -> int:
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
        return 1024 * next(int(x.split()[1]) for x in text.splitlines() if "MemAvailable" in x)
    except (OSError, StopIteration, ValueError):
        return 2 * LARGEST_BYTES


def _ask(question: LoadBackQuestion, home: str, python: Path) -> dict[str, Any]:
    asked = {
        "repo": question.repo,
        "commit": question.commit,
        "base": question.base,
        "base_revision": question.base_revision,
        "probe": str(question.probe.resolve()),
        "token": question.token,
        "endpoint": question.endpoint,
        "home": home,
    }
    done = subprocess.run(
        [str(python), str(SCRIPT)],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=True,
        cwd=home,
        env=clean_environment(),
    )
    answer = json.loads((done.stdout.strip().splitlines() or [""])[-1])
    if not isinstance(answer, dict):
        raise ValueError("no answer")
    return answer


def _last_line(error: Exception) -> str:
    stderr = getattr(error, "stderr", None) or ""
    lines = [line for line in stderr.splitlines() if line.strip()]
    return lines[-1][:300] if lines else str(error)[:300]


def _judge(answer: Mapping[str, Any], probed: bool, seconds: float) -> LoadBack:
    on, off, dtype = float(answer["on"]), float(answer["off"]), str(answer["dtype"])
    tolerance = TOLERANCES.get(dtype, TOLERANCES["float32"])
    good = off <= tolerance and (on <= tolerance or not probed)
    values = {"off": f"{off:.1e}", "dtype": dtype, "tolerance": f"{tolerance:.0e}"}
    if probed:
        code = "hub.logits_equal" if good else "hub.logits_differ"
        text = Message(code, on=f"{on:.1e}", **values)
        if float(answer["effect"]) < 2 * tolerance:
            text = Message("hub.small_effect", verdict=text)
    else:
        text = Message("hub.logits_equal_off" if good else "hub.logits_differ_off", **values)
    return LoadBack(
        "passed" if good else "failed",
        "logits",
        text,
        on if probed else None,
        off,
        tolerance,
        dict(answer["versions"]),
        seconds,
    )
