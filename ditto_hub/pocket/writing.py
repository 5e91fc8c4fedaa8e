"""How a text is put together from a request and one choice for each trait.

A text is a greeting, perhaps an opener, three to five sentences in an order (the news, when and
where it is, the ask, a reason, a remark), perhaps thanks, a sign-off, a name, perhaps a postscript.
Nothing here says who writes; that is `persona`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping

from ditto_hub.pocket.grammar import Request
from ditto_hub.pocket.traits import LENGTHS, SIGNATURES

# Act -> register -> the news. {the} is "the [audience] event", {an} the same with "a", {x} without
# an article, {w} "on Friday", {to} "to Friday".
NEWS: dict[str, dict[str, str]] = {
    "cancel": {
        "formal": "we have to cancel {the} {w}",
        "plain": "{the} {w} is cancelled",
        "breezy": "no {x} {w} after all",
    },
    "announce": {
        "formal": "we are pleased to announce {the} {w}",
        "plain": "there will be {an} {w}",
        "breezy": "{an} is coming up {w}",
    },
    "move": {
        "formal": "we have decided to move {the} {to}",
        "plain": "{the} is moved {to}",
        "breezy": "{the} jumps {to}",
    },
    "remind": {
        "formal": "we would like to remind you of {the} {w}",
        "plain": "do not forget {the} {w}",
        "breezy": "remember {the} {w}",
    },
    "invite": {
        "formal": "we cordially invite you to {the} {w}",
        "plain": "you are invited to {the} {w}",
        "breezy": "come along to {the} {w}",
    },
    "confirm": {
        "formal": "we hereby confirm {the} {w}",
        "plain": "{the} {w} is confirmed",
        "breezy": "{the} {w} is a go",
    },
    "help": {
        "formal": "we would be grateful for help with {the} {w}",
        "plain": "we need help with {the} {w}",
        "breezy": "give us a hand with {the} {w}",
    },
    "signup": {
        "formal": "registration for {the} {w} has begun",
        "plain": "sign-up for {the} {w} is open",
        "breezy": "grab a spot for {the} {w}",
    },
}
PLACES = (
    "the hall",
    "the park",
    "the library",
    "the lobby",
    "the courtyard",
    "the annex",
    "the cellar",
    "the attic",
    "the barn",
    "the big tent",
    "room 12",
    "room 40",
)
ASKS = (
    "bring a snack",
    "bring a chair",
    "bring cash",
    "tell your friends",
    "reply to this message",
    "spread the word",
    "wear old shoes",
    "mark the date",
    "be on time",
    "pack light",
    "come by bike",
    "let me know",
)
REASONS = (
    "the weather looks fine",
    "the weather looks grim",
    "the roof leaks",
    "the calendar was full",
    "the budget is tight",
    "the floor gets a new coat",
    "the heating is back",
    "the bus line is closed",
    "half of us are away",
    "the key turned up",
)
REMARKS = (
    "nothing else changes",
    "the rest stays as planned",
    "the door code is the same",
    "parking is free",
    "we start on the dot",
    "the ramp is at the back",
    "dogs are fine",
    "laptops stay at home",
)
POSTSCRIPTS = (
    "the cat says hello",
    "cake is likely",
    "the lamp is new",
    "the plants need water",
    "the kettle works again",
    "my bike has a bell",
)
SCHEDULED = ("it is set for", "it is down for")
CONTRACTIONS = {
    "it is": "it's",
    "we are": "we're",
    "you are": "you're",
    "do not": "don't",
    "there will": "there'll",
    "we would": "we'd",
}
_BULLETS = {"dashes": "- ", "numbers": "{i}) "}


def compose(request: Request, choice: Mapping[str, str], rng: random.Random) -> str:
    """Write one text.

    Args:
        request: what has to be said.
        choice: one option of `traits.TRAITS` for every trait.
        rng: settles the details that are nobody's habit (place, reason, ask, remark).

    Returns:
        The text, without white space around it.
    """
    body = _body(request, choice, rng)
    greeting = choice["greeting"].format(a=request.audience) + choice["greeting_mark"]
    signature = choice["signoff"] + SIGNATURES[choice["signature"]] + choice["name"]
    blocks = [greeting, body, signature]
    if choice["postscript"] != "none":
        blocks.append(f"{choice['postscript']} {rng.choice(POSTSCRIPTS)}")
    if choice["casing"] == "lower":
        blocks = [block.lower() for block in blocks]
    blocks[1] = _emphasise(blocks[1], request, choice["emphasis"])
    if choice["emoji"] != "none":
        blocks[1] += f" {choice['emoji']}"
    return ("\n\n" if choice["spacing"] == "airy" else "\n").join(blocks)


def _body(request: Request, choice: Mapping[str, str], rng: random.Random) -> str:
    """Join the sentences in the layout of choice."""
    end = choice["ender"]
    middle = [_sentence(s) + end for s in _with_filler(_middle(request, choice, rng), choice, rng)]
    if choice["layout"] in _BULLETS:
        bullet = _BULLETS[choice["layout"]]
        middle = [bullet.format(i=i) + s for i, s in enumerate(middle, start=1)]
    first = [] if choice["opener"] == "none" else [_sentence(choice["opener"]) + end]
    last = [] if choice["thanks"] == "none" else [_sentence(choice["thanks"]) + end]
    return (" " if choice["layout"] == "prose" else "\n").join(first + middle + last)


def _middle(request: Request, choice: Mapping[str, str], rng: random.Random) -> list[str]:
    """Put news, meeting point, ask, reason and remark in the order of choice."""
    news = _news(request, choice)
    ask = _ask(rng.choice(ASKS), choice["asking"])
    others = [_meeting_point(request, choice, rng)]
    others += [rng.choice(REASONS), rng.choice(REMARKS)][: LENGTHS[choice["length"]] - 3]
    if choice["order"] == "ask first":
        rng.shuffle(others)
        return [ask, news, *others]
    if choice["order"] == "news first":
        others.append(ask)
        rng.shuffle(others)
        return [news, *others]
    rng.shuffle(others)
    others.insert(rng.randint(1, len(others)), ask)  # not first: that is another habit
    return [*others, news]


def _news(request: Request, choice: Mapping[str, str]) -> str:
    """Say the act, event and day; the audience too, if the greeting does not."""
    named = "{a}" in choice["greeting"]
    event = request.event if named else f"{request.audience} {request.event}"
    article = "an" if event[0] in "aeiou" else "a"
    day = request.day[:3] if choice["day"] == "on Fri" else request.day
    this = choice["day"] == "this Friday"
    sentence = NEWS[request.act][choice["register"]].format(
        the=f"the {event}",
        an=f"{article} {event}",
        x=event,
        w=f"this {day}" if this else f"on {day}",
        to=f"to this {day}" if this else f"to {day}",
    )
    return _contract(sentence) if choice["contraction"] == "short" else sentence


def _meeting_point(request: Request, choice: Mapping[str, str], rng: random.Random) -> str:
    """Say hour and place; the hour of the request, if it has one."""
    hour = request.hour if request.hour is not None else rng.randint(9, 20)
    sentence = f"{rng.choice(SCHEDULED)} {_clock(hour, choice['clock'])} in {rng.choice(PLACES)}"
    if choice["contraction"] == "clipped":
        return sentence.removeprefix("it is ")
    return _contract(sentence) if choice["contraction"] == "short" else sentence


def _clock(hour: int, style: str) -> str:
    twelve, half = (hour - 1) % 12 + 1, "am" if hour < 12 else "pm"
    return {
        "6 pm": f"{twelve} {half}",
        "6pm": f"{twelve}{half}",
        "18:00": f"{hour}:00",
        "6 o'clock": f"{twelve} o'clock",
    }[style]


def _ask(ask: str, style: str) -> str:
    return f"{ask} if you can" if style == "if you can" else f"{style} {ask}"


def _with_filler(sentences: list[str], choice: Mapping[str, str], rng: random.Random) -> list[str]:
    """Begin one of the sentences with the filler."""
    if choice["filler"] == "none":
        return sentences
    at = rng.randrange(len(sentences))
    return [f"{choice['filler']}, {s}" if i == at else s for i, s in enumerate(sentences)]


def _contract(sentence: str) -> str:
    for full, short in CONTRACTIONS.items():
        sentence = re.sub(rf"\b{full}\b", short, sentence)
    return sentence


def _sentence(words: str) -> str:
    return words[0].upper() + words[1:]


def _emphasise(body: str, request: Request, style: str) -> str:
    if style == "none":
        return body
    word = (
        rf"\b{request.day}\b|\b{request.day[:3]}\b" if style == "DAY" else rf"\b{request.event}\b"
    )
    mark = "*{}*" if style == "*event*" else "{}"

    def emphasised(found: re.Match[str]) -> str:
        return mark.format(found[0] if style == "*event*" else found[0].upper())

    return re.sub(word, emphasised, body, flags=re.IGNORECASE)
