"""What outlives a Space: a run kept in its owner's private repo."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from job_fixtures import hub, server
from jobs_server import JobsHub
from oidc import Oidc
from pages import PAIRS, TINY, App, set_dials, signed_env, write_cards
from playwright.sync_api import Page, expect
from test_ui_signed import sign_in

__all__ = ["hub", "server"]


@pytest.fixture
def sign_in_at(hub: JobsHub) -> Iterator[Oidc]:
    """Run a local sign-in whose tokens the Hub with jobs knows."""
    with Oidc(tokens={"alice": hub.add_user("alice")}) as running:
        yield running


@pytest.fixture
def space(tmp_path: Path, hub: JobsHub, sign_in_at: Oidc) -> Iterator[App]:
    """Run the app as a CPU Space does, on a Hub that has jobs."""
    env = signed_env(hub, sign_in_at) | {"OAUTH_SCOPES": "openid profile contribute-repos jobs"}
    running = App(tmp_path / "home", env).start()
    yield running
    running.stop()


def begin(page: Page, oidc: Oidc) -> str:
    """Sign in, show demonstrations, start a run; return its id."""
    sign_in(page, oidc, "alice")
    write_cards(page, PAIRS)
    expect(page.locator("#show-checks")).to_contain_text("4 demonstrations")
    page.click("#show-next")
    set_dials(page, TINY)
    page.click("#train-start")
    expect(page.locator("#train-status")).to_contain_text("Finished", timeout=400_000)
    return page.url.split("run=")[1].split("&")[0]


def test_a_kept_run_outlives_the_spaces_disk(
    space: App, hub: JobsHub, sign_in_at: Oidc, visit: Callable[..., Page]
) -> None:
    """A Space restarted with an empty disk says what is gone, and brings it back from the Hub."""
    page = visit(space.url)
    run_id = begin(page, sign_in_at)
    repo = f"alice/ditto-hub-run-{run_id}"
    expect(page.locator("#train-elsewhere")).to_contain_text(f"Kept in {repo}, private")
    assert [r.private for r in hub.state.repos.values() if r.id == repo] == [True]

    page.watch.allow(".*")  # type: ignore[attr-defined]  # the server is away for a while
    page.goto("about:blank")  # a page left open would reload itself meanwhile
    space.stop(kill=True)
    shutil.rmtree(space.home)
    space.start()
    page.goto(f"{space.url}/?run={run_id}")
    expect(page.locator("#runs-note")).to_contain_text("is not here for you")
    page.click("#runs-kept-look")
    page.click("#runs-kept-bring")
    expect(page.locator("#train-status")).to_contain_text("Finished")
