"""Programs at the door: docs/agents.md as it stands, each endpoint's words, whose token is used."""

from __future__ import annotations

import asyncio
import importlib.util
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from click.testing import CliRunner
from hub_server import Hub
from pages import App
from test_docs import QUICK, ROOT, blocks, command_lines

from ditto_hub.cli import main
from ditto_hub.cost.profiles import load_profile
from ditto_hub.errors import ConfigError
from ditto_hub.ui import app as ui

PAGE = ROOT / "docs/agents.md"
NAMES = {"check", "estimate", "start", "status", "texts", "write_text", "publish_adapter"}
FEW = "\n".join(f"{name}={json.dumps(value)}" for name, value in QUICK.items())


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with Hub() as running:
        yield running


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, hub: Hub) -> Iterator[App]:
    """Serve the app with a local Hub."""
    env = {"HF_ENDPOINT": hub.endpoint, "HF_HUB_DISABLE_XET": "1"}
    running = App(tmp_path_factory.mktemp("agents") / "home", env).start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def session(served: App) -> Iterator[dict[str, Any]]:
    """Run the page's Python against the app, with settings that last seconds."""
    (code,) = blocks(PAGE, "python")
    code = code.replace("http://127.0.0.1:7860", served.url)
    names: dict[str, Any] = {"few": FEW}
    exec(code.replace('settings="update.rounds=1"', "settings=few"), names)
    yield names
    names["client"].close()


@pytest.mark.filterwarnings("ignore")
def test_the_page_leads_to_a_text(session: dict[str, Any]) -> None:
    """What docs/agents.md says works: a finished run, its candidates, and a text of one."""
    run = session["run"]
    assert run["status"] == "finished"
    assert run["fraction"] == 1.0
    assert run["chosen"] in run["candidates"]
    rows = session["client"].predict(run["id"], session["secret"], "sft", api_name="/texts")
    assert {row["demonstration"] for row in rows} == {"demo-1", "demo-2"}


@pytest.mark.filterwarnings("ignore")
def test_a_run_is_its_secrets(session: dict[str, Any]) -> None:
    """With another secret, or none, no endpoint says anything of a run."""
    from gradio_client.exceptions import AppError

    client, run_id = session["client"], session["run"]["id"]
    for secret in ("y" * 43, "", "short"):
        for name, more in {
            "status": (), "texts": ("",), "write_text": ("Hello.",), "publish_adapter": ("a/b",),
        }.items():  # fmt: skip
            with pytest.raises(AppError, match=r"There is no run|not finished loading|carries no"):
                client.predict(run_id, secret, *more, api_name=f"/{name}")


@pytest.mark.filterwarnings("ignore")
def test_publishing_takes_the_callers_own_token(
    session: dict[str, Any], served: App, hub: Hub
) -> None:
    """Without a token nothing is asked of the Hub; with the caller's, the repo is the caller's."""
    from gradio_client import Client
    from gradio_client.exceptions import AppError

    given = (session["run"]["id"], session["secret"], "my-voice")
    hub.forget()
    with pytest.raises(AppError, match="carries no Hugging Face token"):
        session["client"].predict(*given, api_name="/publish_adapter")
    assert hub.requests == []
    client = Client(served.url, token=hub.add_user("alice"), verbose=False)
    receipt = client.predict(*given, api_name="/publish_adapter")
    client.close()
    assert receipt["url"] == f"{hub.endpoint}/alice/my-voice"
    assert (receipt["private"], receipt["load_back"]["status"]) == (True, "passed")
    assert hub.state.repos["model", "alice/my-voice"].private
    assert set(hub.authorizations) - {""} == set(hub.state.tokens)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ("no list", "prompt"),
        ([{"prompt": "a"}], "prompt"),
        ([{"prompt": "a", "completion": 3}], "prompt"),
    ],
)
def test_rows_that_are_none_are_refused(session: dict[str, Any], rows: Any, why: str) -> None:
    """Whatever is sent in the place of demonstrations gets a sentence."""
    from gradio_client.exceptions import AppError

    with pytest.raises(AppError, match=why):
        session["client"].predict(rows, api_name="/check")
    with pytest.raises(AppError, match="xyzzy"):
        session["client"].predict(
            session["demonstrations"], session["secret"], base_model="pocket",
            settings="xyzzy.plugh=1", api_name="/start",
        )  # fmt: skip


def test_the_command_line_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's commands run one after the other; `--json` prints events and nothing else."""
    monkeypatch.chdir(tmp_path)
    rows = [
        {"prompt": f"Write a note about {what}.", "completion": f"Ahoy! {what} it is. - Sven"}
        for what in ("keys", "tea", "boats")
    ]
    Path("demos.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    few = [word for line in FEW.splitlines() for word in ("--set", line)]
    for words in command_lines(PAGE):
        if words[1] == "app":
            continue
        done = CliRunner().invoke(main, words[1:] + (few if words[1] == "train" else []))
        assert done.exit_code == 0, (words, done.output)
        if words[1] == "train":
            events = [json.loads(line) for line in done.stdout.splitlines()]
            assert [events[0]["type"], events[-1]["type"]] == ["RunStarted", "RunFinished"]
    assert Path("pairs.jsonl").read_text().count("\n") > 0


def built(profile: str) -> gr.Blocks:
    """Build the app within a loop, in a thread of its own, as test_handlers.py does."""

    async def build() -> gr.Blocks:
        return ui.build_app(load_profile(profile))

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, build()).result()


@pytest.mark.parametrize(
    ("profile", "left_out"), [("own", set()), ("zerogpu", {"start", "write_text"})]
)
def test_every_endpoint_says_what_it_is(profile: str, left_out: set[str]) -> None:
    """Each has a description, each argument a type and a line; the tables name them all."""
    page = built(profile)
    found = page.get_api_info()["named_endpoints"]
    assert {name.strip("/") for name in found} == NAMES - left_out
    for name, said in found.items():
        function = next(f.fn for f in page.fns.values() if f.api_name == name.strip("/"))
        for argument in said["parameters"]:
            assert argument["python_type"]["type"] != "Any", (name, argument)
            assert f"{argument['parameter_name']}: " in (function.__doc__ or ""), (name, argument)
        assert f"`{name.strip('/')}`" in PAGE.read_text("utf-8")


def test_without_the_package_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """An MCP server that cannot be had is said, with what to install; unasked it is off."""
    assert ui.wants_mcp() is False
    monkeypatch.setenv("GRADIO_MCP_SERVER", "true")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r'pip install "gradio\[mcp\]"'):
        ui.launch_options(load_profile("own"))
