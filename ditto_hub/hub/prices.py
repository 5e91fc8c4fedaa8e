"""What hardware and other people's models cost now, as the Hub tells it."""

from __future__ import annotations

from huggingface_hub import get_session

from ditto_hub.errors import HubError
from ditto_hub.hub.bounds import told
from ditto_hub.hub.client import HubClient
from ditto_hub.tokens import Token
from ditto_hub.words import Message

MINUTES = {"minute": 60.0, "hour": 1.0, "second": 3600.0}
ROUTER = "https://router.huggingface.co/v1/models"
TIMEOUT_S = 10.0


def live_prices(token: Token | str, endpoint: str | None = None) -> dict[str, float]:
    """Return flavor -> dollars an hour; empty where the Hub cannot be asked, and then once only.

    Args:
        token: of the user, or nobody's.
        endpoint: of the Hub; None takes HF_ENDPOINT or the public one.
    """
    client = HubClient(token, endpoint)
    try:
        with told(Message("hub.doing.prices")):
            rows = client.api.list_jobs_hardware()
    except HubError:
        return {}
    return {
        row.name: row.unit_cost_usd * MINUTES[row.unit_label]
        for row in rows
        if row.unit_label in MINUTES
    }


def token_price(model: str, url: str = ROUTER) -> tuple[float, float] | None:
    """Return dollars for a million tokens that a model reads and writes, by its dearest provider.

    Which of the Inference Providers will answer is not known beforehand.

    Args:
        model: id on the Hub.
        url: of the list of served models, which needs no token.

    Returns:
        None where the list cannot be had, or does not tell.
    """
    try:
        with told(Message("hub.doing.prices")):
            reply = get_session().get(url, timeout=TIMEOUT_S)
            reply.raise_for_status()
            rows = reply.json()["data"]
        providers = next(row["providers"] for row in rows if row["id"] == model)
        prices = [p["pricing"] for p in providers if p.get("status", "live") == "live"]
        read, written = ([float(p[side]) for p in prices] for side in ("input", "output"))
        return max(read), max(written)
    except (HubError, LookupError, TypeError, ValueError, StopIteration):
        return None
