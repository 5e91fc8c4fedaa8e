"""Judge a text by the grammar: which of a persona's traits it shows, and whether it is right.

The judge reads the text alone, knows the persona's habits, and is the ground truth of the quality
benchmark. Nothing that trains or selects may import it. On texts of the grammar it is exact: it
reads off the very options the writer chose (a test holds that for thousands of texts).

A trait is shown when the option read is one of those the persona uses. So an optional habit, a
postscript now and then, is right either way in one text; `habits` gives the rates over many texts,
and `GrammarJudge.habit_distance` compares them with what the persona would do.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from ditto_hub.errors import JudgeError
from ditto_hub.pocket.grammar import AUDIENCES, DAYS, EVENTS, Request, parse_prompt
from ditto_hub.pocket.persona import Persona
from ditto_hub.pocket.traits import BLAND, LENGTHS, SIGNATURES, TRAITS
from ditto_hub.pocket.writing import CONTRACTIONS, NEWS

CONTENT = ("topic", "audience", "time", "act")
MIXED = "mixed"  # read where a text shows no option, or several at once


@dataclass(frozen=True)
class Verdict:
    """What the judge says of one text.

    Args:
        traits: trait -> whether the text shows it as the persona would.
        content: topic, audience, time and act -> whether the text has the prompt's, and no other.
    """

    traits: dict[str, bool]
    content: dict[str, bool]

    @property
    def persona_score(self) -> float:
        """Share of traits shown, from 0 to 1."""
        return sum(self.traits.values()) / len(self.traits)

    @property
    def content_score(self) -> float:
        """Share of the content that is right, from 0 to 1."""
        return sum(self.content.values()) / len(self.content)

    @property
    def whole(self) -> bool:
        """Tell whether all traits are shown and all content is right."""
        return all(self.traits.values()) and all(self.content.values())


class GrammarJudge:
    """Judge texts against one persona's traits.

    Raises:
        JudgeError: no persona was given; the judge does not guess at a voice it was not told.
    """

    def __init__(self, persona: Persona) -> None:
        if not isinstance(persona, Persona):
            raise JudgeError(
                "The grammar's judge was given no traits of the voice that it should judge.",
                "Give it a trait file (NAME.traits.json), or take another judge.",
            )
        self.persona = persona

    @classmethod
    def for_traits(cls, traits: Mapping[str, object] | None) -> GrammarJudge:
        """Make a judge from the content of a trait file.

        Raises:
            JudgeError: `traits` is None or empty.
            ConfigError: the traits are not of the grammar.
        """
        if not traits:
            raise JudgeError(
                "The grammar's judge was given no traits of the voice that it should judge.",
                "Give it a trait file (NAME.traits.json), or take another judge.",
            )
        return cls(Persona.from_json(traits))

    def score(self, prompt: str | Request, text: str) -> Verdict:
        """Judge one text.

        Args:
            prompt: of the grammar, or the request itself.
            text: a completion, as sampled.

        Raises:
            JudgeError: the prompt is not of the grammar.
        """
        request = parse_prompt(prompt) if isinstance(prompt, str) else prompt
        read = detect(text)
        shown = {trait: read[trait] in self.persona.habits[trait].options for trait in TRAITS}
        return Verdict(shown, content(request, text))

    def habit_distance(self, texts: Iterable[str]) -> float:
        """Compare the rates of all options over texts with the persona's.

        Returns:
            Total variation, the mean over traits: 0 where every option comes as often as the
            persona would use it, 1 where none of the persona's options is ever used.
        """
        rates = habits(texts)
        total = 0.0
        for trait, options in TRAITS.items():
            habit = self.persona.habits[trait]
            expected = {o: habit.rate(o, BLAND[trait]) for o in options} | {MIXED: 0.0}
            total += sum(abs(rates.get(f"{trait}={o}", 0.0) - p) for o, p in expected.items()) / 2
        return total / len(TRAITS)


def habits(texts: Iterable[str]) -> dict[str, float]:
    """Count how often each option of each trait is used.

    Returns:
        "trait=option" -> share of the texts, options never used left out.
    """
    read = [detect(text) for text in texts]
    counts = Counter(f"{trait}={option}" for row in read for trait, option in row.items())
    return {option: count / len(read) for option, count in counts.items()}


def detect(text: str) -> dict[str, str]:
    """Read the option of every trait off a text; `MIXED` where there is none or more than one."""
    parts = Parts(text)
    return {
        "greeting": parts.greeting[0],
        "greeting_mark": parts.greeting[1],
        "opener": _first_in(TRAITS["opener"], parts.sentences[:1]),
        "register": _only({register for _, register in _news_found(parts.sentences)}),
        "order": _order(parts.middle),
        "layout": _layout(parts),
        "spacing": "airy" if "\n\n" in parts.text else "tight",
        "filler": _filler(parts.sentences),
        "asking": _only({s for sentence in parts.middle for s in _asking(sentence)}),
        "contraction": _contraction(parts.middle),
        "clock": _only({style for style, _ in _clocks(parts.body)}),
        "day": _only({form for form, _ in _days(parts.body)}),
        "casing": _casing(parts),
        "ender": _ender(parts.body),
        "emphasis": _emphasis(parts.body),
        "length": next((k for k, v in LENGTHS.items() if v == len(parts.middle)), MIXED),
        "emoji": _only({e for e in TRAITS["emoji"] if e in parts.text}, "none"),
        "thanks": _first_in(TRAITS["thanks"], parts.sentences[-1:]),
        "signoff": parts.signature[0],
        "signature": parts.signature[1],
        "name": parts.signature[2],
        "postscript": parts.postscript,
    }


def content(request: Request, text: str) -> dict[str, bool]:
    """Tell whether topic, audience, time and act are the request's, with no other beside them."""
    parts = Parts(text)
    hours = {hour for _, hour in _clocks(parts.body)}
    # Twelve-hour numbers stand for one hour each, because the grammar's day ends at 8 pm.
    right_hour = len(hours) <= 1 if request.hour is None else hours == {request.hour % 12}
    return {
        "topic": _named(EVENTS, parts.body) == {request.event},
        "audience": _named(AUDIENCES, parts.above_signature) == {request.audience},
        "time": {day for _, day in _days(parts.body)} == {request.day} and right_hour,
        "act": {act for act, _ in _news_found(parts.sentences)} == {request.act},
    }


class Parts:
    """A text taken apart: greeting, body with its sentences, signature, postscript.

    Args:
        text: as written; what is not there reads as `MIXED` or "none".
    """

    def __init__(self, text: str) -> None:
        self.text = text.strip()
        self.postscript, rest = _take_postscript(self.text)
        self.signature, self.above_signature = _take_signature(rest)
        first, _, below = self.above_signature.partition("\n")
        found = _GREETING.fullmatch(first.strip())
        self.greeting = (_greeting_form(found["form"]), found["mark"]) if found else (MIXED, MIXED)
        self.body = (below if found else self.above_signature).strip()
        self.lines = [line for line in self.body.split("\n") if line.strip()]

    @cached_property
    def sentences(self) -> list[str]:
        """The body's sentences in plain words: no bullets, marks, emphasis, emoji or capitals."""
        pieces = (p for line in self.lines for p in _END.split(_BULLET.sub("", line)))
        plain = (_plain(piece) for piece in pieces)
        return [sentence for sentence in plain if sentence]

    @cached_property
    def middle(self) -> list[str]:
        """The sentences without opener and thanks, and without the filler that begins one."""
        start = _first_in(TRAITS["opener"], self.sentences[:1]) != "none"
        stop = len(self.sentences)
        stop -= _first_in(TRAITS["thanks"], self.sentences[-1:]) != "none"
        return [_FILLER.sub("", s) for s in self.sentences[int(start) : stop]]


def _any(words: Iterable[str]) -> str:
    return "|".join(re.escape(w) for w in sorted(words, key=len, reverse=True))


_MARKS = ("...", "!!", "!", ".", " ~", " //")
_END = re.compile(rf"(?:{_any(_MARKS)})(?=\s|$)")
_MARK = re.compile(rf"({_any(_MARKS)})(?=\s|$)")
_BULLET = re.compile(r"^\s*(?:- |\d+\) )")
_FILLER = re.compile(rf"^({_any(set(TRAITS['filler']) - {'none'})}), ")
_EMOJI = re.compile(_any(set(TRAITS["emoji"]) - {"none"}))
_GREETING_FORMS = {
    form: form.lower().replace("{a}", "<a>").replace("<a>", f"(?:{_any(AUDIENCES)})")
    for form in TRAITS["greeting"]
}
_GREETING = re.compile(
    rf"(?P<form>{'|'.join(_GREETING_FORMS.values())})(?P<mark>{_any(TRAITS['greeting_mark'])})",
    re.IGNORECASE,
)
_SIGNATURE = re.compile(
    rf"\n\s*(?P<signoff>{_any(TRAITS['signoff'])})(?P<mark>{_any(SIGNATURES.values())})"
    rf"(?P<name>{_any(TRAITS['name'])})\s*$",
    re.IGNORECASE,
)
_POSTSCRIPT = re.compile(
    rf"\n\s*(?P<mark>{_any(set(TRAITS['postscript']) - {'none'})}) [^\n]*$", re.IGNORECASE
)
_CAPITALS = re.compile(r"\b[A-Z]{2,}\b")
_DAY = re.compile(
    rf"(?P<this>this )?\b(?P<day>{_any(DAYS)}|{_any(d[:3] for d in DAYS)})\b", re.IGNORECASE
)
_CLOCK = re.compile(r"\b(\d{1,2})(:00| o'clock| (?:am|pm)\b|(?:am|pm)\b)", re.IGNORECASE)
_NEWS = {
    (act, register): re.compile(re.escape(re.sub(r"\{\w+\}", "_", frame)).replace("_", ".+"))
    for act, registers in NEWS.items()
    for register, frame in registers.items()
}


def _take_postscript(text: str) -> tuple[str, str]:
    found = _POSTSCRIPT.search(text)
    if found is None:
        return "none", text
    return _canonical(TRAITS["postscript"], found["mark"]), text[: found.start()].rstrip()


def _take_signature(text: str) -> tuple[tuple[str, str, str], str]:
    found = _SIGNATURE.search(text)
    if found is None:
        return (MIXED, MIXED, MIXED), text
    layout = next(k for k, mark in SIGNATURES.items() if mark == found["mark"])
    signoff = _canonical(TRAITS["signoff"], found["signoff"])
    name = _canonical(TRAITS["name"], found["name"])
    return (signoff, layout, name), text[: found.start()].rstrip()


def _canonical(options: Iterable[str], words: str) -> str:
    return next(o for o in options if o.lower() == words.lower())


def _greeting_form(words: str) -> str:
    return next(f for f, pattern in _GREETING_FORMS.items() if re.fullmatch(pattern, words.lower()))


def _plain(piece: str) -> str:
    """Strip a sentence to lower-case words, contractions written out."""
    words = _EMOJI.sub("", piece).replace("*", "").strip().lower()
    for full, short in CONTRACTIONS.items():
        if full != "it is":
            words = re.sub(rf"\b{short}\b", full, words)
    return words


def _only(found: set[str], otherwise: str = MIXED) -> str:
    """Give the one thing found, `otherwise` for none, `MIXED` for several."""
    if not found:
        return otherwise
    return next(iter(found)) if len(found) == 1 else MIXED


def _first_in(phrases: Iterable[str], sentences: list[str]) -> str:
    return next((p for p in phrases if p in sentences), "none")


def _news_found(sentences: list[str]) -> set[tuple[str, str]]:
    """Find acts with their registers among the sentences that name an event."""
    bare = [_FILLER.sub("", s) for s in sentences if _named(EVENTS, s)]
    return {key for s in bare for key, pattern in _NEWS.items() if pattern.fullmatch(s)}


def _named(words: Iterable[str], text: str) -> set[str]:
    return {w for w in words if re.search(rf"\b{re.escape(w)}\b", text, re.IGNORECASE)}


def _asking(sentence: str) -> list[str]:
    if _named(EVENTS, sentence):
        return []
    if sentence.endswith(" if you can"):
        return ["if you can"]
    return [s for s in TRAITS["asking"] if sentence.startswith(f"{s} ")]


def _order(middle: list[str]) -> str:
    news = [i for i, s in enumerate(middle) if _named(EVENTS, s)]
    if len(news) != 1:
        return MIXED
    if news[0] == 0:
        return "news first"
    if _asking(middle[0]):
        return "ask first"
    return "news last" if news[0] == len(middle) - 1 else MIXED


def _layout(parts: Parts) -> str:
    dashes = sum(line.lstrip().startswith("- ") for line in parts.lines)
    numbers = sum(re.match(r"\s*\d+\) ", line) is not None for line in parts.lines)
    if dashes or numbers:
        return MIXED if dashes and numbers else "dashes" if dashes else "numbers"
    return "prose" if len(parts.lines) == 1 else "lines"


def _filler(sentences: list[str]) -> str:
    return _only({found[1] for s in sentences if (found := _FILLER.match(s))}, "none")


def _contraction(middle: list[str]) -> str:
    found = set()
    for sentence in middle:
        meeting = re.match(r"(it is |it's |)(?:set|down) for\b", sentence)
        if meeting:
            found.add({"it is ": "full", "it's ": "short", "": "clipped"}[meeting[1]])
    return _only(found)


def _clocks(body: str) -> set[tuple[str, int]]:
    """Find hours, modulo 12, and how they are told."""
    styles = {":00": "18:00", " o'clock": "6 o'clock", "am": "6pm", "pm": "6pm"}
    return {(styles.get(tail.lower(), "6 pm"), int(h) % 12) for h, tail in _CLOCK.findall(body)}


def _days(body: str) -> set[tuple[str, str]]:
    """Find days, and how they are named."""
    found = set()
    for match in _DAY.finditer(body):
        day = next(d for d in DAYS if d.lower().startswith(match["day"].lower()))
        short = len(match["day"]) == 3
        form = (MIXED if short else "this Friday") if match["this"] else "on Friday"
        found.add(("on Fri" if short and form == "on Friday" else form, day))
    return found


def _casing(parts: Parts) -> str:
    """Look at how sentences start, words in capitals (an emphasis) left out."""
    text = _EMOJI.sub("", _CAPITALS.sub("", parts.text.removesuffix("\n")))
    if not re.search(r"[A-Z]", text):
        return "lower"
    starts = [re.search(r"[^\W\d_]", line) for line in _MARK.sub("\n", text).split("\n")]
    letters = [found[0] for found in starts if found]
    return "sentence" if sum(c.isupper() for c in letters) >= 0.8 * len(letters) else MIXED


def _ender(body: str) -> str:
    marks = Counter(_MARK.findall(_EMOJI.sub("", body)))
    if not marks:
        return MIXED
    mark, count = marks.most_common(1)[0]
    return mark if 3 * count >= 2 * marks.total() else MIXED


def _emphasis(body: str) -> str:
    capitals = " ".join(_CAPITALS.findall(_EMOJI.sub("", body))).lower()
    day = any(re.search(rf"\b({d}|{d[:3]})\b", capitals) for d in map(str.lower, DAYS))
    found = {"*event*"} if re.search(r"\*[^*\n]+\*", body) else set()
    found |= {"DAY"} if day else {"EVENT"} if _named(EVENTS, capitals) else set()
    return _only(found, "none")
