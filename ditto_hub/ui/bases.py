"""The base model a visitor names: what may be named here, and how its tokens are counted."""

from __future__ import annotations

import gc
import re
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

from ditto_hub import api
from ditto_hub.advice import advise
from ditto_hub.demos import DemoSet, Finding
from ditto_hub.errors import BaseModelError, DittoError
from ditto_hub.profiles import Profile
from ditto_hub.runs import Run
from ditto_hub.ui.limits import release_memory
from ditto_hub.ui.render import notice
from ditto_hub.ui.words import say, tell

WORDS = {"base.usable": "{base} can be used; its weights are {gb} GB."}
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
BYTES_A_TOKEN = 4


def require_base(base_model: str, profile: Profile) -> str:
    """Return a base model's id if a visitor may name it here.

    Raises:
        BaseModelError: it is not offered, or no id; a folder may be named on one's own machine.
    """
    name = (base_model or "").strip()
    if profile.base(name) is not None:
        return name
    if not profile.any_base_model:
        offered = ", ".join(base.id for base in profile.base_models)
        raise BaseModelError(f"{name!r} is not offered here.", f"Choose one of {offered}.")
    if profile.name == "own" and Path(name).is_dir() and name:
        return name
    if not HUB_ID.fullmatch(name) or Path(name).exists():
        raise BaseModelError(
            f"{name!r} is no model id.", "An id is OWNER/NAME, as in the model's address."
        )
    return name


def preflight_words(base_model: str, token: str | None, locale: str) -> str:
    """Say in words whether a base model can be used, from its small files alone."""
    from ditto_hub.hub.preflight import preflight

    found = preflight(base_model, token)
    checks = found.refused + found.warnings
    lines: list[tuple[str, str]] = [(c.verdict, f"{c.message} {c.remedy}".strip()) for c in checks]
    if found.usable:
        size = found.weight_bytes / 1e9
        said = say("base.usable", locale, base=base_model, gb=f"{size:.1f}")
        lines.insert(0, ("good", said))
    kinds = {"refused": "warning", "warning": "plain", "good": "good"}
    return "".join(notice(tell(text, locale), kinds[kind]) for kind, text in lines)


def checked(demos: DemoSet, base_model: str) -> tuple[Finding, list[Finding], int]:
    """Return what would help demonstrations most, all that is to be said, and their tokens.

    The base model's own tokenizer counts once it is loaded; before that, four bytes are a token.
    """
    count = counter_of(base_model)
    try:
        _, found = api.check_demos(demos, base_model if count else None)
    except DittoError:  # its template refuses these turns, which the run will say in full
        _, found = api.check_demos(demos)
    first = advise(demos, count)
    texts = [f"{demo.prompt_text}\n{demo.completion}" for demo in demos]
    if count is None:
        return first, found, sum(len(text.encode()) // BYTES_A_TOKEN for text in texts)
    return first, found, sum(map(count, texts))


def counter_of(base_model: str) -> Callable[[str], int] | None:
    """Return the embedded base model's token count once its library is loaded, else None."""
    if base_model != "pocket" or not warm.is_set():
        return None
    return _counter(base_model)


@lru_cache(maxsize=4)
def _counter(base_model: str) -> Callable[[str], int]:
    from ditto_hub.algorithm.base_model import load_format

    return load_format(base_model).count


PAGE_FIRST_S = 2.0  # importing holds the interpreter, and the first page with it
warm = threading.Event()
_wanted = threading.Event()
_begun = threading.Lock()


def load_libraries() -> None:
    """Begin to load the heavy libraries, once, so that the first page is there before them."""
    if _begun.acquire(blocking=False):
        threading.Thread(target=_load, name="libraries", daemon=True).start()


def wait_for_libraries() -> None:
    """Wait until they are loaded: two threads that import them at once see them half made."""
    _wanted.set()
    load_libraries()
    warm.wait()


def write(
    target: Run | str, requests: Sequence[api.WriteRequest], profile: Profile, owner: str,
    token: str | None = None,
) -> list[list[str]]:  # fmt: skip
    """Write texts once the libraries are there, and leave no model in memory; see `api.write`."""
    wait_for_libraries()
    try:
        return api.write(target, requests, profile, visitor=owner, token=token)
    finally:
        release_memory()


def _load() -> None:
    _wanted.wait(PAGE_FIRST_S)
    try:
        import ditto_hub.algorithm.loop  # noqa: F401

        gc.freeze()  # what they brought stays, so that `release_memory` need not walk over it
    finally:
        warm.set()
