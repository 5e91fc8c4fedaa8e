"""A Space of one's own: its folder, its front matter, and how the Hub gets it."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import space_routes
import yaml
from click.testing import CliRunner
from hub_server import Hub, local_hub
from hub_state import Fault

from ditto_hub.cli import main
from ditto_hub.cost.profiles import load_profile
from ditto_hub.errors import ConfigError, HubError, MemoryShortError
from ditto_hub.hub.bounds import Timeouts, bound_time
from ditto_hub.hub.spaces import folder as space
from ditto_hub.hub.spaces.deploy import deploy_steps
from ditto_hub.hub.spaces.folder import SpacePlan, front_matter, plan_space, requirements

ROOT = Path(__file__).parents[1]
# The keys a Space's front matter may have (hub-docs, spaces-config-reference.md), those we use.
KEYS = {
    "title", "emoji", "colorFrom", "colorTo", "sdk", "sdk_version", "python_version", "app_file",
    "license", "short_description", "hf_oauth", "hf_oauth_expiration_minutes", "hf_oauth_scopes",
    "startup_duration_timeout", "tags", "models", "preload_from_hub", "suggested_hardware",
}  # fmt: skip
# huggingface_hub 2.4 hands httpx2 a file in a way that it calls old.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
KINDS = ("zero-a10g", "cpu-basic", "l4x1")


def head(text: str) -> dict[str, Any]:
    """Return a card's front matter."""
    found: dict[str, Any] = yaml.safe_load(text.split("---\n", 2)[1])
    return found


@pytest.fixture(scope="module")
def plans() -> dict[str, SpacePlan]:
    """One plan a kind of hardware."""
    return {kind: plan_space(kind) for kind in KINDS}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A local Hub that knows Spaces; waits between tries are short."""
    bound_time(Timeouts(waits_s=(0.01, 0.01), patience_s=0.1))
    with local_hub() as found:
        yield found
    bound_time(Timeouts())


def alice(hub: Hub) -> str:
    """Return alice's token."""
    return next(name for name, token in hub.state.tokens.items() if token.user == "alice")


def deploy(hub: Hub, plan: SpacePlan, name: str = "alice/ditto", **options: Any) -> list[str]:
    """Deploy and return what was said."""
    given = {"token": alice(hub), "endpoint": hub.endpoint, **options}
    return [str(step.words) for step in deploy_steps(plan, name, **given)]


# ---- the folder --------------------------------------------------------------------------------


def test_readme_and_space_config_agree() -> None:
    """The README's front matter is what `space_config` makes for ZeroGPU."""
    text = (ROOT / "README.md").read_text("utf-8")
    assert head(text) == front_matter(load_profile("zerogpu"))
    assert '\npython_version: "3.12"\n' in text


def test_the_entry_is_the_same_file() -> None:
    """What a Space starts is what the checkout starts."""
    assert (ROOT / "space_config/app.py").read_bytes() == (ROOT / "app.py").read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_front_matter_is_the_hubs(kind: str, plans: dict[str, SpacePlan]) -> None:
    """Only known keys, a quoted Python of ZeroGPU's, a short description, no bad suggestion."""
    data = plans[kind].files["README.md"]
    assert isinstance(data, bytes)
    card = head(data.decode())
    assert set(card) <= KEYS
    assert card["python_version"] == "3.12"
    assert len(card["short_description"]) <= 60
    assert card["hf_oauth_scopes"][0] == "contribute-repos"
    assert card.get("suggested_hardware", "cpu-basic").startswith(("cpu-", "l4"))


@pytest.mark.parametrize(
    ("kind", "scopes"),
    [
        ("zero-a10g", ["contribute-repos", "gated-repos", "jobs"]),
        ("cpu-basic", ["contribute-repos", "jobs"]),
        ("l4x1", ["contribute-repos", "gated-repos"]),
    ],
)
def test_scopes_are_the_least(kind: str, scopes: list[str], plans: dict[str, SpacePlan]) -> None:
    """`jobs` stands where Jobs are offered, `gated-repos` where a gated base may be chosen."""
    profile = plans[kind].profile
    assert list(profile.scopes) == scopes
    assert ("jobs" in scopes) == profile.offers_jobs
    gated = any(base.id.startswith("mistralai/") for base in profile.base_models)
    assert ("gated-repos" in scopes) == (gated or profile.any_base_model)


def test_requirements_leave_the_builder_its_own() -> None:
    """No gradio, no spaces, no exact pin of anything, and torch as a range."""
    lines = [line for line in requirements().splitlines() if not line.startswith("#")]
    names = {space._name(line) for line in lines}
    assert not names & set(space.BUILDERS_OWN)
    assert not any("==" in line for line in lines)
    assert any(line.startswith("torch>=") for line in lines)


def test_a_space_can_write_gguf_files() -> None:
    """It has the package of the extra [gguf], in the extra's bounds."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    for line in extras["optional-dependencies"]["gguf"]:
        assert line in requirements().splitlines()


@pytest.mark.parametrize("kind", KINDS)
def test_the_folder_is_whole_and_clean(
    kind: str, plans: dict[str, SpacePlan], tmp_path: Path
) -> None:
    """It imports alone and finds its profile; no cache and no hidden file is in it."""
    plans[kind].write(tmp_path / "space")
    paths = list(plans[kind].files)
    assert not any("__pycache__" in p or p.endswith(".pyc") or "/." in p for p in paths)
    code = (
        "import os, ditto_hub.cost.profiles as p;"
        "profile = p.load_profile(os.environ['DITTO_HUB_PROFILE']);"
        "print(os.path.dirname(p.__file__), profile.hardware)"
    )
    env = {"PATH": "/usr/bin:/bin", **plans[kind].variables}
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path / "space", env=env, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    assert found.stdout.split() == [str(tmp_path / "space/ditto_hub/cost"), kind]


def test_the_wheel_carries_what_deploying_needs() -> None:
    """Every package and `space_config` are named in pyproject.toml, with the files in it."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    here = {
        ".".join(p.parent.relative_to(ROOT).parts)
        for p in (ROOT / "ditto_hub").rglob("__init__.py")
    }
    assert set(table["packages"]) == here | {"ditto_hub.space_config"}
    assert table["package-dir"] == {"ditto_hub.space_config": "space_config"}
    assert table["package-data"]["ditto_hub.space_config"] == ["**/*"]


def test_another_base_model_comes_first() -> None:
    """`--base-model` is written into the Space's own profile, preloaded, listed and the default."""
    plan = plan_space("l40sx1", "acme/writer-3b")
    text = plan.files["space_config/profiles/gpu.toml"]
    assert isinstance(text, bytes)
    data = tomllib.loads(text.decode())
    assert data["default_base_model"] == "acme/writer-3b"
    assert data["hardware"] == "l40sx1"
    assert "acme/writer-3b" in [row["id"] for row in data["base_models"]]
    card = plan.files["README.md"]
    assert isinstance(card, bytes)
    assert head(card.decode())["preload_from_hub"] == ["acme/writer-3b"]


def test_pocket_needs_no_preload() -> None:
    """With the embedded model as the default nothing is fetched in the build."""
    card = plan_space("zero-a10g", "pocket").files["README.md"]
    assert isinstance(card, bytes)
    assert "preload_from_hub" not in head(card.decode())


@pytest.mark.parametrize("hardware", ["h200", "gpu", "", "zero"])
def test_unknown_hardware_is_refused(hardware: str) -> None:
    """Hardware that Spaces do not have is named, with what they have."""
    with pytest.raises(ConfigError, match="zero-a10g"):
        plan_space(hardware)


def test_a_base_that_cannot_be_trained_there_is_refused() -> None:
    """7 B in float32 on 16 GB: refused before anything is sent, with what would do."""
    with pytest.raises(MemoryShortError, match="larger hardware"):
        plan_space("t4-small", "mistralai/Mistral-7B-Instruct-v0.2")


def test_dry_run_writes_the_folder(tmp_path: Path) -> None:
    """`deploy --dry-run` writes all and says what else would be set; it needs no token."""
    folder = tmp_path / "out"
    found = CliRunner().invoke(
        main, ["deploy", "alice/ditto", "--hardware", "cpu-basic", "--dry-run", "--output", folder]
    )
    assert found.exit_code == 0, found.output
    assert "DITTO_HUB_PROFILE=cpu" in found.output
    assert (folder / "app.py").is_file()
    again = CliRunner().invoke(main, ["deploy", "x", "--dry-run", "--output", str(folder)])
    assert again.exit_code == 1
    assert "not an empty folder" in " ".join(again.output.split())


# ---- the Hub -----------------------------------------------------------------------------------


def test_a_space_is_made_whole(hub: Hub, plans: dict[str, SpacePlan]) -> None:
    """One commit of exactly the folder, private, on its hardware, with its variables and sleep."""
    plan = plans["l4x1"]
    said = deploy(hub, plan)
    repo = hub.state.repos["space", "alice/ditto"]
    assert repo.private
    assert set(repo.head.files) == {*plan.files, ".gitattributes"}
    assert len(repo.commits) == 2
    mine = space_routes.settings(hub, "alice/ditto")
    assert (mine["hardware"], mine["sleep"], mine["sdk"]) == ("l4x1", 1800, "gradio")
    assert mine["variables"] == dict(plan.variables)
    assert "alice/ditto" in said[-1]


def test_a_second_time_changes_nothing(hub: Hub, plans: dict[str, SpacePlan]) -> None:
    """Deploying the same again makes no commit and asks for no hardware."""
    deploy(hub, plans["zero-a10g"])
    hub.forget()
    said = deploy(hub, plans["zero-a10g"])
    assert "Its files are up to date." in said
    assert not [r for r in hub.requests if r.startswith("POST") and "preupload" not in r]


def test_an_update_moves_the_space(hub: Hub, plans: dict[str, SpacePlan]) -> None:
    """Other hardware changes files, variables and hardware; files that we no longer have go."""
    deploy(hub, plans["cpu-basic"])
    repo = hub.state.repos["space", "alice/ditto"]
    repo.commit("old", repo.head.files | {"ditto_hub/gone.py": repo.head.files["app.py"]})
    said = deploy(hub, plans["zero-a10g"])
    assert any("zero-a10g in place of cpu-basic" in words for words in said)
    assert "ditto_hub/gone.py" not in repo.head.files
    mine = space_routes.settings(hub, "alice/ditto")
    assert mine["hardware"] == "zero-a10g"
    assert mine["variables"]["DITTO_HUB_PROFILE"] == "zerogpu"


def test_a_strangers_space_is_left_alone(hub: Hub, plans: dict[str, SpacePlan]) -> None:
    """A Space that holds another app is refused and stays as it is."""
    hub.state.add_repo("alice/ditto", {"app.py": b"print()"}, kind="space")
    with pytest.raises(HubError, match="something else"):
        deploy(hub, plans["zero-a10g"])
    assert len(hub.state.repos["space", "alice/ditto"].commits) == 2


def test_a_free_account_is_told_what_it_may_have(hub: Hub, plans: dict[str, SpacePlan]) -> None:
    """402 for a CPU Space names ZeroGPU as the way; on ZeroGPU it works."""
    hub.free_plan = True  # type: ignore[attr-defined]
    with pytest.raises(HubError, match="30 days old"):
        deploy(hub, plans["cpu-basic"])
    assert deploy(hub, plans["zero-a10g"])


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault("status", "create", status=401, message="Invalid credentials"), "token"),
        (Fault("status", "create", status=403, message="missing scope"), "scope"),
        (Fault("status", "create", status=403, message="ZeroGPU Spaces quota"), "ZeroGPU"),
        (Fault("status", "create", status=400, message="Invalid hardware flavor"), "hardware"),
        (Fault("status", "variables", status=403, message="no rights"), "refused"),
    ],
)
def test_refusals_are_told(fault: Fault, words: str, hub: Hub, plans: dict[str, SpacePlan]) -> None:
    """Each refusal says what was refused and what to do; the next try goes on from there."""
    hub.faults.append(fault)
    with pytest.raises(HubError, match=words):
        deploy(hub, plans["zero-a10g"])
    hub.faults.clear()
    assert deploy(hub, plans["zero-a10g"])


@pytest.mark.parametrize("where", ["repos/create", "commit"])
def test_a_lost_answer_is_no_second_space(
    where: str, hub: Hub, plans: dict[str, SpacePlan]
) -> None:
    """Where the answer is lost after the effect, nothing is made twice."""
    hub.faults.append(Fault("lost-after", where))
    deploy(hub, plans["zero-a10g"])
    assert len(hub.state.repos["space", "alice/ditto"].commits) == 2


def test_somebody_elses_namespace_is_refused(hub: Hub, plans: dict[str, SpacePlan]) -> None:
    """A namespace that the user is not in is named, before anything is made."""
    with pytest.raises(HubError, match="may not publish under"):
        deploy(hub, plans["zero-a10g"], "mallory/ditto")
    assert not hub.state.repos
