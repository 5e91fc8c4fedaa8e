"""Exporting: an adapter for llama.cpp, Ollama, and whatever loads a plain model."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from ditto_hub.runs.folder import Run
from ditto_hub.tokens import MACHINE, Token

if TYPE_CHECKING:
    from ditto_hub.hub.publishing.exporting import Form


def export(
    run: Run,
    folder: str | Path,
    *,
    form: Form = "gguf",
    candidate: str | None = None,
    token: Token | str = MACHINE,
) -> Path:
    """Write a run's adapter for other programs into a new folder, whole or not at all.

    Beside it come a Modelfile, from which Ollama makes a model, and a README.txt with the commands
    for llama.cpp, Ollama and vLLM.

    Args:
        run: with an `adapter/`.
        folder: to write; missing or empty.
        form: "gguf" for the adapter alone, as a GGUF file that goes beside its base model's;
            "merged" for the base model with the adapter in its weights, as transformers loads it.
        candidate: name of the candidate to export; None for the chosen one.
        token: of the Hub, for a private or gated base model.

    Returns:
        The folder.

    Raises:
        RunError: the run has no whole adapter.
        ConfigError: the folder holds something, or there is no such form.
        BaseModelError: the base model cannot be loaded, or has no place in a GGUF file.
        StorageError: there is no room, or the disk refused.
    """
    from ditto_hub.hub.publishing.exporting import export_run

    return export_run(run, Path(folder), form, candidate, token)


def can_write_gguf() -> bool:
    """Tell whether the package that writes GGUF files is installed here."""
    return find_spec("gguf") is not None


def pack_gguf(
    run: Run, target: BinaryIO, candidate: str | None = None, *, token: Token | str
) -> None:
    """Write a run's adapter as a GGUF file into a zip, with its Modelfile and README.txt.

    Raises:
        RunError, BaseModelError, StorageError: as `export` does.
    """
    from ditto_hub.hub.publishing.exporting import pack_export

    pack_export(run, target, candidate, token)
