"""A run that comes from outside is held to what the app itself would make: its record is input."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub.constants
import pytest
from built_apps import SECRET
from hub_server import Hub
from hub_state import Blob
from job_fixtures import hub, run, script, server, token
from job_script import Script, make_run
from jobs_server import JobsHub
from test_preflight import a_model

from ditto_hub import api
from ditto_hub.cost.limits import FILE
from ditto_hub.cost.profiles import Profile, load_profile
from ditto_hub.errors import BaseModelError, DemoError, DittoError, HubError, RunError
from ditto_hub.hub import kept, preflight, transfer
from ditto_hub.hub.client import HubClient
from ditto_hub.hub.weights import Shelf, fetch
from ditto_hub.runs.folder import Run, hash_owner, home
from ditto_hub.runs.record import RunRecord
from ditto_hub.tokens import NOBODY
from ditto_hub.ui.html.cards import new_card
from ditto_hub.ui.serving.session import Visitor
from ditto_hub.ui.steps.remote import Wish
from ditto_hub.ui.steps.train import start_run

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
OWNER = "hub:alice"
Edit = Callable[[dict[str, Any]], object]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Create alice's run outside the home folder, as another machine made it."""
    return make_run(tmp_path / "elsewhere", owner=OWNER)


def keep(hub: JobsHub, run: Run, token: str, edit: Edit, demos: bytes = b"") -> str:
    """Keep a run on the Hub, then edit its record there by hand; return its id."""
    transfer.save_run(run, token)
    repo = hub.state.repos["model", f"alice/ditto-hub-run-{run.record.id}"]
    files = {path: blob.data for path, blob in repo.head.files.items()}
    record = json.loads(files["run/run.json"])
    edit(record)
    files["run/run.json"] = json.dumps(record).encode()
    if demos:
        files["run/demos.jsonl"] = demos
    manifest = json.loads(files[kept.MANIFEST])
    for path in manifest["files"]:
        data = files[kept.RUN + path]
        manifest["files"][path] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    files[kept.MANIFEST] = json.dumps(manifest).encode()
    lfs = {path: blob.lfs for path, blob in repo.head.files.items()}
    repo.commit("edit", {path: Blob(data, lfs[path]) for path, data in files.items()})
    return run.record.id


def bring(run_id: str, token: str, profile: str | Profile) -> Run:
    """Bring a run as My runs does."""
    given = load_profile(profile) if isinstance(profile, str) else profile
    return api.restore_run(run_id, token, OWNER, profile=given)


def starts() -> int:
    """Return the starts that were counted."""
    path = home() / FILE
    return len(json.loads(path.read_text())) if path.is_file() else 0


def setting(path: str, value: Any) -> Edit:
    """Return an edit of one value inside the record."""

    def edit(record: dict[str, Any]) -> None:
        inside = record
        *parts, last = path.split(".")
        for part in parts:
            inside = inside[part]
        inside[last] = value

    return edit


EDITED: dict[str, Edit] = {
    "a folder of the server": setting("base_model.id", str(Path(__file__).parent)),
    "a relative folder": setting("base_model.id", "ditto_hub/pocket"),
    "a way out": setting("base_model.id", "../../etc"),
    "no id": setting("base_model.id", "a model"),
    "a revision that leads out": setting("base_model.revision", "../../other/private"),
    "an absolute revision": setting("base_model.revision", "/etc"),
    "rank 1024": setting("config.lora.rank", 1024),
    "64 rounds": setting("config.update.rounds", 64),
    "1,000 steps a round": setting("config.update.steps", 1000),
    "a long warm start": setting("config.warm_start.max_steps", 10_000),
    "many samples": setting("config.sampling.samples", 64),
    "a setting out of range": setting("config.update.steps", 10**9),
    "an unknown setting": setting("config.update.evil", 1),
}


@pytest.mark.parametrize("profile", ["cpu", "gpu", "zerogpu"])
@pytest.mark.parametrize("edit", EDITED.values(), ids=EDITED)
def test_an_edited_run_is_not_brought(
    edit: Edit, profile: str, hub: JobsHub, run: Run, token: str
) -> None:
    """It is refused in words by its record alone: nothing is fetched, no start is counted."""
    run_id = keep(hub, run, token, edit)
    with pytest.raises(DittoError):
        bring(run_id, token, profile)
    assert not (home() / "runs" / run_id / "run.json").exists()
    assert starts() == 0


def test_a_base_that_is_not_offered_is_not_brought(hub: JobsHub, run: Run, token: str) -> None:
    """Where visitors may name no other base model, a record may not either."""
    run_id = keep(hub, run, token, setting("base_model.id", "some/7b"))
    with pytest.raises(BaseModelError, match="not offered"):
        bring(run_id, token, "cpu")


MANY = b"".join(
    json.dumps({"id": f"d{n}", "prompt": f"Q{n}?", "completion": "A", "split": "train",
                "origin": "file"}).encode() + b"\n"
    for n in range(51)
)  # fmt: skip
LONG = MANY.splitlines()[0].replace(b'"A"', b'"' + b"a" * 20_001 + b'"') + b"\n"


@pytest.mark.parametrize("demos", [MANY, LONG, b"{}\n", b"\xff\n"],
                         ids=["many", "long", "none", "no text"])  # fmt: skip
def test_edited_demonstrations_are_not_brought(
    demos: bytes, hub: JobsHub, run: Run, token: str
) -> None:
    """More, longer or damaged ones leave neither a folder nor a counted start behind."""
    run_id = keep(hub, run, token, lambda record: None, demos)
    with pytest.raises((DemoError, RunError)):
        bring(run_id, token, "cpu")
    assert not (home() / "runs" / run_id).exists()
    assert starts() == 0


def test_a_run_too_large_for_the_profile_is_not_brought(hub: JobsHub, run: Run, token: str) -> None:
    """The size is the profile's affair, and is asked before anything is fetched."""
    run_id = keep(hub, run, token, lambda record: None)
    with pytest.raises(RunError, match="large"):
        bring(run_id, token, replace(load_profile("cpu"), max_run_bytes=1_000))


def test_a_brought_run_takes_of_the_visitors_room(hub: JobsHub, run: Run, token: str) -> None:
    """A finished one costs no start, and so it is the room that bounds how many are brought."""
    run_id = keep(hub, run, token, setting("status", "finished"))
    with pytest.raises(RunError, match="large"):
        bring(run_id, token, replace(load_profile("cpu"), visitor_bytes=1_000))
    bring(run_id, token, "cpu")
    with pytest.raises(RunError, match="Delete a run"):
        bring(run_id, token, replace(load_profile("cpu"), visitor_bytes=1_000))


def test_a_brought_run_counts_as_a_start(hub: JobsHub, run: Run, token: str) -> None:
    """It will be worked on here, so it takes one of the day's starts; without any, it waits."""
    profile = replace(load_profile("cpu"), runs_per_visitor=1)
    run_id = keep(hub, run, token, setting("status", "paused"))
    brought = bring(run_id, token, profile)
    assert starts() == 1
    assert bring(run_id, token, profile).record.id == run_id  # it is here already
    brought.delete()
    with pytest.raises(RunError, match="started 1 runs"):
        bring(run_id, token, profile)
    assert not (home() / "runs" / run_id / "run.json").exists()


def test_a_finished_run_counts_as_none(hub: JobsHub, run: Run, token: str) -> None:
    """Nothing will be worked on."""
    bring(keep(hub, run, token, setting("status", "finished")), token, "cpu")
    assert starts() == 0


@pytest.fixture
def nothing_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where anything of a base model would be loaded."""

    def load(*_: Any, **__: Any) -> None:
        raise AssertionError("a base model was loaded")

    for name in ("load_base", "load_format", "context_length"):
        monkeypatch.setattr(f"ditto_hub.engine.base_model.{name}", load)
    monkeypatch.setattr("ditto_hub.hub.weights.snapshot_download", load, raising=False)


def edited_here(run: Run, edit: Edit) -> Run:
    """Put an edited copy of a run where runs are, as an older version brought it."""
    folder = Path(shutil.copytree(run.folder, home() / "runs" / run.record.id))
    record = json.loads((folder / "run.json").read_text())
    edit(record)
    (folder / "run.json").write_text(json.dumps(record))
    return Run.load(folder)


HERE = {name: edit for name, edit in EDITED.items() if "revision" not in name}


@pytest.mark.parametrize("profile", ["cpu", "zerogpu"])
@pytest.mark.parametrize("edit", HERE.values(), ids=HERE)
@pytest.mark.usefixtures("nothing_loads")
def test_an_edited_run_is_not_worked_on(edit: Edit, profile: str, run: Run) -> None:
    """A resume and a lease ask again, before anything is loaded; the run stays as it is."""
    here = edited_here(run, edit)
    with pytest.raises(DittoError):
        list(api.work(here, load_profile(profile), visitor=OWNER, token=NOBODY))
    assert Run.load(here.folder).record.status == "created"


@pytest.mark.parametrize("profile", ["cpu", "zerogpu"])
@pytest.mark.usefixtures("nothing_loads")
def test_nothing_is_written_with_an_edited_run(profile: str, run: Run) -> None:
    """Neither a run nor a caller's name opens a folder of the server."""
    here = edited_here(run, EDITED["a folder of the server"])
    asked = [api.WriteRequest(({"role": "user", "content": "Hi"},))]
    for target in (here, str(Path(__file__).parent), "ditto_hub/pocket"):
        with pytest.raises(BaseModelError):
            api.write(target, asked, load_profile(profile), visitor=OWNER, token=NOBODY)


def test_a_run_is_not_trained_on_from_an_edited_one(run: Run) -> None:
    """A parent's base model is asked for like any other, and the new run leaves nothing."""
    parent = edited_here(run, EDITED["a folder of the server"])
    parent.record.status = "finished"
    parent.save_record()
    cards = [new_card(f"Q{n}?", f"A{n}") for n in range(4)]
    shared: Any = SimpleNamespace(profile=load_profile("cpu"), sign_in=True)
    asking = Visitor(OWNER, "alice")
    with pytest.raises(DittoError):
        start_run(cards, "pocket", parent.record.id, parent.config, asking, shared, NOBODY, Wish())
    assert [r.record.id for r in Run.all()] == [parent.record.id]
    assert starts() == 0


def test_a_jobs_repo_changes_nothing_that_a_run_is(hub: JobsHub, run: Run, token: str) -> None:
    """Base model, settings, seed, owner and demonstrations stay, whatever the repo says by now."""
    before = replace(run.record)
    demos = (run.folder / "demos.jsonl").read_bytes()

    def edit(record: dict[str, Any]) -> None:
        record |= {"status": "finished", "seed": 5, "owner": "somebody", "created": 1.0}
        record["base_model"] = {"id": "/etc", "revision": None}
        record["config"]["update"]["rounds"] = 64

    keep(hub, run, token, edit, MANY)
    assert transfer.fetch(HubClient(token), f"alice/ditto-hub-run-{run.record.id}", run)
    after = Run.load(run.folder).record
    assert after.status == "finished"
    for name in ("base_model", "config", "seed", "owner", "created", "parent"):
        assert getattr(after, name) == getattr(before, name), name
    assert (run.folder / "demos.jsonl").read_bytes() == demos


def test_a_gpu_runs_record_is_read_back(run: Run) -> None:
    """What decoding on a GPU writes down is no damage."""
    graphs = {"recorded": 2, "replayed": 9, "fallback": ""}
    run.record.hardware = {"device": "cuda", "name": "H100", "dtype": "bfloat16",
                           "cuda_graphs": graphs}  # fmt: skip
    run.save_record()
    assert Run.load(run.folder).record.hardware["cuda_graphs"] == graphs


# ---- private weights -----------------------------------------------------------------------------


@pytest.fixture
def private(hub: JobsHub, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Put a private base model of alice's on the Hub; return it as a record has it."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    huggingface_hub.utils.disable_progress_bars()
    hub.state.add_repo("alice/hidden", a_model(), private=True)
    return {"id": "alice/hidden", "revision": hub.state.repos["model", "alice/hidden"].head.oid}


def test_private_weights_cannot_be_named_by_another(
    private: dict[str, Any], hub: JobsHub, tmp_path: Path
) -> None:
    """Neither their own name nor a path through another's folder opens them."""
    shelf = Shelf(OWNER, folder=tmp_path / "weights", endpoint=hub.endpoint)
    place = shelf.place(private, str(hash_owner(OWNER)))
    place.mkdir(parents=True)
    (place / ".whole").touch()
    assert fetch(private, shelf, NOBODY) == place
    mallory = next(name for name, t in hub.state.tokens.items() if t.user == "mallory")
    theirs = replace(shelf, visitor="hub:mallory")
    hers = f"../../{hash_owner(OWNER)}/alice--hidden/{private['revision']}"
    for base in (
        private,
        {"id": "x/y", "revision": hers},
        {"id": "x/y", "revision": f"../{hers}"},
        {"id": f"../{hash_owner(OWNER)}/alice%2Fhidden", "revision": private["revision"]},
        {"id": "..", "revision": ".."},
    ):
        with pytest.raises(DittoError):
            assert fetch(base, theirs, mallory) != place
        if base["id"].count("/") == 1 and not base["id"].startswith("."):
            assert theirs.root in theirs.place(base, "x").resolve().parents
            assert theirs.place(base, "x").resolve().parent.parent.name == "x"


@pytest.mark.usefixtures("nothing_loads")
def test_a_shared_cache_opens_nothing_private(
    private: dict[str, Any], run: Run, hub: JobsHub
) -> None:
    """Where base models lie in one cache, a visitor's own token has to open what is named."""
    profile = replace(load_profile("zerogpu"), backend="local")
    here = edited_here(run, setting("base_model", private))
    mallory = next(name for name, t in hub.state.tokens.items() if t.user == "mallory")
    asked = [api.WriteRequest(({"role": "user", "content": "Hi"},))]
    for asks in (NOBODY, mallory):
        with pytest.raises(BaseModelError):
            list(api.work(here, profile, visitor="hub:mallory", token=asks))
        with pytest.raises(BaseModelError):
            api.write(here, asked, profile, visitor="hub:mallory", token=asks)


def test_a_cache_tells_visitors_nothing(
    private: dict[str, Any], hub: JobsHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """While the Hub cannot be asked, what another's token has brought is not described."""
    for name, data in a_model().items():
        (tmp_path / name).write_bytes(data)
    monkeypatch.setattr(preflight, "_cached", lambda *_: tmp_path)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    for asks in (NOBODY, "hf_mallory"):
        with pytest.raises(HubError):
            preflight.preflight("alice/hidden", asks, None, hub.endpoint)
