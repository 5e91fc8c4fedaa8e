"""A run's work and a model's writing, one GPU lease at a time where the profile says so.

With backend `local` this is plain `drive` and plain sampling. With `zerogpu` each call is one lease
of the platform's GPU: a run stands paused at its end, and a page that wants it to go on calls again
in a new event, for as long as the last event says `goes_on`.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ditto_hub.api.estimating import note_estimate
from ditto_hub.api.keeping import keep_along
from ditto_hub.api.training import drive
from ditto_hub.backends.backtranslation import PromptRequest, write_prompts
from ditto_hub.backends.driver import Backend
from ditto_hub.backends.generation import CAP, Desk, WriteRequest, open_desk, whole, write_texts
from ditto_hub.backends.zerogpu.ledger import Ledger, Standing
from ditto_hub.cost.admission import require_base, require_run
from ditto_hub.cost.devices import QUOTAS
from ditto_hub.cost.profiles import Profile
from ditto_hub.errors import BaseModelError, ConfigError, HubError
from ditto_hub.events import Event
from ditto_hub.runs.folder import Run
from ditto_hub.runs.storage import is_file, is_folder
from ditto_hub.tokens import Token, as_token

if TYPE_CHECKING:
    from ditto_hub.backends.zerogpu.broker import LeaseBackend

log = logging.getLogger(__name__)

Stop = Callable[[], str]
QUOTA_SCOPE = "read-billing"  # of a sign-in that may read what is left
KEPT_S = 30.0  # of a day's quota, for trying the result: two or three leases that write


def work(
    run: Run,
    profile: Profile,
    *,
    visitor: str,
    token: Token | str,
    should_stop: Stop = lambda: "",
    spend_all: bool = False,
) -> Iterator[Event]:
    """Work on a run: to its end, or for one lease.

    Args:
        run: created, paused, cancelled or failed.
        profile: says which backend.
        visitor: owner's name or secret, whose quota is used; kept only as a hash.
        token: of the Hub, to read a private or gated base model.
        should_stop: asked at every step; a reason pauses the run, "" goes on, "cancel" cancels it.
        spend_all: take the seconds too that are kept back for trying the result.

    Where the run's owner agreed, it is kept in a private repo of theirs after each stage or lease.

    Yields:
        The run's events. A refused lease is an event and a paused run; the last event's `goes_on`,
        where it has one, says whether to call again in a new event.

    Raises:
        DittoError: whatever stopped the run, after a `RunFailed` event.
    """
    require_run(run, profile)
    backend: Backend | None = None
    if profile.backend == "zerogpu":
        if not run.record.estimate:
            note_estimate(run, profile.hardware or "zero-a10g", token)
        backend = _leases(
            profile, visitor, run.record.base_model, token, 0 if spend_all else KEPT_S
        )
    else:
        _require_opened(run.record.base_model, profile, token)
    events = drive(run, backend=backend, should_stop=should_stop, token=token)
    # a lease's worker writes while its events are on their way here
    return keep_along(run, events, token, between=backend is None)


def write(
    target: Run | str | Path,
    requests: Sequence[WriteRequest],
    profile: Profile,
    *,
    visitor: str,
    token: Token | str,
) -> list[list[str]]:
    """Write texts, here or in one short lease.

    Args:
        target: a run, its id or folder; an adapter's folder; or a base model's id.
        requests: what to write; each says with which candidate.
        profile: says which backend.
        visitor: owner's name or secret, whose quota is used; kept only as a hash.
        token: of the Hub, to read a private or gated base model.

    Returns:
        The texts of each request, in the order of the requests.

    Raises:
        RunError, BaseModelError, ChatTemplateError: as the words say.
    """
    desk = desk_of(target)
    require_base(str(desk.base_model["id"]), profile)
    leases: LeaseBackend | None = None
    if profile.backend == "zerogpu":
        leases = _leases(profile, visitor, desk.base_model, token)
        desk = replace(desk, weights=leases.weights)
    else:
        _require_opened(desk.base_model, profile, token)
    desk = replace(desk, cap=_cap(desk, token))
    asked = [_with_demonstrations(desk, request, token) for request in requests]
    if leases is not None:
        return leases.write(desk, asked)
    texts: list[list[str]] = [[] for _ in asked]
    policy = open_desk(desk, token=token)
    for batch in write_texts(policy, desk, asked):
        for number, written in batch:
            texts[number] = written
    return texts


def stream_back(
    texts: Sequence[str],
    base_model: str,
    profile: Profile,
    *,
    visitor: str,
    token: Token | str,
    seed: int = 0,
) -> Iterator[tuple[int, list[str]]]:
    """Let a base model write the prompt of each text, here or in one short lease.

    Args: as `write`.

    Yields:
        A text's number, with its prompt and why it is a plain one or ""; nothing for a text that a
        lease had no time for.

    Raises:
        BaseModelError, ChatTemplateError, LeaseError: as the words say.
    """
    desk = desk_of(base_model)
    require_base(str(desk.base_model["id"]), profile)
    requests = [PromptRequest(text, seed) for text in texts]
    if profile.backend == "zerogpu":
        leases = _leases(profile, visitor, desk.base_model, token)
        yield from leases.stream(replace(desk, weights=leases.weights), requests)
        return
    _require_opened(desk.base_model, profile, token)
    for batch in write_prompts(open_desk(desk, token=token), desk.base_model, requests):
        yield from batch


def prepare(profile: Profile) -> None:
    """Get an app ready that leases its GPU: call this in the main process, before the launch.

    The profile's default base model is put where every lease finds it; what leases need is imported
    once here, and not in each worker. Where that base model cannot be had the app starts all the
    same, and each lease loads its own.
    """
    if profile.backend != "zerogpu":
        return
    from ditto_hub.backends.zerogpu import function

    try:
        function.hold({"id": profile.default_base_model, "revision": None})
    except BaseModelError as error:
        log.warning("no base model sits on the GPU: %s", error)
    importlib.import_module("ditto_hub.ditto.loop")


def standing(profile: Profile, visitor: str, token: Token | str) -> Standing:
    """Return what a visitor is thought to have left of the day's GPU quota.

    Args:
        token: of the visitor; where its sign-in may read the quota the Hub is asked, and the
            answer's `sure` says that it told.
    """
    return _ledger(visitor, token).standing()


def _ledger(visitor: str, token: Token | str) -> Ledger:
    """Return a visitor's ledger, seeded with what the Hub tells where it may be asked."""
    ledger, whose = Ledger(visitor, _plans(visitor)), as_token(token)
    if QUOTA_SCOPE in whose.scopes:
        from ditto_hub.hub.client import HubClient

        try:
            found = HubClient(whose).zero_gpu_quota()
        except HubError as error:  # then it is as without the scope
            log.warning("the quota could not be read: %s", type(error.__cause__).__name__)
        else:
            ledger.seed(found.day_s, found.left_s, found.resets_at)
    return ledger


def _leases(
    profile: Profile,
    visitor: str,
    base_model: Mapping[str, Any],
    token: Token | str,
    kept_s: float = 0.0,
) -> LeaseBackend:
    from ditto_hub.backends.zerogpu.broker import LeaseBackend
    from ditto_hub.backends.zerogpu.function import PLATFORM, holds

    weights = "" if holds(base_model) else _fetched(base_model, profile, visitor, token)
    ledger = _ledger(visitor, token)
    return LeaseBackend(PLATFORM, ledger, profile.lease_cap_s, kept_s, weights)


def _require_opened(base_model: Mapping[str, Any], profile: Profile, token: Token | str) -> None:
    """Refuse what this visitor's token does not open, though it may be on a shared disk already."""
    if profile.name != "own" and str(base_model["id"]) != "pocket":
        from ditto_hub.hub.weights import opened

        opened(base_model, token)


def _fetched(
    base_model: Mapping[str, Any], profile: Profile, visitor: str, token: Token | str
) -> str:
    """Return the folder of a base model's files, fetched where it is on the Hub; "" elsewhere."""
    name = str(base_model["id"])
    if name == "pocket" or is_folder(name):
        return ""
    from ditto_hub.hub.weights import Shelf, fetch

    return str(fetch(base_model, Shelf(visitor, profile.cache_bytes), token))


def _plans(visitor: str) -> tuple[float, ...]:
    """Return the seconds of quota a day that there are, the visitor's likely one first."""
    plans = sorted({float(quota.seconds) for quota in QUOTAS.values()})
    least = float(QUOTAS["free" if visitor.startswith("hub:") else "anonymous"].seconds)
    return tuple(seconds for seconds in plans if seconds >= least)


def desk_of(target: Run | str | Path) -> Desk:
    """Return what writes, in plain values.

    Raises:
        RunError: there is no such run.
        BaseModelError: the adapter's folder is damaged.
    """
    if isinstance(target, str | Path):
        folder = Path(target)
        if is_file(folder / "adapter_config.json"):
            from ditto_hub.engine.adapter_folder import read_adapter_config

            return Desk("adapter", str(folder), read_adapter_config(folder)[1])
        if not is_file(folder / "run.json") and not _is_run_id(str(target)):
            return Desk("base", "", {"id": str(target), "revision": None})
        target = Run.load(target)
    return Desk(
        kind="run",
        folder=str(target.folder),
        base_model={k: target.record.base_model.get(k) for k in ("id", "revision")},
        sampling=asdict(target.config.sampling),
        reading=asdict(target.config.reading),
    )


def _is_run_id(text: str) -> bool:
    from ditto_hub.runs.folder import home

    return len(Path(text).parts) == 1 and is_file(home() / "runs" / text / "run.json")


def _cap(desk: Desk, token: Token | str) -> int:
    """Return the new tokens a text may have: of a run, a multiple of the longest demonstration."""
    if desk.kind != "run":
        return CAP
    from ditto_hub.engine.base_model import load_format

    run = Run.load(desk.folder)
    sampling = run.config.sampling
    if not sampling.length_factor:
        return min(sampling.max_new_tokens, CAP)
    form = load_format(desk.weights or str(desk.base_model["id"]), token)
    longest = max(len(form.encode(d.prompt, d.completion).completion_ids) for d in run.demos())
    return min(sampling.max_new_tokens, max(8, int(sampling.length_factor * longest)))


def _with_demonstrations(desk: Desk, request: WriteRequest, token: Token | str) -> WriteRequest:
    """Put the run's demonstrations before the prompt where the request says so.

    Raises:
        ConfigError: there is no run whose demonstrations could be shown.
    """
    if not request.few_shot:
        return request
    if desk.kind != "run":
        raise ConfigError("api.few_shot_needs_run")
    from ditto_hub.demos.prompting import with_demonstrations
    from ditto_hub.engine.base_model import context_length, load_format

    base = desk.weights or str(desk.base_model["id"])
    form = load_format(base, token)
    room = context_length(base, token) - (request.max_new_tokens or desk.cap)

    def fits(messages: Sequence[Mapping[str, str]]) -> bool:
        return len(form.prompt_ids(messages)) <= room

    demos = tuple(Run.load(desk.folder).demos())
    return whole(request, with_demonstrations(list(request.messages), demos, fits))
