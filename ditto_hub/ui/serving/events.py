"""One way to wire an event to a handler: who asks comes along, and outputs go by their names.

A handler gets an `Asker` before the values of its inputs, and returns `{component: value}`; what it
leaves out stays as it is on the page. A refusal (a DittoError) is said where `refused` says. What
the browser says of the event itself, such as which row was pressed, is in `asker.pressed`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from ditto_hub.errors import DittoError
from ditto_hub.runs.folder import Run
from ditto_hub.tokens import Token
from ditto_hub.ui.html.render import failure
from ditto_hub.ui.i18n.words import locale_of
from ditto_hub.ui.serving import admission
from ditto_hub.ui.serving.admission import Kind
from ditto_hub.ui.serving.session import (
    PageLoadingError,
    Shared,
    Visitor,
    changed,
    own_run,
    token_of,
    visitor,
)

Outputs = dict[Any, Any]
NOTHING_JS = "() => []"
BUSY_JS, IDLE_JS = (
    f"() => [{{__type__: 'update', interactive: {interactive}}}]"
    for interactive in ("false", "true")
)

# Of a `gr.HTML` with a list: a <button data-event="select" data-id="..."> fires the event it names,
# with what is written in the field beside it. It is marked at once, before the server has answered.
HEARD_MS = 5000
PRESS_JS = """const press = (button) => {
  if (button.ariaBusy) return;
  button.ariaBusy = "true";
  setTimeout(() => { button.ariaBusy = null; }, HEARD_MS);
  const field = button.parentElement.querySelector("input");
  trigger(button.dataset.event, {...button.dataset, value: field ? field.value : ""});
};
element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-event]");
  if (button) press(button);
});
element.addEventListener("keydown", (event) => {
  const field = event.target;
  const button = field.matches("input") && field.parentElement.querySelector("button");
  if (button && event.key === "Enter" && !event.isComposing) press(button);
});
const open = new Set(); // folds that stay open when the list is drawn anew
element.addEventListener("toggle", (event) => {
  const {fold} = event.target.dataset;
  if (fold) event.target.open ? open.add(fold) : open.delete(fold);
}, true);
watch("value", () => {
  for (const each of element.querySelectorAll("details[data-fold]"))
    each.open = open.has(each.dataset.fold);
});""".replace("HEARD_MS", str(HEARD_MS))


@dataclass(frozen=True)
class Asker:
    """Say who asks, as Gradio hands it to a handler.

    Args:
        secret: what the browser keeps.
        request: of the event.
        profile: of the signed-in user, from the session's signed cookie.
        token: of the signed-in user, for the length of the call.
        event: what the browser says of it; from outside, like every input.
    """

    secret: str
    request: gr.Request
    profile: gr.OAuthProfile | None = None
    token: gr.OAuthToken | None = None
    event: gr.EventData | None = None

    def pressed(self, name: str) -> str:
        """Return a value of the button that was pressed in a list (`PRESS_JS`), "" for none."""
        try:
            found = getattr(self.event, name, "")
        except TypeError:  # the browser said nothing, or something else
            return ""
        return found if isinstance(found, str) else ""

    @property
    def locale(self) -> str:
        """The language for what the server says."""
        return locale_of(self.request)

    @property
    def page(self) -> str:
        """The page's session, to tell one page's work from another's."""
        return str(self.request.session_hash or "")

    @property
    def hub_token(self) -> Token:
        """Whose Hub token the call uses; true where a user is signed in."""
        return token_of(self.token)

    @property
    def visitor(self) -> Visitor:
        """Who it is.

        Raises:
            RunError: neither signed in nor a secret.
        """
        return visitor(self.request, self.profile, self.secret)

    def run(self, run_id: str) -> Run:
        """Return the asker's own run of an id.

        Raises:
            RunError: there is none, or it is another's.
        """
        return own_run(run_id, self.visitor)


Act = Callable[..., Outputs | Iterator[Outputs]]


def on(
    shared: Shared,
    triggers: Callable[..., Any] | Sequence[Callable[..., Any]],
    act: Act,
    inputs: Sequence[Any] = (),
    outputs: Sequence[Any] = (),
    *,
    refused: Any = None,
    kind: Kind = "light",
    busy: gr.Button | None = None,
    **options: Any,
) -> Any:
    """Let a handler act on events.

    Args:
        shared: what the steps have in common; it knows where the browser's secret is.
        triggers: one or several of components' events, `button.click`.
        act: gets an `Asker` and the inputs' values, returns or yields `Outputs`.
        refused: the component of `outputs` in which a refusal is said; None lets it fail.
        kind: what it takes of the server, a key of `POLICIES`; a light one that changes a
            `gr.State` goes through the queue all the same.
        busy: a button to switch off, in the browser and at once, until the handler has answered.
        options: more of Gradio's, such as `trigger_mode`; no progress is shown unless they say so.

    Returns:
        Gradio's dependency, for `then` and `success`.
    """
    if kind == "light" and any(isinstance(output, gr.State) for output in outputs):
        kind = "queued"  # of an event past the queue, Gradio 6.31 fires no state's change
    events = list(triggers) if isinstance(triggers, Sequence) else [triggers]
    if busy is not None:
        for event in events:
            event(None, None, busy, js=BUSY_JS)
    usual = {"show_progress": "hidden", "api_visibility": "private", **admission.options(kind)}
    if "show_progress" not in options:
        usual["show_progress_on"] = []  # telling each output takes the page as long as all else
    starts: Callable[..., Any] = functools.partial(gr.on, events)
    if _always_last(events, options):
        options["trigger_mode"] = "always_last"
        starts = gr.on(events, js=NOTHING_JS, trigger_mode="multiple").then
    going = starts(
        admission.admitted(kind, _handler(act, list(outputs), refused)),
        [shared.secret, *inputs],
        list(outputs) or None,
        **{**usual, **options},
    )
    if busy is not None:
        going.then(None, None, busy, js=IDLE_JS)
    return going


def _always_last(events: Sequence[Any], options: Mapping[str, Any]) -> bool:
    """Tell whether a handler is asked once more for all events that came while it answered.

    Where it is, Gradio 6.31 fires the whole event anew, with all handlers that listen to it, and
    two that are slow then ask each other without end. One that comes after another is asked alone,
    so such a handler comes after one that does nothing, in the browser.
    """
    mode = options.get("trigger_mode")
    if mode is None and getattr(events[0], "event_name", "") in ("change", "key_up"):
        return True  # as Gradio has it
    return bool(mode == "always_last")


def show_run(shared: Shared, run_id: str) -> Outputs:
    """Return what shows another run on the page, "" for none."""
    return {shared.run_id: run_id, shared.last_run: run_id, shared.run_changed: changed(run_id)}


def go_to(shared: Shared, step: str) -> Act:
    """Return a handler that goes to a step; its output is `shared.tabs`."""
    return lambda asker: {shared.tabs: gr.Tabs(selected=step)}


def _handler(act: Act, outputs: list[Any], refused: Any) -> Any:
    """Return what Gradio calls; its parameters' annotations say what Gradio puts in."""

    def steps(asker: Asker, values: tuple[Any, ...]) -> Iterator[Any]:
        try:
            found = act(asker, *values)
            for step in [found] if isinstance(found, dict) else found:
                yield in_order(step, outputs)
        except DittoError as error:
            if refused is None and isinstance(error, PageLoadingError):
                yield in_order({}, outputs)  # it is asked anew once the page has its secret
                return
            if refused is None:
                raise
            said = failure(error, asker.locale)
            yield in_order({refused: gr.update(value=said, visible=True)}, outputs)

    def once(
        secret: str, request: gr.Request, profile: gr.OAuthProfile | None,
        token: gr.OAuthToken | None, event: gr.EventData, *values: Any,
    ) -> Any:  # fmt: skip
        return next(steps(Asker(secret, request, profile, token, event), values))

    def step_by_step(
        secret: str, request: gr.Request, profile: gr.OAuthProfile | None,
        token: gr.OAuthToken | None, event: gr.EventData, *values: Any,
    ) -> Iterator[Any]:  # fmt: skip
        yield from steps(Asker(secret, request, profile, token, event), values)

    handler: Any = step_by_step if inspect.isgeneratorfunction(act) else once
    handler.act = act  # for tests, which ask each as a stranger
    named = getattr(act, "func", act)  # of a partial
    handler.__name__, handler.__module__ = named.__name__, named.__module__
    return handler


def in_order(step: Outputs, outputs: Sequence[Any]) -> Any:
    """Return values as Gradio takes them: one for each output, `gr.skip()` where there is none."""
    unknown = set(step) - set(outputs)
    assert not unknown, f"{unknown} is no output of this event"
    values = [step.get(output, gr.skip()) for output in outputs]
    return values[0] if len(values) == 1 else values or None
