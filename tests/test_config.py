"""Settings: ranges, the paper's numbers, `--set`, and a text for every dial."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from typing import Any

import pytest

from ditto_hub.config import (
    LOSSES,
    PRESETS,
    SECTIONS,
    Dial,
    RunConfig,
    Update,
    dials,
    preset,
)
from ditto_hub.errors import ConfigError

EVERY = [(s, name, dial) for s in SECTIONS for name, dial in dials(s).items()]
every_dial = pytest.mark.parametrize(
    ("section", "name", "dial"), EVERY, ids=[f"{s}.{n}" for s, n, _ in EVERY]
)
BOUNDS = [
    (f"{s}.{n}", value, way)
    for s, n, dial in EVERY
    for value, way in ((dial.low, -1), (dial.high, 1))
    if value is not None
]


def kind_of(path: str) -> type:
    section, _, name = path.partition(".")
    return type(getattr(getattr(RunConfig(), section), name))


@every_dial
def test_every_setting_has_a_dial_with_words(section: str, name: str, dial: Dial) -> None:
    """Every setting is explained by a text that `--help`, the app and the card can show."""
    assert len(dial.text) > 8
    assert not dial.text.endswith(".")
    assert str(dial).startswith(dial.text)


@pytest.mark.parametrize("section", SECTIONS)
def test_no_field_lacks_a_dial(section: str) -> None:
    """There is a dial for each field of a section, in the same order."""
    assert list(dials(section)) == [f.name for f in fields(SECTIONS[section])]


@every_dial
def test_defaults_are_in_range(section: str, name: str, dial: Dial) -> None:
    """Each default is a value that the setting takes."""
    assert dial.takes(getattr(getattr(RunConfig(), section), name))


@pytest.mark.parametrize(("path", "bound", "way"), BOUNDS, ids=[f"{p}{w:+d}" for p, _, w in BOUNDS])
def test_bounds(path: str, bound: float, way: int) -> None:
    """A setting takes the end of its range and refuses what lies beyond it."""
    value: Any = kind_of(path)(bound)
    RunConfig().with_value(path, value)
    beyond = value + way if isinstance(value, int) else value + way * 1e-3
    with pytest.raises(ConfigError, match="out of its range"):
        RunConfig().with_value(path, beyond)


WORDS = [(f"{s}.{n}", dial.choices) for s, n, dial in EVERY if dial.choices]


@pytest.mark.parametrize(("path", "choices"), WORDS, ids=[p for p, _ in WORDS])
def test_choices(path: str, choices: tuple[str, ...]) -> None:
    """A setting that is a word takes each of its words and no other."""
    for word in choices:
        RunConfig().with_value(path, word)
    with pytest.raises(ConfigError, match=choices[0]):
        RunConfig().with_value(path, "other")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("update.rounds", 2.0),
        ("update.rounds", "2"),
        ("update.rounds", True),
        ("update.beta", "high"),
        ("update.beta", True),
        ("update.beta", None),
        ("update.beta", math.nan),
        ("selection.sft_long", 1),
        ("lora.targets", ["q_proj"]),
    ],
)
def test_wrong_type_is_refused(path: str, value: object) -> None:
    """A value of another type is refused, not converted; NaN is out of every range."""
    with pytest.raises(ConfigError, match=path.partition(".")[2]):
        RunConfig().with_value(path, value)


def test_whole_numbers_serve_as_floats() -> None:
    """JSON's 1 is a float where a float is wanted."""
    assert RunConfig().with_value("update.beta", 1).update.beta == 1.0


def test_shares_may_not_all_be_zero() -> None:
    """A batch has to be made of something."""
    with pytest.raises(ConfigError, match="shares"):
        Update(online=0, replay=0, intermodel=0, edit=0)


# PAPER.md, settings, column "ours: preset `paper`".
PAPER = {
    "lora.rank": 16,
    "lora.alpha": 32.0,
    "update.schedule": "constant",
    "update.optimizer": "adamw",
    "warm_start.learning_rate": 3e-5,
    "warm_start.batch_size": 4,
    "warm_start.schedule": "cosine",
    "warm_start.warmup_ratio": 0.1,
    "warm_start.stop": "loss",
    "warm_start.stop_loss": 1.0,
    "warm_start.stop_unit": "token",
    "warm_start.train_on_prompt": False,
    "update.learning_rate": 1e-6,
    "update.beta": 0.05,
    "update.pairs": 24,
    "update.rounds": 4,
    "update.steps": 10,
    "update.warmup_ratio": 0.25,
    "update.loss": "sigmoid",
    "update.sft_weight": 0.0,
    "update.online": 0.7,
    "update.replay": 0.2,
    "update.intermodel": 0.1,
    "update.edit": 0.0,
    "update.reference": "warm-start",
    "update.resample": "every-round",
    "sampling.samples": 10,
    "sampling.temperature": 1.0,
    "sampling.top_p": 1.0,
    "sampling.top_k": 0,
    "sampling.max_new_tokens": 1024,
    "sampling.length_factor": 0.0,
    "sampling.near_duplicate": 1.0,
    "selection.held_out": 0,
    "selection.rule": "last",
}


@pytest.mark.parametrize(("path", "value"), PAPER.items())
def test_preset_paper(path: str, value: object) -> None:
    """Preset `paper` has the numbers of the paper's table, and nothing held out."""
    section, _, name = path.partition(".")
    assert getattr(getattr(preset("paper"), section), name) == value


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_built_and_named(name: str) -> None:
    """Every preset builds, knows its name, and carries the seed it was given."""
    config = preset(name, seed=7)
    assert (config.preset, config.seed) == (name, 7)


def test_unknown_preset() -> None:
    """A preset that is not there is refused with those that are."""
    with pytest.raises(ConfigError, match="pocket"):
        preset("papper")


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("update.beta=0.1", "update.beta", 0.1),
        ("update.beta=1", "update.beta", 1.0),
        ("update.learning_rate=3e-6", "update.learning_rate", 3e-6),
        ("selection.sft_long=false", "selection.sft_long", False),
        ("update.loss=ipo", "update.loss", "ipo"),
        ('update.loss="ipo"', "update.loss", "ipo"),
        ("lora.targets=q_proj,v_proj", "lora.targets", "q_proj,v_proj"),
        (" update.rounds = 2", "update.rounds", 2),
    ],
)
def test_set(text: str, path: str, value: object) -> None:
    """`--set SECTION.FIELD=JSON` changes that one setting; a bare word is a string."""
    changed = RunConfig().with_setting(text)
    section, _, name = path.partition(".")
    assert getattr(getattr(changed, section), name) == value
    assert changed == RunConfig().with_value(path, value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("update.beta", "SECTION.FIELD=JSON"),
        ("beta=1", "There is no section 'beta'"),
        ("updates.beta=1", "There is no section 'updates'"),
        ("seed=1", "There is no section 'seed'"),
        ("update.betta=1", "There is no setting 'update.betta'"),
        ("update.beta.x=1", "There is no setting"),
        ("update.beta=", "not of type float"),
        ("update.beta=-1", "out of its range"),
        ("update.rounds=[2]", "not of type int"),
    ],
)
def test_set_refuses(text: str, told: str) -> None:
    """A `--set` that says nothing sensible is refused with the reason."""
    with pytest.raises(ConfigError, match=told.replace(".", r"\.")):
        RunConfig().with_setting(text)


@pytest.mark.parametrize(
    "config",
    [
        RunConfig(),
        preset("paper", 3),
        RunConfig(update=Update(online=0, replay=0, intermodel=0, edit=1)),
    ],
    ids=["default", "paper", "edits alone"],
)
def test_json_round_trip(config: RunConfig) -> None:
    """Settings survive JSON, combinations included that no single change from the default makes."""
    assert RunConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


@pytest.mark.parametrize(
    "data",
    [
        {"update": {"betta": 1}},
        {"upd": {"beta": 1}},
        {"update": 5},
        {"update": {"beta": "high"}},
        {"seed": "many"},
        {"seed": 1.5},
        {"seed": 2**64},
        {"seed": -1},
    ],
    ids=str,
)
def test_from_json_refuses(data: dict[str, Any]) -> None:
    """A file with settings that are not ours is refused as a ConfigError."""
    with pytest.raises(ConfigError):
        RunConfig.from_json(data)


@pytest.mark.parametrize("seed", [-1, 2**63, True, 1.0])
def test_seed_out_of_range(seed: Any) -> None:
    """A seed is a whole number that fits 63 bits."""
    with pytest.raises(ConfigError, match="seed"):
        RunConfig(seed=seed)


def test_sections_are_frozen() -> None:
    """Settings cannot change under a run."""
    with pytest.raises(AttributeError):
        RunConfig().update.beta = 1.0  # type: ignore[misc]


def test_losses_are_told_apart() -> None:
    """No loss stands twice in the list."""
    assert len(set(LOSSES)) == len(LOSSES)
