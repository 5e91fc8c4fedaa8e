"""How the app looks: one theme, light and dark; the fonts are the system's, nothing is fetched."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

CSS = [Path(__file__).with_name(name) for name in ("theme.css", "after.css")]
FONT = ("ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans",
        "PingFang TC", "Microsoft JhengHei", "sans-serif")  # fmt: skip
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")
INDIGO = gr.themes.Color(
    name="ditto", c50="#f2f1fd", c100="#e5e3fb", c200="#cdc9f7", c300="#aea7f0", c400="#8c82e6",
    c500="#6c5fd9", c600="#5446c0", c700="#45399e", c800="#3a327f", c900="#2f2a63", c950="#1d1a40",
)  # fmt: skip


LOOK = {
    "body_background_fill": "#f7f7fa",
    "body_background_fill_dark": "#101218",
    "background_fill_primary": "#ffffff",
    "background_fill_primary_dark": "#181b23",
    "background_fill_secondary": "#f7f7fa",
    "background_fill_secondary_dark": "#101218",
    "block_background_fill": "#ffffff",
    "block_background_fill_dark": "#181b23",
    "block_radius": "12px",
    "container_radius": "12px",
    "input_radius": "8px",
    "button_large_radius": "10px",
    "button_medium_radius": "10px",
    "button_small_radius": "8px",
    "checkbox_label_background_fill": "#f2f3f8",
    "checkbox_label_background_fill_dark": "#232733",
    "block_border_width": "1px",
    "block_border_color": "#e2e3ea",
    "block_border_color_dark": "#2b2f3a",
    "block_label_background_fill": "transparent",
    "block_label_background_fill_dark": "transparent",
    "block_label_border_width": "0px",
    "block_label_text_color": "#4b5065",
    "block_label_text_color_dark": "#aab0c4",
    "block_label_text_weight": "600",
    "block_title_text_color": "#22253a",
    "block_title_text_color_dark": "#e6e8f1",
    "block_title_text_weight": "600",
    "block_info_text_color": "#565b70",
    "block_info_text_color_dark": "#a3a9be",
    "block_shadow": "none",
    "body_text_color": "#22253a",
    "body_text_color_dark": "#e6e8f1",
    "body_text_color_subdued": "#565b70",
    "body_text_color_subdued_dark": "#a3a9be",
    "accordion_text_color": "#22253a",
    "accordion_text_color_dark": "#e6e8f1",
    "link_text_color_dark": "*primary_300",
    "link_text_color_hover_dark": "*primary_200",
    "link_text_color_active_dark": "*primary_300",
    "link_text_color_visited_dark": "*primary_300",
    "border_color_primary": "#d5d7e0",
    "border_color_primary_dark": "#363b49",
    "input_background_fill": "#ffffff",
    "input_background_fill_dark": "#12141b",
    "input_border_color": "#c9ccd8",
    "input_border_color_dark": "#3d4352",
    "input_border_color_focus": "*primary_500",
    "input_placeholder_color": "#6d7287",
    "input_placeholder_color_dark": "#8e94aa",
    "button_primary_background_fill": "*primary_600",
    "button_primary_background_fill_hover": "*primary_700",
    "button_primary_background_fill_dark": "*primary_500",
    "button_primary_background_fill_hover_dark": "*primary_600",
    "button_primary_text_color": "#ffffff",
    "button_secondary_background_fill": "#eceef4",
    "button_secondary_background_fill_hover": "#e0e3ec",
    "button_secondary_background_fill_dark": "#262a35",
    "button_secondary_background_fill_hover_dark": "#303542",
    "button_transition": "none",
}


def theme() -> gr.themes.Base:
    """Return the theme."""
    base = gr.themes.Base(
        primary_hue=INDIGO,
        secondary_hue=INDIGO,
        neutral_hue=gr.themes.colors.slate,
        radius_size=gr.themes.sizes.radius_md,
        spacing_size=gr.themes.sizes.spacing_md,
        font=list(FONT),
        font_mono=list(MONO),
    )
    return base.set(**LOOK)
