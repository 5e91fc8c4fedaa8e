"""A finished run as a picture: what it was shown, the base model, and what it writes by now.

On prompts that had no part in training; what a text shares with the examples is marked. The page
shows one prompt and one stage at a time, chosen in the browser; nothing is asked of the server.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from ditto_hub.demos.demonstrations import Demonstration
from ditto_hub.runs.folder import Run
from ditto_hub.runs.results import Evaluation
from ditto_hub.ui.html.habits import Habits, habits_of, shared
from ditto_hub.words import say

STAGES = ("zero-shot", "sft", "ditto")  # methods of an evaluation, as training goes
FIRST = "prompt-5"  # of the shipped run: what is shown before anybody chooses
KINDS = ("greeting", "sign_off", "phrase", "mark")


@dataclass(frozen=True)
class Example:
    """Hold what a picture is drawn from.

    Args:
        run: a finished one.
        evaluation: of it, on prompts that it never saw.
    """

    run: Run
    evaluation: Evaluation

    @property
    def shown(self) -> Sequence[Demonstration]:
        """The demonstrations that it was trained on."""
        return list(self.run.demos().train)

    @property
    def prompts(self) -> list[tuple[str, str]]:
        """Id and text of the new prompts, the one that is shown first before the others."""
        found = [(p.id, str(p.messages[-1]["content"])) for p in self.evaluation.prompts]
        return sorted(found, key=lambda prompt: prompt[0] != FIRST)

    def answer(self, method: str, prompt: str) -> str:
        """Return what a method wrote first to a prompt."""
        return next(a.text for a in self.evaluation.answered(method) if a.prompt_id == prompt)


def picture(example: Example, locale: str) -> str:
    """Return the picture in a language; `data-prompt` and `data-stage` are shown one at a time."""
    habits = habits_of([demo.completion for demo in example.shown])
    first = example.shown[0]
    shown = _text(first.completion, habits)
    base = "".join(
        _answer(example.answer(STAGES[0], name), habits, locale, n, None)
        for n, (name, _) in enumerate(example.prompts)
    )
    now = "".join(
        _answer(example.answer(method, name), habits, locale, n, stage)
        for n, (name, _) in enumerate(example.prompts)
        for stage, method in enumerate(STAGES)
    )
    count = len(example.shown)
    head = say("welcome.shown", locale, n=count)
    return (
        f'<div class="d-example">{_controls(example, locale)}<div class="d-example-texts">'
        f'<section class="d-voice d-shown"><h2>{escape(head)}</h2>'
        f'<p class="d-asked">{escape(first.prompt_text)}</p>{shown}</section>'
        f'<section class="d-voice"><h2>{escape(say("welcome.base", locale))}</h2>{base}</section>'
        f'<section class="d-voice d-by-now"><h2 aria-live="polite">'
        f"{escape(_stages(example, locale)[-1])}</h2>{now}</section></div>"
        f'<p class="d-note">{escape(_about(example, locale))}</p></div>'
    )


def _controls(example: Example, locale: str) -> str:
    """Return the choice of a prompt and the slider over the stages."""
    options = "".join(
        f'<option value="{n}">{escape(text)}</option>'
        for n, (_, text) in enumerate(example.prompts)
    )
    names = _stages(example, locale)
    last = len(names) - 1
    stops = "".join(f"<span>{escape(name)}</span>" for name in names)
    return (
        '<div class="d-example-controls">'
        f'<label class="d-example-prompt"><span>{escape(say("welcome.prompt", locale))}</span>'
        f'<select id="welcome-prompt">{options}</select></label>'
        f'<label class="d-example-stage"><span>{escape(say("welcome.stage", locale))}</span>'
        f'<input type="range" id="welcome-stage" min="0" max="{last}" step="1" value="{last}"'
        f' aria-valuetext="{escape(names[-1])}"><span class="d-stops" aria-hidden="true">{stops}'
        "</span></label></div>"
    )


def _stages(example: Example, locale: str) -> list[str]:
    kept = str(example.evaluation.settings.get("ditto", "")).removeprefix("round-")
    last = say("voice.round", locale, n=kept)
    return [say("voice.before", locale), say("voice.sft", locale), last]


def _answer(text: str, habits: Habits, locale: str, prompt: int, stage: int | None) -> str:
    """Return one answer with what it shares, hidden unless it is of the first view."""
    last = stage is None or stage == len(STAGES) - 1
    hidden = "" if prompt == 0 and last else " hidden"
    of = f' data-stage="{stage}"' if stage is not None else ""
    kinds = {span.kind for span in shared(text, habits)}
    what = [say(f"welcome.habit_{kind}", locale) for kind in KINDS if kind in kinds]
    between = say("welcome.between", locale)
    told = say("welcome.shares", locale, what=between.join(what) or say("welcome.none", locale))
    return (
        f'<div data-prompt="{prompt}"{of}{hidden}>{_text(text, habits)}'
        f'<p class="d-shares">{escape(told)}</p></div>'
    )


def _text(text: str, habits: Habits) -> str:
    """Return a text in which what it shares with the examples is marked."""
    parts, at = [], 0
    for span in shared(text, habits):
        marked = f"<mark>{escape(text[span.start : span.end])}</mark>"
        parts += [escape(text[at : span.start]), marked]
        at = span.end
    return f'<p class="d-text" dir="auto">{"".join(parts)}{escape(text[at:].rstrip())}</p>'


def _about(example: Example, locale: str) -> str:
    """Say what it was made with, when and how, and what it does not show."""
    record, config = example.run.record, example.run.config
    base = record.base_model
    return say(
        "welcome.about", locale, base=str(base.get("hub_id") or base["id"]).rpartition("/")[2],
        date=example.evaluation.date, n=len(example.shown), rounds=config.update.rounds,
        steps=config.update.steps, rank=config.lora.rank, others=len(example.prompts) - 1,
    )  # fmt: skip
