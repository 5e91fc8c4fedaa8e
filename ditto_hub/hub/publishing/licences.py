"""What a base model's licence asks of an adapter made from it: plain data, read 2026-11.

Summaries for orientation, not legal advice; each row names the page it was read on. Identifiers
are the Hub's (huggingface.co/docs/hub/repositories-licenses).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ditto_hub.words import Message

# identifier -> (what it demands of derivatives, a code of hub.licence; where it was read)
DEMANDS: dict[str, tuple[str, str]] = {
    "apache-2.0": ("changes", "https://www.apache.org/licenses/LICENSE-2.0"),
    "mit": ("notice", "https://opensource.org/license/mit"),
    "bsd-3-clause": ("notice", "https://opensource.org/license/bsd-3-clause"),
    "cc-by-4.0": ("source", "https://creativecommons.org/licenses/by/4.0/"),
    "cc-by-nc-4.0": (
        "source_nc",
        "https://creativecommons.org/licenses/by-nc/4.0/",
    ),
    "cc-by-nc-sa-4.0": (
        "source_nc_sa",
        "https://creativecommons.org/licenses/by-nc-sa/4.0/",
    ),
    "llama2": (
        "llama2",
        "https://ai.meta.com/llama/license/",
    ),
    "llama3": ("llama3", "https://www.llama.com/llama3/license/"),
    "llama3.1": ("llama3", "https://www.llama.com/llama3_1/license/"),
    "llama3.2": ("llama3", "https://www.llama.com/llama3_2/license/"),
    "llama3.3": ("llama3", "https://www.llama.com/llama3_3/license/"),
    "llama4": ("llama3", "https://www.llama.com/llama4/license/"),
    "gemma": (
        "gemma",
        "https://ai.google.dev/gemma/terms",
    ),
    "openrail": ("rail", "https://www.licenses.ai/"),
    "bigscience-openrail-m": ("rail", "https://www.licenses.ai/"),
    "creativeml-openrail-m": ("rail", "https://www.licenses.ai/"),
    "bigcode-openrail-m": ("rail", "https://www.licenses.ai/"),
}


@dataclass(frozen=True)
class Licence:
    """Hold a base model's licence as its card states it.

    Args:
        id: the Hub's identifier, `other`, or empty where none is stated.
        name: of a licence that is not a standard one.
        link: to its text.
    """

    id: str = ""
    name: str = ""
    link: str = ""

    @property
    def demands(self) -> Message:
        """What it asks of an adapter made from the model, in a sentence or two."""
        known = DEMANDS.get(self.id, ("unknown",)) if self.id else ("none",)
        return Message(f"hub.licence.{known[0]}")

    @property
    def page(self) -> str:
        """Where its text stands, or empty."""
        return self.link or DEMANDS.get(self.id, ("", ""))[1]

    @property
    def name_must_begin_with(self) -> str:
        """The word a derived model's name has to begin with, or empty."""
        return "Llama" if self.id.startswith("llama") and self.id != "llama2" else ""

    def to_json(self) -> dict[str, str]:
        """Return plain JSON types."""
        return {"id": self.id, "name": self.name, "link": self.link}

    @classmethod
    def from_card(cls, card: Mapping[str, Any], repo_id: str = "") -> Licence:
        """Read it from a model card's front matter; a relative link is completed."""
        value = card.get("license")
        if isinstance(value, list):
            value = value[0] if value else ""
        link = str(card.get("license_link") or "")
        if link and "://" not in link and repo_id:
            link = f"https://huggingface.co/{repo_id}/blob/main/{link.removeprefix('./')}"
        return cls(str(value or ""), str(card.get("license_name") or ""), link)

    def __post_init__(self) -> None:
        for name, value in self.to_json().items():  # each on one line, for front matters
            object.__setattr__(self, name, " ".join(value.split()))
