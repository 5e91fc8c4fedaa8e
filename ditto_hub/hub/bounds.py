"""Bounded time for huggingface_hub's client, and its errors in words.

It waits for ever by default and raises half a dozen unrelated exceptions for one cause. After
`bound_time` every call ends; inside `told` every failure is a `HubError`.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx2
from huggingface_hub import constants, set_client_factory
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from ditto_hub.errors import DittoError, HubBusyError, HubError

PASSING = (408, 409, 412, 500, 502, 503, 504)
TOKENS_PAGE = "https://huggingface.co/settings/tokens"


@dataclass(frozen=True)
class Timeouts:
    """Bound every call to the Hub.

    Args:
        connect_s: seconds to reach it.
        read_s: seconds without a byte of the answer, and without one taken of what is sent.
        answer_s: seconds for the whole answer of an API call; downloads of files are exempt.
        patience_s: longest wait for a rate limit; a longer one is told instead.
        waits_s: seconds before each further try of a call that is safe to repeat.
    """

    connect_s: float = 10.0
    read_s: float = 60.0
    answer_s: float = 180.0
    patience_s: float = 30.0
    waits_s: tuple[float, ...] = (1.0, 4.0)


_bounds: list[Timeouts] = []


def bound_time(timeouts: Timeouts | None = None) -> None:
    """Give huggingface_hub's client, which waits for ever, bounds; for the whole process.

    Args:
        timeouts: None keeps those in force, or takes the defaults the first time.
    """
    wanted = timeouts or bounds()
    if _bounds != [wanted]:
        _bounds[:] = [wanted]
        set_client_factory(_bounded_client)


def _bounded_client() -> httpx2.Client:
    times = bounds()
    return httpx2.Client(
        event_hooks={
            "request": [_respect_offline_mode, _bound_request],
            "response": [_refuse_long_wait, _bound_answer],
        },
        follow_redirects=True,
        timeout=httpx2.Timeout(times.read_s, connect=times.connect_s),
    )


def bounds() -> Timeouts:
    """Return the bounds in force."""
    return _bounds[0] if _bounds else Timeouts()


def _respect_offline_mode(request: httpx2.Request) -> None:
    if constants.HF_HUB_OFFLINE:
        raise OfflineModeIsEnabled(f"HF_HUB_OFFLINE is set, so {request.url} is not asked")


def _bound_request(request: httpx2.Request) -> None:
    """Give a request bounds that was sent with `timeout=None`, as `model_info` does."""
    given = request.extensions.get("timeout") or {}
    times = bounds()
    ours = httpx2.Timeout(times.read_s, connect=times.connect_s).as_dict()
    kept = {name: seconds for name, seconds in given.items() if seconds is not None}
    request.extensions["timeout"] = {**ours, **kept}


def _refuse_long_wait(response: httpx2.Response) -> None:
    """End at once where the client would sleep for as long as a rate limit says.

    A chat completion, which shares the client, is asked for by a judge with a patience of its own.
    """
    if response.url.path.endswith("/chat/completions"):
        return
    wait = wait_s(response)
    if response.status_code == 429 and wait > bounds().patience_s:
        raise _rate_limited(wait)


def _bound_answer(response: httpx2.Response) -> None:
    if "/api/" in response.url.path or response.url.path.endswith("/objects/batch"):
        response.stream = _Bounded(response.stream, time.monotonic() + bounds().answer_s)


class _Bounded(httpx2.SyncByteStream):
    """Pass on a stream until a deadline, for a server that sends a byte now and then."""

    def __init__(self, stream: Any, deadline: float) -> None:
        self.stream = stream
        self.deadline = deadline

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self.stream:
            if time.monotonic() > self.deadline:
                raise httpx2.ReadTimeout("the answer took too long")
            yield chunk

    def close(self) -> None:
        self.stream.close()


# ---- errors in words ---------------------------------------------------------------------------


def wait_s(response: httpx2.Response) -> float:
    """Return the seconds a refusal asks to wait, from Retry-After or the rate limit's header."""
    given = response.headers.get("Retry-After", "").strip()
    if given.isdigit():
        return float(given)
    limit = re.search(r"\br=0\b.*\bt=(\d+)", response.headers.get("ratelimit", ""))
    return float(limit.group(1)) if limit else 0.0


def _rate_limited(seconds: float) -> HubError:
    wait = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} minutes"
    return HubError(
        "The Hub's rate limit is reached.", f"Try again in {wait}." if seconds else "Try later."
    )


@contextlib.contextmanager
def told(doing: str) -> Iterator[None]:
    """Turn whatever the Hub's client raises in the block into a `HubError`.

    Args:
        doing: what was being done, such as "reading alice/x", for the message.
    """
    try:
        yield
    except DittoError:
        raise
    except (httpx2.HTTPError, OSError, RuntimeError, ValueError) as error:
        raise put_into_words(error, doing) from error


def put_into_words(error: BaseException, doing: str) -> HubError:
    """Return the `HubError` for an error of huggingface_hub, hf_xet or httpx2."""
    if "Invalid metadata" in str(error):
        words = " ".join(str(error).split())
        return HubError(f"The Hub refuses the card's front matter. {words}", "Mend the template.")
    if isinstance(error, json.JSONDecodeError):
        return HubBusyError(f"The Hub's answer was no JSON while {doing}.", "Try again.")
    root: BaseException | None = error
    while root is not None and not isinstance(root, (HubError, httpx2.HTTPError, OSError)):
        root = root.__cause__  # an upload's error comes wrapped in a RuntimeError
    root = root or error
    if isinstance(root, HubError):
        return root
    if isinstance(root, OfflineModeIsEnabled):
        return HubError(f"Offline mode is on, so {doing} failed.", "Unset HF_HUB_OFFLINE.")
    if isinstance(root, HfHubHTTPError):
        return _refused(root, doing)
    if isinstance(root, (httpx2.TimeoutException, TimeoutError)):
        return HubBusyError(f"The Hub did not answer in time while {doing}.", "Try again.")
    if isinstance(root, (httpx2.HTTPError, ConnectionError)):
        return HubBusyError(
            f"The connection to the Hub failed while {doing} ({type(root).__name__}).",
            "Check the network, then try again.",
        )
    if _speaks_of_storage(str(error)):
        return _out_of_storage(str(error))
    words = (str(root).strip() or type(root).__name__).replace("\n", " ")
    return HubError(f"The Hub's client failed while {doing}: {words}")


def _refused(error: HfHubHTTPError, doing: str) -> HubError:
    response = error.response
    status = response.status_code
    said = response.headers.get("X-Error-Message") or error.server_message or ""
    if isinstance(error, GatedRepoError):
        return HubError(
            f"Access to a gated repo was refused while {doing}.",
            "Ask for access on its page, signed in as the token's user, and try again.",
        )
    if isinstance(error, RepositoryNotFoundError):
        return HubError(f"There is no such repo, or it is hidden from this token, while {doing}.")
    if status == 401:
        return HubError(
            f"The Hub does not accept the token (expired, revoked or mistyped), while {doing}.",
            f"Sign in again, or make a new token at {TOKENS_PAGE}.",
        )
    if status == 402 or _speaks_of_storage(said):
        return _out_of_storage(said)
    if status == 403:
        return _forbidden(said, doing)
    if status == 429:
        wait = wait_s(response)
        if 0 < wait <= bounds().patience_s:
            return HubBusyError("The Hub's rate limit is reached.", f"Try again in {wait:.0f} s.")
        return _rate_limited(wait)
    kind = HubBusyError if status in PASSING else HubError
    return kind(f"The Hub answered {status} while {doing}{f': {said}' if said else ''}.")


def _forbidden(said: str, doing: str) -> HubError:
    if "read-only" in said or "read only" in said:
        cause = "the token may only read"
    elif "scope" in said:
        cause = "the sign-in lacks a scope (contribute-repos, or write-repos for other repos)"
    elif "right permissions" in said or "fine-grained" in said:
        cause = "the fine-grained token does not cover this repo"
    else:
        cause = said.rstrip(".") or "the token's user may not do this"
    return HubError(
        f"The Hub refused {doing}: {cause}.",
        f"Use a token that may write there ({TOKENS_PAGE}), or sign in again.",
    )


def _speaks_of_storage(said: str) -> bool:
    return bool(re.search(r"storage (limit|quota)|quota|payment required", said, re.I))


def _out_of_storage(said: str) -> HubError:
    return HubError(
        f"The account's storage on the Hub is used up ({said.strip() or 'payment required'}).",
        "Delete something, publish with --public (public storage is separate), or upgrade.",
    )
