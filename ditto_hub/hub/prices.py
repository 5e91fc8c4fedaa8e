"""What an hour of hardware costs now, as the Hub tells it."""

from __future__ import annotations

from ditto_hub.errors import HubError
from ditto_hub.hub.bounds import told
from ditto_hub.hub.client import HubClient

MINUTES = {"minute": 60.0, "hour": 1.0, "second": 3600.0}


def live_prices(token: str | None = None, endpoint: str | None = None) -> dict[str, float]:
    """Return flavor -> dollars an hour; empty where the Hub cannot be asked, and then once only.

    Args:
        token: of the user; None takes the one saved by `hf auth login`, "" none at all.
        endpoint: of the Hub; None takes HF_ENDPOINT or the public one.
    """
    client = HubClient(token, endpoint)
    try:
        with told("reading the prices of hardware"):
            rows = client.api.list_jobs_hardware()
    except HubError:
        return {}
    return {
        row.name: row.unit_cost_usd * MINUTES[row.unit_label]
        for row in rows
        if row.unit_label in MINUTES
    }
