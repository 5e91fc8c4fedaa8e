"""The Train step before a run: what fits, what can be learned, and settings that cannot be."""

from __future__ import annotations

from collections.abc import Callable

from pages import DESKTOP, PAIRS, PHONE, App, go_to, screenshot, set_dials, write_cards
from playwright.sync_api import Page, expect

OWN = [
    (f"Announce feature {n}", f"Kubernetes rollback ships Tuesday, {n}x faster ingress, no lag")
    for n in range(4)
]


def test_every_base_model_says_what_it_takes(app: App, visit: Callable[..., Page]) -> None:
    """Time for these texts, free or not, and what does not fit; at both widths, in both themes."""
    page = visit(app.url)
    write_cards(page, PAIRS)
    go_to(page, "train")
    cards = page.locator("#train-base")
    expect(cards).to_contain_text("one-minute tour")
    expect(cards.locator("label:has-text('smollm2')").first).to_contain_text("About")
    assert page.locator("button.primary:visible").count() == 1
    for width, size in (("1280", DESKTOP), ("390", PHONE)):
        page.set_viewport_size(size)
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
        screenshot(page, f"bases-{width}-light")
        page.evaluate("document.body.classList.add('dark')")
        screenshot(page, f"bases-{width}-dark")
        page.evaluate("document.body.classList.remove('dark')")


def test_texts_that_pocket_cannot_learn_are_told_before_start(
    app: App, visit: Callable[..., Page]
) -> None:
    """The step names the base model that can; with that chosen nothing is left to say."""
    page = visit(app.url)
    write_cards(page, OWN)
    go_to(page, "train")
    estimate = page.locator("#train-estimate")
    expect(estimate).to_contain_text("pocket cannot learn these texts")
    page.locator("#train-base input[value=smollm2]").check()
    expect(estimate).not_to_contain_text("cannot learn")


def test_a_setting_out_of_range_is_told_at_its_field(app: App, visit: Callable[..., Page]) -> None:
    """Of 0 and of 999 rounds, and no figures of before stay; back in range, it says what it is."""
    page = visit(app.url)
    write_cards(page, PAIRS)
    go_to(page, "train")
    field = page.locator("#train-update-rounds")
    for wrong in ("0", "999"):
        set_dials(page, {"update-rounds": wrong})
        expect(field).to_contain_text(f"{wrong} is not possible here")
        expect(page.locator("#train-estimate")).to_contain_text("out of its range")
    screenshot(page, "settings-wrong-1280-light")
    set_dials(page, {"update-rounds": "2"})
    expect(field).not_to_contain_text("not possible")
    expect(page.locator("#train-estimate")).to_contain_text("Time")


def test_naming_another_base_clears_the_choice_above(app: App, visit: Callable[..., Page]) -> None:
    """The address of a model's page is taken for its id; choosing above empties the field."""
    page = visit(app.url)
    go_to(page, "train")
    other = page.locator("#train-base-other textarea, #train-base-other input")
    other.fill("https://huggingface.co/nobody/no-such-model/tree/main")
    expect(page.locator("#train-base input:checked")).to_have_count(0)
    expect(page.locator("#train-base-note")).to_contain_text("nobody/no-such-model")
    page.locator("#train-base label:has-text('pocket') input").first.check()
    expect(other).to_have_value("")
