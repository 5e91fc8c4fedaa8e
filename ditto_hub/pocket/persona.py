"""Who writes: a persona has a habit for every trait, and keeps it mostly.

A persona is a distribution, not a template. A habit is a few options with weights (two or three
greetings, a postscript now and then) and a small chance to slip into the house style. Personas are
composed at random; those for pre-training, tuning and reporting come from disjoint ranges of seeds
and from disjoint parts of the space of combinations, so none of the held-out ones was ever trained.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ditto_hub.errors import ConfigError
from ditto_hub.pocket.grammar import Request, requests
from ditto_hub.pocket.traits import BLAND, NAMES, TRAITS
from ditto_hub.pocket.writing import compose

PRETRAIN_SEEDS = range(100_000)
TUNING_SEEDS = range(100_000, 101_000)  # settings are chosen on these
REPORTING_SEEDS = range(200_000, 201_000)  # results are reported on these
_PARTS = 10  # of the space of combinations; one is for reporting, one for tuning and voices

_SLIPS = (0.0, 0.0, 0.03, 0.06)
_SEVERAL = {"greeting": 3, "signoff": 3, "opener": 2, "thanks": 2, "asking": 2, "emoji": 2}
_NOW_AND_THEN = ("opener", "filler", "emoji", "thanks", "postscript")
_KEPT_BLAND = 0.12  # least chance that a persona has the house's habit in a trait


@dataclass(frozen=True)
class Habit:
    """What a persona does about one trait.

    Args:
        options: option -> weight; weights sum to 1.
        slip: chance, in [0, 1), of the house style's option instead.
    """

    options: Mapping[str, float]
    slip: float = 0.0

    def choose(self, bland: str, rng: random.Random) -> str:
        """Draw an option for one text."""
        if rng.random() < self.slip:
            return bland
        return rng.choices(tuple(self.options), tuple(self.options.values()))[0]

    def rate(self, option: str, bland: str) -> float:
        """Tell in which share of texts the option is to be expected."""
        kept = (1.0 - self.slip) * self.options.get(option, 0.0)
        return kept + (self.slip if option == bland else 0.0)


@dataclass(frozen=True)
class Persona:
    """A writer: a name to tell it by, and a habit for every trait of `traits.TRAITS`."""

    label: str
    habits: Mapping[str, Habit]

    @classmethod
    def from_seed(cls, seed: int) -> Persona:
        """Compose a persona at random.

        Args:
            seed: in one of `PRETRAIN_SEEDS`, `TUNING_SEEDS`, `REPORTING_SEEDS`; the range says
                from which part of the space of combinations the persona comes.

        Raises:
            ConfigError: the seed is in none of the ranges.
        """
        parts = _parts_of(seed)
        rng = random.Random(f"persona {seed}")
        while True:
            persona = cls(f"persona-{seed}", {trait: _habit(trait, rng) for trait in TRAITS})
            if persona.part in parts:
                return persona

    @property
    def combination(self) -> str:
        """Name the set of options of every trait, weights aside."""
        rows = (f"{trait}={'|'.join(sorted(self.habits[trait].options))}" for trait in TRAITS)
        return "; ".join(rows)

    @property
    def part(self) -> int:
        """Tell in which part of the space of combinations it is; 0 and 1 are never trained."""
        return hashlib.sha256(self.combination.encode()).digest()[0] % _PARTS

    def write(self, request: Request, rng: random.Random) -> str:
        """Write one text for the request, in this persona's way."""
        choice = {t: self.habits[t].choose(BLAND[t], rng) for t in TRAITS}
        return compose(request, choice, rng)

    def to_json(self) -> dict[str, Any]:
        """Give the persona as plain JSON types."""
        habits = {t: {"options": dict(h.options), "slip": h.slip} for t, h in self.habits.items()}
        return {"label": self.label, "habits": habits}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Persona:
        """Read what `to_json` gave; a trait left out is the house style's.

        Raises:
            ConfigError: a trait or an option does not exist, or weights do not sum to 1.
        """
        given = data.get("habits")
        if not isinstance(given, Mapping):
            raise ConfigError("These traits have no habits.", "A trait file is Persona.to_json's.")
        habits = {trait: Habit({BLAND[trait]: 1.0}) for trait in TRAITS}
        habits |= {trait: _read_habit(trait, habit) for trait, habit in given.items()}
        return cls(str(data.get("label", "persona")), habits)


def _read_habit(trait: str, data: Any) -> Habit:
    try:
        options = {str(o): float(w) for o, w in data["options"].items()}
        slip = float(data.get("slip", 0.0))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"The habit {trait!r} is unreadable: {data!r}.", 'Write {"options": {option: weight}}.'
        ) from error
    unknown = set(options) - set(TRAITS.get(trait, ()))
    weights = [*options.values(), slip, 1.0 - slip]
    if unknown or min(weights) < 0 or abs(sum(options.values()) - 1.0) > 1e-6:
        raise ConfigError(
            f"The habit {trait!r} has options the grammar lacks, or weights that do not sum to 1: "
            f"{options}.",
            "See ditto_hub.pocket.traits.TRAITS for what there is.",
        )
    return Habit(options, slip)


def _parts_of(seed: int) -> range:
    for seeds, parts in (
        (REPORTING_SEEDS, range(1)),
        (TUNING_SEEDS, range(1, 2)),
        (PRETRAIN_SEEDS, range(2, _PARTS)),
    ):
        if seed in seeds:
            return parts
    raise ConfigError(
        f"{seed} is no persona's seed.",
        "Take one of PRETRAIN_SEEDS, TUNING_SEEDS or REPORTING_SEEDS.",
    )


def _habit(trait: str, rng: random.Random) -> Habit:
    """Draw a habit: one option or a few, the first of them kept in most texts."""
    if trait == "name":
        name = rng.choice(NAMES)
        return Habit({name: 0.85, name[0]: 0.15} if rng.random() < 0.5 else {name: 1.0})
    bland = BLAND[trait]
    if rng.random() < max(_KEPT_BLAND, 1 / len(TRAITS[trait])):
        return Habit({bland: 1.0})
    own = [option for option in TRAITS[trait] if option != bland]
    rng.shuffle(own)
    slip = rng.choice(_SLIPS)
    if trait in _NOW_AND_THEN and rng.random() < 0.4:
        often = rng.choice((0.3, 0.6))
        return Habit({own[0]: often, "none": round(1 - often, 2)}, slip)
    if trait in _SEVERAL:
        return Habit(_weigh(own[: rng.randint(2, _SEVERAL[trait])], rng), slip)
    if len(own) > 1 and rng.random() < 0.3:
        return Habit(_weigh(own[:2], rng), slip)
    return Habit({own[0]: 1.0}, slip)


def _weigh(options: list[str], rng: random.Random) -> dict[str, float]:
    first = rng.choice((0.6, 0.7, 0.8, 0.9))
    if len(options) == 2:
        return {options[0]: first, options[1]: round(1 - first, 2)}
    second = round((1 - first) * 0.7, 2)
    return {options[0]: first, options[1]: second, options[2]: round(1 - first - second, 2)}


def house_styles() -> list[Persona]:
    """Give the bland writers of most of the training text."""
    mixes = (
        ({"Hi {a}": 0.8, "Hello {a}": 0.2}, {"Best": 0.7, "Thanks": 0.3}, ("Ada", "Felix")),
        ({"Hello {a}": 0.7, "Dear {a}": 0.3}, {"Regards": 0.8, "Best": 0.2}, ("Clara", "Jonas")),
        ({"Dear {a}": 0.8, "Hello {a}": 0.2}, {"Best": 0.5, "Regards": 0.5}, ("Lena", "Nico")),
        ({"Hi {a}": 0.6, "Hi all": 0.4}, {"Thanks": 0.6, "Best": 0.4}, ("Rosa", "Bruno")),
    )
    styles = []
    for index, (greeting, signoff, names) in enumerate(mixes):
        habits = {trait: Habit({bland: 1.0}) for trait, bland in BLAND.items()}
        habits["greeting"] = Habit(greeting)
        habits["signoff"] = Habit(signoff)
        habits["name"] = Habit(dict.fromkeys(names, 0.5))
        habits["length"] = Habit({"medium": 0.6, "short": 0.3, "long": 0.1})
        habits["register"] = Habit({"plain": 0.8, "formal": 0.2})
        habits["thanks"] = Habit({"none": 0.8, "many thanks": 0.2})
        styles.append(Persona(f"house-{index}", habits))
    return styles


def demonstrations(persona_seed: int, n: int, seed: int | str) -> list[tuple[str, str]]:
    """Let a persona write texts for held-out requests.

    Returns:
        Pairs of prompt and completion, prompts distinct.
    """
    persona = Persona.from_seed(persona_seed)
    rng = random.Random(f"demonstrations {persona_seed} {seed}")
    drawn = requests(f"demonstrations {persona_seed} {seed}", n, held_out=True)
    return [(request.prompt, persona.write(request, rng)) for request in drawn]
