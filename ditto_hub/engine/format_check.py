"""A chat format tried on the base model's own tokenizer, before anything is trained with it.

Each probe asks for one property that training and sampling rely on. What cannot be had is refused,
with the probe's name, so that nobody trains on texts that are not theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ditto_hub.engine.chat import ChatFormat, Turn
from ditto_hub.errors import ChatTemplateError

ASK: list[Turn] = [{"role": "user", "content": "Write to the lab, please."}]
TALK: list[Turn] = [
    {"role": "user", "content": "Which day is it?"},
    {"role": "assistant", "content": "A Tuesday."},
    {"role": "user", "content": "And tomorrow?"},
]
TEXTS = (
    "Hello there.",
    'Dear all,\n\nthe potluck (3 pm) isn\'t cancelled; bring 2 plates, a fork & "notes".\n\nAnn',
    "def f(x):\n    return x + 1",
)


def check_format(form: ChatFormat) -> None:
    """Try a chat format.

    Raises:
        ChatTemplateError: a probe failed; which one, and what was found.
    """
    for probe in PROBES:
        for error in probe(form):
            raise error


def _words_in_prompt(form: ChatFormat) -> Iterator[ChatTemplateError]:
    """Yield which turn's words the prompt lacks."""
    for messages in (ASK, TALK):
        for turn in messages:
            if turn["content"] not in form.text(messages):
                yield ChatTemplateError("engine.probe_words", role=turn["role"])


def _opens_answer(form: ChatFormat) -> Iterator[ChatTemplateError]:
    """Yield where the prompt ends with the question, and an answer does not follow that either."""
    answer: Turn = {"role": "assistant", "content": "Fine."}
    prompt, whole = form.text(ASK), form.whole_text([*ASK, answer])
    if prompt == form.whole_text(ASK) and not whole.startswith(prompt):
        yield ChatTemplateError("engine.probe_opening")


def _one_end(form: ChatFormat) -> Iterator[ChatTemplateError]:
    """Yield where an answer has no end of its own, or two."""
    ids = form.encode(ASK, TEXTS[0]).completion_ids
    if ids[-1] != form.end_of_turn_id or len(set(ids[:-1]) & set(form.stop_ids)):
        yield ChatTemplateError("engine.probe_end")


def _same_prompt(form: ChatFormat) -> Iterator[ChatTemplateError]:
    """Yield where training and sampling would see different prompts."""
    if form.encode(ASK, TEXTS[0]).prompt_ids != form.prompt_ids(ASK):
        yield ChatTemplateError("engine.probe_prompt")


def _round_trip(form: ChatFormat) -> Iterator[ChatTemplateError]:
    """Yield what encoding and decoding change in a plain text."""
    for text in TEXTS:
        for messages in (ASK, TALK):
            back = form.decode(form.encode(messages, text).completion_ids)
            if back != text:
                yield ChatTemplateError("engine.probe_round_trip", text=text, back=back)


PROBES: tuple[Callable[[ChatFormat], Iterator[ChatTemplateError]], ...] = (
    _words_in_prompt,
    _opens_answer,
    _one_end,
    _same_prompt,
    _round_trip,
)
