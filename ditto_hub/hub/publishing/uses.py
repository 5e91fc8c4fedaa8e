"""Lines to copy that use an adapter in other programs; pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ditto_hub.demos.demonstrations import Demonstration
from ditto_hub.hub.publishing.card_sections import adapter_code, serve_code
from ditto_hub.hub.publishing.card_subject import CardSubject

ASKED = "Write an email to the lab to cancel the potluck."
TGI_IMAGE = "ghcr.io/huggingface/text-generation-inference"


@dataclass(frozen=True)
class Use:
    """Hold the lines for one program.

    Args:
        name: peft, vllm, tgi, or prompt for the base model alone with the demonstrations shown.
        language: python or shell.
        code: the lines.
    """

    name: str
    language: str
    code: str


def uses(subject: CardSubject) -> tuple[Use, ...]:
    """Return the lines that load or serve the adapter; nothing of a demonstration is in them."""
    name = subject.repo_id.split("/")[-1]
    vllm = f"{serve_code(subject)}\n\n{_request(subject, 8000, name)}"
    tgi = f"{tgi_code(subject)}\n\n{_request(subject, 8080, subject.repo_id)}"
    return (
        Use("peft", "python", adapter_code(subject)),
        Use("vllm", "shell", vllm),
        Use("tgi", "shell", tgi),
    )


def tgi_code(subject: CardSubject) -> str:
    """Return the command that serves base and adapter with Text Generation Inference.

    Source: https://huggingface.co/docs/text-generation-inference/conceptual/lora
    """
    at = f" --revision {subject.base_revision}" if subject.base_revision else ""
    return (
        "docker run --gpus all --shm-size 1g -p 8080:80 -e HF_TOKEN \\\n"
        f"    -e LORA_ADAPTERS={subject.repo_id} \\\n"
        f"    {TGI_IMAGE}:latest \\\n"
        f"    --model-id {subject.base_path}{at}"
    )


def _request(subject: CardSubject, port: int, model: str) -> str:
    reading = subject.config.reading.settled({})
    asked: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": ASKED}],
        "temperature": reading.temperature,
        "top_p": reading.top_p,
        "max_tokens": subject.config.sampling.max_new_tokens,
    }
    if subject.thinking:
        asked["chat_template_kwargs"] = {"enable_thinking": False}
    return (
        f"curl http://localhost:{port}/v1/chat/completions"
        f" -H 'Content-Type: application/json' -d '{json.dumps(asked, indent=2)}'"
    )


def prompted(subject: CardSubject, demos: Sequence[Demonstration]) -> Use:
    """Return lines that show the demonstrations to the base model, without the adapter.

    They hold every word of the demonstrations: they are for whoever may read these.
    """
    from ditto_hub.demos.prompting import with_demonstrations

    turns = with_demonstrations([{"role": "user", "content": ASKED}], demos, lambda _: True)
    rows = "".join(f"    {json.dumps(turn, ensure_ascii=False)},\n" for turn in turns)
    at = f", revision={json.dumps(subject.base_revision)}" if subject.base_revision else ""
    reading = subject.config.reading.settled({})
    return Use(
        "prompt",
        "python",
        f"""from transformers import pipeline

messages = [
{rows}]
write = pipeline("text-generation", {json.dumps(subject.base_path, ensure_ascii=False)}{at})
answer = write(
    messages,
    do_sample=True,
    temperature={reading.temperature:g},
    top_p={reading.top_p:g},
    max_new_tokens={subject.config.sampling.max_new_tokens},
)
print(answer[0]["generated_text"][-1]["content"])""",
    )
