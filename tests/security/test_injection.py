"""Markup in every text that comes from outside: a real browser shows it and runs none of it."""

from __future__ import annotations

import http.server
import runpy
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from ditto_hub import events as ev
from ditto_hub.config import RunConfig
from ditto_hub.cost.estimates import Estimate
from ditto_hub.cost.profiles import load_profile
from ditto_hub.demos.demonstrations import DemoSet
from ditto_hub.demos.findings import Finding
from ditto_hub.errors import BaseModelError
from ditto_hub.hub.publishing.loadback import LoadBack
from ditto_hub.hub.publishing.packing import CardPreview
from ditto_hub.hub.publishing.receipt import PublishedFile, Receipt
from ditto_hub.runs.folder import Run
from ditto_hub.ui.html import receipts, render, side_by_side
from ditto_hub.ui.html.charts import Line, chart
from ditto_hub.ui.html.estimates import estimate_words
from ditto_hub.ui.html.run_charts import charts
from ditto_hub.ui.html.run_list import Row, parent_panel, run_list
from ditto_hub.ui.html.story import Story
from ditto_hub.ui.serving.content_policy import policy_of
from ditto_hub.ui.steps.chat import shown

EVIL = (
    "</script><script>window.broken = 1</script>",
    '<img src=x onerror="window.broken = 2">',
    "\"'><svg onload=window.broken=3>",
    '" onmouseover="window.broken=4" autofocus onfocus="window.broken=5" x="',
    "<style>*{display:none}</style><base href=//evil><iframe srcdoc='<script>1</script>'>",
    "javascript:window.broken=6",
    "<details open ontoggle=window.broken=7>&lt;img src=x onerror=window.broken=8&gt;",
)
OURS = "script, style, base, iframe, img:not([src^='data:image/png']), object, embed, form, link"


def story_of(*events: ev.Event) -> Story:
    """Return the story of a run that begins and goes on so."""
    story = Story(RunConfig())
    begun: tuple[ev.Event, ...] = (
        ev.RunStarted(base_model="pocket", demonstrations=2, held_out=0, total_stages=3, time=0),
        ev.StageStarted(stage="warm-start", index=0, total_steps=2, time=1),
        ev.StepTaken(
            stage="warm-start", step=1, total_steps=2, loss=2.0, learning_rate=0.1, grad_norm=1.0,
            metrics={}, time=2,
        ),
    )  # fmt: skip
    for event in (*begun, *events):
        story.see(event)
    return story


def fragments(evil: str, run: Run) -> list[str]:
    """Return every fragment of the page with a text from outside wherever it can have one."""
    finding = Finding("warning", "x", evil, (evil,))
    scored = ev.CandidateScored(
        stage="sampling", round=0, name="sft", scores={"held_out_loss": 1.5}, degenerate=evil
    )
    ended = ev.RunFailed(error="X", message=evil)
    check = LoadBack("failed", "logits", evil)
    receipt = Receipt(
        evil, evil, evil, False, True, (PublishedFile(evil, 1, evil),), check, evil, evil, evil,
        (evil,),
    )  # fmt: skip
    estimate = Estimate(
        {"update": 1.0}, 1, "computed", words=evil, fits=False, possible=False, remedies=(evil,)
    )
    run.record.base_model = {"id": evil}
    run.record.id = evil
    run.rename(evil)
    return [
        render.voices([(evil, evil, True), (evil, evil, False)], 1, "en"),
        render.findings(finding, [finding], [1], 1, "en"),
        render.difference(evil, f"more {evil} more"),
        render.difference(f"{evil}\n" * 200, f"{evil} x\n" * 200),
        render.notice(evil),
        render.failure(ValueError(evil), "en"),
        render.failure(BaseModelError("cost.no_model_id", name=evil), "zh-TW"),
        run_list([Row(run, "paused", 1, evil)], "", evil, "en"),
        parent_panel(run, "en"),
        render.status(story_of(ended), "failed", None, "en"),
        render.timeline(story_of(scored), "running", "en"),
        render.scores(story_of(scored), "en"),
        charts(story_of(scored), "en"),
        chart(evil, [Line(evil, [(1.0, 2.0)])], evil, evil),
        chart(evil, [Line(evil, [])], evil, evil),
        estimate_words(estimate, load_profile("cpu"), "en"),
        side_by_side.side_by_side([(evil, evil)], evil, "en"),
        side_by_side.ballot(evil, evil, evil, (1, 2), "en"),
        side_by_side.own_texts([evil]),
        receipts.steps([evil], evil, True, "en"),
        receipts.receipt(receipt, "en"),
        receipts.failure(evil, evil, "en"),
        receipts.card_files(CardPreview(evil, evil, {}, ((evil, 1),), (evil,)), "en"),
        *(turn["content"] for turn in shown([{"role": "user", "content": evil}])),
    ]


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    """Return a page of a real browser."""
    page = browser.new_page()
    yield page
    page.close()


@pytest.mark.parametrize("evil", EVIL)
def test_no_fragment_runs_or_loads_what_a_text_holds(evil: str, page: Page, tmp_path: Path) -> None:
    """Demonstrations, model output, base models, files and errors stay text in every fragment."""
    run = Run.create(
        DemoSet.from_pairs([("a", "b")] * 2), {"id": "pocket"}, RunConfig(), tmp_path / "run"
    )
    asked: list[str] = []
    page.route("**/*", lambda route: (asked.append(route.request.url), route.abort()))
    page.set_content("<main></main>")
    page.evaluate(
        "parts => document.querySelector('main').innerHTML = parts.join('<hr>')",
        fragments(evil, run),
    )
    page.mouse.move(200, 200)
    found = page.evaluate(
        """async (ours) => {
          await new Promise((done) => setTimeout(done, 50));
          const all = [...document.querySelectorAll("main *")];
          const goes = /^(href|src|action|formaction|srcdoc)$/, runs = /^\\s*javascript:/i;
          const acts = all.flatMap((e) => [...e.attributes]).filter((a) =>
            a.name.startsWith("on") || (goes.test(a.name) && runs.test(a.value)));
          return [window.broken ?? 0, document.querySelectorAll(ours).length, acts.length];
        }""",
        OURS,
    )
    page.unroute("**/*")
    assert (found, asked) == ([0, 0, 0], [])


class Served(http.server.BaseHTTPRequestHandler):
    """Serve one page with the app's policy."""

    PAGE = b"<html><head><script>window.ours = 1</script></head><body><main></main></body></html>"

    def do_GET(self) -> None:
        """Answer with the page."""
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Security-Policy", policy_of(self.PAGE))
        self.end_headers()
        self.wfile.write(self.PAGE)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def test_the_policy_stops_markup_that_slipped_through(page: Page) -> None:
    """Raw markup in the page runs nothing and asks nobody; the page's own scripts and `js=` run."""
    asked: list[str] = []
    page.on("requestfinished", lambda request: asked.append(request.url))
    with http.server.HTTPServer(("127.0.0.1", 0), Served) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page.goto(f"http://127.0.0.1:{server.server_port}/")
        found = page.evaluate(
            """async (parts) => {
              document.querySelector("main").innerHTML = parts.join("<hr>");
              const script = document.createElement("script");
              script.textContent = "window.broken = 9";
              document.body.append(script);
              await new Promise((done) => setTimeout(done, 100));
              return [window.broken ?? 0, window.ours, new Function("return 7")()];
            }""",
            [*EVIL, '<img src="http://127.0.0.2:1/?text">'],
        )
        server.shutdown()
    assert found == [0, 1, 7]
    assert not [url for url in asked if "127.0.0.2" in url]
