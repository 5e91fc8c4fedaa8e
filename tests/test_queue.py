"""The line of runs, whose they are, what may be named and typed, and what is removed."""

from __future__ import annotations

import datetime
import gc
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from gradio.state_holder import StateHolder
from starlette.applications import Starlette
from starlette.testclient import TestClient
from tiny_runs import tiny_config, tiny_demos

from ditto_hub.cost.profiles import load_profile
from ditto_hub.errors import BaseModelError, ConfigError, DemoError, RunBusyError, RunError
from ditto_hub.events import Event, RunCancelled
from ditto_hub.runs.folder import Run, hash_owner
from ditto_hub.tokens import NOBODY
from ditto_hub.ui.html.cards import example_cards, new_card, to_demos
from ditto_hub.ui.serving import base_models as bases
from ditto_hub.ui.serving.base_models import require_base
from ditto_hub.ui.serving.cleanup import CALLED_FOR_S, CLOSED_FOR_S, forget_sessions, sweep
from ditto_hub.ui.serving.downloads import SECRET_HEADER, closed_files, download_routes
from ditto_hub.ui.serving.events import Asker
from ditto_hub.ui.serving.queue import Workshop
from ditto_hub.ui.serving.requests import writer
from ditto_hub.ui.serving.session import Visitor, new_secret, own_run, own_runs, signed_in, visitor
from ditto_hub.ui.steps.progress import stop_run
from ditto_hub.ui.steps.runs import claim
from ditto_hub.ui.steps.settings import ORDER, read_config, values_of

OWN, CPU = load_profile("own"), load_profile("cpu")
ANN, BOB = new_secret(), new_secret()
PATIENCE_S = 30


def make_run(owner: str = f"browser:{ANN}") -> Run:
    """Make a run under the home folder."""
    return Run.create(tiny_demos(2), {"id": "pocket"}, tiny_config(), owner=owner)


class Bench:
    """Stand in for training: holds each run until it is let go, and notes the order."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.gates: dict[str, threading.Event] = {}
        self.begun: dict[str, threading.Event] = {}

    def expect(self, *runs: Run) -> None:
        """Get ready for runs."""
        for run in runs:
            self.gates[run.record.id], self.begun[run.record.id] = (
                threading.Event(),
                threading.Event(),
            )

    def work(
        self, run: Run, owner: str, token: str | None, stop: Callable[[], str]
    ) -> Iterator[Event]:
        """Work until let go or told to stop."""
        self.order.append(run.record.id)
        self.begun[run.record.id].set()
        while not self.gates[run.record.id].wait(0.005):
            if stop():
                yield RunCancelled()
                return

    def let_go(self, *runs: Run) -> None:
        """Let runs end."""
        for run in runs:
            self.gates[run.record.id].set()


@pytest.fixture
def bench() -> Bench:
    """Return a bench."""
    return Bench()


def test_the_line_is_fair(bench: Bench) -> None:
    """Somebody with one run goes before the second of somebody who sent three; places say so."""
    runs = [make_run() for _ in range(3)]
    other = make_run(f"browser:{BOB}")
    bench.expect(*runs, other)
    shop = Workshop(bench.work)
    shop.put(runs[0], "ann", token=NOBODY)
    assert bench.begun[runs[0].record.id].wait(PATIENCE_S)
    for run in runs[1:]:
        shop.put(run, "ann", token=NOBODY)
    shop.put(other, "bob", token=NOBODY)
    places = [shop.place(run.record.id) for run in (*runs, other)]
    assert places == [0, 2, 3, 1]
    bench.let_go(*runs, other)
    assert bench.begun[runs[2].record.id].wait(PATIENCE_S)
    assert shop.wait_for(runs[2].record.id, PATIENCE_S)
    assert bench.order == [r.record.id for r in (runs[0], other, runs[1], runs[2])]


def test_put_twice_is_put_once(bench: Bench) -> None:
    """A double click or a second tab gives a run one place."""
    first, second = make_run(), make_run()
    bench.expect(first, second)
    shop = Workshop(bench.work)
    shop.put(first, "ann", token=NOBODY)
    assert bench.begun[first.record.id].wait(PATIENCE_S)
    shop.put(second, "ann", token=NOBODY)
    shop.put(second, "ann", token=NOBODY)
    assert shop.take_out(second.record.id)
    assert not shop.take_out(second.record.id)
    assert shop.place(second.record.id) is None
    bench.let_go(first)
    assert shop.wait_for(first.record.id, PATIENCE_S)


def test_cancel_reaches_a_lease(bench: Bench) -> None:
    """A run that a page leases a GPU for is told to stop, by what its worker asks for."""
    run, shop = make_run(), Workshop(bench.work)
    with shop.at_work(run.record.id), run.lock():
        stop_run(SimpleNamespace(workshop=shop), run, token=NOBODY)  # type: ignore[arg-type]
        assert (run.folder / ".cancel").exists()


def test_work_elsewhere_is_followed_once(bench: Bench) -> None:
    """A run that a job works on counts as worked on until that ends, and is watched by one."""
    run, shop = make_run(), Workshop(bench.work)
    run_id, gate, begun = run.record.id, threading.Event(), []

    def work() -> Iterator[Event]:
        begun.append(run_id)
        gate.wait(PATIENCE_S)
        yield RunCancelled()
        raise RunError("The Hub is away.")

    for _ in range(2):
        shop.aside(run_id, work)
    assert shop.place(run_id) == 0
    gate.set()
    assert shop.wait_for(run_id, PATIENCE_S)
    assert shop.place(run_id) is None
    assert begun == [run_id]


def test_a_run_under_work_is_told_to_stop(bench: Bench) -> None:
    """Taking it out ends the work; the next one begins."""
    first, second = make_run(), make_run()
    bench.expect(first, second)
    shop = Workshop(bench.work)
    shop.put(first, "ann", token=NOBODY)
    shop.put(second, "ann", token=NOBODY)
    assert bench.begun[first.record.id].wait(PATIENCE_S)
    assert shop.take_out(first.record.id)
    assert shop.wait_for(first.record.id, PATIENCE_S)
    assert bench.begun[second.record.id].wait(PATIENCE_S)
    shop.close()
    assert shop.place(second.record.id) is None


def test_a_failure_does_not_stop_the_line() -> None:
    """A run that breaks ends alone; the thread serves the next."""
    served = threading.Event()
    broken, sound = make_run(), make_run()

    def work(run: Run, *_: Any) -> Iterator[Event]:
        if run is broken:
            raise ValueError("unexpected")
        served.set()
        yield from ()

    shop = Workshop(work)
    shop.put(broken, "ann", token=NOBODY)
    shop.put(sound, "ann", token=NOBODY)
    assert served.wait(PATIENCE_S)


def test_a_finished_run_is_not_worked_on(bench: Bench) -> None:
    """There is nothing to resume."""
    run = make_run()
    run.record.status = "finished"
    with pytest.raises(RunError, match="finished"):
        Workshop(bench.work).put(run, "ann", NOBODY)


def test_a_leased_run_counts_as_worked_on(bench: Bench) -> None:
    """While a page leases a GPU the run is at place 0, and nowhere after."""
    shop = Workshop(bench.work)
    with shop.at_work("a"), shop.at_work("a"):
        assert shop.place("a") == 0
    assert shop.place("a") is None
    assert not shop._leased


# ---- whose it is ---------------------------------------------------------------------------------


@pytest.mark.parametrize("secret", ["", "short", None, 5, "x" * 21])
def test_a_visitor_needs_a_secret_of_128_bits(secret: Any) -> None:
    """An empty or short secret is nobody, so that two such visitors are not the same one."""
    with pytest.raises(RunError, match="finished loading"):
        visitor(SimpleNamespace(headers={}), None, secret)  # type: ignore[arg-type]


def test_secrets_differ_and_are_long() -> None:
    """256 random bits each."""
    assert len({new_secret() for _ in range(100)}) == 100
    assert len(new_secret()) >= 43


@pytest.mark.parametrize("wanted", ["", "..", "../runs", "a/b", "20260101-00000000", None, "é"])
def test_no_run_is_no_path(wanted: Any) -> None:
    """What is no id of a run of one's own is told as missing, paths above all."""
    with pytest.raises(RunError, match="no run"):
        own_run(wanted, Visitor(f"browser:{ANN}", None))


def test_anothers_run_is_told_like_none() -> None:
    """The words for another's run and for none differ in nothing but the id."""
    run = make_run()
    assert own_run(run.record.id, Visitor(f"browser:{ANN}", None)).record.id == run.record.id
    with pytest.raises(RunError) as other:
        own_run(run.record.id, Visitor(f"browser:{BOB}", None))
    with pytest.raises(RunError) as none:
        own_run("20260101-0", Visitor(f"browser:{BOB}", None))
    assert str(other.value).replace(run.record.id, "20260101-0") == str(none.value)
    assert type(other.value) is type(none.value) is RunError


def test_signing_in_claims_what_the_browser_began() -> None:
    """The runs of this browser become the user's; another browser's stay."""
    mine, others = make_run(), make_run(f"browser:{BOB}")
    claim(signed_in("ann", ANN), Workshop(Bench().work))
    assert Run.load(mine.record.id).record.owner == hash_owner("hub:ann")
    assert Run.load(others.record.id).record.owner == hash_owner(f"browser:{BOB}")


def test_a_run_under_work_is_seen_and_claimed_later(bench: Bench) -> None:
    """Signing in while it trains loses sight of nothing; it is claimed when that has ended."""
    run, asking = make_run(), signed_in("ann", ANN)
    bench.expect(run)
    shop = Workshop(bench.work)
    shop.put(run, f"browser:{ANN}", token=NOBODY)
    bench.begun[run.record.id].wait()
    with Run.load(run.record.id).lock():  # as the driver's
        claim(asking, shop)
        assert own_run(run.record.id, asking).record.owner == hash_owner(f"browser:{ANN}")
        assert [r.record.id for r in own_runs(asking)] == [run.record.id]
    bench.let_go(run)
    assert shop.wait_for(run.record.id, 10)
    assert own_run(run.record.id, asking).record.owner == hash_owner("hub:ann")


def test_a_claim_needs_the_owner_and_an_idle_run() -> None:
    """Neither another's run nor one under work changes hands."""
    run = make_run()
    with pytest.raises(RunError):
        run.claim(f"browser:{BOB}", "hub:bob")
    with Run.load(run.record.id).lock(), pytest.raises(RunBusyError):
        run.claim(f"browser:{ANN}", "hub:ann")


@pytest.fixture
def client() -> TestClient:
    """Serve the downloads behind the closed file routes."""
    return TestClient(Starlette(routes=[*download_routes()], middleware=[closed_files()]))


@pytest.mark.parametrize(
    ("secret", "status"),
    [(ANN, 200), (BOB, 404), ("", 404), ("x", 404)],
    ids=["owner", "another", "none", "nonsense"],
)
def test_a_download_is_its_owners(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, secret: str, status: int
) -> None:
    """The adapter's zips and the pairs, for the browser that trained and for no other."""
    for pack in ("pack", "pack_gguf"):
        monkeypatch.setattr(f"ditto_hub.api.{pack}", lambda run, file, **_: file.write(b"a zip"))
    monkeypatch.setattr("ditto_hub.api.preferences_bytes", lambda run: b"{}")
    run = make_run()
    files = {"adapter.zip": b"a zip", "gguf.zip": b"a zip", "pairs.jsonl": b"{}"}
    for name, content in files.items():
        answer = client.get(f"/ditto/runs/{run.record.id}/{name}", headers={SECRET_HEADER: secret})
        assert answer.status_code == status
        if status == 200:
            assert answer.content == content
            assert "no-store" in answer.headers["cache-control"]


def test_what_has_no_place_in_a_gguf_file_is_told(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In words and in the browser's language, with no file left behind."""

    def refuse(run: Run, file: object, **_: object) -> None:
        raise BaseModelError("engine.gguf_unknown_type", model_type="mamba", known="llama")

    monkeypatch.setattr("ditto_hub.api.pack_gguf", refuse)
    run = make_run()
    headers = {SECRET_HEADER: ANN, "accept-language": "zh-CN"}
    answer = client.get(f"/ditto/runs/{run.record.id}/gguf.zip", headers=headers)
    assert answer.status_code == 422
    assert "类型为 mamba 的适配器" in answer.text


@pytest.mark.parametrize(
    "path", ["/gradio_api/file=/etc/passwd", "/file=/x", "/gradio_api/stream/x", "/file/x"]
)
def test_file_addresses_are_closed(client: TestClient, path: str) -> None:
    """Whatever Gradio would serve under them, they answer 404."""
    assert client.get(path).status_code == 404


def test_what_nobody_worked_on_for_long_is_removed() -> None:
    """Past the profile's hours a run goes, whole; a younger one and one under work stay."""
    old, young, busy = make_run(), make_run(), make_run()
    for run in (old, busy):
        run.record.created = 0.0
    late = time.time() + CPU.keep_hours * 3600 + 60
    young.save_record()
    with Run.load(busy.record.id).lock():
        removed = sweep(CPU, late)
    assert set(removed) == {old.record.id, young.record.id}
    assert sweep(CPU) == []
    assert busy.folder.is_dir()


def test_what_a_run_leaves_behind_is_collected() -> None:
    """A run's model, which stands in a cycle, is gone when its run has ended."""
    gone = threading.Event()

    class Model:
        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            gone.set()

    def work(run: Run, owner: str, token: str | None, stop: Callable[[], str]) -> Iterator[Event]:
        Model()
        yield from ()

    gc.disable()
    try:
        Workshop(work).put(make_run(), "ann", NOBODY)
        assert gone.wait(PATIENCE_S)
    finally:
        gc.enable()


def test_closed_pages_and_programs_calls_are_forgotten() -> None:
    """A page's session goes an hour after it is closed, a call's soon; one that is open stays.

    What was written into its boxes is not kept by the server.
    """
    assert (
        forget_sessions(cast("Any", SimpleNamespace())) == 0
    )  # not launched: nothing is there yet
    holder = StateHolder()
    page = cast("Any", SimpleNamespace(state_holder=holder))
    for name, states, closed in (("open", {1: ""}, False), ("closed", {1: ""}, True),
                                 ("call", {}, False)):  # fmt: skip
        written = {7: {"props": {"value": "Dear all", "label": "Prompt"}}}
        session = SimpleNamespace(state_data=states, is_closed=closed, config_values=written)
        holder.session_data[name] = cast("Any", session)
        holder.time_last_used[name] = datetime.datetime.now()
    now = time.time()
    assert forget_sessions(page, now) == 0
    assert forget_sessions(page, now + CALLED_FOR_S + 60) == 1
    assert set(holder.session_data) == {"open", "closed"}
    assert holder.session_data["open"].config_values == {7: {"props": {"label": "Prompt"}}}
    assert forget_sessions(page, now + CLOSED_FOR_S + 60) == 1
    assert set(holder.session_data) == set(holder.time_last_used) == {"open"}


# ---- what may be named and typed -----------------------------------------------------------------


@pytest.mark.parametrize("base", ["pocket", "Qwen/Qwen3-4B-Instruct-2507", "someone/else-1.5B"])
def test_any_hub_id_on_ones_own_machine(base: str) -> None:
    """What is offered, and any id of the right form."""
    assert require_base(f" {base} ", OWN) == base


@pytest.mark.parametrize(
    "base", ["", "https://huggingface.co/a/b", "/etc", "a/b/c", "../x", "a b/c", "someone/else"]
)
def test_what_is_not_offered_is_refused(base: str) -> None:
    """Addresses, paths and, where the profile says so, models beside the list."""
    with pytest.raises(BaseModelError):
        require_base(base, CPU)


def test_no_folder_of_the_server_is_a_base_model(tmp_path: Path, monkeypatch: Any) -> None:
    """On a Space a folder of the server's does not pass for an id."""
    (tmp_path / "owner/name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BaseModelError, match="not a model id"):
        require_base("owner/name", load_profile("zerogpu"))
    assert require_base("owner/name", OWN) == "owner/name"


def test_cards_become_demonstrations() -> None:
    """Empty cards are left out; an edited draft keeps what the model wrote."""
    cards = [new_card(), new_card("a", "b"), new_card("c", "mine", draft="the model's")]
    demos = to_demos(cards, OWN)
    assert [(d.id, d.completion, d.origin, d.original) for d in demos] == [
        ("demo-1", "b", "typed", None),
        ("demo-2", "mine", "edited", "the model's"),
    ]


def test_a_draft_left_as_it_is_is_no_edit() -> None:
    """What the model wrote and nobody changed is no rejected answer."""
    (demo,) = to_demos([new_card("a", "text", draft="text")], OWN)
    assert (demo.origin, demo.original) == ("typed", None)


@pytest.mark.parametrize(
    ("change", "author"),
    [
        ({}, "model"), ({"prompt": "Mine."}, "user"), ({"prompt_by": "text"}, "text"),
        ({"prompt_by": "Ann"}, "user"), ({"prompt_by": 7}, "user"), ({"written": [1]}, "user"),
        ({"written": None}, "user"),
    ],
)  # fmt: skip
def test_a_prompt_is_the_model_s_until_it_is_edited(change: dict[str, Any], author: str) -> None:
    """Who wrote a prompt is believed of a card whose prompt is as it was written, and no more."""
    card = new_card("Theirs.", "text", prompt_by="model") | change
    (demo,) = to_demos([card], OWN)
    assert demo.prompt_by == author


def test_nothing_is_written_while_the_libraries_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks in the first seconds waits: imported by two threads at once they break."""
    order: list[str] = []
    loaded = threading.Event()

    def load() -> None:
        time.sleep(0.05)
        order.append("loaded")
        loaded.set()

    monkeypatch.setattr(bases, "warm", loaded)
    monkeypatch.setattr(bases, "_begun", threading.Lock())
    monkeypatch.setattr(bases, "_load", load)
    monkeypatch.setattr("ditto_hub.api.write", lambda *_, **__: order.append("written") or [])
    shared: Any = SimpleNamespace(profile=OWN)
    request: Any = SimpleNamespace(headers={})
    writer(shared, make_run(), Asker(ANN, request))(())
    assert order == ["loaded", "written"]


@pytest.mark.parametrize(
    "change", [{"max_demos": 1}, {"max_text_chars": 3}], ids=["too many", "too long"]
)
def test_more_than_the_profile_allows_is_refused(change: dict[str, int]) -> None:
    """Server-side: a browser may send what its boxes would not take."""
    with pytest.raises(DemoError):
        to_demos([new_card("abcd", "b"), new_card("c", "d")], replace(OWN, **change))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "sent", [None, 5, "x", [1, None, {}], [{"prompt": 1, "completion": "b"}], {"prompt": "a"}]
)
def test_a_browser_may_send_anything(sent: Any) -> None:
    """What is no card is left out."""
    assert len(to_demos(sent, OWN)) == 0


@pytest.mark.parametrize("name", ["harbor", "sprout", "gazette"])
def test_example_sets_are_whole(name: str) -> None:
    """Each gives enough demonstrations to train on."""
    assert len(to_demos(example_cards(name), OWN)) >= 4


@pytest.mark.parametrize("name", ["pocket", "fast", "paper"])
def test_the_form_gives_back_the_preset(name: str) -> None:
    """What the dials show for a preset is read as that preset."""
    from ditto_hub.config import preset

    assert read_config(name, 3, values_of(name)) == preset(name, 3)


@pytest.mark.parametrize(("value", "words"), [(None, "is empty"), (10**9, "out of its range")])
def test_a_dial_out_of_range_is_told(value: Any, words: str) -> None:
    """Empty and too large are refused in words that name the setting."""
    values = values_of("pocket")
    values[ORDER.index("update.rounds")] = value
    with pytest.raises(ConfigError, match=words):
        read_config("pocket", 0, values)
