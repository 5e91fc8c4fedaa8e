"""Demonstrations put before a prompt, and new prompts asked for in the manner of theirs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from ditto_hub.demos.demonstrations import Demonstration, Message
from ditto_hub.errors import DemoError

Messages = Sequence[Mapping[str, str]]
NEW_PROMPT_REQUEST = (
    "Below are requests that somebody made to a writing assistant. Write one more request of the"
    " same kind, in the same manner, about something else. Answer with the request alone, on one"
    " line."
)
TRIES_A_PROMPT = 4


def with_demonstrations(
    prompt: Messages,
    demonstrations: Sequence[Demonstration],
    fits: Callable[[Messages], bool],
) -> list[Message]:
    """Put demonstrations before a prompt as turns of user and assistant.

    They stand in their order; where not all fit, the last ones are left out, and always one of the
    same prompt, whose text would be the answer. System turns of the prompt come first, those of the
    demonstrations are left out.
    """
    system = [dict(turn) for turn in prompt if turn["role"] == "system"]
    asked = [dict(turn) for turn in prompt if turn["role"] != "system"]
    others = [d for d in demonstrations if d.prompt[-1]["content"] != asked[-1]["content"]]
    for count in range(len(others), 0, -1):
        shown = [turn for demo in others[:count] for turn in _turns(demo)]
        if fits([*system, *shown, *asked]):
            return [*system, *shown, *asked]
    return [*system, *asked]


def require_teachable(demonstrations: Sequence[Demonstration]) -> None:
    """Refuse demonstrations of which none is left to show before some prompt of theirs.

    Raises:
        DemoError: there are no two with different prompts.
    """
    if len({demo.prompt[-1]["content"] for demo in demonstrations}) < 2:
        raise DemoError("demos.too_few_to_teach", count=len(demonstrations))


def request_for_prompts(own: Sequence[str]) -> list[dict[str, str]]:
    """Return what asks a model for a prompt in the manner of somebody's own."""
    listed = "\n".join(f"- {' '.join(text.split())}" for text in dict.fromkeys(own))
    return [{"role": "user", "content": f"{NEW_PROMPT_REQUEST}\n\n{listed}"}]


def new_requests(drawn: Sequence[str], own: Sequence[str]) -> list[str]:
    """Take the one-line answers about as long as the demonstrations' prompts, none twice."""
    lengths = [len(text) for text in own]
    taken = {fold(text) for text in own}
    found = []
    for text in drawn:
        request = re.sub(r"^[-*\u2022\d.)\s]+", "", text.strip()).strip('" ')
        fits = min(lengths) / 3 <= len(request) <= max(lengths) * 3
        if fits and "\n" not in request and fold(request) not in taken:
            taken.add(fold(request))
            found.append(request)
    return found


def fold(text: str) -> str:
    """Return a text in one case and with single spaces, for comparing."""
    return " ".join(text.casefold().split())


def _turns(demo: Demonstration) -> list[Message]:
    asked = [dict(turn) for turn in demo.prompt if turn["role"] != "system"]
    return [*asked, {"role": "assistant", "content": demo.completion}]
