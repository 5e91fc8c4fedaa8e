"""The record of a run, as `run.json` holds it: every field checked when it is read back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from annotated_types import Ge, Lt, MaxLen, MinLen, Predicate

from ditto_hub.errors import RunError
from ditto_hub.validation import (
    ROWS,
    Count,
    Dollars,
    Keys,
    Moment,
    Name,
    Names,
    Seconds,
    Sentence,
    Told,
    validated,
)

SCHEMA_VERSION = 2  # since 2, what is said to people is stored by code
STATUSES = ("created", "running", "paused", "cancelled", "failed", "finished")


# What is known of the record's inner dicts; other keys are kept as they are.
def is_revision(text: str) -> bool:
    """Tell whether a text can be a branch, a tag or a commit: no way out of a folder."""
    return bool(re.fullmatch(r"[\w.-]+(/[\w.-]+)*", text)) and ".." not in text


Revision = Annotated[str, MaxLen(200), Predicate(is_revision)]
BASE_MODEL = Keys(
    {"id": Annotated[Name, MinLen(1)]},
    {"revision": Revision | None, "quantize": Name, "licence": dict},
)
STAGE = Keys({"name": Name, "round": Count | None}, {"seconds": Seconds, "reason": Told})
CANDIDATE = Keys({"scores": dict[Name, float], "degenerate": Told}, {"round": Count | None})
ORDER = Keys({"round": Count | None, "rewards": dict[Name, float], "ordered": float})
ESTIMATE = Keys(
    optional={
        "seconds": dict[Name, Seconds],
        "total_seconds": Seconds,
        "refined_seconds": Seconds,
        "basis": Sentence,
    }
)
JOB = Keys(
    optional={
        **dict.fromkeys(("id", "namespace", "repo", "commit", "flavor", "stage", "url"), Name),
        **dict.fromkeys(("image", "message"), Sentence | None),
        **dict.fromkeys(("home", "keep", "deleted"), bool),
        **dict.fromkeys(("seconds", "expected_s", "timeout_s"), Seconds | None),
        "usd_per_hour": Dollars | None,
        "attempt": Count,
    }
)
HARDWARE = Keys(
    optional={
        **dict.fromkeys(("device", "name", "dtype"), Name),
        "cuda_graphs": Annotated[
            dict[str, Any], Keys({"recorded": Count, "replayed": Count}, {"fallback": Told})
        ],
    }
)
ERROR = Keys({"message": Told}, {"type": Name})


@dataclass
class RunRecord:
    """Hold what `run.json` holds.

    Args:
        id: short random id.
        owner: SHA-256 of the owner's name or secret; None for the machine's own user.
        status: one of `STATUSES`.
        base_model: {id, revision}; id is pocket, a Hub id or a path.
        config: `RunConfig.to_json()`.
        stages: [{name, round, seconds, reason}] of finished stages, in order.
        candidates: name -> {scores, degenerate}.
        prompt_authors: who but the user wrote prompts of the demonstrations -> how many.
        chosen: name of the candidate in `adapter/`, or None.
        probe_of: whose logits `probe.safetensors` holds; None for the chosen one's.
        stage_seconds: stage name -> seconds of work, over all processes that drove the run.
        job: {id, namespace, repo, flavor, ...} of the Hub Job that works on it, or did last.
    """

    id: Annotated[Name, MinLen(1)]
    base_model: Annotated[dict[str, Any], BASE_MODEL]
    config: dict[str, Any]
    schema_version: int = SCHEMA_VERSION
    owner: Name | None = None
    status: Name = "created"
    seed: Annotated[int, Ge(0), Lt(2**63)] = 0
    created: Moment = 0.0
    updated: Moment = 0.0
    parent: Name | None = None
    stages: Annotated[list[Annotated[dict[str, Any], STAGE]], ROWS] = field(default_factory=list)
    candidates: Annotated[dict[Name, Annotated[dict[str, Any], CANDIDATE]], ROWS] = field(
        default_factory=dict
    )
    chosen: Name | None = None
    chosen_rule: Sentence = ""
    chosen_reason: Told = ""
    probe_of: Name | None = None
    order: Annotated[list[Annotated[dict[str, Any], ORDER]], ROWS] = field(default_factory=list)
    prompt_authors: Annotated[dict[Name, Count], ROWS] = field(default_factory=dict)
    notices: Annotated[list[dict[str, Told]], ROWS] = field(default_factory=list)
    versions: Names = field(default_factory=dict)
    hardware: Annotated[dict[str, Any], HARDWARE] = field(default_factory=dict)
    stage_seconds: dict[Name, Seconds] = field(default_factory=dict)
    estimate: Annotated[dict[str, Any], ESTIMATE] = field(default_factory=dict)
    job: Annotated[dict[str, Any], JOB] = field(default_factory=dict)
    stopped_early: Told = ""
    error: Annotated[dict[str, Any], ERROR] | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Any], where: str = "run.json") -> RunRecord:
        """Build from the file's content.

        Raises:
            RunError: written by a newer version, or a field is missing or wrong.
        """
        if not isinstance(data, Mapping):
            raise RunError("runs.holds_no_record", where=where)
        version = data.get("schema_version")
        if type(version) is not int or version > SCHEMA_VERSION:
            raise RunError(
                "runs.schema_too_new",
                where=where,
                version=version,
                schema_version=SCHEMA_VERSION,
            )
        try:
            record = validated(cls, data)
        except ValueError as error:
            raise RunError("runs.record_damaged", where=where, error=error) from error
        if record.status not in STATUSES:
            raise RunError("runs.unknown_status", where=where, status=record.status)
        record.schema_version = SCHEMA_VERSION
        return record
