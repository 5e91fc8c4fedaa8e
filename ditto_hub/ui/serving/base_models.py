"""The base model a visitor names: what may be named here, and how its tokens are counted."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from functools import lru_cache
from urllib.parse import urlparse

from ditto_hub import api
from ditto_hub.api import base_models
from ditto_hub.api.estimating import estimate_here, estimate_run, with_stand_ins
from ditto_hub.config import RunConfig
from ditto_hub.cost.admission import require_base as require_base
from ditto_hub.cost.estimates import Estimate
from ditto_hub.cost.profiles import Profile
from ditto_hub.demos.advice import advise
from ditto_hub.demos.demonstrations import DemoSet
from ditto_hub.demos.findings import Finding
from ditto_hub.errors import DittoError
from ditto_hub.runs.folder import Run
from ditto_hub.tokens import Token
from ditto_hub.ui.html.render import notice
from ditto_hub.ui.serving.cleanup import release_memory
from ditto_hub.words import for_page, say, told

BYTES_A_TOKEN = 4


def hub_id(text: str) -> str:
    """Return the OWNER/NAME in the address of a page on the Hub; another text as it is."""
    text = (text or "").strip()
    address = urlparse(text)
    if address.scheme not in ("http", "https"):
        return text
    return "/".join(address.path.strip("/").split("/")[:2])


def choose_first(profile: Profile) -> Profile:
    """Return a profile whose base model, on one's own machine, is a real one if it is there."""
    if profile.name != "own" or not base_models.has_smollm2():
        return profile
    return replace(profile, default_base_model="smollm2")


def estimate(
    demos: DemoSet, base_model: str, config: RunConfig | None, flavor: str, profile: Profile,
    token: Token | str,
) -> Estimate:  # fmt: skip
    """Say what a run will take where it is to go: a job's hardware, the Space's, or this machine.

    Raises:
        DittoError: as `api.estimate_run` does.
    """
    device = flavor or profile.hardware
    if device is None:
        return estimate_here(demos, base_model, config, loaded=warm.is_set(), token=token)
    if flavor:  # missing prompts are written here, before the job
        demos, _ = with_stand_ins(demos)
    return estimate_run(demos, base_model, config, device, token=token)


def outside_words(demos: DemoSet, base_model: str, profile: Profile, locale: str) -> str:
    """Say that a base model cannot learn these texts and which can; nothing where it is not so."""
    if base_model != "pocket" or not api.outside_pocket(demos):
        return ""
    other = next((b.id for b in profile.base_models if b.id != "pocket"), "")
    key = "train.other_voice" if other else "train.other_voice_alone"
    return say(key, locale, other=other)


def preflight_words(base_model: str, token: Token | str, locale: str) -> str:
    """Say in words whether a base model can be used, from its small files alone."""
    found = base_models.preflight(base_model, token)
    checks = found.refused + found.warnings
    lines: list[tuple[str, str]] = [
        (c.verdict, f"{told(c.message, locale)} {told(for_page(c.remedy), locale)}".strip())
        for c in checks
    ]
    if found.usable:
        size = found.weight_bytes / 1e9
        said = say("base.usable", locale, base=base_model, gb=f"{size:.1f}")
        lines.insert(0, ("good", said))
    kinds = {"refused": "warning", "warning": "plain", "good": "good"}
    return "".join(notice(text, kinds[kind]) for kind, text in lines)


def checked(demos: DemoSet, base_model: str) -> tuple[Finding, list[Finding], int]:
    """Return what would help demonstrations most, all that is to be said, and their tokens.

    The base model's own tokenizer counts once it is loaded; before that, four bytes are a token.
    """
    count = counter_of(base_model)
    try:
        _, found = api.check_demos(demos, base_model if count else None)
    except DittoError:  # its template refuses these turns, which the run will say in full
        _, found = api.check_demos(demos)
    if base_model == "pocket" and count is None:
        found = [*found, *api.outside_pocket(demos)]
    first = advise(demos, count, found)
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
    return base_models.token_counter(base_model)


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
    token: Token | str,
) -> list[list[str]]:  # fmt: skip
    """Write texts once the libraries are there, and leave no model in memory; see `api.write`."""
    wait_for_libraries()
    try:
        return api.write(target, requests, profile, visitor=owner, token=token)
    finally:
        release_memory()


def stream_prompts(
    demos: DemoSet, base_model: str, profile: Profile, owner: str, token: Token | str
) -> Generator[api.PromptWritten, None, DemoSet]:
    """Write the prompts that demonstrations lack once the libraries are there, and leave no model
    in memory; see `api.stream_prompts`."""
    wait_for_libraries()
    try:
        return (
            yield from api.stream_prompts(
                demos, base_model, profile=profile, visitor=owner, token=token
            )
        )
    finally:
        release_memory()


def _load() -> None:
    _wanted.wait(PAGE_FIRST_S)
    try:
        base_models.load_libraries()
        gc.freeze()  # what they brought stays, so that `release_memory` need not walk over it
    finally:
        warm.set()
