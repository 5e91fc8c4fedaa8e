"""The oldest pair of peft and transformers that a card states; needs a second environment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hub_server import Hub
from publish_fixtures import base_folder, hub, made, quick, run, server, token
from publishing import on_pocket, send

from ditto_hub.hub.publishing.card_sections import OLDEST_LOADED
from ditto_hub.runs.folder import Run

pytestmark = pytest.mark.usefixtures("quick")


@pytest.mark.skipif(
    "DITTO_HUB_OLD_PYTHON" not in os.environ,
    reason="DITTO_HUB_OLD_PYTHON names an interpreter with an old pair of peft and transformers",
)
def test_loads_under_the_oldest_pair(run: Run, hub: Hub, token: str) -> None:
    """The oldest pair that the card states loads the adapter and gives the same logits."""
    python = Path(os.environ["DITTO_HUB_OLD_PYTHON"])
    receipt = send(on_pocket(run), hub, token, load_back="logits", python=python)
    assert receipt.load_back is not None
    assert receipt.load_back.status == "passed", receipt.load_back.message
    versions = receipt.load_back.versions
    assert (versions["peft"], versions["transformers"]) in OLDEST_LOADED
