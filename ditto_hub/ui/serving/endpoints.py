"""What programs may call: with `gradio_client`, plain HTTP, or as tools of an MCP server.

Names, types and docstrings are all that such a caller sees. A run belongs to whoever has the
secret that it was started with. Nothing here spends GPU quota or asks the Hub to write, except
`publish_adapter`, with the token that the caller's own request carries.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import gradio as gr
from gradio.events import api as gr_api

from ditto_hub import api
from ditto_hub.api.estimating import estimate_run
from ditto_hub.api.publishing import publishing
from ditto_hub.config import RunConfig, preset
from ditto_hub.cost.profiles import Profile
from ditto_hub.demos.demonstrations import DemoSet
from ditto_hub.errors import ConfigError, DemoError, DittoError, HubError, describe
from ditto_hub.events import Event
from ditto_hub.runs.folder import Run
from ditto_hub.runs.progress import Progress, plan_of
from ditto_hub.runs.storage import from_jsonl
from ditto_hub.tokens import NOBODY, Token, as_token
from ditto_hub.ui.html.cards import Card, new_card, to_demos
from ditto_hub.ui.serving.admission import Kind, admitted, options
from ditto_hub.ui.serving.base_models import require_base, write
from ditto_hub.ui.serving.session import Visitor, own_run, token_of, visitor
from ditto_hub.words import told

Rows = list[dict[str, str]]
Answer = dict[str, Any]
MOST_SAMPLES, MOST_LETTERS = 8, 20_000
CARRIERS = ("x-hf-authorization", "authorization")  # as gradio_client sends it, and as others do


class Start(Protocol):
    """Start a visitor's run on cards; see `steps.train.start_run`."""

    def __call__(
        self, cards: list[Card], base: str, config: RunConfig, asking: Visitor, token: Token
    ) -> Run: ...


def build(profile: Profile, start: Start) -> None:
    """Register the endpoints."""
    found: list[tuple[Kind, Callable[..., Any]]] = [
        *_looking(profile), *_own_run(), *_publishing(),
    ]  # fmt: skip
    if profile.backend == "local":  # where GPUs are leased, a page has to ask for each lease
        found += [*_starting(profile, start), *_writing(profile)]
    for kind, endpoint in found:
        gr_api(admitted(kind, endpoint), api_name=endpoint.__name__, **options(kind))


def _looking(profile: Profile) -> list[tuple[Kind, Callable[..., Any]]]:
    """Return what anybody may ask: it computes on what is sent and keeps nothing."""

    def check(demonstrations: Rows) -> Answer:
        """Say what is wrong with demonstrations and what could be better. Nothing is kept.

        Args:
            demonstrations: 2 to 50 of {"prompt": what is asked for, "completion": what the person
                wrote}; with "original" beside them where the person edited a model's text into the
                completion.

        Returns:
            {"usable": whether a run can start, "findings": [{"level": error, warning or advice,
            "code", "message", "ids": demo-1 for the first}]}
        """
        with told_to_programs():
            _, found = api.check_demos(demos_of(demonstrations, profile))
        return {
            "usable": not any(f.level == "error" for f in found),
            "findings": [
                {"level": f.level, "code": f.code, "message": f.message, "ids": list(f.ids)}
                for f in found
            ],
        }

    def estimate(
        demonstrations: Rows, base_model: str = "pocket", preset_name: str = "", device: str = ""
    ) -> Answer:
        """Say what a run will take: seconds, memory, money, GPU quota. Nothing is started.

        Args:
            demonstrations: as `check` takes them.
            base_model: one that is offered here, or a Hub id where any may be named.
            preset_name: pocket, small, fast or paper; "" for the base model's own.
            device: such as cpu-basic, l4x1, a100-large or zero-a10g; "" for this machine's.
        """
        with told_to_programs():
            base = require_base(base_model, profile)
            config: RunConfig | None = preset(preset_name) if preset_name else None
            where = device or profile.hardware or "cpu-basic"
            demos = demos_of(demonstrations, profile)
            return estimate_run(demos, base, config, where, token=NOBODY).to_json()

    return [("check", check), ("hub", estimate)]


def _own_run() -> list[tuple[Kind, Callable[..., Any]]]:
    """Return what the owner of a run may ask of it."""

    def status(
        run_id: str, secret: str, request: gr.Request, user: gr.OAuthProfile | None
    ) -> Answer:
        """Say how far a run is and which candidates it has. Ask again every few seconds.

        Args:
            run_id: of the run, as `start` returned it.
            secret: what it was started with; "" in a browser that is signed in.

        Returns:
            {"id", "status": created, running, paused, cancelled, failed or finished, "fraction":
            0 to 1, "stage", "seconds_left": or null, "chosen": the candidate that was kept,
            "candidates": name -> scores, "stopped_early", "error"}
        """
        with told_to_programs():
            return told_of(own_run(run_id, visitor(request, user, secret)))

    def texts(
        run_id: str, secret: str, candidate: str, request: gr.Request,
        user: gr.OAuthProfile | None,
    ) -> list[Answer]:  # fmt: skip
        """Return what a candidate wrote for the demonstrations' prompts. Nothing is computed.

        Args:
            run_id: of the run.
            secret: what it was started with; "" in a browser that is signed in.
            candidate: sft, sft-long, round-1, ..., base for the base model, or "" for the kept one.

        Returns:
            [{"demonstration": demo-1 for the first, "prompt", "text", "ended": false where the text
            was cut at the length limit}]
        """
        with told_to_programs():
            return texts_of(own_run(run_id, visitor(request, user, secret)), candidate)

    return [("light", status), ("light", texts)]


def _publishing() -> list[tuple[Kind, Callable[..., Any]]]:
    """Return what writes to the Hub."""

    def publish_adapter(
        run_id: str, secret: str, repo_id: str, request: gr.Request,
        user: gr.OAuthProfile | None, public: bool = False,
    ) -> Answer:  # fmt: skip
        """Publish a finished run's adapter with a model card to the caller's own Hub repo.

        The request has to carry the caller's own Hugging Face token with write access, as
        `gradio_client.Client(..., token=...)` sends it or as a header `Authorization: Bearer ...`;
        no other token is used. No demonstration and no output is published.

        Args:
            run_id: of the run.
            secret: what it was started with; "" in a browser that is signed in.
            repo_id: USER/NAME, or NAME in the caller's own namespace.
            public: let everyone see the repo; private otherwise.

        Returns:
            {"url": of the repo, "commit", "private", "base_id", "notices", "load_back": whether it
            loads from there with the same outputs}
        """
        with told_to_programs():
            key = carried_token(request)
            if not key:
                raise HubError("ui.no_token_carried")
            run = own_run(run_id, visitor(request, user, secret))
            with publishing(run):
                receipt = api.publish(run, repo_id, token=key, public=public is True).to_json()
            wanted = ("url", "commit", "private", "base_id", "notices", "load_back")
            return {name: receipt[name] for name in wanted}

    return [("publish", publish_adapter)]


def _starting(profile: Profile, start_run: Start) -> list[tuple[Kind, Callable[..., Any]]]:
    """Return what begins a run on this machine."""

    def start(
        demonstrations: Rows, secret: str, request: gr.Request, user: gr.OAuthProfile | None,
        base_model: str = "", preset_name: str = "", settings: str = "",
    ) -> Answer:  # fmt: skip
        """Start a run on this machine: it turns demonstrations into a LoRA adapter in minutes.

        Args:
            demonstrations: as `check` takes them.
            secret: a random text of at least 22 characters that you choose and keep, such as
                secrets.token_urlsafe(32): whoever has it has the run, and nobody else does.
            base_model: one that is offered here, or a Hub id where any may be named; "" for the
                usual one. Only pocket runs within a minute without a GPU; it is a toy.
            preset_name: pocket, small, fast or paper; "" for the base model's own.
            settings: more settings, one SECTION.FIELD=JSON a line, such as update.rounds=2.

        Returns:
            The run's status; its "id" is what every other endpoint takes.
        """
        with told_to_programs():
            base = require_base(base_model or profile.default_base_model, profile)
            offer = profile.base(base)
            config = preset(preset_name or (offer.preset if offer else "fast"))
            for line in filter(None, map(str.strip, settings[:MOST_LETTERS].splitlines())):
                config = config.with_setting(line)
            token = carried_token(request) or token_of(None)
            asking = visitor(request, user, secret)
            return told_of(start_run(cards_of(demonstrations), base, config, asking, token))

    return [("hub", start)]


def _writing(profile: Profile) -> list[tuple[Kind, Callable[..., Any]]]:
    """Return what writes with a run's adapter on this machine."""

    def write_text(
        run_id: str, secret: str, prompt: str, request: gr.Request, user: gr.OAuthProfile | None,
        candidate: str = "", samples: int = 1, seed: int = 0,
    ) -> list[str]:  # fmt: skip
        """Let a run's adapter answer a prompt, on this machine.

        Args:
            run_id: of the run.
            secret: what it was started with; "" in a browser that is signed in.
            prompt: what to write.
            candidate: sft, sft-long, round-1, ...; "" for the kept one.
            samples: how many answers, 1 to 8.
            seed: another one gives other answers.

        Returns:
            The answers.
        """
        with told_to_programs():
            asking = visitor(request, user, secret)
            run = own_run(run_id, asking)
            if not prompt.strip() or len(prompt) > MOST_LETTERS:
                raise ConfigError("api.no_prompt")
            name = candidate or run.record.chosen
            run.candidate(name)
            asked = api.WriteRequest(
                ({"role": "user", "content": prompt},), candidate=name,
                samples=min(max(1, int(samples)), MOST_SAMPLES), seed=int(seed),
            )  # fmt: skip
            token = carried_token(request) or token_of(None)
            return write(run, [asked], profile, asking.owner, token)[0]

    return [("model", write_text)]


def carried_token(request: gr.Request) -> Token:
    """Return the Hub token that a request carries, or nobody's."""
    for name in CARRIERS:
        kind, _, text = str(request.headers.get(name) or "").partition(" ")
        if kind.lower() == "bearer" and text.strip():
            return as_token(text.strip())
    return NOBODY


def told_of(run: Run) -> Answer:
    """Return what a program is told of a run, in English."""
    record, progress = run.record, follow(run.config, run.events(), len(run.demos()))
    candidates = {
        name: {**found, "degenerate": told(found["degenerate"])}
        for name, found in record.candidates.items()
    }
    finished = record.status == "finished"
    return {
        "id": record.id,
        "status": record.status,
        "fraction": 1.0 if finished else round(progress.fraction, 3),
        "stage": "" if finished else progress.stage,
        "seconds_left": 0.0 if finished else progress.seconds_left(),
        "chosen": record.chosen or "",
        "candidates": candidates,
        "stopped_early": told(record.stopped_early),
        "error": told(record.error["message"]) if record.error else "",
    }


def follow(config: RunConfig, events: list[Event], demonstrations: int) -> Progress:
    """Return how far a run is by its events so far."""
    progress = Progress([(name, steps) for name, _, steps in plan_of(config, demonstrations)])
    for event in events:
        progress.see(event)
    return progress


def texts_of(run: Run, candidate: str) -> list[Answer]:
    """Return what a candidate wrote for the demonstrations' prompts, as the run's files have it.

    Raises:
        ConfigError: nothing is there of that name.
    """
    name = candidate or run.record.chosen or ""
    file = "round-0" if name == "sft" else name
    there = {path.stem: path for path in (run.folder / "rollouts").glob("*.jsonl")}
    if file not in there:
        have = ", ".join(sorted("sft" if n == "round-0" else n for n in there))
        raise ConfigError("api.no_candidate", candidate=name[:100], have=have or "(none yet)")
    prompts = {demo.id: demo.prompt_text for demo in run.demos()}
    return [
        {
            "demonstration": row["demo"],
            "prompt": prompts.get(row["demo"], ""),
            "text": row["text"],
            "ended": bool(row.get("ended", True)),
        }
        for row in from_jsonl(there[file])
    ]


def demos_of(rows: Rows, profile: Profile) -> DemoSet:
    """Return a program's rows as demonstrations.

    Raises:
        DemoError: too many, too long, or not of that form.
    """
    return to_demos(cards_of(rows), profile)


def cards_of(rows: Rows) -> list[Card]:
    """Return a program's rows as the page's cards.

    Raises:
        DemoError: not of that form.
    """
    cards = []
    for row in rows if isinstance(rows, list) else [None]:
        given = row if isinstance(row, dict) else {}
        prompt, completion, original = (
            given.get(name) for name in ("prompt", "completion", "original")
        )
        if not isinstance(prompt, str) or not isinstance(completion, str):
            raise DemoError("ui.row_malformed")
        draft = original if isinstance(original, str) else None
        cards.append(new_card(prompt, completion, "program", draft))
    return cards


class told_to_programs:
    """Tell a known failure as Gradio's error, which reaches the caller with its words."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, DittoError):
            raise gr.Error(" ".join(describe(error)).strip(), print_exception=False) from error
