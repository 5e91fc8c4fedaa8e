"""One visitor sends more than their share: the others' pages open, and their turn comes."""

from __future__ import annotations

import asyncio
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import gradio as gr
import pytest
from gradio.events import api as endpoint

from ditto_hub.cost.profiles import load_profile
from ditto_hub.errors import BackendError
from ditto_hub.ui import app as ui
from ditto_hub.ui.serving.admission import LINES, POLICIES, THREADS, Line, Policy, admitted, options

FEW = Policy(at_once=1, waiting=5, a_page=2, an_address=4)
PATIENCE_S = 60


class Held:
    """Hold turns of a line in threads until they are let go.

    Args:
        line: to wait in.
    """

    def __init__(self, line: Line) -> None:
        self.line, self.order = line, []  # type: tuple[Line, list[str]]
        self.go, self.threads = threading.Semaphore(0), []  # type: tuple[Any, list[Any]]

    def add(self, page: str, address: str) -> None:
        """Let an event come, and wait until it has its place."""
        came, refused = threading.Event(), []

        def work() -> None:
            try:
                with self.line.turn(page, address, lambda before: came.set()):
                    self.order.append(page)
                    came.set()
                    self.go.acquire()
            except BackendError as error:
                refused.append(error)
                came.set()

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        assert came.wait(PATIENCE_S)
        self.threads.append(thread)
        if refused:
            raise refused[0]

    def finish(self) -> list[str]:
        """Let all of them work, and return the pages in the order in which they did."""
        for _ in self.threads:
            self.go.release()
        for thread in self.threads:
            thread.join(PATIENCE_S)
        return self.order


@pytest.fixture
def held() -> Iterator[Held]:
    """Return a line of few places with its events in the test's hand."""
    made = Held(Line(FEW, quiet_s=0))
    yield made
    made.finish()


def test_a_page_has_only_so_many_places(held: Held) -> None:
    """The third event of one page is refused; another page's is not."""
    held.add("mine", "home")
    held.add("mine", "home")
    with pytest.raises(BackendError, match="2 of this page's requests"):
        held.add("mine", "home")
    held.add("other", "home")


def test_an_address_has_only_so_many_places(held: Held) -> None:
    """New pages of one address give no more places; another address still finds one."""
    for page in "abcd":
        held.add(page, "hostile")
    with pytest.raises(BackendError, match="Too many requests"):
        held.add("e", "hostile")
    held.add("other", "home")


def test_a_line_has_an_end(held: Held) -> None:
    """More than the line holds are refused, from wherever they come."""
    for n in range(FEW.at_once + FEW.waiting):
        held.add(f"page-{n}", f"address-{n}")
    with pytest.raises(BackendError, match="Too many requests"):
        held.add("late", "somewhere")


def test_addresses_are_served_in_turn(held: Held) -> None:
    """Who comes after four events of another is served second."""
    for page in "aabb":
        held.add(page, "hostile")
    held.add("other", "home")
    assert held.finish()[:2] == ["a", "other"]


def test_a_place_is_free_again_after_a_failure() -> None:
    """An event that raises, or is closed while it streams, leaves the line empty."""
    line = Line(FEW)
    with pytest.raises(ValueError), line.turn("mine", "home"):
        raise ValueError
    turn = line.turn("mine", "home")
    turn.__enter__()
    del turn
    for _ in range(3):
        with line.turn("mine", "home"):
            assert line.before is not None


def test_lines_leave_threads_for_light_events() -> None:
    """All lines full still leave a third of the threads that Gradio works with."""
    taken = sum(policy.at_once + policy.waiting for policy in POLICIES.values())
    assert taken <= THREADS * 2 // 3


# ---- the app -------------------------------------------------------------------------------------


class Slow:
    """Stand in for what loads a model: it works until it is let go."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Semaphore(0), threading.Event()

    def write(self) -> str:
        """Work like a handler that writes a text."""
        self.begun.release()
        assert self.go.wait(PATIENCE_S)
        return "written"


@pytest.fixture(scope="module")
def slow() -> Slow:
    """Return what the served app's model does."""
    return Slow()


@pytest.fixture(scope="module")
def served(slow: Slow, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[gr.Blocks, str]]:
    """Serve the app as a CPU Space does, with one model event that programs can call."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DITTO_HUB_HOME", str(tmp_path_factory.mktemp("served")))
        patch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(ui, "start_sweepers", lambda *given: None)
        profile = load_profile("cpu")

        async def serve() -> tuple[gr.Blocks, str]:
            page = ui.build_app(profile)
            with page:
                endpoint(admitted("model", slow.write), api_name="slow_write", **options("model"))
            page.queue(max_size=profile.queue_size, default_concurrency_limit=1, api_open=False)
            _, address, _ = page.launch(
                prevent_thread_lock=True, server_name="127.0.0.1", quiet=True,
                **ui.launch_options(profile),
            )  # fmt: skip
            return page, address

        with ThreadPoolExecutor(1) as thread:  # Gradio leaves loops open where none runs
            page, address = thread.submit(asyncio.run, serve()).result()
        yield page, address.rstrip("/")
        slow.go.set()
        page.close()


@pytest.fixture
def url(served: tuple[gr.Blocks, str]) -> str:
    """Return the served app's address."""
    return served[1]


def post(url: str, path: str, body: dict[str, Any], address: str) -> tuple[int, Any]:
    """Send JSON as from an address, and return status and answer."""
    headers = {"Content-Type": "application/json", "X-Forwarded-For": address}
    asked = urllib.request.Request(
        f"{url}/gradio_api/{path}", json.dumps(body).encode(), headers
    )  # fmt: skip
    try:
        with urllib.request.urlopen(asked, timeout=PATIENCE_S) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"null")


def ended(url: str, session: str, count: int) -> list[dict[str, Any]]:
    """Return the last messages of a session's events, once so many have ended."""
    found: list[dict[str, Any]] = []
    with urllib.request.urlopen(
        f"{url}/gradio_api/queue/data?session_hash={session}", timeout=PATIENCE_S
    ) as stream:
        for line in stream:
            if not line.startswith(b"data:"):
                continue
            message = json.loads(line.removeprefix(b"data:"))
            if message["msg"] == "process_completed":
                found.append(message["output"])
                if len(found) == count:
                    return found
    return found


def number_of(url: str, wanted: Callable[[dict[str, Any]], bool]) -> int:
    """Return the number of the page's event that is wanted."""
    return int(next(event["id"] for event in events_of(url) if wanted(event)))


def events_of(url: str) -> list[dict[str, Any]]:
    """Return the page's events."""
    with urllib.request.urlopen(f"{url}/config", timeout=PATIENCE_S) as answer:
        found: list[dict[str, Any]] = json.loads(answer.read())["dependencies"]
    return found


def is_load(event: dict[str, Any]) -> bool:
    """Tell whether an event is one of opening the page."""
    return "load" in [target[1] for target in event["targets"]]


@pytest.mark.filterwarnings("ignore")
def test_forty_five_messages_of_one_visitor_leave_the_page_to_others(url: str, slow: Slow) -> None:
    """The flood is refused in words beyond its share; another's page opens, and so does its turn.

    The words are in the language that the browser asks for.
    """
    write = number_of(url, lambda event: event["api_name"] == "slow_write")
    opened = number_of(
        url,
        lambda event: (
            is_load(event) and "opened" in event["api_name"] and len(event["outputs"]) < 9
        ),
    )
    body = {"data": [], "fn_index": write, "session_hash": "hostile"}
    with ThreadPoolExecutor(8) as many:
        sent = [many.submit(post, url, "queue/join", body, "10.0.0.6") for _ in range(45)]
    assert {answer.result()[0] for answer in sent} == {200}
    assert slow.begun.acquire(timeout=PATIENCE_S)
    share = POLICIES["model"].a_page
    refused = ended(url, "hostile", 45 - share)
    assert all("of this page's requests are still" in answer["error"] for answer in refused)

    page = {"data": ["x" * 43, "", ""], "fn_index": opened, "session_hash": "other"}
    assert post(url, "queue/join", page, "10.0.0.7")[0] == 200
    assert ended(url, "other", 1)[0]["data"][0] == "x" * 43

    mine = {"data": [], "fn_index": write, "session_hash": "other"}
    assert post(url, "queue/join", mine, "10.0.0.7")[0] == 200
    line = LINES["model"]
    for _ in range(600):
        if len(line._waiting) == share:
            break
        threading.Event().wait(0.05)
    assert line._ordered()[0].address == "10.0.0.7"
    slow.go.set()
    assert ended(url, "other", 1)[0]["data"] == ["written"]


def test_a_queued_event_cannot_be_called_past_the_queue(url: str) -> None:
    """The route that answers at once takes light events alone."""
    write = number_of(url, lambda event: event["api_name"] == "slow_write")
    body = {"data": [], "fn_index": write, "session_hash": "hostile"}
    assert post(url, "run/slow_write", body, "10.0.0.6")[0] == 404


def test_nothing_waits_in_gradios_queue(served: tuple[gr.Blocks, str]) -> None:
    """Every event of the page either goes past the queue or finds it free: none has a low limit."""
    low = [
        fn.name for fn in served[0].fns.values()
        if fn.queue and isinstance(fn.concurrency_limit, int)
    ]  # fmt: skip
    assert low == []
