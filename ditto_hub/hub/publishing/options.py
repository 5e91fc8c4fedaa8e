"""What a user may choose of a publication, and what is said of its steps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ditto_hub.words import Text


@dataclass(frozen=True)
class PublishOptions:
    """Hold what a user may choose.

    Args:
        public: everybody may see the repo; private otherwise.
        include_demos: put the demonstrations into the repo, readable by whoever may see it.
        include_outputs: show prompts of the evaluation with what the adapter wrote, in the card.
        candidate: name of the candidate to publish; None for the chosen one.
        base_model_id: the base model's id on the Hub, for a run on a local folder.
        replaces: id of the repo with an earlier version, whose card is to name the new repo.
        dry_run: folder to write everything to instead; the Hub is read at most.
        load_back: auto, logits or hashes: how it is checked that the adapter loads.
        python: interpreter of another environment for that check.
        card_template: the user's own Jinja template for the card.
        endpoint: of the Hub; None takes HF_ENDPOINT or the public one.
    """

    public: bool = False
    include_demos: bool = False
    include_outputs: bool = False
    candidate: str | None = None
    base_model_id: str | None = None
    replaces: str | None = None
    dry_run: Path | None = None
    load_back: str = "auto"
    python: Path | None = None
    card_template: Path | None = None
    endpoint: str | None = None


@dataclass(frozen=True)
class PublishStep:
    """Say what is about to be done; `code` is stable: read, token, base, repo, upload-base, upload,
    load-back, visibility, tag or point-on."""

    code: str
    message: Text
