"""What goes beside an exported adapter or model: a Modelfile for Ollama, and how to load it."""

from __future__ import annotations

from dataclasses import dataclass

from ditto_hub.config import Sampling
from ditto_hub.hub.publishing.card_sections import vllm_rank

MODELFILE, README = "Modelfile", "README.txt"
POCKET = "pocket"  # is in this package alone, so it goes along
NAME = "my-voice"  # what the files call the model, until somebody names it


@dataclass(frozen=True)
class Exported:
    """Hold what the files beside an export say.

    Args:
        base: the base model's id on the Hub, or its folder's name.
        source: how the weights that it was trained on differ from the base model's, or empty.
        adapter: which run's and candidate's it is, in words.
        merged: the adapter is in the model's weights.
        drawing: how texts are drawn.
        stops: texts that end an answer.
        rank: of the adapter.
        thinking: the chat template knows a thinking mode, which was off in training.
    """

    base: str
    source: str
    adapter: str
    merged: bool
    drawing: Sampling
    stops: tuple[str, ...]
    rank: int
    thinking: bool = False


def modelfile(export: Exported) -> str:
    """Return the Modelfile from which Ollama makes a model.

    Source: https://docs.ollama.com/modelfile
    """
    model = "FROM ." if export.merged else "FROM ./base.gguf\nADAPTER ./adapter.gguf"
    drawing = export.drawing
    stops = "".join(f"PARAMETER stop {_quoted(text)}\n" for text in export.stops)
    return f"""# {export.adapter}; base model {export.base}.
# README.txt says how to use this file. The chat template is the base model's own.
{model}
PARAMETER temperature {drawing.temperature:g}
PARAMETER top_p {drawing.top_p:g}
PARAMETER top_k {drawing.top_k}
PARAMETER repeat_penalty 1
{stops}"""


def _quoted(text: str) -> str:
    return f'"""{text}"""' if '"' in text else f'"{text}"'


def readme(export: Exported) -> str:
    """Return how llama.cpp, Ollama and vLLM load what was exported."""
    parts = [_merged_lines(export)] if export.merged else [_adapter_lines(export)]
    if export.thinking:
        parts.append(
            "The base model knows a thinking mode, which was off in training: keep it off\n"
            "(llama.cpp: --reasoning-budget 0; Ollama: --think=false; vLLM: the request's\n"
            '"chat_template_kwargs": {"enable_thinking": false}).\n'
        )
    return f"{export.adapter}\nBase model: {export.base}\n\n" + "\n".join(parts)


def _adapter_lines(export: Exported) -> str:
    return f"""adapter.gguf is the LoRA adapter alone. It goes beside its base model's GGUF file.
{_base_lines(export)}
llama.cpp
  llama-cli -m base.gguf --lora adapter.gguf {_flags(export.drawing)}
  llama-server -m base.gguf --lora adapter.gguf {_flags(export.drawing)}

Ollama, in this folder, with base.gguf in it
  ollama create {NAME} -f Modelfile
  ollama run {NAME}
{_vllm_lines(export)}"""


def _base_lines(export: Exported) -> str:
    if export.base == POCKET:
        return "base.gguf is pocket, the small base model inside ditto-hub.\n"
    also = f"\nThe weights it was trained on: {export.source}.\n" if export.source else ""
    return f"""
To make base.gguf, with a copy of llama.cpp
  hf download {export.base} --local-dir base
  python llama.cpp/convert_hf_to_gguf.py base --outfile base.gguf
{also}"""


def _vllm_lines(export: Exported) -> str:
    if export.base == POCKET:  # nobody can fetch it
        return ""
    rank = vllm_rank(export.rank)
    return f"""
vLLM takes the adapter as PEFT has it: ADAPTER is the run's adapter folder, or your repo on the Hub
  vllm serve {export.base} --enable-lora --max-lora-rank {rank} --lora-modules {NAME}=ADAPTER
"""


def _merged_lines(export: Exported) -> str:
    return f"""This folder is a plain model with the adapter in its weights, ready to load.

vLLM
  vllm serve . --served-model-name {NAME}

{_converted_lines(export)}"""


def _converted_lines(export: Exported) -> str:
    if export.base == POCKET:
        return (
            "llama.cpp's converter does not know the tokenizer of pocket. For llama.cpp and Ollama"
            " export\nthe adapter with --gguf; pocket goes along.\n"
        )
    return f"""llama.cpp, with a copy of it
  python llama.cpp/convert_hf_to_gguf.py . --outfile merged.gguf
  llama-cli -m merged.gguf {_flags(export.drawing)}

Ollama, in this folder (where it does not import this kind of model: FROM ./merged.gguf)
  ollama create {NAME} -f Modelfile
  ollama run {NAME}
"""


def _flags(drawing: Sampling) -> str:
    return f"--temp {drawing.temperature:g} --top-p {drawing.top_p:g} --top-k {drawing.top_k}"
