"""Lines to copy that use an adapter in other programs, a tab a program."""

from __future__ import annotations

from typing import Any

import gradio as gr

from ditto_hub.ui.i18n.words import t

# program -> its name, or the code of it, and the language of its lines
USES: dict[str, tuple[str, Any]] = {
    "peft": ("PEFT", "python"),
    "vllm": ("vLLM", "shell"),
    "tgi": ("TGI", "shell"),
    "prompt": ("publish.prompted", "python"),
}


def build_uses() -> tuple[gr.Accordion, dict[str, gr.Code]]:
    """Build the lines that use the adapter in other programs, a tab a program."""
    lines: dict[str, gr.Code] = {}
    with (
        gr.Accordion(t("publish.uses"), open=False, elem_id="publish-uses") as box,
        gr.Tabs(elem_id="publish-uses-tabs", overflow_behavior="wrap"),
    ):
        for name, (title, language) in USES.items():
            with gr.Tab(t(title) if "." in title else title, id=name):
                gr.HTML(t(f"publish.use_{name}"), elem_classes="d-about")
                lines[name] = gr.Code(
                    language=language, label=t("publish.snippet"), interactive=False,
                    buttons=["copy"], show_line_numbers=False, wrap_lines=True, max_lines=24,
                    elem_id="publish-snippet" if name == "peft" else f"publish-use-{name}",
                )  # fmt: skip
    return box, lines
