"""The model card: a pure function of the run record, the evaluations, and a few plain facts.

Whatever a user, a base model's author or a hand-edited record could have written is escaped when it
is printed, so none of it can break the front matter, inject HTML or forge a section.
"""

from __future__ import annotations

import html
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import jinja2
from huggingface_hub import ModelCardData
from jinja2.sandbox import SandboxedEnvironment

from ditto_hub import __version__
from ditto_hub.config import RunConfig
from ditto_hub.demos import DemoSet
from ditto_hub.errors import ConfigError, RunError
from ditto_hub.hub import card_sections as sections
from ditto_hub.hub.client import require_repo_id
from ditto_hub.hub.licences import Licence
from ditto_hub.languages import language_of
from ditto_hub.results import Evaluation
from ditto_hub.runs import RunRecord

TEMPLATE = Path(__file__).with_name("card_template.md")
LANGUAGES = {
    "English": "en",
    "German": "de",
    "French": "fr",
    "Spanish": "es",
    "Italian": "it",
    "Portuguese": "pt",
    "Dutch": "nl",
    "Japanese": "ja",
    "Cjk": "zh",
    "Hangul": "ko",
    "Greek": "el",
    "Hebrew": "he",
    "Thai": "th",
}
ORIGINS = {"typed": "typed in", "file": "read from a file", "edited": "edited model output"}


@dataclass(frozen=True)
class DemoFacts:
    """Hold what a card may say of demonstrations without showing any.

    Args:
        characters: length of each completion, in order.
        held_out: how many of them only score.
        origins: words for where they came from -> how many.
        languages: the Hub's codes of those recognised.
    """

    characters: tuple[int, ...]
    held_out: int
    origins: Mapping[str, int] = field(default_factory=dict)
    languages: tuple[str, ...] = ()

    @classmethod
    def of(cls, demos: DemoSet) -> DemoFacts:
        """Count; an origin that is not one of ours is not repeated, for it may hold anything."""
        found = {LANGUAGES.get(language_of(d.completion) or "") for d in demos}
        return cls(
            tuple(len(d.completion) for d in demos),
            len(demos.held_out),
            Counter(ORIGINS.get(d.origin, "from elsewhere") for d in demos),
            tuple(sorted(code for code in found if code)),
        )


@dataclass(frozen=True)
class Sample:
    """Hold a prompt and what the published adapter wrote for it."""

    prompt: str
    output: str


@dataclass(frozen=True)
class CardSubject:
    """Hold all that a card is about.

    Args:
        repo_id: where the adapter is published.
        record: of the run.
        candidate: which adapter is published.
        base_id: the base model's id on the Hub.
        base_revision: its commit, or None.
        licence: of the base model.
        demos: facts about the demonstrations.
        evaluations: what was found out, or nothing.
        samples: outputs to show, only where the user asked for it.
        demos_included: the demonstrations are in the repo.
        thinking: the chat template knows a thinking mode.
        plot: name of the plot's file in the repo, or empty.
        pictures: name of an evaluation -> its pictures' files in the repo.
        rank: of the adapter.
        pocket: the base is the embedded model.
    """

    repo_id: str
    record: RunRecord
    candidate: str
    base_id: str
    base_revision: str | None
    licence: Licence
    demos: DemoFacts
    evaluations: tuple[Evaluation, ...] = ()
    samples: tuple[Sample, ...] = ()
    demos_included: bool = False
    thinking: bool = False
    plot: str = ""
    pictures: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    rank: int = 16
    pocket: bool = False

    @cached_property
    def config(self) -> RunConfig:
        """The run's settings, checked."""
        try:
            return RunConfig.from_json(self.record.config)
        except (ConfigError, AttributeError, TypeError, ValueError) as error:
            raise RunError(
                f"The settings in run.json of {self.record.id} are not valid: {error}",
                "Restore the file from a copy.",
            ) from error


class Markdown(str):
    """Mark text as written by us, so that it is printed as it is."""


def render_card(subject: CardSubject, template: Path | None = None) -> str:
    """Write the card.

    Args:
        template: a user's own Jinja template in place of ours.

    Raises:
        ConfigError: the template is broken or leaves the front matter out.
        RunError: the record holds something that no run writes.
        HubError: an id is none.
    """
    for repo_id in (subject.repo_id, subject.base_id):
        require_repo_id(repo_id)
    front = front_matter(subject)
    try:
        text = (template or TEMPLATE).read_text(encoding="utf-8")
        card = _compiled(text).render(_values(subject, front))
    except (jinja2.TemplateError, OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"The card's template {template or TEMPLATE} is broken: {error}.",
            "Mend it, or publish without --card-template.",
        ) from error
    if not card.startswith(f"---\n{front}\n---\n"):
        raise ConfigError(
            f"The card's template {template or TEMPLATE} does not begin with the front matter.",
            "Its first lines are '---', '{{ front_matter }}' and '---'.",
        )
    return re.sub(r"\n{3,}", "\n\n", card)


@lru_cache(maxsize=4)
def _compiled(text: str) -> jinja2.Template:
    environment = SandboxedEnvironment(
        finalize=escape,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.from_string(text)


def front_matter(subject: CardSubject) -> str:
    """Return the card's metadata as YAML, in the fields that the Hub validates."""
    licence = subject.licence
    standard = licence.id not in ("", "other")
    data = ModelCardData(
        base_model=subject.base_id,
        language=list(subject.demos.languages) or None,
        library_name="peft",
        license=licence.id or None,
        license_name=(licence.name or "other") if licence.id == "other" else licence.name or None,
        license_link=licence.link or (None if standard else licence.page or None),
        model_name=subject.repo_id.split("/")[-1],
        pipeline_tag="text-generation",
        tags=_tags(subject),
        base_model_relation="adapter",
    )
    return str(data.to_yaml())


def _tags(subject: CardSubject) -> list[str]:
    kind = [] if subject.candidate.startswith("sft") else ["dpo"]
    always = ["ditto", "ditto-hub", "lora", "peft", "transformers", "trl", "few-shot-alignment"]
    return [*always, *kind, f"base_model:adapter:{subject.base_id}"]


def _values(subject: CardSubject, front: str) -> dict[str, Any]:
    """Return what the template prints; each section comes as finished rows."""
    record, config = subject.record, subject.config
    try:
        return {
            "front_matter": Markdown(front),
            "subject": subject,
            "record": record,
            "config": config,
            "name": subject.repo_id.split("/")[-1],
            "table": table,
            "version": __version__,
            "kind": sections.describe_candidate(subject.candidate),
            "adapter_code": Markdown(sections.adapter_code(subject)),
            "merge_code": Markdown(sections.MERGE_CODE),
            "serve_code": Markdown(sections.serve_code(subject)),
            "demos": sections.demo_words(subject.demos),
            "results": [
                sections.results(e, subject.candidate, subject.pictures.get(e.name, ()))
                for e in subject.evaluations
            ],
            "evaluated": any(e.reportable for e in subject.evaluations),
            "candidates": sections.candidates(record, subject.candidate),
            "order": sections.order_words(record),
            "settings": sections.settings(config),
            "cost": sections.cost(record),
            "limits": sections.limits(subject),
            "versions": sorted(record.versions.items()),
            "oldest": sections.OLDEST_LOADED,
            "command": Markdown(sections.command(subject)),
            "samples": [(fence(s.prompt), fence(s.output)) for s in subject.samples],
            "citations": Markdown(sections.CITATIONS),
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(
            f"run.json of {record.id} holds something that no run writes: {error!r}.",
            "Was it edited by hand? Restore it from a copy.",
        ) from error


def escape(value: Any) -> Any:
    """Return a value as text that Markdown and HTML take literally, on one line."""
    if isinstance(value, Markdown):
        return value
    if isinstance(value, jinja2.Undefined):
        return value
    if isinstance(value, float):
        return number(value)
    text = " ".join(str(value).split())
    text = html.escape("".join(c for c in text if c.isprintable()), quote=False)
    text = re.sub(r"([\\`*_\[\]{}|~$])", r"\\\1", text)
    text = re.sub(r"^(\d+)([.)])(?=\s|$)", r"\1\\\2", text)  # a list
    return re.sub(r"^(?=#|[-+]\s|[-=]+$)", r"\\", text)  # a heading, a list, a rule


def number(value: float) -> str:
    """Return a number with at most four significant digits; not finite ones as words."""
    if not math.isfinite(value):
        return "not finite"
    return f"{value:.4g}" if abs(value) < 10_000 else f"{value:,.0f}"


def fence(text: str) -> Markdown:
    """Return text as a code block that it cannot end."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    mark = "`" * max(3, longest + 1)
    body = "".join(c for c in text if c.isprintable() or c in "\n\t")
    return Markdown(f"{mark}text\n{body}\n{mark}")


def table(rows: sections.Table) -> Markdown:
    """Return a Markdown table; a cell that is None stays empty."""

    def line(cells: Iterable[Any]) -> str:
        return "| " + " | ".join("" if c is None else escape(c) for c in cells) + " |"

    rule = line(Markdown("---") for _ in rows.head)
    return Markdown("\n".join([line(rows.head), rule, *(line(row) for row in rows.rows)]))
