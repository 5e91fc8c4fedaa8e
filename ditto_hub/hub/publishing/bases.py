"""The base model of an adapter as the Hub has it; the embedded one is published along."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ditto_hub import pocket
from ditto_hub.errors import BaseModelError
from ditto_hub.hub.client import HubClient
from ditto_hub.hub.preflight import preflight
from ditto_hub.hub.publishing import bundle as bundles
from ditto_hub.hub.publishing.bundle import Bundle
from ditto_hub.hub.publishing.licences import Licence
from ditto_hub.runs.folder import Run
from ditto_hub.words import Message, Text

POCKET_NAME = "ditto-pocket"
PLAIN_CARD = "---\nlicense: apache-2.0\nlibrary_name: transformers\n---\n# pocket\n"


@dataclass(frozen=True)
class Base:
    """Hold the base model as the Hub has it, or will have it."""

    id: str
    revision: str | None
    licence: Licence
    bytes: int = 0
    bundle: Bundle = field(default_factory=dict)
    notices: tuple[Text, ...] = ()


def draft_base(run: Run, base_id: str, repo_id: str) -> Base:
    """Return the base as far as it is known without any network."""
    if base_id == "pocket":
        return _pocket(repo_id)
    known = run.record.base_model.get("licence")
    licence = Licence(**known) if isinstance(known, Mapping) else Licence()
    return Base(base_id, _revision(run, base_id), licence)


def _revision(run: Run, base_id: str) -> str | None:
    base = run.record.base_model
    given = base.get("revision") if base.get("id") == base_id else None
    return str(given) if given else None


def look_at_base(client: HubClient, run: Run, base_id: str, repo_id: str) -> Base:
    """Find the base on the Hub.

    Raises:
        BaseModelError: it is gone, or closed to this user.
    """
    if base_id == "pocket":
        return _pocket(repo_id)
    found = preflight(base_id, client.whose, _revision(run, base_id), client.endpoint)
    gone = [c for c in found.refused if c.code in ("exists", "access")]
    if gone:
        raise BaseModelError("hub.base_gone", why=gone[0].message, todo=gone[0].remedy)
    notices = tuple(c.message for c in found.warnings if c.code in ("access", "private", "licence"))
    revision = _revision(run, base_id)
    return Base(base_id, revision, found.licence, found.weight_bytes, notices=notices)


def _pocket(repo_id: str) -> Base:
    """Return the embedded model as a repo beside the adapter's."""
    base_id = f"{repo_id.split('/')[0]}/{POCKET_NAME}"
    folder = pocket.path()
    names = ("config.json", "generation_config.json", "model.safetensors", *bundles.TOKENIZER)
    files: Bundle = {n: folder / n for n in names if (folder / n).is_file()}
    if "model.safetensors" not in files:
        raise BaseModelError("hub.pocket_missing")
    readme = folder / "README.md"
    card = readme.read_text(encoding="utf-8") if readme.is_file() else PLAIN_CARD
    how = (
        "\n## How to load it\n\n```python\nfrom transformers import AutoModelForCausalLM,"
        f' AutoTokenizer\n\nmodel = AutoModelForCausalLM.from_pretrained("{base_id}")\n'
        f'tokenizer = AutoTokenizer.from_pretrained("{base_id}")\n```\n'
    )
    files[bundles.CARD] = (card.rstrip() + "\n" + how).encode()
    whole = bundles.with_manifest(files, {"base_model": "pocket"})
    size = bundles.size_of(files["model.safetensors"])
    note = Message("hub.base_published_too", base_id=base_id)
    return Base(base_id, None, Licence("apache-2.0"), size, whole, (note,))
