"""What the command line shows: progress, texts, questions to a person."""

from __future__ import annotations

import json
import signal
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ditto_hub.events import Event
    from ditto_hub.runs.folder import Run


@contextmanager
def first_interrupt_pauses() -> Iterator[Callable[[], str]]:
    """Let the first Ctrl-C pause at the next step, and the second stop at once."""
    asked: list[str] = []

    def handle(number: int, frame: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append("interrupted")
        click.echo("\nStopping at the next step; Ctrl-C again to stop at once.", err=True)

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield lambda: asked[0] if asked else ""
    finally:
        signal.signal(signal.SIGINT, before)


class JsonLines:
    """Print one event a line on stdout."""

    def see(self, event: Event) -> None:
        """Print an event."""
        click.echo(json.dumps(event.to_json(), ensure_ascii=False))

    def catch_up(self, events: Iterable[Event]) -> None:
        """Print nothing of what happened before."""

    def close(self) -> None:
        """Do nothing more."""


class Bar:
    """Show a run's progress on stderr: a line that redraws on a terminal, a line a stage elsewhere.

    Args:
        run: whose progress.
    """

    def __init__(self, run: Run) -> None:
        from ditto_hub.runs.progress import Progress

        self.progress = Progress()
        self.run = run
        self.redraws = sys.stderr.isatty()

    def see(self, event: Event) -> None:
        """Show an event."""
        from ditto_hub import events as ev
        from ditto_hub.runs.lease_words import Around, lease_words

        self._take(event)
        if isinstance(event, ev.StepTaken | ev.BatchSampled) and self.redraws:
            self._draw(self.progress.words(), end=False)
        elif isinstance(event, ev.StageFinished):
            note = f" ({event.reason})" if event.reason else ""
            self._draw(f"{self.progress.words()}{note}", end=True)
        elif isinstance(event, ev.CandidateChosen):
            click.echo(f"Kept {event.name}: {event.reason}.", err=True)
        elif isinstance(event, ev.Noticed | ev.RunFailed):
            click.echo(event.message, err=True)
        elif isinstance(event, ev.LeaseStarted | ev.LeaseEnded | ev.LeaseRefused):
            around = Around(time.time(), time.localtime().tm_gmtoff)
            click.echo(lease_words(event, around), err=True)
        elif isinstance(event, ev.RunFinished) and event.stopped_early:
            click.echo(f"Stopped early: {event.stopped_early}.", err=True)

    def catch_up(self, events: Iterable[Event]) -> None:
        """Take in what happened before, showing none of it."""
        for event in events:
            self._take(event)

    def _take(self, event: Event) -> None:
        from ditto_hub.events import RunStarted
        from ditto_hub.runs.progress import plan_of

        if isinstance(event, RunStarted):
            stages = plan_of(self.run.config, event.demonstrations + event.held_out)
            self.progress.plan = [(name, steps) for name, _, steps in stages]
        self.progress.see(event)

    def _draw(self, words: str, end: bool) -> None:
        width = 24
        full = round(self.progress.fraction * width)
        line = f"[{'#' * full}{'.' * (width - full)}] {words}"
        click.echo(("\r\033[K" if self.redraws else "") + line, nl=end, err=True)

    def close(self) -> None:
        """Do nothing more."""


def how_to_load(run: Run) -> str:
    """Return the lines that load a finished run's adapter with plain PEFT."""
    from ditto_hub.api.base_models import loadable

    base = loadable(str(run.record.base_model["id"]))
    return (
        f"\nThe adapter is in {run.folder / 'adapter'}. Load it with plain PEFT:\n\n"
        "    from peft import PeftModel\n"
        "    from transformers import AutoModelForCausalLM\n"
        f"    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained({base!r}),"
        f" {str(run.folder / 'adapter')!r})\n"
    )


def job_words(job: dict[str, Any]) -> str:
    """Return what a person wants to know of a run's job."""
    from ditto_hub.runs.progress import clock

    words = [f"Job {job.get('id', '?')} on {job.get('flavor', '?')}, {job.get('stage', '?')}"]
    if price := job.get("usd_per_hour"):
        words.append(f"${price:.2f} an hour")
    if job.get("seconds") is not None:
        words.append(f"took {clock(job['seconds'])}")
        if price:
            words.append(f"about ${price * job['seconds'] / 3600:.2f}")
    elif job.get("expected_s") is not None:
        words.append(f"about {clock(job['expected_s'])}")
    if job.get("seconds") is None and job.get("timeout_s"):
        words.append(f"at most {clock(job['timeout_s'])}")
    lines = [", ".join(words) + ".", f"  page {job.get('url', '')}, image {job.get('image', '')}"]
    kept = "deleted" if job.get("deleted") else "private"
    lines.append(f"  kept in {job.get('repo', '')} ({kept})")
    return "\n".join(lines)


def show_texts(evaluation: Any, count: int) -> None:
    """Print what each method wrote first for the first prompts."""
    for prompt in evaluation.prompts[:count]:
        click.echo(f"\n=== {prompt.messages[-1]['content']}")
        for method in evaluation.methods:
            mine = [a for a in evaluation.answered(method) if a.prompt_id == prompt.id]
            if mine:
                click.echo(f"\n--- {method}")
                click.echo(textwrap.indent(mine[0].text, "    "))


def ask_person(question: Any) -> str:
    """Show a person two texts and return left, right, tie, skip or stop."""
    click.echo("\nTexts by the author:\n")
    for text in question.examples[:3]:
        click.echo(textwrap.indent(text, "  | ") + "\n")
    click.echo(f"Prompt: {question.prompt[-1]['content']}\n")
    click.echo(textwrap.indent(question.left, "  1 ") + "\n")
    click.echo(textwrap.indent(question.right, "  2 ") + "\n")
    reply = click.prompt(
        "Which is more like the author", type=click.Choice(["1", "2", "tie", "skip", "stop"])
    )
    return {"1": "left", "2": "right"}.get(str(reply), str(reply))
