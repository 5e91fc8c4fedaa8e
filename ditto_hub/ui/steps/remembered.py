"""What a browser remembers of the Train step's form: the base model and the settings.

It is kept by the browser alone, as it changes, and put back when the page is opened again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import gradio as gr

from ditto_hub.config import PRESETS
from ditto_hub.ui.serving.events import Asker, Outputs, on
from ditto_hub.ui.serving.session import Shared
from ditto_hub.ui.steps.settings import LONGEST, ORDER, Dials, takes

NAMES = ("base", "other", "preset", "seed", *ORDER)
KEEP_JS = f"""(...values) => {{
  const names = {json.dumps(NAMES)};
  return Object.fromEntries(names.map((name, at) => [name, values[at]]));
}}"""


def build(shared: Shared, base: gr.Radio, other: gr.Textbox, dials: Dials) -> None:
    """Keep the form in the browser, and put it back as the page opens."""
    fields = [base, other, *dials.inputs]

    def opened(asker: Asker, kept: Any) -> Outputs:
        if not isinstance(kept, dict) or not kept:
            return {}
        return {**_base(kept), **_settings(kept)}

    def _base(kept: dict[str, Any]) -> Outputs:
        chosen, named = kept.get("base"), kept.get("other")
        if isinstance(named, str) and named.strip() and shared.profile.any_base_model:
            name = named[:LONGEST]
            return {base: None, other: name, shared.base: name.strip()}
        if isinstance(chosen, str) and shared.profile.base(chosen) is not None:
            return {base: chosen, shared.base: chosen}
        return {}

    def _settings(kept: dict[str, Any]) -> Outputs:
        put: Outputs = {}
        if kept.get("preset") in PRESETS:
            put[dials.preset] = kept["preset"]
        for path, field in zip(("seed", *ORDER), (dials.seed, *dials.values), strict=True):
            if takes(path, kept.get(path)):
                put[field] = kept[path]
        return put

    on(shared, shared.page.load, opened, [shared.settings], [shared.base, *fields])
    gr.on(_changes(fields), None, fields, shared.settings, js=KEEP_JS)


def _changes(fields: Sequence[Any]) -> list[Any]:
    return [field.change for field in fields]
