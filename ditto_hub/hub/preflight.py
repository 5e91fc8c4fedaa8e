"""Can this base model be used? Answered from its small files, before any weight is downloaded.

Works on a Hub id, a local folder, and the embedded `pocket`; the latter two need no network.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError

from ditto_hub.errors import BaseModelError, HubBusyError, HubError
from ditto_hub.hub.architectures import CAUSAL, KNOWN_TO_PEFT
from ditto_hub.hub.client import HubClient, require_repo_id
from ditto_hub.hub.licences import Licence
from ditto_hub.shapes import BaseShape, shape_of_config

Verdict = Literal["ok", "warning", "refused"]
GIB = 1024**3


@dataclass(frozen=True)
class Check:
    """Hold the answer to one question.

    Args:
        code: stable name: exists, access, private, licence, adapter, gguf, causal-lm, template,
            weights, quantised, remote-code or peft.
        verdict: ok, warning (say it and go on) or refused.
        message: what was found.
        remedy: what to do, where it is not ok.
    """

    code: str
    verdict: Verdict
    message: str
    remedy: str = ""


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
        what = " ".join(check.message for check in found.refused)
        raise BaseModelError(what, found.refused[0].remedy)
    return found


def preflight(
    base_model: str,
    token: str | None = None,
    revision: str | None = None,
    endpoint: str | None = None,
) -> Preflight:
    """Find out whether a base model can be trained on and published from.

    Args:
        base_model: "pocket", a Hub id, or a folder.
        token: of the user; None takes the one saved by `hf auth login`, "" none at all.
        revision: branch, tag or commit on the Hub; None for main.
        endpoint: of the Hub; None takes HF_ENDPOINT or the public one.

    Raises:
        HubError: the Hub cannot be asked, and no copy of the model is cached.
    """
    if base_model == "pocket":
        from ditto_hub import pocket

        return _of_folder("pocket", pocket.path(), "pocket", Licence("apache-2.0"))
    if base_model.lower().endswith(".gguf"):
        return _refusing(base_model, _gguf(base_model))
    if Path(base_model).is_dir():
        return _of_folder(base_model, Path(base_model), "folder")
    try:
        require_repo_id(base_model)
    except HubError:
        missing = Check("exists", "refused", f"There is no folder {base_model!r}, and it is no id.")
        return _refusing(base_model, missing)
    return _of_hub(HubClient(token, endpoint), base_model, revision)


# ---- where the files are -----------------------------------------------------------------------


@dataclass(frozen=True)
class _Files:
    """What a model consists of: names with sizes, and a way to read a small one."""

    sizes: Mapping[str, int]
    read: Callable[[str], bytes | None]

    def json(self, path: str) -> dict[str, Any]:
        data = self.read(path) if path in self.sizes else None
        try:
            found = json.loads(data or b"{}")
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


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
    files = _Files(sizes, lambda path: (folder / path).read_bytes())
    exists = Check("exists", "ok", f"{name} is a folder with {len(sizes)} files.")
    given = licence or _licence_of_readme(files)
    checks = (*(first or (exists,)), *_licence_checks(given), *_look(name, files))
    return _filled(Preflight(name, kind=kind, checks=checks, licence=given), files)


def _licence_of_readme(files: _Files) -> Licence:
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
        cached = _cached(base_model, revision)
        if cached and (isinstance(error, HubBusyError) or constants.HF_HUB_OFFLINE):
            note = Check("exists", "warning", f"{error.what} The cached {base_model} is used.")
            return _of_folder(base_model, cached, "folder", first=(note,))
        raise
    if info is None:
        return _refusing(base_model, _missing(base_model, bool(client.token)))
    access = list(_access(client, info))
    sizes = {s.rfilename: s.size or 0 for s in info.siblings or []}
    files = _Files(sizes, cache(lambda path: client.read(base_model, path, info.sha)))
    card = vars(info.card_data) if info.card_data else {}
    licence = Licence.from_card(card, base_model)
    blocked = any(check.verdict == "refused" for check in access)
    looked = () if blocked else tuple(_look(base_model, files))
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


def _filled(found: Preflight, files: _Files) -> Preflight:
    return replace(
        found,
        model_type=str(files.json("config.json").get("model_type", "")),
        shape=shape_of_config(files.json("config.json")),
        weight_bytes=sum(files.sizes[name] for name in _weights(files)),
        thinking="enable_thinking" in _template(files),
    )


# ---- the questions -----------------------------------------------------------------------------


def _missing(base_model: str, signed_in: bool) -> Check:
    hidden = "" if signed_in else " If it is private, sign in first: `hf auth login`."
    return Check(
        "exists",
        "refused",
        f"There is no model {base_model!r} on the Hub that this {_who(signed_in)} can see.",
        f"Check the spelling on https://huggingface.co/models.{hidden}",
    )


def _who(signed_in: bool) -> str:
    return "token" if signed_in else "anonymous caller"


def _no_access(base_model: str, signed_in: bool) -> Check:
    page = f"https://huggingface.co/{base_model}"
    ask = f"Ask for access at {page}" + ("." if signed_in else ", then `hf auth login`.")
    return Check("access", "refused", f"{base_model} is gated, and access is not given.", ask)


def _access(client: HubClient, info: Any) -> Iterator[Check]:
    yield Check("exists", "ok", f"{info.id} is on the Hub at {info.sha[:7]}.")
    if info.gated:
        try:
            client.require_access(info.id)
        except HubError as error:
            if not isinstance(error.__cause__, GatedRepoError):
                raise
            yield _no_access(info.id, bool(client.token))
            return
        text = f"{info.id} is gated and this token has access; others must ask for their own."
        yield Check("access", "warning", text)
    if info.private:
        text = f"{info.id} is private: whoever loads the adapter needs access to it too."
        yield Check("private", "warning", text)


def _licence_checks(licence: Licence) -> Iterator[Check]:
    if not licence.id:
        text = "The base model states no licence; what may be done with an adapter is open."
        yield Check("licence", "warning", text, "Ask its author before you publish.")
        return
    name = licence.name or licence.id
    page = f" ({licence.page})" if licence.page else ""
    yield Check("licence", "ok", f"Licence {name}{page}: {licence.demands}")


def _look(name: str, files: _Files) -> Iterator[Check]:
    """Ask what the files answer; stops where a refusal makes the rest moot."""
    if "adapter_config.json" in files.sizes and "config.json" not in files.sizes:
        base = files.json("adapter_config.json").get("base_model_name_or_path") or "its base"
        text = f"{name} is itself an adapter, of {base}."
        yield Check("adapter", "refused", text, "Give the base model instead.")
        return
    if "config.json" not in files.sizes:
        if any(path.lower().endswith(".gguf") for path in files.sizes):
            yield _gguf(name)
        else:
            text = f"{name} has no config.json, so it is no transformers model."
            yield Check("exists", "refused", text, "Choose a model with the transformers library.")
        return
    config = files.json("config.json")
    yield _causal(name, config)
    yield _has_template(name, files)
    yield from _has_weights(name, files)
    yield from _plain(name, config)
    yield _peft(str(config.get("model_type", "")))


def _gguf(name: str) -> Check:
    text = f"{name} holds GGUF files, which cannot be trained."
    return Check("gguf", "refused", text, "Give the model that they were made from.")


def _causal(name: str, config: Mapping[str, Any]) -> Check:
    given = config.get("architectures")
    architectures = [str(a) for a in given] if isinstance(given, list) else []
    model_type = str(config.get("model_type", ""))
    if any(a.endswith(("ForCausalLM", "LMHeadModel")) for a in architectures) or (
        not architectures and model_type in CAUSAL
    ):
        return Check("causal-lm", "ok", f"{name} is a causal language model ({model_type}).")
    if model_type in CAUSAL and any("ConditionalGeneration" in a for a in architectures):
        text = f"{name} reads more than text; only its language model is trained."
        return Check("causal-lm", "warning", text)
    told = ", ".join(architectures) or model_type or "unknown"
    text = f"{name} is no causal language model ({told})."
    return Check("causal-lm", "refused", text, "Choose a text-generation model.")


def _template(files: _Files) -> str:
    if "chat_template.jinja" in files.sizes:
        return (files.read("chat_template.jinja") or b"").decode(errors="replace")
    for path in ("chat_template.json", "tokenizer_config.json"):
        template = files.json(path).get("chat_template")
        if template:
            return template if isinstance(template, str) else json.dumps(template)
    return ""


def _has_template(name: str, files: _Files) -> Check:
    if _template(files):
        return Check("template", "ok", "It has a chat template.")
    text = f"{name} has no chat template, so it does not know turns."
    return Check("template", "refused", text, "Choose its instruct or chat version.")


def _weights(files: _Files) -> list[str]:
    own = [n for n in files.sizes if n.endswith(".safetensors") and "/" not in n]
    return [n for n in own if n.startswith("model")] or [
        n for n in own if not n.startswith(("consolidated", "adapter_model"))
    ]


def _has_weights(name: str, files: _Files) -> Iterator[Check]:
    found = _weights(files)
    if found:
        size = sum(files.sizes[n] for n in found)
        yield Check("weights", "ok", f"Its weights are {size / GIB:.2f} GiB of safetensors.")
        return
    pickled = any(n.endswith((".bin", ".pt", ".pth")) for n in files.sizes)
    held = "only pickled weights, which can hide code" if pickled else "no safetensors weights"
    yield Check(
        "weights",
        "refused",
        f"{name} has {held}.",
        "Choose a version with safetensors, or convert it:"
        " https://huggingface.co/spaces/safetensors/convert",
    )


def _plain(name: str, config: Mapping[str, Any]) -> Iterator[Check]:
    quantised = config.get("quantization_config")
    if isinstance(quantised, dict):
        method = quantised.get("quant_method", "some method")
        text = f"{name} is quantised ({method}), which training refuses."
        yield Check("quantised", "refused", text, "Give the model it was made from.")
    model_type = str(config.get("model_type", ""))
    if config.get("auto_map") and model_type not in CAUSAL:
        text = f"{name} brings its own code ({model_type}), which is not run."
        yield Check("remote-code", "refused", text, "Choose a model that transformers knows.")


def _peft(model_type: str) -> Check:
    if model_type in KNOWN_TO_PEFT:
        return Check("peft", "ok", f"PEFT knows {model_type}.")
    text = f"PEFT has no list of layers for {model_type or 'it'}: they are found by name."
    return Check("peft", "ok" if model_type in CAUSAL else "warning", text)
