"""A prompt for a text that has none, written by the base model: instruction backtranslation.

Source: Li et al., Self-Alignment with Instruction Backtranslation, arXiv 2308.06259. Deviations:
1. No model is trained to write prompts: the base model is shown three texts with theirs, and its
   answer is begun for it ("Write"), so that small models answer with a request too.
2. Of several drawn, that one is kept under which the base model finds the text likeliest, among
   those that are sound; the paper lets a model rate them.
3. Where none is sound a plain prompt is made of the text's first words, and that is said.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ditto_hub.config import Sampling
from ditto_hub.cost.estimates import PROMPT_CAP as CAP
from ditto_hub.cost.estimates import PROMPTS_DRAWN as DRAWN
from ditto_hub.demos.demonstrations import Message
from ditto_hub.demos.languages import language_of, script_of
from ditto_hub.pocket.asking import requests_of, wordings
from ditto_hub.pocket.grammar import Request

if TYPE_CHECKING:
    from ditto_hub.engine.choice import AnyEngine

SAMPLING = Sampling(temperature=0.7, top_p=0.95)
CONTEXT = 4096  # tokens, where a base model's config does not say
READ_CHARS = 2000  # of a text: its beginning is what prompts are written and rated by
LEAST_CHARS = 100  # of it, however little a base model reads
SHORTEST, LONGEST = 10, 200  # characters of a sound prompt
COPIED = 6  # words in a row that a prompt may not have from its text
FIRST_WORDS, FIRST_CHARS = 8, 60  # of a text, in a plain prompt

ASK = "What request was this text written for? Answer with the request alone, in one line."
SHOWN = (
    (
        "Tom, good news. Your bike is done. New chain, new pads. Come by before six, pay me after.",
        "Write a message to Tom telling him that his bike is ready to be picked up.",
    ),
    (
        "I never liked the sea. It is loud, and it always wants something back. My brother would"
        " live on a boat if they let him.",
        "Write a short piece about why you do not like the sea.",
    ),
    (
        "Dear all, the meeting is off. The room is flooded and so is my patience. More when I know"
        " more.",
        "Write an email to the team to cancel the meeting because the room is flooded.",
    ),
)
# language of a text -> how its prompt begins, and a plain prompt
WORDED = {
    "English": ("Write", "Write a text that begins: {first}"),
    "German": ("Schreibe", "Schreibe einen Text, der so beginnt: {first}"),
    "French": ("Écris", "Écris un texte qui commence par : {first}"),
    "Spanish": ("Escribe", "Escribe un texto que empiece así: {first}"),
    "Italian": ("Scrivi", "Scrivi un testo che inizi così: {first}"),
    "Portuguese": ("Escreva", "Escreva um texto que comece assim: {first}"),
    "Dutch": ("Schrijf", "Schrijf een tekst die zo begint: {first}"),
    "Cjk": ("写", "写一段文字，开头是：{first}"),
    "Japanese": ("", "次の書き出しで文章を書いてください：{first}"),
}
REFUSAL = re.compile(
    r"\b(?:i(?:['’]m| am) (?:sorry|unable|not able)|(?:sorry|apologi[sz]e),? (?:but )?i\b"
    r"|i (?:can(?:no|['’])t|won['’]t)|as an? (?:ai|language model)|language model)",
    re.IGNORECASE,
)
WORD = re.compile(r"[^\W_]+")
OUTSIDE_POCKET = "grammar"


@dataclass(frozen=True)
class PromptRequest:
    """Ask for the prompt of a text.

    Args:
        text: as somebody wrote it.
        seed: of the drawing.
    """

    text: str
    seed: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)


def write_prompts(
    policy: AnyEngine, base_model: Mapping[str, Any], requests: Sequence[PromptRequest]
) -> Iterator[list[tuple[int, list[str]]]]:
    """Write a prompt for each text, and yield after each.

    Args:
        policy: the base model; an adapter on it is off meanwhile.
        base_model: {id, revision}; pocket's prompts are those of its grammar.

    Yields:
        (number of the request, [prompt, fault]): the fault is "" where the model wrote the prompt;
        else the prompt is a plain one, and the fault, as `fault_of` says it, the commonest of those
        that were drawn; "cut" is one without an end, "grammar" a text that pocket does not know.

    Raises:
        ChatTemplateError: the base model's template refuses a prompt.
    """
    for number, request in enumerate(requests):
        with policy.adapter_off():
            if str(base_model["id"]) == "pocket":
                written = _worded(policy, request.text)
            else:
                written = _drawn(policy, request)
        yield [(number, list(written))]


def _drawn(policy: AnyEngine, request: PromptRequest) -> tuple[str, str]:
    """Return the best of the prompts that a model draws for a text, or a plain one and why."""
    from ditto_hub.ditto.rollout import row_seed

    opening, _ = _wording(request.text)
    text, ids = _asked(policy, request.text[:READ_CHARS], opening)
    seeds = [row_seed(request.seed, "prompt", text, k) for k in range(DRAWN)]
    drawn = policy.sample([ids], [seeds], SAMPLING, CAP)[0]
    texts = [tidy(opening + policy.format.decode(row.token_ids)) for row in drawn]
    faults = [
        fault_of(prompt, text) or ("" if row.ended else "cut")
        for prompt, row in zip(texts, drawn, strict=True)
    ]
    sound = [prompt for prompt, fault in zip(texts, faults, strict=True) if not fault]
    if sound:
        return likeliest(policy, sound, text), ""
    return plain_prompt(text), max(sorted(set(faults)), key=faults.count)


def _asked(policy: AnyEngine, text: str, opening: str) -> tuple[str, list[int]]:
    """Return what is read of a text, and the token ids that ask for its prompt and begin it."""
    turns: list[Message] = []
    for shown, prompt in SHOWN:
        turns += [_turn("user", f"{shown}\n\n{ASK}"), _turn("assistant", prompt)]
    room = int(getattr(policy.model.config, "max_position_embeddings", None) or CONTEXT) - CAP
    while True:
        encoded = policy.format.encode([*turns, _turn("user", f"{text}\n\n{ASK}")], opening)
        ids = [*encoded.prompt_ids, *(encoded.completion_ids[:-1] if opening else ())]
        if len(ids) <= room or len(text) <= LEAST_CHARS:
            return text, ids
        text = text[: len(text) // 2]


def _turn(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def likeliest(policy: AnyEngine, prompts: Iterable[str], text: str) -> str:
    """Return the prompt under which a model finds a text likeliest."""
    from ditto_hub.engine.protocol import Row

    unique = list(dict.fromkeys(prompts))
    encoded = [policy.format.encode([_turn("user", prompt)], text) for prompt in unique]
    rows = [Row(tuple(row.prompt_ids), tuple(row.completion_ids)) for row in encoded]
    scores = policy.log_probs(rows)
    return max(zip(scores, unique, strict=True))[1]


def tidy(prompt: str) -> str:
    """Return a prompt without the marks and quotes that models put around one."""
    return prompt.strip().strip("\"“”'*` ").strip()


def fault_of(prompt: str, text: str) -> str:
    """Return what is wrong with a prompt for a text: a code, or "" for nothing.

    One line, neither empty nor long; no refusal; in the text's script and language; no long run of
    its words, and no name or number that it does not have.
    """
    if "\n" in prompt:
        return "lines"
    if not SHORTEST <= len(prompt) * (2 if script_of(prompt) == "CJK" else 1) <= LONGEST:
        return "short" if len(prompt) < SHORTEST else "long"
    if REFUSAL.search(prompt):
        return "refusal"
    if script_of(prompt) != script_of(text):
        return "script"
    spoken, own = language_of(prompt), language_of(text)
    if spoken and own and spoken != own:
        return "language"
    if _copies(prompt, text):
        return "copy"
    return "invented" if _invents(prompt, text) else ""


def _words(text: str) -> list[str]:
    """Return a text's words in small letters; of scripts without spaces, its letters."""
    found = WORD.findall(text.casefold())
    if script_of(text) in ("CJK", "JAPANESE"):
        return [letter for word in found for letter in word]
    return found


def _copies(prompt: str, text: str) -> bool:
    words, own = _words(prompt), _words(text)
    runs = {tuple(own[at : at + COPIED]) for at in range(len(own) - COPIED + 1)}
    return any(tuple(words[at : at + COPIED]) in runs for at in range(len(words) - COPIED + 1))


def _invents(prompt: str, text: str) -> bool:
    """Tell whether a prompt has a number, or a name inside a sentence, that its text has not.

    In German every noun has a capital, so there numbers alone are looked at.
    """
    own = set(_words(text))
    found = WORD.findall(prompt)[1:]
    names = () if language_of(text) == "German" else tuple(w for w in found if _is_name(w))
    numbers = tuple(w for w in found if w.isdigit())
    return not own.issuperset(word.casefold() for word in (*names, *numbers))


def _is_name(word: str) -> bool:
    return len(word) > 1 and word[0].isupper()


def _wording(text: str) -> tuple[str, str]:
    """Return how a text's prompt begins, and a plain one; nothing begun in a script unknown."""
    worded = WORDED.get(language_of(text) or "")
    begun = script_of(text) in ("LATIN", "")
    return worded or (WORDED["English"][0] if begun else "", WORDED["English"][1])


def plain_prompt(text: str) -> str:
    """Return a prompt made of a text's first words, in its language where that is known."""
    words = text[:READ_CHARS].split()[:FIRST_WORDS]
    first = " ".join(words)[:FIRST_CHARS].strip()
    return _wording(text)[1].format(first=first)


# ---- the embedded model --------------------------------------------------------------------------


def _worded(policy: AnyEngine, text: str) -> tuple[str, str]:
    """Return the grammar's prompt under which the embedded model finds a text likeliest."""
    found = requests_of(text)
    if not found:
        return plain_prompt(text), OUTSIDE_POCKET
    by_prompt: dict[str, Request] = {request.prompt: request for request in found}
    act = by_prompt[likeliest(policy, by_prompt, text)]
    return likeliest(policy, (request.prompt for request in wordings(act)), text), ""
