"""A run's settings as a form, made from config.py's dials: five first, the rest behind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, get_args, get_type_hints

import gradio as gr

from ditto_hub.config import PRESETS, SECTIONS, Dial, RunConfig, dials, preset
from ditto_hub.errors import ConfigError
from ditto_hub.ui.i18n.words import t
from ditto_hub.words import Message, say

FRONT = ("update.rounds", "sampling.samples", "warm_start.max_steps", "update.learning_rate",
         "selection.held_out")  # fmt: skip
PATHS = tuple(f"{section}.{name}" for section in SECTIONS for name in dials(section))
BACK = tuple(path for path in PATHS if path not in FRONT)
ORDER = (*FRONT, *BACK)
LONGEST = 400  # letters of a setting that is a text

Control = gr.Number | gr.Checkbox | gr.Dropdown | gr.Textbox


@dataclass(frozen=True)
class Dials:
    """Hold the form's components; `values` are in the order of `ORDER`."""

    preset: gr.Radio
    seed: gr.Number
    values: list[Control]

    @property
    def inputs(self) -> list[Any]:
        """All of them, as `read_config` takes them."""
        return [self.preset, self.seed, *self.values]


def build_dials(start: str) -> Dials:
    """Build the form.

    Args:
        start: preset whose values it shows first.
    """
    config = preset(start)
    with gr.Accordion(t("dials.advanced"), open=False, elem_id="train-advanced"):
        choice = gr.Radio(
            list(PRESETS), value=start, label=t("dials.preset"), info=t("dials.preset_about"),
            elem_id="train-preset",
        )  # fmt: skip
        with gr.Row(elem_id="train-dials"):
            values = [_control(path, config) for path in FRONT]
        seed = gr.Number(
            0, label=t("dials.seed"), info=t("dials.seed_about"), precision=0,
            elem_id="train-seed",
        )  # fmt: skip
        for section in SECTIONS:
            gr.Markdown(t(f"dials.section.{section}"), elem_classes="d-section")
            with gr.Row(elem_classes="d-dials"):
                values += [_control(p, config) for p in BACK if p.startswith(f"{section}.")]
    form = Dials(choice, seed, values)
    choice.input(
        values_of, choice, values, queue=False, api_visibility="private",
        show_progress="hidden", show_progress_on=[],
    )  # fmt: skip
    return form


def numbers(form: Dials) -> dict[str, gr.Number]:
    """Return the fields that take a number, by setting."""
    pairs = zip(ORDER, form.values, strict=True)
    return {path: field for path, field in pairs if isinstance(field, gr.Number)}


def checked(form: Dials, values: Sequence[float | None], locale: str) -> dict[gr.Number, Any]:
    """Say at each field with a number what it means, or that it does not take what stands in it.

    Args:
        values: of `numbers`, in their order.
    """
    told = {}
    for (path, field), value in zip(numbers(form).items(), values, strict=True):
        about = say(f"dials.{path}.about", locale)
        wrong = value is None or not _dial(path).takes(value)
        if wrong:
            key = "dials.empty" if value is None else "dials.wrong"
            about = say(key, locale, value=value, about=about)
        told[field] = gr.update(info=about, elem_classes=["d-wrong"] if wrong else [])
    return told


def takes(path: str, value: object) -> bool:
    """Tell whether a value, from wherever, is of the kind that a field of the form holds."""
    if path == "seed" or _kind(path) in (int, float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    if _kind(path) is bool:
        return isinstance(value, bool)
    choices = _dial(path).choices
    return isinstance(value, str) and (value in choices if choices else len(value) <= LONGEST)


def values_of(name: str) -> list[Any]:
    """Return the values a preset gives to every dial."""
    config = preset(name)
    return [_value(config, path) for path in ORDER]


def read_config(name: str, seed: float | None, values: Sequence[Any]) -> RunConfig:
    """Return the settings that stand in the form.

    Raises:
        ConfigError: a field is empty, of the wrong kind, or out of its range.
    """
    if seed is None:
        raise ConfigError("ui.seed_empty")
    config = preset(name, int(seed))
    changed: dict[str, dict[str, Any]] = {}
    for path, value in zip(ORDER, values, strict=True):
        if value is None:
            raise ConfigError("ui.setting_empty", path=path, dial=Message(f"dials.{path}.about"))
        section, _, field = path.partition(".")
        changed.setdefault(section, {})[field] = value
    return RunConfig.from_json({**config.to_json(), **changed})


def _control(path: str, config: RunConfig) -> Control:
    """Return the component for one setting."""
    dial, value = _dial(path), _value(config, path)
    told: dict[str, Any] = {
        "label": t(f"dials.{path}"),
        "info": t(f"dials.{path}.about"),
        "elem_id": "train-" + path.replace(".", "-").replace("_", "-"),
    }
    kind = _kind(path)
    if kind is bool:
        return gr.Checkbox(value, **told)
    if kind is str and dial.choices:
        return gr.Dropdown(list(dial.choices), value=value, **told)
    if kind is str:
        return gr.Textbox(value, max_length=LONGEST, **told)
    digits = 0 if kind is int else None
    return gr.Number(value, precision=digits, **told)  # its range: `checked`, in words


def _dial(path: str) -> Dial:
    section, _, name = path.partition(".")
    return dials(section)[name]


def _kind(path: str) -> type[Any]:
    section, _, name = path.partition(".")
    hints = get_type_hints(SECTIONS[section], include_extras=True)
    assert name in {f.name for f in fields(SECTIONS[section])}
    kind: type[Any] = get_args(hints[name])[0]
    return kind


def _value(config: RunConfig, path: str) -> Any:
    section, _, name = path.partition(".")
    return getattr(getattr(config, section), name)
