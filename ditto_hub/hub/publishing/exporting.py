"""An adapter for other programs: as a GGUF file, or merged into its base model."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args

from ditto_hub.errors import ConfigError
from ditto_hub.hub.publishing.bundle import WeightFiles, read_weights
from ditto_hub.hub.publishing.companions import (
    MODELFILE,
    POCKET,
    README,
    Exported,
    modelfile,
    readme,
)
from ditto_hub.hub.publishing.packing import write_zip
from ditto_hub.runs.folder import Run
from ditto_hub.runs.storage import new_folder, told_as_storage_error
from ditto_hub.tokens import Token

Form = Literal["gguf", "merged"]


def export_run(
    run: Run, folder: Path, form: Form, candidate: str | None, token: Token | str
) -> Path:
    """Write a run's adapter for other programs into a new or empty folder, whole or not at all.

    Args:
        run: with an `adapter/`.
        folder: to write.
        form: "gguf" for the adapter alone as a GGUF file, "merged" for the whole model.
        candidate: one of the run's; None for the chosen one.
        token: of the Hub, for a private or gated base model.

    Returns:
        The folder.

    Raises:
        RunError: the run has no whole adapter.
        ConfigError: the folder holds something, or there is no such form.
        BaseModelError: the base model cannot be loaded, or the form does not know it.
        StorageError: the disk refused.
    """
    from ditto_hub.engine.merged_model import write_merged

    if form not in get_args(Form):
        raise ConfigError("hub.no_such_form", form=form, known=", ".join(get_args(Form)))
    folder = folder.expanduser().resolve()
    with told_as_storage_error(folder):
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ConfigError("hub.folder_not_empty", folder=folder)
    adapter = read_weights(run, candidate)
    with new_folder(folder) as work:
        if form == "gguf":
            _write_gguf(run, adapter, work, token)
        else:
            write_merged(adapter.weights.parent, run.record.base_model, work, token)
        _write_companions(run, adapter, form, work, token)
    return folder


def pack_export(run: Run, target: BinaryIO, candidate: str | None, token: Token | str) -> None:
    """Write what `export_run` makes of an adapter as a GGUF file into a zip.

    Raises:
        RunError, BaseModelError: as `export_run` does.
    """
    with tempfile.TemporaryDirectory(prefix="ditto-") as place:
        folder = export_run(run, Path(place) / "export", "gguf", candidate, token)
        write_zip({path.name: path for path in folder.iterdir()}, target)


def _write_gguf(run: Run, adapter: WeightFiles, folder: Path, token: Token | str) -> None:
    from ditto_hub.engine import gguf_adapter, gguf_base
    from ditto_hub.engine.adapter import read_tensors
    from ditto_hub.engine.base_model import load_config

    gguf_adapter.require_gguf()
    base = run.record.base_model
    config = load_config(str(base["id"]), token, base.get("revision"))
    gguf_adapter.write_gguf(
        adapter.config,
        read_tensors(adapter.weights),
        config,
        folder / gguf_adapter.FILE,
        (f"{run.record.id} {adapter.candidate}", _base_name(base)),
    )
    if base["id"] == POCKET:
        gguf_base.write_pocket(folder / gguf_base.FILE)


def _write_companions(
    run: Run, adapter: WeightFiles, form: Form, folder: Path, token: Token | str
) -> None:
    from ditto_hub.engine.base_model import load_format, load_recommended

    base = run.record.base_model
    where, revision = str(base["id"]), base.get("revision")
    chat = load_format(where, token, revision)
    export = Exported(
        base=_base_name(base),
        source=str(base.get("source") or ("4 bits, NF4" if base.get("quantize") else "")),
        adapter=f"DITTO adapter {adapter.candidate} of the run {run.record.id}",
        merged=form == "merged",
        drawing=run.config.reading.settled(load_recommended(where, token, revision)),
        stops=chat.stop_texts,
        rank=max([adapter.config["r"], *(adapter.config.get("rank_pattern") or {}).values()]),
        thinking="enable_thinking" in chat.tokenizer.get_chat_template(),
    )
    with told_as_storage_error(folder):
        (folder / MODELFILE).write_text(modelfile(export), encoding="utf-8")
        (folder / README).write_text(readme(export), encoding="utf-8")


def _base_name(base: Mapping[str, Any]) -> str:
    """Return what others call a base model: its id on the Hub, or its folder's name."""
    name = str(base.get("hub_id") or base["id"])
    return Path(name).name if Path(name).is_dir() else name
