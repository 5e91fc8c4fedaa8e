"""Chat template -> token ids: one prefix for training and for sampling, one end of turn.

What holds for every family of templates:
    - the prompt's ids are those that generation starts from, and training uses the very same;
    - the only BOS is the template's own: the tokenizer adds nothing;
    - a completion ends with exactly one end-of-turn id, the one the template writes; what the
      template writes after it (a line break, an end of sequence) is dropped;
    - a control token's text inside a prompt or completion ("</s>") is ordinary text;
    - a date that a template asks for is a fixed one, so that ids do not depend on the day.
A system turn that the template refuses or drops is put before the next user turn; neighbouring
turns of one role are merged where the template wants strict alternation.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jinja2

from ditto_hub.errors import ChatTemplateError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Turn = Mapping[str, str]

PROBE = "ditto probe"
# The day that Llama 3's templates write when there is no clock: 26 July 2024, a Friday.
TODAY = {"%d": "26", "%e": "26", "%b": "Jul", "%B": "July", "%m": "07", "%Y": "2024", "%y": "24"}
TODAY |= {"%a": "Fri", "%A": "Friday", "%H": "00", "%I": "12", "%M": "00", "%S": "00", "%p": "AM"}
OPEN, CLOSE = "\ufdd0", "\ufdd1"  # noncharacters around control text, never in real text
ANCHORS = ("\n", ".", "a")


@dataclass(frozen=True)
class Encoded:
    """Hold a demonstration as token ids.

    Args:
        prompt_ids: what generation would start from.
        completion_ids: ends with the one end-of-turn id.
    """

    prompt_ids: list[int]
    completion_ids: list[int]

    @property
    def ids(self) -> list[int]:
        """The whole sequence."""
        return self.prompt_ids + self.completion_ids


class ChatFormat:
    """Turn conversations into token ids the way one base model's chat template does.

    Args:
        tokenizer: of the base model; it is not changed.

    Attributes:
        end_of_turn_id: what the template writes after an assistant turn.
        stop_ids: ids that end a completion: end of turn, end of sequence.
        pad_id: the tokenizer's pad, else its eos.
        pad_is_stop: whether padding and ending look alike, so that only positions tell them apart.
        folds_system: whether system turns are put into user turns.

    Raises:
        ChatTemplateError: no chat template, or one that refuses a question with an answer.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        if not getattr(tokenizer, "chat_template", None):
            raise ChatTemplateError(
                "The base model's tokenizer has no chat template.",
                "Choose an instruction-tuned model; their names often end in -Instruct or -it.",
            )
        self.tokenizer = tokenizer
        try:
            self._template = stop_clock(tokenizer.get_chat_template())
        except ValueError as error:  # several named templates, and none for plain chat
            raise ChatTemplateError(str(error), "Choose another base model.") from error
        self._control = control_tokens(tokenizer)
        texts = sorted(self._control, key=len, reverse=True)
        self._control_text = re.compile("|".join(map(re.escape, texts)) or "(?!)")
        self._lead, after = self._probe()
        self.end_of_turn_id = self._end_of_turn(after)
        eos = tokenizer.eos_token_id
        self.stop_ids: tuple[int, ...] = tuple(
            dict.fromkeys([self.end_of_turn_id] if eos is None else [self.end_of_turn_id, eos])
        )
        pad = tokenizer.pad_token_id
        self.pad_id: int = self.stop_ids[-1] if pad is None else pad
        self.pad_is_stop = self.pad_id in self.stop_ids
        self.folds_system = self._refuses_system()

    def prompt_ids(self, messages: Sequence[Turn]) -> list[int]:
        """Return the ids that a completion follows.

        Args:
            messages: turns of {role, content}, the last one the user's.

        Raises:
            ChatTemplateError: the template refuses these turns, in its words.
        """
        return self._ids(self._prompt(messages)[1])

    def encode(self, messages: Sequence[Turn], completion: str) -> Encoded:
        """Return a prompt's ids, as `prompt_ids` does, and a completion's.

        Args:
            messages: turns of {role, content}, the last one the user's.
            completion: the assistant's answer.

        Raises:
            ChatTemplateError: the template refuses these turns, in its words.
        """
        turns, prompt = self._prompt(messages)
        tail = self._tail(turns, prompt, self._mark(completion))
        prompt_ids, whole = self._ids(prompt), self._ids(prompt + tail)
        size = len(prompt_ids)
        ids = whole[size:] if whole[:size] == prompt_ids else self._continuation(tail)
        end = next((place for place, token in enumerate(ids) if token in self.stop_ids), len(ids))
        return Encoded(prompt_ids, [*ids[:end], self.end_of_turn_id])

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of a completion's ids, without control tokens or the template's space."""
        control = {*self._control.values(), *self.stop_ids, self.pad_id}
        kept = [token for token in ids if token not in control]
        text: str = self.tokenizer.decode(kept, clean_up_tokenization_spaces=False)
        return text.removeprefix(self._lead)

    def count(self, text: str) -> int:
        """Return how many tokens a text has on its own."""
        return len(self._ids(self._mark(text)))

    def _prompt(self, messages: Sequence[Turn]) -> tuple[list[Turn], str]:
        """Return the turns as this template takes them, and their text up to the answer."""
        last = messages[-1]["role"] if messages else "nobody"
        if last != "user":
            raise ChatTemplateError(
                f"The prompt's last turn is {last}'s.", "It has to be the user's question."
            )
        turns: list[Turn] = [{**t, "content": self._mark(t["content"])} for t in messages]
        taken = fold_system(turns) if self.folds_system else turns
        try:
            return taken, self._render(taken, True)
        except ChatTemplateError:
            merged = merge_neighbours(taken)
            if merged == taken:
                raise
            return merged, self._render(merged, True)

    def _tail(self, turns: list[Turn], prompt: str, completion: str) -> str:
        """Return what the template writes after the prompt for this answer."""
        whole = self._render([*turns, {"role": "assistant", "content": completion}], False)
        tail = whole.removeprefix(prompt)
        if whole.startswith(prompt) and completion.strip() in tail:
            return tail
        return self._lead + completion

    def _render(self, turns: Sequence[Turn], ask: bool) -> str:
        try:
            text: str = self.tokenizer.apply_chat_template(
                [dict(turn) for turn in turns],
                tokenize=False,
                add_generation_prompt=ask,
                enable_thinking=False,
                chat_template=self._template,
            )
        except (jinja2.TemplateError, TypeError, ValueError) as error:
            told = " and ".join(turn["role"] for turn in turns)
            raise ChatTemplateError(
                f"The base model's chat template refuses turns of {told}: {error}.",
                "Write the prompt as one user turn, or choose another base model.",
            ) from error
        return text

    def _probe(self) -> tuple[str, str]:
        """Return what the template writes before and after an answer, past the prompt."""
        turns = [{"role": "user", "content": "Hello."}]
        prompt = self._render(turns, True)
        whole = self._render([*turns, {"role": "assistant", "content": PROBE}], False)
        before, found, after = whole.rpartition(PROBE)
        lead = before.removeprefix(prompt) if found and before.startswith(prompt) else ""
        return lead, after if found else ""

    def _end_of_turn(self, after: str) -> int:
        known = {*self._control.values(), self.tokenizer.eos_token_id} - {None}
        written = self._plain_ids(after)
        found = next((token for token in written if token in known), self.tokenizer.eos_token_id)
        if found is None:
            raise ChatTemplateError(
                "The chat template writes no end of turn, and the tokenizer has no eos token.",
                "Choose another base model.",
            )
        return int(found)

    def _refuses_system(self) -> bool:
        turns = [{"role": "system", "content": PROBE}, {"role": "user", "content": "Hello."}]
        try:
            return PROBE not in self._render(turns, True)
        except ChatTemplateError:
            return True

    def _mark(self, text: str) -> str:
        return self._control_text.sub(lambda found: f"{OPEN}{found[0]}{CLOSE}", text)

    def _ids(self, text: str) -> list[int]:
        """Tokenise rendered text; what `_mark` marked becomes ordinary text."""
        ids: list[int] = []
        pieces = re.split(f"{OPEN}({self._control_text.pattern}){CLOSE}", text)
        for place, piece in enumerate(pieces):
            if piece and place == 0:
                ids = self._plain_ids(piece)
            elif piece:
                ids = ids + self._continuation(piece, literal=place % 2 == 1)
        return ids

    def _continuation(self, text: str, literal: bool = False) -> list[int]:
        """Tokenise text that follows other text.

        Sentencepiece puts a space before a text's first word, so the text is tokenised behind an
        anchor, and the anchor's ids taken away again.
        """
        for anchor in ANCHORS:
            first, both = (self._plain_ids(t, literal) for t in (anchor, anchor + text))
            if both[: len(first)] == first:
                return both[len(first) :]
        return self._plain_ids(text, literal)

    def _plain_ids(self, text: str, literal: bool = False) -> list[int]:
        more: dict[str, Any] = {"split_special_tokens": True} if literal else {}
        return list(self.tokenizer(text, add_special_tokens=False, **more)["input_ids"])


def control_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """Return text -> id of the tokens that are no text: the special ones."""
    named = dict(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True))
    added = tokenizer.added_tokens_decoder.items()
    return named | {token.content: place for place, token in added if token.special}


def stop_clock(template: str) -> str:
    """Make a template's `strftime_now` tell the same day always; others stay as they are."""
    if "strftime_now" not in template:
        return template
    steps = "".join(f" | replace('{code}', '{text}')" for code, text in TODAY.items())
    return f"{{% macro strftime_now(format) %}}{{{{ format{steps} }}}}{{% endmacro +%}}{template}"


def fold_system(turns: Iterable[Turn]) -> list[Turn]:
    """Put each system turn's text, and a blank line, before the next user turn's."""
    folded: list[Turn] = []
    waiting: list[str] = []
    for turn in turns:
        if turn["role"] == "system":
            waiting.append(turn["content"])
        elif turn["role"] == "user":
            folded.append({**turn, "content": "\n\n".join([*waiting, turn["content"]])})
            waiting = []
        else:
            folded.append(turn)
    return folded


def merge_neighbours(turns: Iterable[Turn]) -> list[Turn]:
    """Join neighbouring turns of one role with a blank line."""
    merged: list[Turn] = []
    for turn in turns:
        if merged and merged[-1]["role"] == turn["role"]:
            text = f"{merged[-1]['content']}\n\n{turn['content']}"
            merged[-1] = {**turn, "content": text}
        else:
            merged.append(turn)
    return merged
