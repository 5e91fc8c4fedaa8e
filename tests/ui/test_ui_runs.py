"""My runs, in a browser: names, looking for one, going on from one, deleting, and no stranger's."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from made_runs import give, known_visitor
from pages import PAIRS, PHONE, App, go_to, screenshot, write_cards
from playwright.sync_api import Browser, Page, expect

from ditto_hub.runs.folder import Run


@dataclass
class Owner:
    """Somebody with runs: a page, their secret, and a run to copy."""

    page: Page
    home: App
    secret: str
    made: Run

    def give(self, number: int, name: str) -> Run:
        """Give them a finished run."""
        run = give(self.made, self.home.home, f"browser:{self.secret}", number)
        run.rename(name)
        return run


@pytest.fixture(scope="module")
def owner(app: App, browser: Browser, made: Run) -> Iterator[Owner]:
    """Let somebody open the page and have four runs."""
    with known_visitor(browser, app.url) as (page, known):
        owner = Owner(page, app, known.found, made)
        for number, name in enumerate(("Harbor", "Garden", "News", ""), start=1):
            owner.give(number, name)
        yield owner


def test_a_run_has_a_name_and_a_text(owner: Owner) -> None:
    """A run is called by its name, else by its first prompt, and shows what it wrote."""
    go_to(owner.page, "runs")
    cards = owner.page.locator("#runs-list article")
    expect(cards).to_have_count(4)
    prompt = owner.made.demos().train[0].prompt_text
    heads = set(cards.locator(".d-run-head b").all_inner_texts())
    assert {"Harbor", "Garden", "News"} < heads
    assert any(prompt.startswith(head.rstrip("…")) for head in heads)
    assert all(cards.locator(".d-run-text").all_inner_texts())
    screenshot(owner.page, "runs-1280-light")


def test_a_name_is_looked_for(owner: Owner) -> None:
    """The list shows the runs that have the words, and says how many there are."""
    field = owner.page.locator("#runs-filter :is(input, textarea)")
    field.fill("gard")
    expect(owner.page.locator("#runs-list article")).to_have_count(1)
    expect(owner.page.locator("#runs-list")).to_contain_text("1 of 4 runs")
    field.fill("")
    expect(owner.page.locator("#runs-list article")).to_have_count(4)


def test_a_name_is_kept_as_text(owner: Owner) -> None:
    """A name with markup, typed and sent with Enter, stays text; it is there after a reload."""
    page = owner.page
    card = page.locator("#runs-list article", has_text="Harbor")
    card.locator("summary", has_text="Rename").click()
    card.locator("input").fill("Port <img src=x onerror=alert(1)> notes")
    card.locator("input").press("Enter")
    expect(page.locator("#runs-list")).to_contain_text("Port <img src=x onerror=alert(1)> notes")
    page.reload()
    go_to(page, "runs")
    expect(page.locator("#runs-list")).to_contain_text("Port <img src=x onerror=alert(1)> notes")


def test_ones_own_run_is_not_said_to_be_gone(owner: Owner) -> None:
    """An address that names a run of the visitor's shows it."""
    page = owner.page
    page.goto(f"{owner.home.url}/?run=20261122-00000001")
    go_to(page, "runs")
    expect(page.locator("#runs-list")).to_contain_text("shown in the other steps")
    expect(page.locator("#runs-note")).not_to_contain_text("is not here for you")


def test_a_run_at_rest_goes_on(owner: Owner) -> None:
    """A paused run says where it stopped; Resume puts it to work and shows it."""
    page, run = owner.page, owner.give(5, "Paused")
    run.record.status, run.record.stages = "paused", run.record.stages[:2]
    run.save_record()
    shutil.rmtree(run.folder / "candidates")
    page.reload()
    go_to(page, "runs")
    card = page.locator("#runs-list article", has_text="Paused at")
    expect(card).to_contain_text("Paused at")
    card.locator("button", has_text="Resume").click()
    expect(page.locator("#train-status")).to_contain_text("Finished")


def test_versions_are_offered_from_the_moment_they_are_there(owner: Owner) -> None:
    """Try has nothing to offer of a run without a version; when one is there, it is offered."""
    page, run = owner.page, owner.give(6, "Young")
    shutil.rmtree(run.folder / "adapter")
    shutil.move(run.folder / "candidates", run.folder / "later")
    go_to(page, "runs")
    page.locator("article", has_text="Young").locator("button", has_text="Open").click()
    expect(page.locator("#step-train")).to_be_visible()  # it leads there
    go_to(page, "compare")
    expect(page.locator("#compare-note")).to_contain_text("no version to try yet")
    shutil.move(run.folder / "later", run.folder / "candidates")
    go_to(page, "train")
    go_to(page, "compare")
    expect(page.locator("#compare-candidate")).to_contain_text("DITTO, round 2")
    expect(page.locator("#compare-choose")).to_be_hidden()  # it is not at its end


def test_a_run_goes_on_from_another(owner: Owner) -> None:
    """Old examples are shown apart from the cards, which are empty; the same again are refused."""
    page = owner.page
    go_to(page, "show")
    write_cards(page, PAIRS[:2])
    go_to(page, "runs")
    page.locator("article", has_text="Garden").locator("button", has_text="Add examples").click()
    panel = page.locator("#show-parent")
    expect(panel).to_contain_text("You are adding to “Garden”")
    panel.locator("summary").click()
    expect(panel.locator("li")).to_have_count(len(owner.made.demos()))
    expect(page.locator("#show-prompt-1 textarea")).to_have_value("")
    screenshot(page, "again-1280-light")
    page.click("#show-undo")  # what stood on the cards is not lost
    expect(page.locator("#show-prompt-1 textarea")).to_have_value(PAIRS[0][0])
    write_cards(page, [(d.prompt_text, d.completion) for d in list(owner.made.demos())[:2]])
    page.click("#show-next")
    page.click("#train-start")
    expect(page.locator("#train-note")).to_contain_text("Nothing new would be trained")


def test_what_was_unfolded_stays_so(owner: Owner) -> None:
    """The list may be drawn anew while somebody is about to press what they unfolded."""
    page = owner.page
    go_to(page, "runs")
    page.locator("article", has_text="News").locator("summary", has_text="Delete").click()
    owner.give(9, "Ninth")
    go_to(page, "show")
    go_to(page, "runs")
    expect(page.locator("#runs-list")).to_contain_text("Ninth")
    sure = page.locator("article", has_text="News").locator("button", has_text="Delete it")
    expect(sure).to_be_visible()
    page.locator("article", has_text="News").locator("summary", has_text="Delete").click()
    expect(sure).to_be_hidden()


def test_a_deleted_run_is_no_parent(owner: Owner) -> None:
    """Deleting the run that a new one would go on from ends that, and says so."""
    page = owner.page
    go_to(page, "runs")
    card = page.locator("article", has_text="Garden")
    card.locator("summary", has_text="Delete").click()
    card.locator("button", has_text="Delete it").click()
    expect(page.locator("#runs-note")).to_contain_text("A new run now starts from the base model")
    expect(page.locator("#runs-list")).not_to_contain_text("Garden")
    go_to(page, "show")
    expect(page.locator("#show-parent")).to_be_hidden()


@pytest.mark.parametrize("run_id", ["20200101-00000000", "nothing", "%3Cb%3Ex"])
def test_an_unknown_run_is_said_to_be_none(owner: Owner, run_id: str) -> None:
    """An address that names a run of nobody's, or another's, leads to one's own runs."""
    owner.page.goto(f"{owner.home.url}/?run={run_id}")
    expect(owner.page.locator("#runs-note")).to_contain_text("is not here for you")
    expect(owner.page.locator("#runs-list")).to_contain_text("News")


def test_the_list_fits_a_phone(owner: Owner) -> None:
    """At 390 px nothing sticks out, with a name that is being changed too."""
    page = owner.page
    page.set_viewport_size(PHONE)
    page.locator("article", has_text="News").locator("summary", has_text="Rename").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    screenshot(page, "runs-390-light")
