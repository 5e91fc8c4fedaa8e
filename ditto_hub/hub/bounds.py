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
from ditto_hub.words import Message, Text

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
    if not seconds:
        return HubError("hub.rate_limited_a_while")
    unit, size = ("seconds", 1) if seconds < 120 else ("minutes", 60)
    return HubError("hub.rate_limited", wait=Message(f"estimate.{unit}", n=round(seconds / size)))


@contextlib.contextmanager
def told(doing: Message) -> Iterator[None]:
    """Turn whatever the Hub's client raises in the block into a `HubError`.

    Args:
        doing: what was being done, one of `hub.doing`, for the message.
    """
    try:
        yield
    except DittoError:
        raise
    except (httpx2.HTTPError, OSError, RuntimeError, ValueError) as error:
        raise put_into_words(error, doing) from error


def put_into_words(error: BaseException, doing: Message) -> HubError:
    """Return the `HubError` for an error of huggingface_hub, hf_xet or httpx2."""
    if "Invalid metadata" in str(error):
        words = " ".join(str(error).split())
        return HubError("hub.card_refused", said=words)
    if isinstance(error, json.JSONDecodeError):
        return HubBusyError("hub.answer_not_json", doing=doing)
    root: BaseException | None = error
    while root is not None and not isinstance(root, (HubError, httpx2.HTTPError, OSError)):
        root = root.__cause__  # an upload's error comes wrapped in a RuntimeError
    root = root or error
    if isinstance(root, HubError):
        return root
    if isinstance(root, OfflineModeIsEnabled):
        return HubError("hub.offline_mode_failed", doing=doing)
    if isinstance(root, HfHubHTTPError):
        return _refused(root, doing)
    if isinstance(root, (httpx2.TimeoutException, TimeoutError)):
        return HubBusyError("hub.no_answer_in_time", doing=doing)
    if isinstance(root, (httpx2.HTTPError, ConnectionError)):
        return HubBusyError("hub.connection_failed", doing=doing, kind=type(root).__name__)
    if _speaks_of_storage(str(error)):
        return _out_of_storage(str(error))
    words = (str(root).strip() or type(root).__name__).replace("\n", " ")
    return HubError("hub.client_failed", doing=doing, said=words)


def _refused(error: HfHubHTTPError, doing: Message) -> HubError:
    response = error.response
    status = response.status_code
    said = response.headers.get("X-Error-Message") or error.server_message or ""
    if isinstance(error, GatedRepoError):
        return HubError("hub.gated_repo", doing=doing)
    if isinstance(error, RepositoryNotFoundError):
        return HubError("hub.no_such_repo", doing=doing)
    if status == 401:
        return HubError("hub.token_not_accepted", doing=doing, tokens_page=TOKENS_PAGE)
    if status == 402 or _speaks_of_storage(said):
        return _out_of_storage(said)
    if status == 403:
        return _forbidden(said, doing)
    if status == 429:
        wait = wait_s(response)
        if 0 < wait <= bounds().patience_s:
            return HubBusyError("hub.hub_rate_limit", wait=wait)
        return _rate_limited(wait)
    kind = HubBusyError if status in PASSING else HubError
    said = said.rstrip(".") or response.reason_phrase
    return kind("hub.answered", status=status, doing=doing, said=said)


def _forbidden(said: str, doing: Message) -> HubError:
    if "read-only" in said or "read only" in said:
        cause: Text = Message("hub.cause_read_only")
    elif "scope" in said:
        cause = Message("hub.cause_no_scope")
    elif "right permissions" in said or "fine-grained" in said:
        cause = Message("hub.cause_other_repo")
    else:
        cause = said.rstrip(".") or Message("hub.cause_not_allowed")
    return HubError("hub.write_refused", doing=doing, cause=cause, tokens_page=TOKENS_PAGE)


def _speaks_of_storage(said: str) -> bool:
    return bool(re.search(r"storage (limit|quota)|quota|payment required", said, re.I))


def _out_of_storage(said: str) -> HubError:
    return HubError("hub.storage_used_up", said=said.strip() or "HTTP 402")
