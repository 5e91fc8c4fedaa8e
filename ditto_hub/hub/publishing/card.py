"""The model card: a pure function of the run record, the evaluations, and a few plain facts.

Whatever a user, a base model's author or a hand-edited record could have written is escaped when it
is printed, so none of it can break the front matter, inject HTML or forge a section.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2
from huggingface_hub import ModelCardData
from jinja2.sandbox import SandboxedEnvironment

from ditto_hub.errors import ConfigError, RunError
from ditto_hub.hub.client import require_repo_id
from ditto_hub.hub.publishing import card_sections as sections
from ditto_hub.hub.publishing import card_versions as versions
from ditto_hub.hub.publishing.card_subject import CardSubject
from ditto_hub.hub.publishing.uses import tgi_code
from ditto_hub.version import VERSION
from ditto_hub.words import told

TEMPLATE = Path(__file__).with_name("card_template.md")


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
            "hub.card_template_broken", template=template or TEMPLATE, error=error
        ) from error
    if not card.startswith(f"---\n{front}\n---\n"):
        raise ConfigError("hub.card_template_without_front_matter", template=template or TEMPLATE)
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
        base_model=subject.base_id if subject.base_named else None,
        language=list(subject.demos.languages) or None,
        library_name="peft",
        license=licence.id or None,
        license_name=(licence.name or "other") if licence.id == "other" else licence.name or None,
        license_link=licence.link or (None if standard else licence.page or None),
        model_name=subject.repo_id.split("/")[-1],
        pipeline_tag="text-generation",
        tags=_tags(subject),
        base_model_relation="adapter" if subject.base_named else None,
    )
    return str(data.to_yaml())


def _tags(subject: CardSubject) -> list[str]:
    kind = [] if subject.candidate.startswith("sft") else ["dpo"]
    always = ["ditto", "ditto-hub", "lora", "peft", "transformers", "trl", "few-shot-alignment"]
    base = [f"base_model:adapter:{subject.base_id}"] if subject.base_named else []
    return [*always, *kind, *base]


def _values(subject: CardSubject, front: str) -> dict[str, Any]:
    """Return what the template prints; each section comes as finished rows."""
    record, config = subject.record, subject.config
    try:
        return {
            "front_matter": Markdown(front),
            "subject": subject,
            "record": replace(record, chosen_reason=told(record.chosen_reason)),
            "config": config,
            "name": subject.repo_id.split("/")[-1],
            "table": table,
            "version": VERSION,
            "kind": sections.describe_candidate(
                subject.candidate, subject.config.warm_start.distils
            ),
            "adapter_code": Markdown(sections.adapter_code(subject)),
            "merge_code": Markdown(sections.MERGE_CODE),
            "serve_code": Markdown(sections.serve_code(subject)),
            "tgi_code": Markdown(tgi_code(subject)),
            "demos": sections.demo_words(subject.demos),
            "results": [
                sections.results(e, subject.candidate, subject.pictures.get(e.name, ()))
                for e in subject.evaluations
            ],
            "evaluated": any(e.reportable for e in subject.evaluations),
            "candidates": sections.candidates(record, subject.candidate),
            "order": sections.order_words(record),
            "settings": sections.settings(config),
            "changed_words": versions.changed_words(subject),
            "changed_demonstrations": versions.changed_demonstrations(subject),
            "changed_results": versions.changed_results(subject),
            "cost": sections.cost(record),
            "limits": sections.limits(subject),
            "versions": sorted(record.versions.items()),
            "oldest": sections.OLDEST_LOADED,
            "command": Markdown(sections.command(subject)),
            "samples": [(fence(s.prompt), fence(s.output)) for s in subject.samples],
            "citations": Markdown(sections.CITATIONS),
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError("hub.run_json_unusable", run_id=record.id, error=error) from error


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
