"""The settings of a run, as frozen records of plain JSON types.

Every field carries a `Dial`: its meaning and unit in words, and the range it may take. That one
text feeds `--help`, the app's tooltips and the card; that one range is what `__post_init__` checks.
Sources of the numbers: presets.py, with the paper's table cited.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from ditto_hub.dials import Dial as Dial
from ditto_hub.dials import Section
from ditto_hub.errors import ConfigError
from ditto_hub.presets import PRESETS as PRESETS

LOSSES = ("sigmoid", "ipo", "hinge", "apo_zero", "apo_down", "sigmoid_norm", "nca_pair")


@dataclass(frozen=True)
class WarmStart(Section):
    """Supervised warm start: pi_0 = SFT(pi, D_E), which is also the frozen reference."""

    objective: Annotated[
        str,
        Dial(
            "what pi_0 learns: the demonstrations' likelihood (the paper's), or, by distillation,"
            " to write without the demonstrations what the model writes with them in its prompt"
            " (context distillation, arXiv 2209.15189; measured with 60 steps of 8 texts at 5e-4)",
            choices=("likelihood", "distillation"),
        ),
    ] = "likelihood"
    prompts: Annotated[
        int, Dial("new prompts that the model writes for distillation, at most", 0, 256)
    ] = 16
    draws: Annotated[
        int, Dial("texts to each prompt for distillation, written with the demonstrations", 1, 64)
    ] = 2
    learning_rate: Annotated[float, Dial("peak learning rate", 0, 1)] = 3e-5
    max_steps: Annotated[int, Dial("optimiser steps at most", 1, 10_000)] = 30
    batch_size: Annotated[int, Dial("demonstrations a step; of distillation, texts", 1, 256)] = 4
    schedule: Annotated[
        str, Dial("shape of the learning rate", choices=("cosine", "linear", "constant"))
    ] = "cosine"
    warmup_ratio: Annotated[float, Dial("share of max_steps spent warming up", 0, 1)] = 0.1
    stop: Annotated[
        str,
        Dial(
            "what ends the warm start before max_steps: the held-out demonstration's loss no"
            " longer falling, a loss threshold (not in distillation), or nothing; held-out falls"
            " back to loss with none held out",
            choices=("held-out", "loss", "never"),
        ),
    ] = "held-out"
    stop_loss: Annotated[
        float,
        Dial("threshold of stop=loss, nats a completion byte where stop_unit is byte", 0, 100),
    ] = 0.35
    stop_unit: Annotated[
        str, Dial("unit of stop_loss: nats a token or a UTF-8 byte", choices=("token", "byte"))
    ] = "byte"
    patience: Annotated[int, Dial("steps without a new best held-out loss before stopping", 1)] = 8
    train_on_prompt: Annotated[bool, Dial("count the prompt's tokens in the likelihood too")] = (
        False
    )

    @property
    def distils(self) -> bool:
        """Tell whether it learns from the prompted model."""
        return self.objective == "distillation"


@dataclass(frozen=True)
class Sampling(Section):
    """How completions are drawn from the current model (Algorithm 1, line 4)."""

    samples: Annotated[
        int, Dial("completions a demonstration and round (the paper's M)", 1, 64)
    ] = 10
    temperature: Annotated[float, Dial("softmax temperature", 0.01, 5)] = 1.0
    top_p: Annotated[float, Dial("nucleus mass; 1 is off", 0.01, 1)] = 1.0
    top_k: Annotated[int, Dial("most likely tokens kept; 0 is off", 0)] = 0
    max_new_tokens: Annotated[int, Dial("tokens a completion at most", 1, 32_768)] = 1024
    length_factor: Annotated[
        float, Dial("cap as a multiple of the longest demonstration; 0 is off", 0, 100)
    ] = 4.0
    batch_rows: Annotated[int, Dial("completions drawn side by side", 1, 4096)] = 128
    near_duplicate: Annotated[
        float,
        Dial("similarity from which a sample counts as a copy and is dropped; 1 is off", 0, 1),
    ] = 0.95


@dataclass(frozen=True)
class Reading(Section):
    """How texts that a person reads are drawn: compare, chat, generate, drafts; not rollouts."""

    temperature: Annotated[
        float, Dial("softmax temperature; 0 is the base model's own setting, else 0.7", 0, 5)
    ] = 0.0
    top_p: Annotated[
        float, Dial("nucleus mass; 0 is the base model's own setting, else 0.9; 1 is off", 0, 1)
    ] = 0.0
    top_k: Annotated[
        int,
        Dial("most likely tokens kept; -1 is the base model's own setting, else all; 0 is off", -1),
    ] = -1

    def settled(self, own: Mapping[str, Any], sampling: Sampling | None = None) -> Sampling:
        """Return the settings to draw with.

        Args:
            own: of the base model: temperature, top_p and top_k where it recommends them.
            sampling: what else a draw needs; default its defaults.
        """
        return replace(
            sampling or Sampling(),
            temperature=self.temperature or own.get("temperature", 0.7),
            top_p=self.top_p or own.get("top_p", 0.9),
            top_k=own.get("top_k", 0) if self.top_k < 0 else self.top_k,
        )


@dataclass(frozen=True)
class Update(Section):
    """K preference steps a round against the frozen reference (Algorithm 1, lines 5 to 8)."""

    rounds: Annotated[int, Dial("rounds of sampling and updating (T)", 1, 64)] = 4
    steps: Annotated[int, Dial("preference steps a round (K)", 1, 1000)] = 10
    pairs: Annotated[int, Dial("comparisons a step (B)", 1, 1024)] = 24
    learning_rate: Annotated[float, Dial("peak learning rate", 0, 1)] = 1e-6
    warmup_ratio: Annotated[float, Dial("share of all steps spent warming up", 0, 1)] = 0.25
    schedule: Annotated[
        str,
        Dial(
            "shape of the learning rate after the warm-up, over all rounds",
            choices=("constant", "linear", "cosine"),
        ),
    ] = "constant"
    optimizer: Annotated[str, Dial("optimiser", choices=("adamw", "rmsprop"))] = "adamw"
    beta: Annotated[float, Dial("strength of the leash to the reference", 0.0001, 100)] = 0.05
    loss: Annotated[str, Dial("TRL's name of the preference loss", choices=LOSSES)] = "sigmoid"
    sft_weight: Annotated[float, Dial("weight of an added NLL term on the winners", 0, 100)] = 0.0
    online: Annotated[float, Dial("share of demonstration over newest sample", 0, 1)] = 0.7
    replay: Annotated[
        float, Dial("share of demonstration over an earlier round's sample", 0, 1)
    ] = 0.2
    intermodel: Annotated[float, Dial("share of later sample over earlier sample", 0, 1)] = 0.1
    edit: Annotated[
        float, Dial("share of demonstration over the output it was edited from", 0, 1)
    ] = 0.0
    reference: Annotated[
        str,
        Dial(
            "the reference: the warm start for the whole run, or (ablation) the model each round"
            " begins with",
            choices=("warm-start", "every-round"),
        ),
    ] = "warm-start"
    resample: Annotated[
        str,
        Dial("when to sample: every round, or (ablation) once", choices=("every-round", "once")),
    ] = "every-round"
    max_grad_norm: Annotated[float, Dial("gradient norm clip; 0 is off", 0)] = 1.0
    token_budget: Annotated[
        int,
        Dial("tokens a training pass at most, changes no result; 0: what the memory holds", 0),
    ] = 0
    explode: Annotated[
        float,
        Dial("loss from which a run ends early, times 1 (ipo: its first loss) + sft_weight", 1),
    ] = 50.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if sum(self.shares.values()) <= 0:
            raise ConfigError("config.all_shares_zero")

    @property
    def shares(self) -> dict[str, float]:
        """Kind of comparison -> its share of the pairs."""
        return {k: getattr(self, k) for k in ("online", "replay", "intermodel", "edit")}


@dataclass(frozen=True)
class Base(Section):
    """How the base model is loaded."""

    quantize: Annotated[
        str,
        Dial(
            "weights of the base model as they are, or in 4 bits (NF4; CUDA and the extra [4bit])",
            choices=("none", "4bit"),
        ),
    ] = "none"


@dataclass(frozen=True)
class Lora(Section):
    """The adapter's shape."""

    rank: Annotated[int, Dial("LoRA rank", 1, 1024)] = 16
    alpha: Annotated[float, Dial("LoRA alpha", 0.0001, 4096)] = 32.0
    dropout: Annotated[float, Dial("LoRA dropout, in the warm start only", 0, 0.9)] = 0.0
    targets: Annotated[
        str,
        Dial("which linear layers: attention, all-linear, or comma-separated module names"),
    ] = "attention"
    strength: Annotated[
        float,
        Dial(
            "share of its trained strength at which a finished adapter, of the last round or of the"
            " warm start continued, is scored and kept; 1 is as trained",
            0.1,
            1,
        ),
    ] = 1.0


@dataclass(frozen=True)
class Selection(Section):
    """Which candidate becomes the adapter."""

    rule: Annotated[
        str,
        Dial(
            "what ranks candidates that are not degenerate; last-sound takes the last round if that"
            " is none, else ranks as mixture; held-out and mixture fall back to stylometric with"
            " none held out; last takes the last round in any case",
            choices=("held-out", "stylometric", "mixture", "last-sound", "last"),
        ),
    ] = "mixture"
    held_out: Annotated[
        int,
        Dial("demonstrations held out; -1 for none under 4, one for 4 to 7, two from 8", -1, 25),
    ] = -1
    sft_long: Annotated[bool, Dial("train the warm start continued as a candidate")] = True
    samples: Annotated[int, Dial("samples a demonstration to score the last candidates", 1, 64)] = (
        10
    )
    max_length_ratio: Annotated[
        float, Dial("degenerate when samples are this many times longer or shorter", 1, 100)
    ] = 2.5
    max_unfinished: Annotated[float, Dial("degenerate when more samples lack an end", 0, 1)] = 0.5
    min_distinct: Annotated[
        float,
        Dial("degenerate when distinct-2 falls below this share of the demonstrations'", 0, 1),
    ] = 0.5
    max_over_base: Annotated[
        float,
        Dial("degenerate when the held-out loss is over this many times the base's; 0 is off", 0),
    ] = 0.0


@dataclass(frozen=True)
class RunConfig:
    """All settings of a run; what a seed and these leave open is the hardware alone."""

    warm_start: WarmStart = field(default_factory=WarmStart)
    sampling: Sampling = field(default_factory=Sampling)
    reading: Reading = field(default_factory=Reading)
    update: Update = field(default_factory=Update)
    lora: Lora = field(default_factory=Lora)
    selection: Selection = field(default_factory=Selection)
    base: Base = field(default_factory=Base)
    preset: str = "custom"
    seed: int = 0

    def __post_init__(self) -> None:
        if type(self.seed) is not int or not 0 <= self.seed < 2**63:
            raise ConfigError("config.seed_out_of_range", seed=self.seed)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RunConfig:
        """Build from `to_json`'s form.

        Raises:
            ConfigError: a section or field is unknown, or a value out of its range.
        """
        config = cls(preset=str(data.get("preset", "custom")), seed=data.get("seed", 0))
        for section, values in data.items():
            if section not in ("preset", "seed"):
                config = config._with_values(section, values)
        return config

    @classmethod
    def from_record(cls, data: Mapping[str, Any]) -> RunConfig:
        """Build from a run's record; one older than `reading` reads as its rollouts were drawn.

        Raises:
            ConfigError: as `from_json` does.
        """
        old = data.get("sampling")
        if "reading" in data or not isinstance(old, Mapping):
            return cls.from_json(data)
        drawn = {f.name: old[f.name] for f in fields(Reading) if f.name in old}
        return cls.from_json({**data, "reading": drawn})

    def with_value(self, path: str, value: Any) -> RunConfig:
        """Return a copy with one setting changed.

        Args:
            path: "SECTION.FIELD", such as "update.beta".
            value: of the field's JSON type.

        Raises:
            ConfigError: no such setting, or a value it does not take.
        """
        section, _, name = path.partition(".")
        return self._with_values(section, {name: value})

    def _with_values(self, section: str, values: Mapping[str, Any]) -> RunConfig:
        if section not in SECTIONS or not isinstance(values, Mapping):
            raise ConfigError("config.no_section", section=section, sections=", ".join(SECTIONS))
        part = getattr(self, section)
        known = [f.name for f in fields(part)]
        for name in values:
            if name not in known:
                raise ConfigError(
                    "config.no_setting",
                    section=f"{section}.{name}",
                    section2=section,
                    known=", ".join(known),
                )
        return replace(self, **{section: replace(part, **values)})

    def with_setting(self, text: str) -> RunConfig:
        """Return a copy changed by a command line's "SECTION.FIELD=JSON"; bare words are text."""
        path, equals, raw = text.partition("=")
        if not equals:
            raise ConfigError("config.not_an_assignment", text=text)
        try:
            value = json.loads(raw)
        except json.JSONDecodeError:
            value = raw
        return self.with_value(path.strip(), value)


SECTIONS: dict[str, type[Any]] = {
    "warm_start": WarmStart,
    "sampling": Sampling,
    "reading": Reading,
    "update": Update,
    "lora": Lora,
    "selection": Selection,
    "base": Base,
}


def dials(section: str) -> dict[str, Dial]:
    """Return field name -> `Dial` of a section, in order."""
    hints = get_type_hints(SECTIONS[section], include_extras=True)
    return {name: get_args(hint)[1] for name, hint in hints.items() if get_origin(hint)}


def preset(name: str, seed: int = 0) -> RunConfig:
    """Return the settings of a preset.

    Args:
        name: pocket, small, fast, or paper.
        seed: of the whole run.

    Raises:
        ConfigError: no such preset.
    """
    if name not in PRESETS:
        raise ConfigError("config.no_preset", name=name, presets=", ".join(PRESETS))
    return RunConfig.from_json({**PRESETS[name], "preset": name, "seed": seed})
