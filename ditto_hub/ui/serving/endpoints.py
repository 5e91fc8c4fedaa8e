"""What programs may call, with `gradio_client` or plain HTTP: check, estimate, status."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr
from gradio.events import api as gr_api

from ditto_hub import api
from ditto_hub.api.estimating import estimate_run
from ditto_hub.config import RunConfig, preset
from ditto_hub.cost.profiles import Profile
from ditto_hub.demos.demonstrations import DemoSet
from ditto_hub.errors import DittoError, describe
from ditto_hub.runs.record import RunRecord
from ditto_hub.tokens import NOBODY
from ditto_hub.ui.html.cards import new_card, to_demos
from ditto_hub.ui.serving.admission import Kind, admitted, options
from ditto_hub.ui.serving.base_models import require_base
from ditto_hub.ui.serving.session import own_run, visitor
from ditto_hub.words import told

Rows = list[dict[str, str]]


def build(profile: Profile) -> None:
    """Register the endpoints."""

    def check(demonstrations: Rows) -> dict[str, Any]:
        """Say what is wrong with demonstrations and what could be better.

        Args:
            demonstrations: [{"prompt": ..., "completion": ...}, ...]
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
    ) -> dict[str, Any]:
        """Say what a run will take on a device: seconds a stage, memory, money, quota.

        Args:
            demonstrations: [{"prompt": ..., "completion": ...}, ...]
            base_model: one that is offered here, or a Hub id where any may be named.
            preset_name: pocket, fast or paper; "" for the base model's own.
            device: name of the device table; "" for this machine's.
        """
        with told_to_programs():
            base = require_base(base_model, profile)
            config: RunConfig | None = preset(preset_name) if preset_name else None
            where = device or profile.hardware or "cpu-basic"
            demos = demos_of(demonstrations, profile)
            return estimate_run(demos, base, config, where, token=NOBODY).to_json()

    def status(
        run_id: str, secret: str, request: gr.Request, user: gr.OAuthProfile | None
    ) -> dict[str, Any]:
        """Say how a run of one's own stands.

        Args:
            run_id: of the run.
            secret: of the browser that began it; "" when signed in.
        """
        with told_to_programs():
            return _told(own_run(run_id, visitor(request, user, secret)).record)

    kinds: dict[Kind, Callable[..., Any]] = {"check": check, "hub": estimate, "light": status}
    for kind, endpoint in kinds.items():
        gr_api(admitted(kind, endpoint), api_name=endpoint.__name__, **options(kind))


def _told(record: RunRecord) -> dict[str, Any]:
    """Return what a program is told of a run, in English."""
    candidates = {
        name: {**found, "degenerate": told(found["degenerate"])}
        for name, found in record.candidates.items()
    }
    return {
        "id": record.id,
        "status": record.status,
        "chosen": record.chosen or "",
        "candidates": candidates,
        "stopped_early": told(record.stopped_early),
    }


def demos_of(rows: Rows, profile: Profile) -> DemoSet:
    """Return a program's rows as demonstrations.

    Raises:
        DemoError: too many, too long, or not of that form.
    """
    from ditto_hub.errors import DemoError

    texts = [(row.get("prompt"), row.get("completion")) for row in rows if isinstance(row, dict)]
    if len(texts) != len(rows) or not all(isinstance(t, str) for pair in texts for t in pair):
        raise DemoError("ui.row_malformed")
    return to_demos([new_card(str(p), str(c), "program") for p, c in texts], profile)


class told_to_programs:
    """Tell a known failure as Gradio's error, which reaches the caller with its words."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, DittoError):
            raise gr.Error(" ".join(describe(error)).strip(), print_exception=False) from error
