"""The voices and demonstrations that the quality benchmark trains on, and how they are varied.

A persona of the grammar is a distribution: a few options a trait. Here it can be made a template
(one option a trait) or more varied than it is, its texts short or long, and its demonstrations
damaged: typing errors, somebody else's voice, texts cut in half.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from ditto_hub.demos.demonstrations import Demonstration, DemoSet
from ditto_hub.pocket.grammar import Request, parse_prompt, requests
from ditto_hub.pocket.persona import Habit, Persona
from ditto_hub.pocket.traits import TRAITS

VOICES = ("own", "template", "varied")
LENGTHS = ("own", "short", "long")
QUALITIES = ("clean", "noisy", "off-voice", "truncated")
OPTIONS = 3  # of a varied trait
DAMAGED = 2  # training demonstrations that are damaged, in a set that is not clean
TYPING_ERRORS = 0.06  # share of letters
MOST_GIVEN = 12


@dataclass(frozen=True)
class Setup:
    """Say what a run is trained on.

    Args:
        persona: seed of the persona.
        seed: of the run: demonstrations, training, sampling.
        voice: one of `VOICES`.
        length: one of `LENGTHS`.
        given: demonstrations, the held-out one included.
        quality: one of `QUALITIES`.
    """

    persona: int
    seed: int
    voice: str = "own"
    length: str = "own"
    given: int = 5
    quality: str = "clean"

    @property
    def key(self) -> str:
        """The setup's name in files."""
        changed = [f"{self.persona}-{self.seed}"]
        changed += [v for v in (self.voice, self.quality) if v not in ("own", "clean")]
        changed += [] if self.length == "own" else [self.length]
        changed += [] if self.given == 5 else [f"given{self.given}"]
        return "-".join(changed)


def make_persona(setup: Setup) -> Persona:
    """Return the persona of a setup."""
    persona = Persona.from_seed(setup.persona)
    habits = dict(persona.habits)
    rng = random.Random(f"voice {setup.persona} {setup.voice}")
    if setup.voice == "template":
        habits = {
            t: Habit({max(h.options, key=h.options.__getitem__): 1.0}) for t, h in habits.items()
        }
    elif setup.voice == "varied":
        habits = {t: h if t == "name" else _widen(t, h, rng) for t, h in habits.items()}
    if setup.length != "own":
        habits["length"] = Habit({setup.length: 1.0})
    return replace(persona, habits=habits)


def _widen(trait: str, habit: Habit, rng: random.Random) -> Habit:
    """Return a habit of up to three options, each as likely as the others."""
    options = list(habit.options)
    others = [option for option in TRAITS[trait] if option not in options]
    options += rng.sample(others, min(len(others), max(0, OPTIONS - len(options))))
    return Habit(dict.fromkeys(options, 1 / len(options)))


def make_demos(setup: Setup, held_out: int) -> DemoSet:
    """Return a setup's demonstrations with their split; only training ones are ever damaged.

    Args:
        held_out: how many are held out.
    """
    persona = make_persona(setup)
    tag = f"demonstrations {setup.persona} {setup.seed}"
    rng = random.Random(tag)
    asked = requests(tag, setup.given, held_out=True)
    pairs = [(request.prompt, persona.write(request, rng)) for request in asked]
    demos = _split(DemoSet.from_pairs(pairs), held_out, setup.seed)
    if setup.quality == "clean":
        return demos
    spoilt = {d.id for d in demos.train[:DAMAGED]}
    return DemoSet(tuple(_damage(d, setup) if d.id in spoilt else d for d in demos))


def _split(demos: DemoSet, held_out: int, seed: int) -> DemoSet:
    """Split as the product does, or leave one to train on, where the product wants two."""
    if len(demos) > held_out + 1:
        return demos.split(held_out, seed)
    first, *others = demos
    return DemoSet((first, *(replace(d, split="held_out") for d in others)))


def _damage(demo: Demonstration, setup: Setup) -> Demonstration:
    text, rng = demo.completion, random.Random(f"{setup.key} {demo.id}")
    if setup.quality == "noisy":
        return replace(demo, completion="".join(_mistype(c, rng) for c in text))
    if setup.quality == "truncated":
        return replace(demo, completion=text[: len(text) // 2].rstrip())
    other = Persona.from_seed(setup.persona + 500)  # of the same range, and in no run
    return replace(demo, completion=other.write(parse_prompt(demo.prompt[-1]["content"]), rng))


def _mistype(character: str, rng: random.Random) -> str:
    if not character.isalpha() or rng.random() >= TYPING_ERRORS:
        return character
    return rng.choice(("", character * 2, rng.choice("abcdefghijklmnopqrstuvwxyz")))


def make_requests(setup: Setup, count: int) -> list[Request]:
    """Return new requests, none a demonstration's; a persona's setups share them."""
    tag = f"{setup.persona} {setup.seed}"
    shown = [r.prompt for r in requests(f"demonstrations {tag}", MOST_GIVEN, held_out=True)]
    return requests(f"evaluate {tag}", count, held_out=True, exclude=shown)
