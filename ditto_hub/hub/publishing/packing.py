"""An adapter without the Hub: its card to look at, and a zip to take home."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from ditto_hub.hub.publishing import bundle as bundles
from ditto_hub.hub.publishing.bases import draft_base
from ditto_hub.hub.publishing.bundle import Data
from ditto_hub.hub.publishing.card_sections import adapter_code
from ditto_hub.hub.publishing.card_subject import BASE_FOLDER, NOBODY_YET
from ditto_hub.hub.publishing.drafts import build, foresee, full_name, read_source
from ditto_hub.hub.publishing.options import PublishOptions
from ditto_hub.hub.publishing.uses import Use, prompted, uses
from ditto_hub.runs.folder import Run
from ditto_hub.tokens import Token
from ditto_hub.words import Text

LOADER = "load.py"
MOMENT = (1980, 1, 1, 0, 0, 0)  # the zip's own epoch: the same bytes for the same adapter


@dataclass(frozen=True)
class CardPreview:
    """Hold a card as it will look.

    Args:
        front: the metadata, YAML.
        body: the text, Markdown.
        pictures: name in the repo -> PNG, of the candidates' scores and the evaluations.
        files: name and size in bytes of what would be in the repo.
        notices: what the user should know.
        uses: lines for other programs; the last ones show the demonstrations.
    """

    front: str
    body: str
    pictures: Mapping[str, bytes]
    files: tuple[tuple[str, int], ...]
    notices: tuple[Text, ...]
    uses: tuple[Use, ...] = ()


def preview_card(
    run: Run, repo_id: str, options: PublishOptions, token: Token | str
) -> CardPreview:
    """Return the card that a publication would make; nothing is written.

    Args:
        token: of the user, with which the Hub is read; without one nothing is asked.

    Raises:
        RunError: the run has no whole adapter.
        ConfigError: the base is a local folder and its id on the Hub was not given.
        HubError: the repo id is none.
    """
    draft = foresee(read_source(run, options), repo_id, options, token)
    _, front, body = draft.card.split("---\n", 2)
    pictures = {p: d for p, d in draft.bundle.items() if p.endswith(bundles.PICTURE)}
    return CardPreview(
        front=front,
        body=body,
        pictures={path: d for path, d in pictures.items() if isinstance(d, bytes)},
        files=tuple((path, bundles.size_of(data)) for path, data in sorted(draft.bundle.items())),
        notices=draft.notices,
        uses=(*uses(draft.subject), prompted(draft.subject, run.demos().demos)),
    )


def pack(run: Run, target: BinaryIO, candidate: str | None = None) -> None:
    """Write an adapter with its card, its tokenizer and a script that loads it into a zip.

    The embedded base model goes along, for nobody could fetch it elsewhere. No demonstration and
    no output is in it.

    Args:
        target: a file opened for writing bytes.
        candidate: one of the run's; None for the chosen one.

    Raises:
        RunError: the run has no whole adapter.
    """
    local = Path(str(run.record.base_model["id"]))
    options = PublishOptions(candidate=candidate)
    if local.is_dir():  # a base in a folder of the machine's own has no id that others could use
        slug = re.sub(r"[^\w]+", "-", local.name).strip("-_") or "base"
        options = replace(options, base_model_id=f"{NOBODY_YET}/{slug}")
    source, named = read_source(run, options), full_name(run.record.id)
    draft = build(source, named, draft_base(run, source.base_id, named), options)
    files: dict[str, Data] = dict(draft.bundle)
    base = str(local) if local.is_dir() else draft.subject.base_id
    if source.pocket:
        base = BASE_FOLDER
        its_own = draft_base(run, source.base_id, draft.subject.repo_id).bundle
        files |= {f"{BASE_FOLDER}/{path}": data for path, data in its_own.items()}
    here = replace(draft.subject, repo_id=".", base_id=base)
    files[LOADER] = f"{adapter_code(here)}\n".encode()
    write_zip(files, target)


def write_zip(files: Mapping[str, Data], target: BinaryIO) -> None:
    """Write files into a zip; the same bytes for the same files."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as packed:  # weights hardly shrink
        for path, data in sorted(files.items()):
            entry = zipfile.ZipInfo(path, MOMENT)
            entry.external_attr = 0o644 << 16
            with packed.open(entry, "w", force_zip64=True) as file:
                if isinstance(data, bytes):
                    file.write(data)
                else:
                    with data.open("rb") as source:
                        while chunk := source.read(1 << 20):
                            file.write(chunk)
