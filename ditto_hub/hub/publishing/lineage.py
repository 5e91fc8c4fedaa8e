"""Which version an adapter is, and what the version before it says of itself; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

from annotated_types import Ge, MaxLen

from ditto_hub.validation import Count, Name, validated

Figures = dict[str, tuple[float, int]]
"""Judge and mark -> the published adapter's mean, and on how many prompts."""


@dataclass(frozen=True)
class Earlier:
    """Hold what is known of the version that another one follows.

    Args:
        repo_id: where it is published.
        commit: of it there.
        version: its number, from 1.
        run_id: of the run that made it.
        demonstrations: how many, how many of them held out, and their completions' characters;
            empty where the version does not say.
        figures: of its evaluations.
    """

    repo_id: Name
    commit: Name
    version: Annotated[int, Ge(1)] = 1
    run_id: Name = ""
    demonstrations: dict[Name, Count] = field(default_factory=dict)
    figures: Annotated[dict[Name, tuple[float, Count]], MaxLen(1000)] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)

    @property
    def tag(self) -> str:
        """The tag of its commit."""
        return tag_of(self.version)


def tag_of(version: int) -> str:
    """Return the tag of a version."""
    return f"v{version}"


def read_earlier(data: object) -> Earlier | None:
    """Build from `to_json`'s form as a repo has it; None where it holds anything else."""
    try:
        return validated(Earlier, data)
    except ValueError:
        return None


def describe(
    repo_id: str, commit: str, record: Mapping[str, Any], metrics: Sequence[Any]
) -> Earlier | None:
    """Return what a published version says of itself; None where its files hold something else.

    Args:
        record: the content of its ditto_run.json.
        metrics: the content of its ditto_metrics.json.
    """
    run = record.get("run")
    run = run if isinstance(run, Mapping) else {}
    counted = run.get("demonstrations")
    return read_earlier(
        {
            "repo_id": repo_id,
            "commit": commit,
            "version": record.get("version", 1),
            "run_id": run.get("id", ""),
            "demonstrations": counted if isinstance(counted, Mapping) else {},
            "figures": figures(metrics, str(run.get("published_candidate", ""))),
        }
    )


def figures(metrics: Sequence[Any], candidate: str) -> Figures:
    """Return a candidate's own numbers of published evaluations that are results.

    Args:
        metrics: as `bundle.published_metrics` has them.
    """
    found: Figures = {}
    for row in metrics:
        try:
            if not (row["complete"] and row["prompts_independent"]):
                continue
            method = _method(row, candidate)
            for score in row["scores"]:
                if score["method"] == method:
                    found[f"{row['judge']}: {score['mark']}"] = (
                        float(score["mean"]), int(score["prompts"]),
                    )  # fmt: skip
            for rate in row["win_rates"]:
                if rate["method"] == method:
                    found[f"{row['judge']}: preferred to {rate['against']}"] = (
                        float(rate["rate"]), int(rate["prompts"]),
                    )  # fmt: skip
        except (KeyError, TypeError, ValueError):
            continue  # of another version, or edited
    return found


def _method(row: Mapping[str, Any], candidate: str) -> str:
    """Return an evaluation's name for a candidate, as `Evaluation.method_of` does."""
    if candidate in row["methods"] or candidate in ("sft", "sft-long"):
        return candidate
    return "ditto" if row.get("ditto") in (None, candidate) else candidate
