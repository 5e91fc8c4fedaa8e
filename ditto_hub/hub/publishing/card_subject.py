"""What a model card is about, as plain records: the run, its demonstrations, its samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ditto_hub.config import RunConfig
from ditto_hub.demos.demonstrations import DemoSet
from ditto_hub.demos.languages import language_of
from ditto_hub.errors import ConfigError, RunError
from ditto_hub.hub.publishing.licences import Licence
from ditto_hub.hub.publishing.lineage import Earlier, Figures, tag_of
from ditto_hub.runs.record import RunRecord
from ditto_hub.runs.results import Evaluation

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
NOBODY_YET = "your-name"  # owns what is not published, in a card
BASE_FOLDER = "base-model"  # beside an adapter that was taken home
ORIGINS = {
    "typed": "typed in",
    "file": "read from a file",
    "text": "given as texts alone",
    "edited": "edited model output",
}


@dataclass(frozen=True)
class DemoFacts:
    """Hold what a card may say of demonstrations without showing any.

    Args:
        characters: length of each completion, in order.
        held_out: how many of them only score.
        origins: words for where they came from -> how many.
        prompt_authors: who but the user wrote their prompts -> how many.
        languages: the Hub's codes of those recognised.
    """

    characters: tuple[int, ...]
    held_out: int
    origins: Mapping[str, int] = field(default_factory=dict)
    languages: tuple[str, ...] = ()
    prompt_authors: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, demos: DemoSet) -> DemoFacts:
        """Count; an origin that is not one of ours is not repeated, for it may hold anything."""
        found = {LANGUAGES.get(language_of(d.completion) or "") for d in demos}
        return cls(
            tuple(len(d.completion) for d in demos),
            len(demos.held_out),
            Counter(ORIGINS.get(d.origin, "from elsewhere") for d in demos),
            tuple(sorted(code for code in found if code)),
            demos.prompt_authors,
        )

    @property
    def counted(self) -> dict[str, int]:
        """Numbers that a later version is compared by."""
        return {
            "count": len(self.characters),
            "held_out": self.held_out,
            "characters": sum(self.characters),
        }


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
        earlier: the version that this one follows, or None for a first one.
        figures: of the evaluations, to be compared with the earlier version's.
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
    earlier: Earlier | None = None
    figures: Figures = field(default_factory=dict)

    @property
    def version(self) -> int:
        """The adapter's version, from 1."""
        return self.earlier.version + 1 if self.earlier else 1

    @property
    def tag(self) -> str:
        """The tag of this version."""
        return tag_of(self.version)

    @property
    def versioned(self) -> dict[str, Any]:
        """What the repo's record says of versions; nothing for a first one."""
        if self.earlier is None:
            return {}
        return {"version": self.version, "earlier": self.earlier.to_json()}

    @property
    def base_named(self) -> bool:
        """Whether the base model's id is one that others can load, and no stand-in for it."""
        return not self.base_id.startswith(f"{NOBODY_YET}/")

    @property
    def base_path(self) -> str:
        """What the lines that load the adapter call the base model."""
        return self.base_id if self.base_named else BASE_FOLDER

    @cached_property
    def config(self) -> RunConfig:
        """The run's settings, checked."""
        try:
            return RunConfig.from_record(self.record.config)
        except (ConfigError, AttributeError, TypeError, ValueError) as error:
            raise RunError("hub.settings_not_valid", run_id=self.record.id, error=error) from error
