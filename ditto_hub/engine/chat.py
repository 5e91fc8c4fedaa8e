"""Chat template -> token ids: one prefix for training and for sampling, one end of turn.

What holds for every family of templates:
    - the prompt's ids are those that generation starts from, and training uses the very same;
    - the only BOS is the template's own: the tokenizer adds nothing;
    - a completion ends with exactly one end-of-turn id, the one the template writes; what the
      template writes after it (a line break, an end of sequence) is dropped;
    - a control token's text inside a prompt or completion ("</s>") is ordinary text;
    - a date that a template asks for is a fixed one, so that ids do not depend on the day.
A system turn that the template refuses or drops is put before the next user turn; neighbouring
turns of one role are merged where the template wants strict alternation. What a template writes
before every answer belongs to the prompt, whether or not it knows add_generation_prompt. Where that
closes an empty thought, an answer's own thought is taken out; where it opens one that cannot be
switched off, the answer closes it first.
`format_check.py` tries all this on a base model's own tokenizer before a run.
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
THOUGHT = ("<think>", "</think>")
OPENED, CLOSED = re.compile(r"<think>\s*\Z"), re.compile(r"</think>\s*\Z")
LEADING_THOUGHT = re.compile(r"\A\s*<think>.*?</think>\s*", re.DOTALL)
NO_THOUGHT = "\n</think>\n\n"  # how an answer closes the thought that a prompt has opened
HOW = {"enable_thinking": False, "thinking": False}  # names that templates have for it


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
        rows: of the model's embedding, which every id needs but padding; None for no bound.
        context: tokens that the model reads at most, answer included; None for no bound.

    Attributes:
        end_of_turn_id: what the template writes after an assistant turn.
        stop_ids: ids that end a completion: end of turn, end of sequence, and where the template
            writes no end of turn, what opens the next one.
        pad_id: the tokenizer's pad, else its eos.
        pad_is_stop: whether padding and ending look alike, so that only positions tell them apart.
        folds_system: whether system turns are put into user turns.
        takes_parts: whether the template wants a turn's content as a list of parts.
        drops_thought: whether the prompt has a thought already, so that an answer has none.

    Raises:
        ChatTemplateError: no chat template, or one that refuses a question with an answer.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        rows: int | None = None,
        context: int | None = None,
    ) -> None:
        if not getattr(tokenizer, "chat_template", None):
            raise ChatTemplateError("engine.no_template")
        self.tokenizer = tokenizer
        try:
            self._template = stop_clock(tokenizer.get_chat_template())
        except ValueError as error:  # several named templates, and none for plain chat
            raise ChatTemplateError("engine.no_default_template", error=error) from error
        self.rows, self.context = rows, context
        self.takes_parts = self._wants_parts()
        self._control = control_tokens(tokenizer)
        self._control |= self._written_by_template()
        # a control token of one character cannot be cut, so it is what that character is
        texts = sorted((text for text in self._control if len(text) > 1), key=len, reverse=True)
        self._cut = {self._control[text] for text in texts}
        self._control_text = re.compile("|".join(map(re.escape, texts)) or "(?!)")
        self._header, self._lead, after = self._probe()
        self.end_of_turn_id = self._end_of_turn(after)
        written = self.end_of_turn_id in self._plain_ids(after)
        self._end_text = "" if written else after  # an end of turn that is ordinary text
        opener = None if after.strip() else self._next_opener()
        ends = (self.end_of_turn_id, tokenizer.eos_token_id, opener)
        self.stop_ids: tuple[int, ...] = tuple(dict.fromkeys(i for i in ends if i is not None))
        pad = tokenizer.pad_token_id
        usable = pad is not None and (rows is None or pad < rows)
        self.pad_id: int = pad if usable else self.stop_ids[-1]
        self.pad_is_stop = self.pad_id in self.stop_ids
        self.folds_system = self._refuses_system()

    @property
    def stop_texts(self) -> tuple[str, ...]:
        """What `stop_ids` are in text, for a program that stops at texts."""
        texts = (self.tokenizer.decode([token]) for token in self.stop_ids)
        return tuple(dict.fromkeys(text for text in texts if text.strip()))

    def prompt_ids(self, messages: Sequence[Turn]) -> list[int]:
        """Return the ids that a completion follows.

        Args:
            messages: turns of {role, content}, the last one the user's.

        Raises:
            ChatTemplateError: the template refuses these turns, in its words.
        """
        return self._within(self._ids(self._prompt(messages)[1]))

    def encode(self, messages: Sequence[Turn], completion: str) -> Encoded:
        """Return a prompt's ids, as `prompt_ids` does, and a completion's.

        Args:
            messages: turns of {role, content}, the last one the user's.
            completion: the assistant's answer.

        Raises:
            ChatTemplateError: the template refuses these turns, in its words.
        """
        turns, prompt = self._prompt(messages)
        tail = self._tail(turns, prompt, self._mark(self.answer(completion)))
        prompt_ids, whole = self._ids(prompt), self._ids(prompt + tail)
        size = len(prompt_ids)
        ids = whole[size:] if whole[:size] == prompt_ids else self._continuation(tail)
        end = next((place for place, token in enumerate(ids) if token in self.stop_ids), len(ids))
        return Encoded(self._within(prompt_ids), self._within([*ids[:end], self.end_of_turn_id]))

    def answer(self, completion: str) -> str:
        """Return a completion without its thought, where the prompt has one already."""
        return LEADING_THOUGHT.sub("", completion) if self.drops_thought else completion

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of a completion's ids, without control tokens or the template's space."""
        control = {*self._control.values(), *self.stop_ids, self.pad_id}
        kept = [token for token in ids if token not in control]
        text: str = self.tokenizer.decode(kept, clean_up_tokenization_spaces=False)
        if self._end_text.strip():
            text = text.partition(self._end_text.strip())[0]
        if self._lead == NO_THOUGHT and THOUGHT[1] in text:  # a sampled thought is no answer
            return text.partition(THOUGHT[1])[2].lstrip("\n")
        return text.removeprefix(self._lead)

    def text(self, messages: Sequence[Turn]) -> str:
        """Return a prompt as the template renders it, up to the answer's first word."""
        return _unmarked(self._prompt(messages)[1])

    def whole_text(self, messages: Sequence[Turn]) -> str:
        """Return turns that end with an answer as the template renders them."""
        turns = fold_system(messages) if self.folds_system else list(messages)
        return self._render(turns, False)

    def count(self, text: str) -> int:
        """Return how many tokens a text has on its own."""
        return len(self._ids(self._mark(text)))

    def _prompt(self, messages: Sequence[Turn]) -> tuple[list[Turn], str]:
        """Return the turns as this template takes them, and their text up to the answer."""
        last = messages[-1]["role"] if messages else "nobody"
        if last != "user":
            raise ChatTemplateError("engine.last_turn", role=last)
        turns: list[Turn] = [{**t, "content": self._mark(t["content"])} for t in messages]
        taken = fold_system(turns) if self.folds_system else turns
        try:
            return taken, self._asked(taken)
        except ChatTemplateError:
            merged = merge_neighbours(taken)
            if merged == taken:
                raise
            return merged, self._asked(merged)

    def _asked(self, turns: Sequence[Turn]) -> str:
        """Return the turns' text up to the answer's first word."""
        return self._render(turns, True) + self._header

    def _tail(self, turns: list[Turn], prompt: str, completion: str) -> str:
        """Return what the template writes after the prompt for this answer."""
        whole = self._render([*turns, {"role": "assistant", "content": completion}], False)
        tail = whole.removeprefix(prompt)
        if not whole.startswith(prompt) or completion.strip() not in tail:
            return self._lead + completion
        return tail.removesuffix(self._end_text) if self._end_text else tail

    def _render(self, turns: Sequence[Turn], ask: bool) -> str:
        try:
            text: str = self.tokenizer.apply_chat_template(
                [self._given(turn) for turn in turns],
                tokenize=False,
                add_generation_prompt=ask,
                chat_template=self._template,
                **HOW,
            )
        except (jinja2.TemplateError, TypeError, ValueError, LookupError, AttributeError) as error:
            roles = ", ".join(turn["role"] for turn in turns)
            raise ChatTemplateError("engine.turns_refused", roles=roles, error=error) from error
        return text

    def _given(self, turn: Turn) -> dict[str, Any]:
        if not self.takes_parts:
            return dict(turn)
        return {**turn, "content": [{"type": "text", "text": turn["content"]}]}

    def _wants_parts(self) -> bool:
        """Tell whether the template finds a turn's words in parts only."""
        turns = [{"role": "user", "content": PROBE}]
        for self.takes_parts in (False, True):
            try:
                if PROBE in self._render(turns, True):
                    return self.takes_parts
            except ChatTemplateError:
                continue
        return False

    def _within(self, ids: list[int]) -> list[int]:
        """Return ids that all have a row in the model's embedding.

        Raises:
            ChatTemplateError: one has none.
        """
        strange = max(ids, default=0)
        if self.rows is not None and strange >= self.rows:
            token = self.tokenizer.convert_ids_to_tokens(strange)
            told = {"token": str(token), "id": strange, "rows": self.rows}
            raise ChatTemplateError("engine.unknown_id", **told)
        return ids

    def _written_by_template(self) -> dict[str, int]:
        """Return text -> id of added tokens that the template itself puts around turns.

        They are not marked as special, and yet no text of a person may turn into them.
        """
        turns = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hi."}]
        try:
            frame = self._render([*turns, turns[0]], True)
        except ChatTemplateError:
            return {}
        return {
            token.content: place
            for place, token in self.tokenizer.added_tokens_decoder.items()
            if token.content in frame and token.content not in THOUGHT
        }

    def _probe(self) -> tuple[str, str, str]:
        """Return what the template writes before and after an answer, past the prompt.

        Returns:
            What belongs to the prompt, such as the name of the role; white space that the answer
            begins with; and what follows it.
        """
        turns = [{"role": "user", "content": "Hello."}]
        prompt = self._render(turns, True)
        whole = self._render([*turns, {"role": "assistant", "content": PROBE}], False)
        before, found, after = whole.rpartition(PROBE)
        lead = before.removeprefix(prompt) if found and before.startswith(prompt) else ""
        header, lead = (lead, "") if lead.strip() else ("", lead)
        opened, closed = OPENED.search(prompt + header), CLOSED.search(prompt + header)
        self.drops_thought = bool(opened or closed)
        return header, NO_THOUGHT if opened else lead, after if found else ""

    def _next_opener(self) -> int | None:
        """Return the control token that opens a turn after an answer, if it is the first thing."""
        turns = [{"role": "user", "content": "Hello."}]
        try:
            whole = self._render([*turns, {"role": "assistant", "content": PROBE}, *turns], False)
        except ChatTemplateError:
            return None
        first = self._plain_ids(whole.rpartition(PROBE)[2].lstrip())[:1]
        return first[0] if first and first[0] in self._control.values() else None

    def _end_of_turn(self, after: str) -> int:
        known = {*self._control.values(), self.tokenizer.eos_token_id} - {None}
        written = self._plain_ids(after)
        found = next((token for token in written if token in known), self.tokenizer.eos_token_id)
        if found is None:
            raise ChatTemplateError("engine.no_end_of_turn")
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
        ids = list(self.tokenizer(text, add_special_tokens=False, **more)["input_ids"])
        if literal and len(text) > 1 and not set(ids).isdisjoint(self._cut):
            # an added token that is not special is found all the same, unless it is cut
            return self._plain_ids(text[:-1], True) + self._continuation(text[-1], True)
        return ids


def _unmarked(text: str) -> str:
    return text.replace(OPEN, "").replace(CLOSE, "")


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
