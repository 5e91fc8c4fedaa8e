"""The choice of the page's language; it holds until another is made."""

from __future__ import annotations

import gradio as gr

from ditto_hub.ui.html.terms import language_switch
from ditto_hub.ui.i18n.negotiate import COOKIE, NAMES
from ditto_hub.words import LANGUAGES, say

YEAR_S = 365 * 24 * 3600
# In the frame of a Space a cookie is another site's: only an explicit one is kept there.
SWITCH_JS = """
const choice = element.querySelector("select");
const now = navigator.language in props.labels ? navigator.language : "en";
choice.value = now;
choice.setAttribute("aria-label", props.labels[now]);
choice.addEventListener("change", () => {
  const framed = location.protocol === "https:";
  const kept = framed ? "SameSite=None; Secure; Partitioned" : "SameSite=Lax";
  document.cookie = `${props.cookie}=${choice.value}; Max-Age=${props.age}; Path=/; ${kept}`;
  location.reload();
});
"""


def build() -> None:
    """Build the choice."""
    gr.HTML(
        language_switch(NAMES),
        js_on_load=SWITCH_JS,
        elem_id="app-language",
        labels={locale: say("language.label", locale) for locale in LANGUAGES},
        cookie=COOKIE,
        age=YEAR_S,
    )
