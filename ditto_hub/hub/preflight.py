"""Can this base model be used? Answered from its small files, before any weight is downloaded.

Works on a Hub id, a local folder, and the embedded `pocket`; the latter two need no network.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError

from ditto_hub.cost.shapes import BaseShape, shape_of_config
from ditto_hub.engine import smollm2
from ditto_hub.errors import BaseModelError, HubBusyError, HubError
from ditto_hub.hub.base_files import GIB, Check, Files, checked, look, no_gguf
from ditto_hub.hub.client import HubClient, require_repo_id
from ditto_hub.hub.publishing.licences import Licence
from ditto_hub.runs.storage import is_folder
from ditto_hub.tokens import Token
from ditto_hub.words import chained


@dataclass(frozen=True)
class Preflight:
    """Hold all that is known of a base model before it is loaded.

    Args:
        base_model: as it was asked for.
        revision: commit on the Hub, or None for a folder.
        kind: hub, folder or pocket.
        checks: in the order they were made; later ones are missing where an earlier one refused.
        licence: of the base model.
        private: seen by its owners alone.
        gated: its files are given on request.
        model_type: transformers' name of the architecture.
        weight_bytes: size of the safetensors files.
        thinking: the chat template knows a thinking mode.
        shape: layers and widths, where the config tells them.
    """

    base_model: str
    revision: str | None = None
    kind: Literal["hub", "folder", "pocket"] = "hub"
    checks: tuple[Check, ...] = ()
    licence: Licence = field(default_factory=Licence)
    private: bool = False
    gated: bool = False
    model_type: str = ""
    weight_bytes: int = 0
    thinking: bool = False
    shape: BaseShape | None = None

    @property
    def refused(self) -> tuple[Check, ...]:
        """The checks that rule the model out."""
        return tuple(check for check in self.checks if check.verdict == "refused")

    @property
    def warnings(self) -> tuple[Check, ...]:
        """What a person should know before going on."""
        return tuple(check for check in self.checks if check.verdict == "warning")

    @property
    def usable(self) -> bool:
        """Tell whether training on it is worth a try."""
        return not self.refused

    @property
    def memory_bytes(self) -> int:
        """Memory to train with, at least about: the weights as stored, a third more, 0.5 GiB."""
        return self.weight_bytes * 4 // 3 + GIB // 2


def require_usable(found: Preflight) -> Preflight:
    """Return what was found, unless it rules the model out.

    Raises:
        BaseModelError: telling every refusal.
    """
    if found.refused:
        why = [check.message for check in found.refused]
        todo = dict.fromkeys(check.remedy for check in found.refused)
        raise BaseModelError(
            "hub.base_refused", why=chained("words.then", why), todo=chained("words.then", todo)
        )
    return found


def preflight(
    base_model: str,
    token: Token | str,
    revision: str | None = None,
    endpoint: str | None = None,
) -> Preflight:
    """Find out whether a base model can be trained on and published from.

    Args:
        base_model: pocket, smollm2, a Hub id, or a folder.
        token: of the user, or nobody's.
        revision: branch, tag or commit on the Hub; None for main.
        endpoint: of the Hub; None takes HF_ENDPOINT or the public one.

    Raises:
        HubError: the Hub cannot be asked, and no copy of the model is cached.
        BaseModelError, StorageError: smollm2 is not on this disk and cannot be fetched.
    """
    if base_model == "pocket":
        from ditto_hub import pocket

        return _of_folder("pocket", pocket.path(), "pocket", Licence("apache-2.0"))
    if base_model == smollm2.NAME:
        return _of_folder(base_model, smollm2.fetch(), "folder", Licence(smollm2.LICENCE))
    if base_model.lower().endswith(".gguf"):
        return _refusing(base_model, no_gguf(base_model))
    if is_folder(base_model):
        return _of_folder(base_model, Path(base_model), "folder")
    try:
        require_repo_id(base_model)
    except HubError:
        return _refusing(
            base_model, checked("hub.base_no_folder", "exists", "refused", name=base_model)
        )
    return _of_hub(HubClient(token, endpoint), base_model, revision)


# ---- where the files are -----------------------------------------------------------------------


def _refusing(base_model: str, check: Check) -> Preflight:
    return Preflight(base_model, kind="folder", checks=(check,))


def _of_folder(
    name: str,
    folder: Path,
    kind: Literal["folder", "pocket"],
    licence: Licence | None = None,
    first: tuple[Check, ...] = (),
) -> Preflight:
    sizes = {p.name: p.stat().st_size for p in folder.glob("*") if p.is_file()}
    files = Files(sizes, lambda path: _start(folder / path), lambda p, n: _start(folder / p, n))
    exists = checked("hub.base_folder", "exists", "ok", name=name, files=len(sizes))
    given = licence or _licence_of_readme(files)
    checks = (*(first or (exists,)), *_licence_checks(given), *look(name, files))
    return _filled(Preflight(name, kind=kind, checks=checks, licence=given), files)


def _start(path: Path, size: int = -1) -> bytes:
    with path.open("rb") as file:
        return file.read(size)


def _licence_of_readme(files: Files) -> Licence:
    if "README.md" not in files.sizes:
        return Licence()
    from huggingface_hub import ModelCard

    try:
        card = ModelCard((files.read("README.md") or b"").decode(), ignore_metadata_errors=True)
    except (UnicodeDecodeError, ValueError):
        return Licence()
    return Licence.from_card(vars(card.data))


def _of_hub(client: HubClient, base_model: str, revision: str | None) -> Preflight:
    try:
        info = client.info(base_model, revision=revision)
    except HubError as error:
        if isinstance(error.__cause__, GatedRepoError):
            return _refusing(base_model, _no_access(base_model, bool(client.token)))
        # a server's cache holds what other visitors' tokens opened
        own = client.whose.whose == "machine"
        cached = _cached(base_model, revision) if own else None
        if cached and (isinstance(error, HubBusyError) or constants.HF_HUB_OFFLINE):
            said, why = "hub.base_cached", error.happened
            note = checked(said, "exists", "warning", why=why, name=base_model)
            return _of_folder(base_model, cached, "folder", first=(note,))
        raise
    if info is None:
        return _refusing(base_model, _missing(base_model, bool(client.token)))
    access = list(_access(client, info))
    sizes = {s.rfilename: s.size or 0 for s in info.siblings or []}
    files = Files(sizes, cache(lambda path: client.read(base_model, path, info.sha)))
    card = vars(info.card_data) if info.card_data else {}
    licence = Licence.from_card(card, base_model)
    blocked = any(check.verdict == "refused" for check in access)
    looked = () if blocked else tuple(look(base_model, files))
    found = Preflight(
        base_model,
        info.sha,
        checks=(*access, *_licence_checks(licence), *looked),
        licence=licence,
        private=bool(info.private),
        gated=bool(info.gated),
    )
    return found if blocked else _filled(found, files)


def _cached(base_model: str, revision: str | None) -> Path | None:
    try:
        return Path(snapshot_download(base_model, revision=revision, local_files_only=True))
    except (LocalEntryNotFoundError, OSError, ValueError):
        return None


def _filled(found: Preflight, files: Files) -> Preflight:
    return replace(
        found,
        model_type=str(files.json("config.json").get("model_type", "")),
        shape=shape_of_config(files.json("config.json")),
        weight_bytes=sum(files.sizes[name] for name in files.weights()),
        thinking="enable_thinking" in files.template(),
    )


# ---- the questions -----------------------------------------------------------------------------


def _missing(base_model: str, signed_in: bool) -> Check:
    said = "hub.base_not_there" if signed_in else "hub.base_not_seen"
    return checked(said, "exists", "refused", name=base_model)


def _no_access(base_model: str, signed_in: bool) -> Check:
    said = "hub.base_gated" if signed_in else "hub.base_gated_sign_in"
    return checked(said, "access", "refused", name=base_model)


def _access(client: HubClient, info: Any) -> Iterator[Check]:
    yield checked("hub.base_found", "exists", "ok", name=info.id, revision=info.sha[:7])
    if info.gated:
        try:
            client.require_access(info.id)
        except HubError as error:
            if not isinstance(error.__cause__, GatedRepoError):
                raise
            yield _no_access(info.id, bool(client.token))
            return
        yield checked("hub.base_gated_open", "access", "warning", name=info.id)
    if info.private:
        yield checked("hub.base_private", "private", "warning", name=info.id)


def _licence_checks(licence: Licence) -> Iterator[Check]:
    if not licence.id:
        yield checked("hub.base_no_licence", "licence", "warning")
        return
    name = licence.name or licence.id
    page = f" ({licence.page})" if licence.page else ""
    demands = licence.demands
    yield checked("hub.base_licence", "licence", "ok", name=name, page=page, demands=demands)
